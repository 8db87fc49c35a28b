//! The writer's side of the queue: take events in order, count them, admit producers, close.

use std::io;
use std::time::{Duration, Instant};

use super::Queue;
use super::lanes::Merge;
use super::pool::Access;
use super::thread;
use crate::deadline::Deadline;
use crate::stats::{Counters, Losses};
use crate::sync::{Arc, Ordering, fence};
use crate::wire::event::EventTail;

/// While the writer takes events and producers are blocked, it admits at least this often.
const ADMIT_INTERVAL: Duration = Duration::from_millis(5);
/// The writer and the producers give turns until this many are in use. Only a writer that is about to wait
/// gives more. Two producers fill the queue as fast as many do. With more turns, producers block more often,
/// and the writer must wake them: with eight turns, floods of long events took up to twice the processor
/// time.
pub(super) const MAX_TURNS: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 2 };
/// Bytes of queued events that stay in the cache of a core.
const CACHED: usize = 2 << 20;
/// About how many bytes an event takes besides its content.
const EVENT_OVERHEAD: usize = 128;
/// The lowest soft limit, in events.
const MIN_SOFT_LIMIT: usize = 16;
/// The most emptied buffers that the writer keeps for a lane whose shelf is locked.
const MAX_EMPTIED: usize = 1024;

/// Takes events out of the queue. Its drop closes the queue, also during a panic: it counts the events
/// that were not sent as undelivered and wakes all waiting threads.
pub(crate) struct Consumer {
    queue: Arc<Queue>,
    /// `None` once `drop` has taken it.
    merge: Option<Merge>,
    /// Events taken and not yet handed to the operating system.
    in_flight: usize,
    /// For each lane, the buffers of long events that were taken.
    emptied: Vec<Vec<Vec<u8>>>,
    /// Bytes of the budget became free since the last admission.
    has_new_bytes: bool,
    admitted_at: Instant,
    /// For each lane, how many of its events must have been taken and sent when the flush in progress ends.
    flush_target: Option<Vec<u64>>,
    /// The writer has seen the shutdown and issued its fence.
    is_closing: bool,
    is_drained: bool,
    /// The losses when the writer last read them.
    seen_losses: Losses,
    /// See [`SoftLimit`](super::full::SoftLimit).
    soft_limit: usize,
}

impl Consumer {
    pub(super) fn new(queue: Arc<Queue>, merge: Merge) -> Self {
        Self {
            emptied: (0..queue.lanes.count()).map(|_| Vec::new()).collect(),
            merge: Some(merge),
            in_flight: 0,
            has_new_bytes: false,
            admitted_at: Instant::now(),
            flush_target: None,
            is_closing: false,
            is_drained: false,
            seen_losses: Losses::default(),
            soft_limit: queue.limits.capacity,
            queue,
        }
    }

    /// Marks the calling thread as the writer's.
    pub(crate) fn bind_to_thread() {
        thread::mark_as_writer();
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.queue.counters
    }

    fn merge(&self) -> &Merge {
        self.merge.as_ref().expect("only `drop` takes it away")
    }

    /// Begins a pass over the queue.
    pub(crate) fn begin_pass(&mut self) {
        self.counters().set_taking(true);
        // See `Queue::is_flushed`.
        fence(Ordering::Release);
        let merge = self.merge.as_mut().expect("only `drop` takes it away");
        merge.begin(&self.queue.lanes, self.is_closing);
    }

    /// Hands the next event of the pass to `put`; false if there is none. If `put` does not take the
    /// buffer of a long event, the buffer is recycled.
    #[inline]
    pub(crate) fn take(&mut self, put: impl FnOnce(&mut EventTail)) -> bool {
        let emptied = &mut self.emptied;
        let taken = self.merge.as_mut().is_some_and(|merge| {
            merge.take(|event| {
                put(&mut event.tail);
                if let EventTail::Long { bytes, home } = &mut event.tail
                    && bytes.capacity() > 0
                {
                    emptied[usize::from(*home)].push(std::mem::take(bytes));
                }
            })
        });
        self.in_flight += usize::from(taken);
        taken
    }

