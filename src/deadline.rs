//! A point in time to be done by, or none.

use std::time::{Duration, Instant};

use crate::sync::{Condvar, MutexGuard};

/// When to give up. A duration too long for the clock means never.
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

    /// Waits for `condvar`, once, and says whether the deadline passed instead.
    pub(crate) fn wait<T>(self, condvar: &Condvar, guard: &mut MutexGuard<'_, T>) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_too_long_for_the_clock_never_ends() {
        assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
        assert!(!Deadline::NEVER.has_passed());
    }

    #[test]
    fn the_earlier_of_two_wins_and_never_loses() {
        let now = Instant::now();
        let (soon, late) =
            (Deadline::since(now, Duration::ZERO), Deadline::since(now, Duration::from_secs(9)));
        assert_eq!(late.earlier(soon), soon);
        assert_eq!(soon.earlier(Deadline::NEVER), soon);
        assert_eq!(Deadline::NEVER.earlier(late), late);
        assert!(soon.has_passed_at(now) && !late.has_passed_at(now));
    }
}
