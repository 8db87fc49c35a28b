//! Deadlines, and waiting until one.

use std::time::{Duration, Instant};

use crate::sync::{Condvar, MutexGuard};

/// When to give up, on a monotonic clock. A duration too long for the clock means never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    pub(crate) const NEVER: Self = Self(None);

    pub(crate) fn after(span: Duration) -> Self {
        Self::since(Instant::now(), span)
    }

    pub(crate) fn since(start: Instant, span: Duration) -> Self {
        Self(start.checked_add(span))
    }

    pub(crate) fn instant(self) -> Option<Instant> {
        self.0
    }

    pub(crate) fn has_passed(self) -> bool {
        self.has_passed_at(Instant::now())
    }

    pub(crate) fn has_passed_at(self, now: Instant) -> bool {
        self.0.is_some_and(|at| at <= now)
    }

    /// Waits once for a notification of `condvar`, or until the deadline. Returns whether the deadline has
    /// passed.
    pub(crate) fn wait<T>(self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) -> bool {
        let _waits = waits::Mark::set();
        match self.0 {
            None => {
                condvar.wait(guard);
                false
            }
            Some(at) => condvar.wait_until(guard, at).timed_out(),
        }
    }

    pub(crate) fn earlier(self, other: Self) -> Self {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Self(Some(a.min(b))),
            (a, b) => Self(a.or(b)),
        }
    }
}

/// Whether the calling thread is inside [`Deadline::wait`].
///
/// The first time that a thread waits, `parking_lot` allocates while it holds its locks. An allocator
/// hook that emits at that moment must not take these locks.
pub(crate) fn is_waiting() -> bool {
    waits::are_in_progress()
}

#[cfg(not(all(test, wedr_loom)))]
mod waits {
    use std::cell::Cell;

    thread_local! {
        static WAITS: Cell<bool> = const { Cell::new(false) };
    }

    pub(super) struct Mark;

    impl Mark {
        pub(super) fn set() -> Self {
            let _ = WAITS.try_with(|waits| waits.set(true));
            Self
        }
    }

    impl Drop for Mark {
        fn drop(&mut self) {
            let _ = WAITS.try_with(|waits| waits.set(false));
        }
    }

    pub(super) fn are_in_progress() -> bool {
        WAITS.try_with(Cell::get).unwrap_or(false)
    }
}

/// In a model `are_in_progress` is always false. The models have no allocator hooks. And loom runs all threads
/// of a model on one thread, so that a thread-local cannot distinguish them.
#[cfg(all(test, wedr_loom))]
mod waits {
    pub(super) struct Mark;

    impl Mark {
        pub(super) fn set() -> Self {
            Self
        }
    }

    pub(super) fn are_in_progress() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_too_long_for_the_clock_never_ends() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert!(!Deadline::NEVER.has_passed());
    }

    #[test]
    fn earlier_returns_the_earlier_deadline() {
        let now = Instant::now();
        let (soon, late) =
            (Deadline::since(now, Duration::ZERO), Deadline::since(now, Duration::from_secs(9)));
        assert_eq!(late.earlier(soon), soon);
        assert_eq!(soon.earlier(Deadline::NEVER), soon);
        assert_eq!(Deadline::NEVER.earlier(late), late);
        assert!(soon.has_passed_at(now) && !late.has_passed_at(now));
    }
}
