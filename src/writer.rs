//! The writer: the thread that owns the pipe. It sends the queued events in batches, and heartbeats between
//! them.

use std::io;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::deadline::Deadline;
use crate::loss_log::{LossLog, LossReport};
use crate::queue::Consumer;
use crate::shutdown::Shutdown;
use crate::sync::Arc;
use crate::transport::{Closed, Pipe};
use crate::wire::message::{PluginMessage, to_frame};

/// How long a write waits for the agent before it checks whether to continue.
const WRITE_SLICE: Duration = Duration::from_millis(100);
/// The first wait of a write, for an agent that is about to read.
const SHORT_SLICE: Duration = Duration::from_millis(1);
/// How often the writer checks an idle pipe: it must detect a loss within 1 s.
const PEER_CHECK: Duration = Duration::from_millis(500);
/// How long the writer waits for the agent to close the pipe after goodbye.
const CONFIRMATION: Duration = Duration::from_secs(1);
/// How long a drain may continue after its deadline while no write has to wait for the agent.
const DRAIN_GRACE: Duration = Duration::from_millis(100);
/// After a batch of at least this many bytes the writer does not linger, because lingering would only cost
/// time.
const LINGER_BELOW: usize = 16 << 10;

/// The writer's configured times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) drain_timeout: Duration,
}

/// How the writer ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finish {
    /// From the shutdown until everything was sent, or until the writer gave up.
    pub(crate) drained_in: Duration,
    /// The whole goodbye was handed to the operating system.
    pub(crate) goodbye_sent: bool,
    /// The agent read everything, and closed the pipe after goodbye: see [`Closed::Orderly`].
    pub(crate) confirmed: bool,
}

/// Why nothing more may be written.
enum Stop {
    Lost(io::Error),
    /// The drain deadline has passed. The last frame may be written in part.
    OutOfTime,
}

impl From<io::Error> for Stop {
    fn from(e: io::Error) -> Self {
        Self::Lost(e)
    }
}

/// Owns the pipe and decides what to send next.
pub(crate) struct Writer {
    output: Output,
    batch: Batch,
    /// The number of the next event.
    seq: u64,
    losses: LossLog,
    heartbeat: Timer,
    peer_check: Timer,
    linger: Duration,
}

/// The pipe, and what a write needs while it waits for the agent.
struct Output {
    pipe: Pipe,
    consumer: Consumer,
    shutdown: Arc<Shutdown>,
    drain_timeout: Duration,
    /// A write has already waited for the agent since the last batch began.
    has_waited: bool,
}

impl Writer {
    pub(crate) fn new(
        pipe: Pipe,
        consumer: Consumer,
        shutdown: Arc<Shutdown>,
        timing: Timing,
        loss_report: Option<LossReport>,
    ) -> Self {
        let now = Instant::now();
        Self {
            output: Output {
                pipe,
                consumer,
                shutdown,
                drain_timeout: timing.drain_timeout,
                has_waited: false,
            },
            batch: Batch::new(),
            seq: 0,
            losses: LossLog::new(loss_report),
            heartbeat: Timer::new(timing.heartbeat, now),
            peer_check: Timer::new(Some(PEER_CHECK), now),
            linger: timing.linger,
        }
    }

    /// Makes the writer panic after `events` events, because `seq` overflows.
    #[cfg(all(test, debug_assertions))]
    pub(crate) fn panics_after(mut self, events: u64) -> Self {
        self.seq = u64::MAX - events;
        self
    }

    /// Runs until the session is over.
    pub(crate) fn run(mut self) -> Finish {
        Consumer::bind_to_thread();
        let ended = self.stream().and_then(|()| self.drain());
        // The events of the last batch whose frames were written whole.
        self.output.consumer.sent(self.batch.events_written());
        let drained_in = self.output.shutdown.elapsed();
        let goodbye_sent = match ended {
            Ok(()) => true,
            Err(Stop::OutOfTime) => false,
            Err(Stop::Lost(cause)) => {
                self.output.consumer.close_after_loss(cause);
                false
            }
        };
        let Output { pipe, consumer, shutdown, drain_timeout, .. } = self.output;
        // This makes the counts final and ends every flush, so no thread waits for the confirmation.
        drop(consumer);
        let confirmed = goodbye_sent && confirmed(pipe, &shutdown, drain_timeout);
        Finish { drained_in, goodbye_sent, confirmed }
    }

    /// Sends events until the shutdown is requested.
    fn stream(&mut self) -> Result<(), Stop> {
        // Whether nothing was sent since the writer last lingered.
        let mut lingered = true;
        while !self.output.shutdown.is_requested() {
            self.output.consumer.begin_flush();
            let sent = self.send_batch()?;
            self.output.consumer.finish_flush();
            let now = Instant::now();
            self.beat_if_due(now)?;
            self.report_losses_if_due(now)?;
            if self.peer_check.is_due(now) {
                self.output.pipe.check_peer()?;
                self.output.consumer.trim();
                self.peer_check.restart(now);
            }
            lingered &= sent == 0;
            if sent >= LINGER_BELOW {
                continue;
            }
            let next = self.heartbeat.due().earlier(self.peer_check.due());
            let next = next.earlier(self.losses.report_due());
            if !lingered && !self.linger.is_zero() && !self.output.consumer.is_flushing() {
                self.output.consumer.linger(next.earlier(Deadline::since(now, self.linger)));
                lingered = true;
            } else if sent == 0 {
                self.output.consumer.idle(next);
            }
        }
        Ok(())
    }

