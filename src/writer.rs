//! The thread that owns the pipe: it drains the queue in batches and interleaves heartbeats.

use std::io;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::batch::Batch;
use crate::deadline::Deadline;
use crate::queue::Outlet;
use crate::shutdown::Shutdown;
use crate::sync::Arc;
use crate::transport::{Closed, Pipe};
use crate::wire::message::{PluginMessage, to_frame};

/// How long a write waits for the agent before it looks whether it should go on.
const WRITE_SLICE: Duration = Duration::from_millis(100);
/// How long it waits for an agent that is only a little behind.
const SHORT_SLICE: Duration = Duration::from_millis(1);
/// How often an idle pipe is checked: its loss must be noticed within a second.
const PEER_CHECK: Duration = Duration::from_millis(500);
/// How long the agent gets to close the pipe after goodbye.
const CONFIRMATION: Duration = Duration::from_secs(1);
/// How long past its deadline a drain may go on that never has to wait.
const DRAIN_GRACE: Duration = Duration::from_millis(100);
/// After a batch of at least this many bytes the writer looks for more at once: with so much to
/// send, lingering first would only cost time.
const LINGER_BELOW: usize = 16 << 10;

/// The times that govern a writer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) drain_timeout: Duration,
}

/// How the writer ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish {
    /// From the shutdown until all was sent, or given up.
    pub(crate) drained_in: Duration,
    /// The agent closed the pipe after goodbye.
    pub(crate) confirmed: bool,
}

/// Why nothing more may be written.
enum Stop {
    Lost(io::Error),
    /// The drain deadline has passed. The last frame may be torn.
    OutOfTime,
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Lost(e)
    }
}

/// Owns the pipe, and decides what goes out next.
pub(crate) struct Writer {
    output: Output,
    batch: Batch,
    /// The number of the next event or heartbeat.
    seq: u64,
    /// The refusals that `seq` has skipped a number for.
    burnt: u64,
    /// Nothing has been sent since that would show the last of these gaps.
    owes_gap: bool,
    heartbeat: Timer,
    peer_check: Timer,
    linger: Duration,
}

/// The pipe, and those who must hear of it when writing takes long.
struct Output {
    pipe: Pipe,
    outlet: Outlet,
    shutdown: Arc<Shutdown>,
    drain_timeout: Duration,
}

impl Writer {
    pub(crate) fn new(pipe: Pipe, outlet: Outlet, shutdown: Arc<Shutdown>, timing: Timing) -> Self {
        let now = Instant::now();
        Self {
            output: Output { pipe, outlet, shutdown, drain_timeout: timing.drain_timeout },
            batch: Batch::new(),
            seq: 0,
            burnt: 0,
            owes_gap: false,
            heartbeat: Timer::new(timing.heartbeat, now),
            peer_check: Timer::new(Some(PEER_CHECK), now),
            linger: timing.linger,
        }
    }

    /// With so many numbers left, the event or heartbeat after which it panics.
    #[cfg(all(test, debug_assertions))]
    pub(crate) fn panics_after(mut self, numbers: u64) -> Self {
        self.seq = u64::MAX - numbers;
        self
    }

    /// Runs until the session is over.
    pub(crate) fn run(mut self) -> Finish {
        let ended = self.stream().and_then(|()| self.drain());
        // What of the batch went out whole before it was cut off.
        self.output.outlet.sent(self.batch.events_written());
        let drained_in = self.output.shutdown.elapsed();
        let said_goodbye = match ended {
            Ok(()) => true,
            Err(Stop::OutOfTime) => false,
            Err(Stop::Lost(cause)) => {
                self.output.outlet.lose(cause);
                false
            }
        };
        let Output { pipe, outlet, shutdown, drain_timeout } = self.output;
        // Closes the accounts: nobody else has to wait for the agent's confirmation.
        drop(outlet);
        let confirmed = said_goodbye && confirmed(pipe, &shutdown, drain_timeout);
        Finish { drained_in, confirmed }
    }

    /// Sends what comes until the shutdown is asked for.
    fn stream(&mut self) -> Result<(), Stop> {
        // Nothing was sent since it last lingered.
        let mut lingered = true;
        while !self.output.shutdown.is_requested() {
            self.output.outlet.begin_flush();
            let sent = self.send_batch()?;
            self.output.outlet.finish_flush();
            let now = Instant::now();
            self.beat_if_due(now)?;
            if self.peer_check.is_due(now) {
                self.output.pipe.check_peer()?;
                self.peer_check.restart(now);
            }
            lingered &= sent == 0;
            if sent >= LINGER_BELOW {
                continue;
            }
            let next = self.heartbeat.due().earlier(self.peer_check.due());
            if !lingered && !self.linger.is_zero() && !self.output.outlet.is_flushing() {
                self.output.outlet.linger(next.earlier(Deadline::since(now, self.linger)));
                lingered = true;
            } else if sent == 0 {
                self.output.outlet.idle(next);
            }
        }
        Ok(())
    }