    /// Ends a pass, which took events of `bytes` bytes in all, and publishes the counts.
    pub(crate) fn end_pass(&mut self, bytes: usize) {
        if let Some(each) = bytes.checked_div(self.in_flight) {
            let event = EVENT_OVERHEAD + each;
            self.soft_limit = (CACHED / event).max(MIN_SOFT_LIMIT).min(self.queue.limits.capacity);
            self.queue.soft_limit.set(self.soft_limit);
        }
        self.merge().end(&self.queue.lanes);
        self.put_buffers_back(Access::Try);
        self.publish_in_flight();
        self.counters().set_taking(false);
        if self.in_flight > 0 {
            // This fence is between taking the events and reading the flag. Its counterpart is in
            // `Full::update`.
            fence(Ordering::SeqCst);
            self.queue.full.clear();
        }
    }

    /// Takes back the buffer of an event that was sent directly from the buffer.
    pub(crate) fn recycle(&mut self, home: u8, buffer: Vec<u8>) {
        self.emptied[usize::from(home)].push(buffer);
        self.put_buffers_back(Access::Try);
    }

    fn put_buffers_back(&mut self, access: Access) {
        let pool = &self.queue.pool;
        for (home, emptied) in self.emptied.iter_mut().enumerate() {
            if emptied.is_empty() {
                continue;
            }
            self.has_new_bytes = true;
            if !pool.put_back(home, emptied, access) && emptied.len() > MAX_EMPTIED {
                pool.free(emptied.drain(..));
            }
        }
    }

    /// Frees buffers that are not needed any more.
    pub(crate) fn trim(&self) {
        self.queue.pool.trim();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.merge().is_empty()
    }

    /// Counts `events` that were handed to the operating system.
    pub(crate) fn sent(&mut self, events: u64) {
        // Between two calls the number of queued events only grows, so it is largest just before a call.
        self.note_high_water();
        self.in_flight -= events as usize;
        // In this order: a flush that finds nothing in flight must find all events counted as sent.
        self.counters().sent.add(events);
        self.publish_in_flight();
    }

    fn publish_in_flight(&self) {
        let heads = self.merge.as_ref().map_or(0, Merge::heads);
        self.counters().in_flight.store(self.in_flight + heads, Ordering::Release);
    }

    fn note_high_water(&self) {
        self.counters().note_queued(self.merge().len() + self.in_flight);
    }

    /// The lost events so far: refused events, and events that the plugin reported. For each, `seq`
    /// skips a number.
    pub(crate) fn losses(&mut self) -> Losses {
        self.seen_losses = self.count_losses();
        self.seen_losses
    }

    fn count_losses(&self) -> Losses {
        Losses { refused: self.queue.refused.count(), reported: self.queue.reported_lost.count() }
    }

    /// Ends the counting of losses.
    pub(crate) fn close_losses(&self) {
        self.queue.refused.close();
        self.queue.reported_lost.close();
    }

    /// Admits waiting producers if there is much room, or if the last admission was long ago.
    pub(crate) fn admit(&mut self) {
        if self.queue.gate.has_waiters() {
            let is_due = (self.has_new_bytes
                && self.queue.gate.has_byte_waiters()
                && self.queue.pool.is_half_free())
                || self.queue.lanes.len() <= self.soft_limit / 2
                || self.admitted_at.elapsed() >= ADMIT_INTERVAL;
            if is_due {
                self.admit_up_to(MAX_TURNS);
            }
        }
    }

