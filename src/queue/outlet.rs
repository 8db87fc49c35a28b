//! The writer's side of the queue, and the accounts of what became of each event.

use std::io;
use std::time::{Duration, Instant};

use super::Queue;
use super::room::AT_ONCE;
use crate::deadline::Deadline;
use crate::stats::Counters;
use crate::sync::{Arc, Ordering, Receiver, TryRecvError, fence};
use crate::wire::event::EventTail;

/// While the writer takes events, it looks this often at least for producers to wake.
const ROOM_INTERVAL: Duration = Duration::from_millis(5);

/// Takes events out. Dropping it closes the queue, whatever led there: what was not sent by then
/// is counted as undelivered, and everyone who waits is woken.
pub(crate) struct Outlet {
    queue: Arc<Queue>,
    events: Receiver<EventTail>,
    /// Events taken since the queue was made.
    taken: u64,
    /// Events taken and neither sent nor given up.
    in_hand: usize,
    /// Slots, or bytes of the budget, were freed since room was last announced.
    owes_room: bool,
    owes_bytes: bool,
    room_announced: Instant,
    /// How many events must be taken and sent for the flush in progress.
    flush_target: Option<u64>,
    drained: bool,
}

impl Outlet {
    pub(super) fn new(queue: Arc<Queue>, events: Receiver<EventTail>) -> Self {
        Self {
            queue,
            events,
            taken: 0,
            in_hand: 0,
            owes_room: false,
            owes_bytes: false,
            room_announced: Instant::now(),
            flush_target: None,
            drained: false,
        }
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.queue.counters
    }

    /// The next event. Passed on as the channel gives it, since every layer that looks into it
    /// would move it once more.
    #[inline]
    pub(crate) fn take(&mut self) -> Result<EventTail, TryRecvError> {
        let taken = self.events.try_recv();
        if let Ok(event) = &taken {
            let heap_bytes = event.heap_bytes();
            self.queue.budget.release(heap_bytes);
            self.owes_bytes |= heap_bytes > 0;
            self.owes_room = true;
            self.taken += 1;
            self.set_in_hand(self.in_hand + 1);
        }
        taken
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Accounts for `events` that were handed to the operating system.
    pub(crate) fn sent(&mut self, events: u64) {
        self.set_in_hand(self.in_hand - events as usize);
        self.counters().sent.add(events);
    }

    fn set_in_hand(&mut self, events: usize) {
        self.in_hand = events;
        self.counters().in_hand.store(events, Ordering::Relaxed);
    }

    /// Notes how full the queue is, before events are taken.
    pub(crate) fn note_high_water(&self) {
        self.counters().saw_queued(self.events.len());
    }

    /// The refusals so far: numbers of `seq` to be skipped.
    pub(crate) fn refused(&self) -> u64 {
        self.queue.refusals.count()
    }

    /// Ends the counting of refusals.
    pub(crate) fn close_refusals(&self) {
        self.queue.refusals.close();
    }

    /// Wakes producers that wait for room, if it is worth it.
    pub(crate) fn make_room(&mut self) {
        if self.owes_room && self.someone_waits() {
            let worth_it = self.owes_bytes
                || self.events.len() <= self.queue.limits.capacity / 2
                || self.room_announced.elapsed() >= ROOM_INTERVAL;
            if worth_it {
                self.announce_room(AT_ONCE);
            }
        }
    }

    /// Wakes a few producers, if there is room for any. Must come before the writer waits for
    /// anything, however short.
    pub(crate) fn make_room_for_a_few(&mut self) {
        if self.owes_room && self.someone_waits() {
            self.announce_room(AT_ONCE);
        }
    }

    /// Wakes all the producers there is room for, if any was made. Must come before the writer
    /// waits for anything that may take long.
    pub(crate) fn make_room_before_waiting(&mut self) {
        if self.owes_room && self.someone_waits() {
            self.announce_room(usize::MAX);
        }
    }

    fn someone_waits(&self) -> bool {
        // Between taking and looking who waits; the other half is in `Queue::wait_for_room`.
        fence(Ordering::SeqCst);
        self.queue.room.waiting() > 0
    }

    fn announce_room(&mut self, at_once: usize) {
        let queue = &self.queue;
        let free_slots = || queue.limits.capacity.saturating_sub(self.events.len());
        self.owes_room = queue.room.announce(free_slots, at_once);
        self.owes_bytes = false;
        self.room_announced = Instant::now();
    }

    /// Lets events gather until `deadline`. A full queue, a flush or the shutdown ends it.
    pub(crate) fn linger(&mut self, deadline: Deadline) {
        self.make_room_before_waiting();
        self.queue.bell.linger(deadline, || {
            // Who waits may not ring again before it has got what it waits for.
            !self.has_other_work()
                && self.queue.room.waiting() == 0
                && self.events.len() < self.queue.limits.capacity
        });
    }

    /// Waits for an event, a flush or the shutdown until `deadline`.
    pub(crate) fn idle(&mut self, deadline: Deadline) {
        self.make_room_before_waiting();
        self.queue.bell.idle(deadline, || !self.has_other_work() && self.events.is_empty());
    }

    fn has_other_work(&self) -> bool {
        self.queue.shutdown.is_requested() || self.queue.flushes.is_requested()
    }

    /// Notes how far the flushes requested by now reach. Nothing may be in hand.
    pub(crate) fn begin_flush(&mut self) {
        if self.flush_target.is_none() && self.queue.flushes.is_requested() {
            self.queue.flushes.begin();
            self.flush_target = Some(self.taken + self.events.len() as u64);
        }
    }

    /// Answers the flushes that what was taken and sent by now satisfies.
    pub(crate) fn finish_flush(&mut self) {
        if self.flush_target.is_some_and(|target| self.taken >= target) {
            self.queue.flushes.finish();
            self.flush_target = None;
        }
    }

    pub(crate) fn is_flushing(&self) -> bool {
        self.flush_target.is_some() || self.queue.flushes.is_requested()
    }

    /// The writer's half of the closing rule: after this, what is taken until the queue is empty
    /// is all that was ever accepted. The writer has seen the shutdown flag.
    pub(crate) fn close(&self) {
        debug_assert!(self.queue.shutdown.is_requested());
        fence(Ordering::SeqCst);
    }

    /// Notes that the queue was found empty after [`close`](Self::close): an event that is put in
    /// from now on is refused, and counts for nothing.
    pub(crate) fn drained(&mut self) {
        self.drained = true;
    }

    /// Closes the queue because the pipe was lost.
    pub(crate) fn lose(&self, cause: io::Error) {
        // Before the flag: who sees the flag must see the reason.
        let _ = self.queue.lost.set(std::sync::Arc::new(cause));
        self.queue.shutdown.request();
    }
}

impl Drop for Outlet {
    fn drop(&mut self) {
        self.queue.shutdown.request();
        self.close();
        self.queue.refusals.close();
        while !self.drained && self.take().is_ok() {}
        self.counters().undelivered.add(self.in_hand as u64);
        self.set_in_hand(0);
        self.queue.room.release_all();
        self.queue.flushes.end();
    }
}
