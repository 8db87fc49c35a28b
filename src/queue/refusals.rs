//! The count of refusals, which closes together with the queue.

use crate::sync::{AtomicU64, Ordering};

const CLOSED: u64 = 1 << 63;

/// Counts refusals until the writer has read the count for the last time, so that every one of
/// them shows as a gap in `seq`.
pub(super) struct Refusals(AtomicU64);

impl Refusals {
    pub(super) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Counts one; false if it is too late for that.
    pub(super) fn add(&self) -> bool {
        let add = |word: u64| (word & CLOSED == 0).then_some(word + 1);
        // Relaxed: read-modify-writes of one word have one order, and nothing else is told by it.
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).is_ok()
    }

    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed) & !CLOSED
    }

    /// Ends the counting: what [`count`](Self::count) returns from now on is final.
    pub(super) fn close(&self) {
        self.0.fetch_or(CLOSED, Ordering::Relaxed);
    }
}