    /// Sends what was accepted before the shutdown, and goodbye.
    fn drain(&mut self) -> Result<(), Stop> {
        self.output.outlet.close();
        while self.send_batch()? > 0 {
            self.beat_if_due(Instant::now())?;
            // Writes that do not wait do not look at it. Late, and with nothing left, goodbye may
            // still go out the same way.
            let limit = self.output.drain_timeout.saturating_add(DRAIN_GRACE);
            let is_late = self.output.shutdown.drain_deadline(limit).has_passed();
            if is_late && !self.output.outlet.is_empty() {
                return Err(Stop::OutOfTime);
            }
        }
        self.output.outlet.drained();
        self.output.outlet.close_refusals();
        self.burn_refused();
        if self.owes_gap {
            // Nothing else would come after it.
            self.beat()?;
        }
        self.send(&PluginMessage::Goodbye)
    }

    /// Sends one batch of what is queued; returns its bytes.
    fn send_batch(&mut self) -> Result<usize, Stop> {
        self.gather();
        self.output.outlet.make_room();
        while !self.batch.rest().is_empty() {
            let written = self.output.write(self.batch.rest())?;
            self.batch.advance(written);
        }
        let bytes = self.batch.len();
        self.output.outlet.sent(self.batch.events_written());
        self.batch.clear();
        Ok(bytes)
    }

    fn gather(&mut self) {
        self.output.outlet.note_high_water();
        self.burn_refused();
        while !self.batch.is_full() {
            let Ok(event) = self.output.outlet.take() else {
                break;
            };
            let seq = self.next_seq();
            self.batch.push(seq, event);
        }
    }

    /// Skips a number for every event that was refused, so that the agent sees the loss.
    fn burn_refused(&mut self) {
        let refused = self.output.outlet.refused();
        self.owes_gap |= refused > self.burnt;
        self.seq += refused - self.burnt;
        self.burnt = refused;
    }

    fn next_seq(&mut self) -> u64 {
        let seq = self.seq;
        self.seq += 1;
        self.owes_gap = false;
        seq
    }

    fn beat_if_due(&mut self, now: Instant) -> Result<(), Stop> {
        if self.heartbeat.is_due(now) {
            self.beat()?;
            self.heartbeat.restart(now);
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), Stop> {
        self.burn_refused();
        let seq = self.next_seq();
        self.send(&PluginMessage::Heartbeat { seq })?;
        self.output.outlet.counters().heartbeats.add(1);
        Ok(())
    }

    /// Sends a message that is no event. The batch is empty.
    fn send(&mut self, message: &impl Serialize) -> Result<(), Stop> {
        let frame = to_frame(message);
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let written = self.output.write(rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

impl Output {
    /// Hands some of `bytes` to the pipe, at least one.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let mut slice = SHORT_SLICE;
        let patience = &mut || {
            if slice == SHORT_SLICE {
                self.outlet.make_room_for_a_few();
            } else {
                self.outlet.make_room_before_waiting();
            }
            let until = slice_before(self.shutdown.drain_deadline(self.drain_timeout), slice);
            slice = WRITE_SLICE;
            until
        };
        let written = self.pipe.write(bytes, patience)?;
        if written == 0 {
            return Err(Stop::OutOfTime);
        }
        let counters = self.outlet.counters();
        counters.bytes_sent.add(written as u64);
        counters.writes.add(1);
        Ok(written)
    }
}

/// The next slice of waiting, none once `deadline` has passed.
fn slice_before(deadline: Deadline, slice: Duration) -> Option<Deadline> {
    let now = Instant::now();
    (!deadline.has_passed_at(now)).then(|| deadline.earlier(Deadline::since(now, slice)))
}

/// Waits for the agent to close the pipe after goodbye: it has read everything then.
fn confirmed(mut pipe: Pipe, shutdown: &Shutdown, drain_timeout: Duration) -> bool {
    let limit = Deadline::after(CONFIRMATION);
    let patience =
        &mut || slice_before(shutdown.drain_deadline(drain_timeout).earlier(limit), WRITE_SLICE);
    pipe.wait_closed(patience) == Closed::Orderly
}

/// Something that is due again and again. A time that was missed, however far, is not made up
/// for: the next is one interval after the late one.
struct Timer {
    every: Option<Duration>,
    due: Deadline,
}

impl Timer {
    fn new(every: Option<Duration>, now: Instant) -> Self {
        let mut timer = Self { every, due: Deadline::NEVER };
        timer.restart(now);
        timer
    }

    fn restart(&mut self, now: Instant) {
        self.due = self.every.map_or(Deadline::NEVER, |every| Deadline::since(now, every));
    }

    fn due(&self) -> Deadline {
        self.due
    }

    fn is_due(&self, now: Instant) -> bool {
        self.due.has_passed_at(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_timer_does_not_catch_up() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut timer = Timer::new(Some(second), start);
        assert!(!timer.is_due(start));
        // The machine was suspended for ten minutes.
        let awake = start + 600 * second;
        assert!(timer.is_due(awake));
        timer.restart(awake);
        assert!(!timer.is_due(awake));
        assert!(timer.is_due(awake + second));
    }

    #[test]
    fn no_interval_is_never_due() {
        let now = Instant::now();
        let timer = Timer::new(None, now);
        assert!(!timer.is_due(now + Duration::from_secs(1 << 30)));
    }
}
