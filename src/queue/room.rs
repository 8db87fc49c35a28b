//! Waiting for room in a full queue, and making it.
//!
//! A producer that finds the queue full does not wait inside the channel, which would wake one
//! producer per event taken. It waits here until the writer has made room for many.
//!
//! Nobody is starved. While anybody waits, a newcomer may take a slot only if one stays for
//! everyone who waits: it looks under the lock, or sees so many that it need not. The writer wakes
//! a few, and all before it waits for long itself, but no more than there are slots, the longest
//! waiting first; who is woken and finds the slot taken lost it to one who was past looking, and
//! there are at most as many of those as threads. Bytes of the budget go to the first in their line
//! alone, so that small events do not starve a large one. Who runs out of time looks once more, and
//! takes what is meant for nobody else.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Lack, Overflow, Queue, Waiting};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::sync::{AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, fence};
use crate::wire::event::EventTail;

/// How many are woken for slots at once, as long as the writer goes on. A few fill the queue as
/// fast as many do: 64 threads that take turns on two cores spend a tenth of their time on being
/// woken.
pub(super) const AT_ONCE: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 8 };

pub(super) struct Room {
    /// How many are in `line`. Written under the lock only.
    waiting: AtomicUsize,
    line: Mutex<Line>,
    slots_made: Condvar,
    bytes_made: Condvar,
    waits: AtomicU64,
    longest_wait_ns: AtomicU64,
}

/// Who waits. On a cache line of its own, so that its lock does not slow those who only look
/// whether anybody does.
#[repr(align(128))]
struct Line {
    /// All of them; so many slots are not for newcomers.
    waiting: usize,
    /// Those that were woken for a slot and have not looked yet.
    woken: usize,
    /// Those whose events are charged to the byte budget, in the order they came: their tickets,
    /// and the bytes they wait for.
    for_bytes: VecDeque<(u64, usize)>,
    next_ticket: u64,
}

impl Line {
    /// Whether nobody is before `ticket` in the line for bytes; who has none is not in it.
    fn is_next(&self, ticket: Option<u64>) -> bool {
        ticket.is_none() || self.for_bytes.front().map(|(first, _)| *first) == ticket
    }
}

impl Room {
    pub(super) fn new() -> Self {
        let line = Line { waiting: 0, woken: 0, for_bytes: VecDeque::new(), next_ticket: 0 };
        Self {
            waiting: AtomicUsize::new(0),
            line: Mutex::new(line),
            slots_made: Condvar::new(),
            bytes_made: Condvar::new(),
            waits: AtomicU64::new(0),
            longest_wait_ns: AtomicU64::new(0),
        }
    }

    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.longest_wait_ns.load(Ordering::Relaxed))
    }

    /// Wakes the line for bytes, and those for whom there are slots, up to `at_once`; says whether
    /// there may be more of them.
    pub(super) fn announce(&self, free_slots: impl FnOnce() -> usize, at_once: usize) -> bool {
        let mut line = self.line.lock();
        self.bytes_made.notify_all();
        let free_slots = free_slots();
        while line.woken < free_slots {
            if line.woken >= at_once {
                return true;
            }
            if !self.wake_one(&mut line) {
                break;
            }
        }
        false
    }

    /// Wakes everyone: the queue is closed.
    pub(super) fn release_all(&self) {
        let mut line = self.line.lock();
        while self.wake_one(&mut line) {}
        self.bytes_made.notify_all();
    }

    /// Wakes the one that has waited longest for a slot, if there is one.
    fn wake_one(&self, line: &mut Line) -> bool {
        let woken = self.slots_made.notify_one();
        line.woken += usize::from(woken);
        woken
    }

    /// Gives out a ticket for the line for bytes, if the event needs any.
    fn enter(&self, line: &mut Line, heap_bytes: usize) -> Option<u64> {
        line.waiting += 1;
        self.waiting.store(line.waiting, Ordering::Relaxed);
        (heap_bytes > 0).then(|| {
            line.next_ticket += 1;
            line.for_bytes.push_back((line.next_ticket, heap_bytes));
            line.next_ticket
        })
    }

    fn leave(&self, line: &mut Line, ticket: Option<u64>) {
        line.waiting -= 1;
        self.waiting.store(line.waiting, Ordering::Relaxed);
        if let Some(ticket) = ticket {
            line.for_bytes.retain(|(other, _)| *other != ticket);
            // For the next in that line.
            self.bytes_made.notify_all();
        }
    }

    /// Waits for what is lacking; says whether `deadline` passed instead.
    fn wait(&self, line: &mut MutexGuard<'_, Line>, lack: Lack, deadline: Deadline) -> bool {
        let made = match lack {
            Lack::Slot => &self.slots_made,
            Lack::Bytes => &self.bytes_made,
        };
        let timed_out = deadline.wait(made, line);
        if lack == Lack::Slot && !timed_out {
            line.woken -= 1;
        }
        timed_out
    }

    fn waited(&self, since: Instant) {
        let waited = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.longest_wait_ns.fetch_max(waited, Ordering::Relaxed);
    }
}

