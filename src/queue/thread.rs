//! What the queue stores for each thread.

use std::cell::Cell;

use crate::deadline::is_waiting;

struct Own {
    /// Whether this thread must not wait in the queue or take one of its locks: it may hold such a lock
    /// already, or it is the writer.
    inside: Cell<bool>,
    /// How often this thread has tried to overtake blocked producers since it last waited and
    /// got a turn.
    overtakes: Cell<usize>,
    /// How many of its next checks for spare slots this thread skips.
    checks_to_skip: Cell<usize>,
    /// See [`number`].
    number: Cell<usize>,
}

/// The thread has no number yet.
const NONE: usize = usize::MAX;

impl Own {
    const fn new() -> Self {
        Self {
            inside: Cell::new(false),
            overtakes: Cell::new(0),
            checks_to_skip: Cell::new(0),
            number: Cell::new(NONE),
        }
    }
}

#[cfg(not(all(test, wedr_loom)))]
mod own {
    use super::{NONE, Own};
    use crate::sync::{AtomicUsize, Ordering};

    thread_local! {
        static OWN: Own = const { Own::new() };
    }

    /// `None` on a thread that is ending, whose thread-locals are gone.
    #[inline]
    pub(super) fn with<R>(use_it: impl FnOnce(&Own) -> R) -> Option<R> {
        OWN.try_with(use_it).ok()
    }

    pub(super) fn next_number() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % NONE
    }
}

/// A model may choose the numbers of its threads. The default is 0.
#[cfg(all(test, wedr_loom))]
mod own {
    use super::Own;

    loom::thread_local! {
        static OWN: Own = Own::new();
    }

    #[expect(clippy::unnecessary_wraps, reason = "as outside the models")]
    pub(super) fn with<R>(use_it: impl FnOnce(&Own) -> R) -> Option<R> {
        Some(OWN.with(use_it))
    }

    pub(super) fn next_number() -> usize {
        0
    }
}

/// Marks the calling thread as inside the queue until this value is dropped.
///
/// While a thread waits for a turn, code of the plugin may run on it, for example an allocator hook. If
/// that code emits, it must not take a lock that its thread already holds.
pub(super) struct Inside(());

impl Inside {
    /// `None` if the calling thread is already inside or waits, or if it is ending and its
    /// thread-locals are gone.
    pub(super) fn enter() -> Option<Self> {
        if is_waiting() {
            return None;
        }
        let was_inside = own::with(|own| own.inside.replace(true));
        (was_inside == Some(false)).then(|| Self(()))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        own::with(|own| own.inside.set(false));
    }
}

/// Whether [`Inside::enter`] would fail.
pub(super) fn is_inside() -> bool {
    is_waiting() || own::with(|own| own.inside.get()).unwrap_or(true)
}

/// Marks the calling thread as the writer's: an `emit` on it never waits.
pub(super) fn mark_as_writer() {
    own::with(|own| own.inside.set(true));
}

/// Counts one more attempt of the calling thread to overtake blocked producers. Returns the count before.
pub(super) fn count_overtake() -> usize {
    own::with(|own| own.overtakes.replace(own.overtakes.get().saturating_add(1))).unwrap_or(0)
}

pub(super) fn reset_overtakes() {
    own::with(|own| own.overtakes.set(0));
}

/// Makes the calling thread skip its next `count` checks for spare slots.
pub(super) fn skip_checks(count: usize) {
    own::with(|own| own.checks_to_skip.set(count));
}

/// Whether the calling thread skips this check for spare slots.
pub(super) fn skips_check() -> bool {
    let left = own::with(|own| {
        let left = own.checks_to_skip.get();
        own.checks_to_skip.set(left.saturating_sub(1));
        left
    });
    left.is_some_and(|left| left > 0)
}

/// The number of the calling thread. A thread draws the next number when it calls this for the first time.
/// A thread whose thread-locals are gone gets 0.
#[inline]
pub(super) fn number() -> usize {
    let number = own::with(|own| {
        if own.number.get() == NONE {
            own.number.set(own::next_number());
        }
        own.number.get()
    });
    number.unwrap_or(0)
}

/// Chooses the calling thread's number.
#[cfg(all(test, wedr_loom))]
pub(super) fn set_number(number: usize) {
    own::with(|own| own.number.set(number));
}
