//! The counts of lost events, which close together with the queue.

use super::{Queue, thread};
use crate::sync::{AtomicU64, Ordering, fence_after_exchange};

const CLOSED: u64 = 1 << 63;
/// The most that one call can add, so that the count cannot reach the bit [`CLOSED`].
const MAX_ADDED: u64 = 1 << 40;
/// Threads count in different shards, so that they do not contend.
const SHARDS: usize = if cfg!(all(test, wedr_loom)) { 2 } else { 16 };

/// Counts lost events until the writer closes it. Then the writer reads the final count. So `seq` skips
/// one number for each event that is counted here.
pub(super) struct LossCounter {
    shards: [Shard; SHARDS],
    /// The final count with the bit [`CLOSED`]; 0 until the count is closed.
    closed: AtomicU64,
}

/// On a cache line of its own.
#[repr(align(128))]
struct Shard(AtomicU64);

impl LossCounter {
    pub(super) fn new() -> Self {
        Self {
            shards: std::array::from_fn(|_| Shard(AtomicU64::new(0))),
            closed: AtomicU64::new(0),
        }
    }

    /// Counts `events`; returns false if the count is closed.
    pub(super) fn add(&self, events: u64) -> bool {
        let shard = &self.shards[thread::number() % SHARDS].0;
        // Relaxed: all read-modify-writes of a shard have one order, and the count alone matters.
        shard.fetch_add(events.min(MAX_ADDED), Ordering::Relaxed) & CLOSED == 0
    }

    pub(super) fn count(&self) -> u64 {
        match self.closed.load(Ordering::Relaxed) {
            0 => self.shards.iter().map(|shard| shard.0.load(Ordering::Relaxed) & !CLOSED).sum(),
            closed => closed & !CLOSED,
        }
    }

    /// Ends the counting. Only the writer calls this.
    pub(super) fn close(&self) {
        if self.closed.load(Ordering::Relaxed) == 0 {
            let close = |shard: &Shard| shard.0.fetch_or(CLOSED, Ordering::Relaxed);
            let sum: u64 = self.shards.iter().map(close).sum();
            self.closed.store(sum | CLOSED, Ordering::Relaxed);
        }
    }
}

impl Queue {
    /// Counts events that the plugin lost before it called `emit`.
    pub(crate) fn report_lost(&self, events: u64) {
        self.reported_lost.add(events);
        if self.limits.reports_losses {
            fence_after_exchange();
            self.wakeup.event_queued();
        }
    }
}