impl Queue {
    /// Puts an event into a queue that is full, or has others waiting for room.
    #[cold]
    pub(super) fn push_to_full(&self, event: EventTail, waiting: Waiting) -> Result<()> {
        let mut line = self.room.line.lock();
        if event.heap_bytes() > 0 {
            // It may have held bytes for a moment and not found a slot. Who looked just then
            // must look again.
            self.room.bytes_made.notify_all();
        }
        if let Some(deadline) = self.deadline(waiting) {
            self.wait_for_room(event, &mut line, deadline)?;
        } else if self.offer_as_newcomer(event, &line).is_err() {
            drop(line);
            self.check_open()?;
            // It may be lingering.
            self.bell.ring();
            return Err(self.refuse(waiting));
        }
        drop(line);
        self.settle()
    }

    /// Until when a push may wait; `None` if it may not.
    fn deadline(&self, waiting: Waiting) -> Option<Deadline> {
        // Unwinding must not depend on the agent.
        if std::thread::panicking() {
            return None;
        }
        match waiting {
            Waiting::Never => None,
            Waiting::Until(deadline) => Some(deadline),
            Waiting::Policy => match self.limits.overflow {
                Overflow::Block => Some(Deadline::NEVER),
                Overflow::Refuse => None,
            },
        }
    }

    fn refuse(&self, waiting: Waiting) -> Error {
        match waiting {
            // Its caller has no other way to learn of the loss, so the agent does: `seq` skips.
            Waiting::Policy if !self.refusals.add() => self.closed(),
            _ => Error::QueueFull,
        }
    }

    fn offer_as_newcomer(&self, event: EventTail, line: &Line) -> Result<(), (EventTail, Lack)> {
        if event.heap_bytes() > 0 && !line.for_bytes.is_empty() {
            Err((event, Lack::Bytes))
        } else if self.has_slot_beyond(line.waiting) {
            self.offer(event)
        } else {
            Err((event, Lack::Slot))
        }
    }

    /// Whether there is room for a newcomer's event, and so much more that it does not have to be
    /// looked for under the lock: as many threads may see it at once and take what they saw.
    pub(super) fn has_room_to_spare(&self, event: &EventTail, others: usize) -> bool {
        const THREADS: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 64 };
        event.heap_bytes() == 0 && self.has_slot_beyond(others + THREADS)
    }

    /// Whether a slot stays for each of so many others if one is taken.
    fn has_slot_beyond(&self, others: usize) -> bool {
        self.events.len() + others < self.limits.capacity
    }

    /// Whether there is room besides what is meant for others: the slots that somebody was woken
    /// for, and the bytes of those who are before `ticket` in their line.
    fn has_room_behind_others(&self, line: &Line, ticket: Option<u64>) -> bool {
        let up_to_own = line.for_bytes.iter().take_while(|(other, _)| Some(*other) <= ticket);
        let wanted = up_to_own.map(|(_, bytes)| bytes).sum();
        let has_bytes = line.is_next(ticket) || self.budget.admits(wanted, self.limits.heap_bytes);
        has_bytes && self.has_slot_beyond(line.woken)
    }

    fn wait_for_room(
        &self,
        mut event: EventTail,
        line: &mut MutexGuard<'_, Line>,
        deadline: Deadline,
    ) -> Result<()> {
        let ticket = self.room.enter(line, event.heap_bytes());
        // Between saying that someone waits and looking; the other half is in
        // `Outlet::someone_waits`.
        fence(Ordering::SeqCst);
        // Woken, or first of all: a slot is meant for it.
        let mut has_slot = self.has_slot_beyond(line.waiting - 1);
        let mut timed_out = false;
        let mut since = None;
        let result = loop {
            if let Err(closed) = self.check_open() {
                break Err(closed);
            }
            let has_room =
                if timed_out { self.has_room_behind_others(line, ticket) } else { has_slot };
            let lack = if !timed_out && !line.is_next(ticket) {
                Lack::Bytes
            } else if !has_room {
                Lack::Slot
            } else {
                match self.offer(event) {
                    Ok(()) => break Ok(()),
                    Err((back, lack)) => {
                        event = back;
                        lack
                    }
                }
            };
            if timed_out {
                break Err(Error::QueueFull);
            }
            if since.is_none() {
                since = Some(Instant::now());
                // Counted at its start, so that one that does not end shows.
                self.room.waits.fetch_add(1, Ordering::Relaxed);
                // It may be lingering.
                self.bell.ring();
            }
            if has_slot && lack == Lack::Bytes {
                // The slot is not for it after all.
                self.room.wake_one(line);
            }
            timed_out = self.room.wait(line, lack, deadline);
            // After a wait for bytes: a slot that nobody was woken for. Those who came later, and
            // wait, must not keep it from that one.
            has_slot = lack == Lack::Slot || self.has_slot_beyond(line.woken);
        };
        if let Some(since) = since {
            self.room.waited(since);
        }
        self.room.leave(line, ticket);
        if result.is_err() && self.has_slot_beyond(line.woken) {
            // The slot that was kept for it is another's now.
            self.room.wake_one(line);
        }
        result
    }
}