    /// Sends the events that were accepted before the shutdown, and goodbye.
    fn drain(&mut self) -> Result<(), Stop> {
        self.output.consumer.close();
        while self.send_batch()? > 0 {
            self.beat_if_due(Instant::now())?;
            // A write that does not block skips the deadline check, so check here. If the queue is empty,
            // goodbye may still be sent.
            let limit = self.output.drain_timeout.saturating_add(DRAIN_GRACE);
            let is_late = self.output.shutdown.drain_deadline(limit).has_passed();
            if is_late && !self.output.consumer.is_empty() {
                return Err(Stop::OutOfTime);
            }
        }
        self.output.consumer.drained();
        self.output.consumer.close_losses();
        self.skip_losses();
        self.report_losses()?;
        if self.losses.is_gap_pending() {
            // No event follows that would show the gap.
            self.beat()?;
        }
        self.send(&to_frame(&PluginMessage::Goodbye))
    }

    /// Sends one batch of queued events; returns its length in bytes.
    fn send_batch(&mut self) -> Result<usize, Stop> {
        self.gather();
        self.output.consumer.admit();
        self.output.has_waited = false;
        while !self.batch.rest().is_empty() {
            let written = self.output.write(self.batch.rest())?;
            self.batch.advance(written);
        }
        let bytes = self.batch.len();
        self.output.consumer.sent(self.batch.events_written());
        if let Some((home, buffer)) = self.batch.clear() {
            self.output.consumer.recycle(home, buffer);
        }
        Ok(bytes)
    }

    fn gather(&mut self) {
        let (consumer, batch) = (&mut self.output.consumer, &mut self.batch);
        self.losses.skip(consumer.losses(), &mut self.seq);
        consumer.begin_pass();
        let mut seq = self.seq;
        while !batch.is_full() && consumer.take(|tail| batch.push(seq, tail)) {
            seq += 1;
        }
        if seq > self.seq {
            self.losses.shown();
        }
        self.seq = seq;
        consumer.end_pass(batch.len());
    }

    fn skip_losses(&mut self) {
        self.losses.skip(self.output.consumer.losses(), &mut self.seq);
    }

    fn report_losses_if_due(&mut self, now: Instant) -> Result<(), Stop> {
        self.skip_losses();
        if self.losses.report_due().has_passed_at(now) { self.report_losses() } else { Ok(()) }
    }

    /// Sends an event that reports losses, if there are any to report.
    fn report_losses(&mut self) -> Result<(), Stop> {
        let Some(report) = self.losses.report(self.seq) else {
            return Ok(());
        };
        self.seq += 1;
        self.losses.shown();
        self.send(&report)
    }

    fn beat_if_due(&mut self, now: Instant) -> Result<(), Stop> {
        if self.heartbeat.is_due(now) {
            self.beat()?;
            // The interval starts now, because the write may have waited for the agent. Otherwise a second
            // heartbeat could follow at once.
            self.heartbeat.restart(Instant::now());
        }
        Ok(())
    }

    /// Sends a heartbeat. It carries the number that the next event will have.
    fn beat(&mut self) -> Result<(), Stop> {
        self.skip_losses();
        self.losses.shown();
        self.send(&to_frame(&PluginMessage::Heartbeat { seq: self.seq }))?;
        self.output.consumer.counters().heartbeats.add(1);
        Ok(())
    }

    /// Sends a frame. The batch is empty.
    fn send(&mut self, frame: &[u8]) -> Result<(), Stop> {
        let mut rest = frame;
        while !rest.is_empty() {
            let written = self.output.write(rest)?;
            rest = &rest[written..];
        }
        Ok(())
    }
}

impl Output {
    /// Writes some of `bytes`, at least one.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let next_deadline = &mut || {
            let slice = if self.has_waited {
                // This wait may be long: no producer must stay blocked while slots are free.
                self.consumer.admit_all();
                WRITE_SLICE
            } else {
                // To wake producers now would take the processor from an agent that is about to read.
                self.has_waited = true;
                SHORT_SLICE
            };
            slice_before(self.shutdown.drain_deadline(self.drain_timeout), slice)
        };
        let written = self.pipe.write(bytes, next_deadline)?;
        if written == 0 {
            return Err(Stop::OutOfTime);
        }
        let counters = self.consumer.counters();
        counters.bytes_sent.add(written as u64);
        counters.writes.add(1);
        Ok(written)
    }
}

/// The end of the next slice of waiting; `None` once `deadline` has passed.
fn slice_before(deadline: Deadline, slice: Duration) -> Option<Deadline> {
    let now = Instant::now();
    (!deadline.has_passed_at(now)).then(|| deadline.earlier(Deadline::since(now, slice)))
}

/// Waits until the agent closes the pipe after goodbye. Returns whether the agent had read everything.
fn confirmed(mut pipe: Pipe, shutdown: &Shutdown, drain_timeout: Duration) -> bool {
    let limit = Deadline::after(CONFIRMATION);
    let next_deadline =
        &mut || slice_before(shutdown.drain_deadline(drain_timeout).earlier(limit), WRITE_SLICE);
    pipe.wait_closed(next_deadline) == Closed::Orderly
}

/// A timer that repeats. If it is late, it does not catch up: it is due again one interval later.
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
    fn late_timer_does_not_catch_up() {
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
    fn timer_without_interval_is_never_due() {
        let now = Instant::now();
        let timer = Timer::new(None, now);
        assert!(!timer.is_due(now + Duration::from_secs(1 << 30)));
    }
}
