//! The queue's statistics.

use super::Queue;
use crate::stats::Stats;
use crate::sync::{Ordering, fence};

/// How often [`Queue::stats`] tries to count the queued events while the writer takes none. If every attempt
/// fails, the count may be wrong by the events of one write.
const ATTEMPTS: usize = if cfg!(all(test, wedr_loom)) { 2 } else { 8 };

impl Queue {
    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let (queued, high_water) = if self.flushes.have_ended() {
            // An event that is in a lane now was refused, or is counted as undelivered.
            (0, counters.queue_high_water.load(Ordering::Relaxed))
        } else {
            self.queued()
        };
        Stats {
            sent: counters.sent.get(),
            undelivered: counters.undelivered.get(),
            refused: self.refused.count(),
            lost: self.reported_lost.count(),
            queued,
            queue_high_water: high_water,
            waits: self.gate.waits(),
            longest_wait: self.gate.longest_wait(),
            bytes_sent: counters.bytes_sent.get(),
            writes: counters.writes.get(),
            heartbeats: counters.heartbeats.get(),
        }
    }

    /// The number of queued events, and the largest number so far.
    fn queued(&self) -> (usize, usize) {
        let counters = &self.counters;
        let mut queued = 0;
        for _ in 0..ATTEMPTS {
            let taken = counters.taken();
            // The two fences keep the lengths of the lanes between the two reads of `taken`.
            fence(Ordering::Acquire);
            queued = self.lanes.len() + taken.map_or(0, |taken| taken.in_flight);
            fence(Ordering::Acquire);
            if taken.is_some() && taken == counters.taken() {
                counters.note_queued(queued);
                break;
            }
        }
        (queued, counters.queue_high_water.load(Ordering::Relaxed))
    }
}
