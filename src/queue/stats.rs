//! The queue's statistics.

use super::Queue;
use crate::error::Error;
use crate::stats::Stats;
use crate::sync::Ordering;

impl Queue {
    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let queued = if self.flushes.have_ended() {
            // An event that is in a lane now was refused, or is counted as undelivered.
            0
        } else {
            self.lanes.len() + counters.in_flight.load(Ordering::Relaxed)
        };
        let high_water = counters.queue_high_water.load(Ordering::Relaxed);
        Stats {
            sent: counters.sent.get(),
            undelivered: counters.undelivered.get(),
            refused: self.refused.count(),
            lost: self.reported_lost.count(),
            queued,
            queue_high_water: high_water.max(queued),
            waits: self.gate.waits(),
            longest_wait: self.gate.longest_wait(),
            bytes_sent: counters.bytes_sent.get(),
            writes: counters.writes.get(),
            heartbeats: counters.heartbeats.get(),
        }
    }

    /// Why the pipe was lost, if it was.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.lost_pipe.get().map(|cause| Error::pipe_lost(std::sync::Arc::clone(cause)))
    }
}