    /// Admits all producers that there is room for. The writer calls this before it waits for
    /// anything that may take long.
    pub(crate) fn admit_all(&mut self) {
        // While the writer waits, producers may use all slots. The limit is lifted before the fence in
        // `has_waiters`: a producer that joined before the fence is admitted here, and one that joins
        // later sees that there is no limit.
        self.queue.soft_limit.lift();
        // This waits for a locked shelf, because blocked producers may need the bytes of these buffers.
        self.put_buffers_back(Access::Wait);
        // The writer also admits if it has made no room: the soft limit may have kept a producer from
        // free slots.
        if self.queue.gate.has_waiters() {
            self.admit_up_to(usize::MAX);
        }
    }

    fn admit_up_to(&mut self, at_most: usize) {
        let queue = &self.queue;
        queue.gate.admit(at_most, &|others, event| queue.has_room(others, event));
        self.has_new_bytes = false;
        self.admitted_at = Instant::now();
    }

    /// Lets events gather until `deadline`. A full lane, a flush or the shutdown ends it.
    pub(crate) fn linger(&mut self, deadline: Deadline) {
        self.admit_all();
        self.queue.wakeup.linger(deadline, || {
            // A producer wakes the writer before it waits for a turn, and not again during that wait.
            !self.has_other_work()
                && self.queue.gate.waiting() == 0
                && self.queue.lanes.len() < self.queue.lanes.capacity()
        });
    }

    /// Waits for an event, a flush or the shutdown until `deadline`.
    pub(crate) fn idle(&mut self, deadline: Deadline) {
        self.admit_all();
        // A new loss wakes only a writer that is already idle, so this is the last check for one.
        let has_new_losses =
            || self.queue.limits.reports_losses && self.count_losses() != self.seen_losses;
        self.queue
            .wakeup
            .idle(deadline, || !self.has_other_work() && self.is_empty() && !has_new_losses());
    }

    fn has_other_work(&self) -> bool {
        self.queue.shutdown.is_requested() || self.queue.flushes.is_requested()
    }

    /// Begins the flushes that were requested so far, and notes which events they cover. No event may be
    /// in flight.
    pub(crate) fn begin_flush(&mut self) {
        if self.flush_target.is_none() && self.queue.flushes.is_requested() {
            self.queue.flushes.begin();
            self.flush_target = Some(self.merge().target());
        }
    }

    /// Answers the flushes in progress if all events that they cover have been sent.
    pub(crate) fn finish_flush(&mut self) {
        if self.flush_target.as_ref().is_some_and(|target| self.merge().has_reached(target)) {
            self.queue.flushes.finish();
            self.flush_target = None;
        }
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flush_target.is_some() || self.queue.flushes.is_requested()
    }

    /// The writer's half of the closing rule. The writer has seen the shutdown flag. If it takes events
    /// until the queue is empty after this call, it has taken every accepted event.
    pub(crate) fn close(&mut self) {
        debug_assert!(self.queue.shutdown.is_requested());
        fence(Ordering::SeqCst);
        self.is_closing = true;
    }

    /// Notes that the queue was found empty after [`close`](Self::close): an event that is pushed from
    /// now on is refused, and is not counted.
    pub(crate) fn drained(&mut self) {
        self.is_drained = true;
    }

    /// Closes the queue because the pipe was lost.
    pub(crate) fn close_after_loss(&self, cause: io::Error) {
        // Before the flag: a thread that sees the flag must see the reason.
        let _ = self.queue.lost_pipe.set(std::sync::Arc::new(cause));
        self.queue.shutdown.request();
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.queue.shutdown.request();
        self.close();
        self.close_losses();
        self.note_high_water();
        let left = if self.is_drained { 0 } else { self.merge().len() };
        // `len` counts these events without taking them out, because there may be millions.
        self.counters().undelivered.add((self.in_flight + left) as u64);
        // The counter `in_flight` keeps its value. Otherwise a flush that does not see the end yet could
        // find the queue flushed.
        self.queue.gate.release_all();
        self.queue.flushes.end();
        if let Some(merge) = self.merge.take() {
            super::lanes::drop_later(merge, self.queue.lanes.capacity());
        }
    }
}
