//! The producers' side of the queue: push an event, wait for a turn, refuse.

use std::io;
use std::sync::OnceLock;

use super::consumer::MAX_TURNS;
use super::flush::Flushes;
use super::full::{Full, SoftLimit};
use super::gate::{Gate, Place, Waited};
use super::lanes::{Event, Lanes};
use super::losses::LossCounter;
use super::need::Need;
use super::pool::{Access, Pool, cost};
use super::thread::{self, Inside};
use super::wakeup::Wakeup;
use super::{Limits, Overflow, Waiting};
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::stats::Counters;
use crate::sync::{Arc, Ordering, fence, fence_after_exchange};
use crate::wire::event::{EventTail, LongText};

/// While the writer waits, a thread may overtake the blocked producers at most this often in a row.
const MAX_OVERTAKES: usize = 16;
/// How many slots a push without the gate's lock leaves free, because this many threads may see the same
/// free slot before one of them takes it.
const SPARE_SLOTS: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 64 };
/// A thread that has found many spare slots checks only once for this many events. A check costs cache
/// misses, because all producers change the number of tickets.
const EVENTS_PER_CHECK: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 8 };

/// The producers' side. The writer's side is the [`Consumer`](super::Consumer).
pub(crate) struct Queue {
    pub(super) lanes: Lanes,
    pub(super) limits: Limits,
    /// Closes the queue.
    pub(super) shutdown: Arc<Shutdown>,
    /// Why the pipe was lost. Set before `shutdown`, if the loss of the pipe closes the queue.
    pub(super) lost_pipe: OnceLock<std::sync::Arc<io::Error>>,
    pub(super) wakeup: Wakeup,
    pub(super) gate: Gate,
    pub(super) pool: Pool,
    pub(super) full: Full,
    pub(super) soft_limit: SoftLimit,
    pub(super) refused: LossCounter,
    pub(super) reported_lost: LossCounter,
    pub(super) flushes: Flushes,
    pub(super) counters: Counters,
}

// If a caller's `Serialize` panics, nothing is queued yet and no lock is held.
impl std::panic::RefUnwindSafe for Queue {}

/// An event on its way into the queue.
#[expect(clippy::large_enum_variant, reason = "events are passed by value, and no offer is stored")]
enum Offer<'l> {
    Event(Event),
    /// A long event that has no buffer of the budget yet.
    Text(LongText<'l>),
}

impl Offer<'_> {
    fn need(&self) -> Need {
        Need::event(match self {
            Self::Event(_) => 0,
            Self::Text(text) => cost(text.as_bytes().len()),
        })
    }
}

impl Queue {
    pub(crate) fn max_content(&self) -> usize {
        self.limits.max_content
    }

    /// Fails once the queue is closed, with the reason.
    #[inline]
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shutdown.is_requested() { Err(self.closed()) } else { Ok(()) }
    }

    /// Why the queue is closed.
    #[cold]
    pub(super) fn closed(&self) -> Error {
        self.lost().unwrap_or(Error::Shutdown)
    }

    /// Why the pipe was lost, if it was.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.lost_pipe.get().map(|cause| Error::pipe_lost(std::sync::Arc::clone(cause)))
    }

    /// Fails if the queue is closed, or if it is known to be full and the caller may not block. The caller
    /// checks this first, so that it does not serialise an event that would be refused.
    #[inline]
    pub(crate) fn check_room(&self, waiting: Waiting) -> Result<()> {
        self.check_open()?;
        if self.full.is_set() && self.deadline(waiting).is_none() {
            return Err(self.refuse(waiting));
        }
        Ok(())
    }

    #[inline]
    pub(super) fn home(&self) -> usize {
        self.lanes.home(thread::number())
    }

    /// Pushes an inline event. `Ok` is a promise: the writer takes the event, or counts it as undelivered.
    // Not inlined: the event is then passed by address. Inlining would copy it at each step.
    #[inline(never)]
    pub(crate) fn push(&self, mut event: Event, waiting: Waiting) -> Result<()> {
        if !self.may_offer() {
            return self.push_in_turn(Offer::Event(event), waiting);
        }
        self.lanes.draw(&mut event);
        match self.lanes.try_push(self.home(), event) {
            Ok(spilled) => self.after_push(spilled),
            Err(event) => self.push_in_turn(Offer::Event(event), waiting),
        }
    }

    /// Pushes a long event.
    pub(crate) fn push_long(&self, text: LongText<'_>, waiting: Waiting) -> Result<()> {
        if !self.may_offer() {
            return self.push_in_turn(Offer::Text(text), waiting);
        }
        let home = self.home();
        match self.pool.fill(home, text, self.gate.reserved_bytes(), Access::Try) {
            Ok(tail) => {
                let mut event = Event::new(tail);
                self.lanes.draw(&mut event);
                match self.lanes.try_push(home, event) {
                    Ok(spilled) => self.after_push(spilled),
                    Err(event) => self.push_in_turn(Offer::Event(event), waiting),
                }
            }
            Err(text) => self.push_in_turn(Offer::Text(text), waiting),
        }
    }

    /// Whether a new producer may push without the gate's lock. It may if no producer is blocked, or
    /// if there are spare slots and this thread has not overtaken the blocked producers too often.
    #[inline]
    fn may_offer(&self) -> bool {
        let others = self.gate.waiting();
        others == 0 || self.may_overtake(others)
    }

    fn may_overtake(&self, others: usize) -> bool {
        (thread::skips_check() || self.has_spare_slots(others))
            && !self.must_wait_too(thread::count_overtake(), others)
    }

    fn has_spare_slots(&self, others: usize) -> bool {
        let queued = self.lanes.estimate();
        let limit = self.soft_limit.get();
        let taken = queued + others;
        let many = SPARE_SLOTS * EVENTS_PER_CHECK;
        if queued < limit.saturating_sub(many) && taken + many < self.lanes.capacity() {
            thread::skip_checks(EVENTS_PER_CHECK - 1);
            return true;
        }
        queued < limit && taken + SPARE_SLOTS < self.lanes.capacity()
    }

    /// Whether a thread that has overtaken `others` blocked producers `overtakes` times must wait too.
    /// While the writer works, it gives turns often. So the limit is high, which saves wake-ups. While the
    /// writer waits, a low limit gives all threads equal shares.
    fn must_wait_too(&self, overtakes: usize, others: usize) -> bool {
        match self.soft_limit.get() {
            SoftLimit::NONE => overtakes >= MAX_OVERTAKES,
            limit => overtakes.saturating_mul(others) > 2 * limit,
        }
    }

    /// Whether there is a free slot that belongs to none of the `others` blocked producers.
    pub(super) fn has_slot_beside(&self, others: usize) -> bool {
        self.lanes.len() + others < self.lanes.capacity()
    }

    /// Whether there is room for an event besides the room that other producers have a right to.
    pub(super) fn has_room(&self, others: Need, event: Need) -> bool {
        self.lanes.len() + others.slots + event.slots <= self.lanes.capacity()
            && (event.bytes == 0 || self.pool.has_room(others.bytes, event.bytes))
    }

    /// The producer's half of the closing rule, and the wake-up of the writer, after a push.
    #[inline]
    fn after_push(&self, spilled: bool) -> Result<()> {
        fence_after_exchange();
        self.check_open()?;
        self.wakeup.event_queued();
        if spilled {
            self.wakeup.lane_full();
        }
        Ok(())
    }

    /// Pushes an event in a turn, because the queue is full or other producers are blocked.
    #[cold]
    fn push_in_turn(&self, mut offer: Offer<'_>, waiting: Waiting) -> Result<()> {
        if let Offer::Text(text) = &mut offer {
            text.keep();
        }
        let deadline = self.deadline(waiting);
        let Some(_inside) = Inside::enter() else {
            self.discard(offer);
            return Err(self.refuse(waiting));
        };
        match self.take_turns(offer, deadline) {
            Ok(()) => Ok(()),
            Err(Refused::Closed(error)) => Err(error),
            Err(Refused::Full) => {
                self.full.update(|| self.has_slot_beside(self.gate.waiting()));
                // The writer may be lingering.
                self.wakeup.wake();
                Err(self.refuse(waiting))
            }
        }
    }

    fn take_turns(&self, mut offer: Offer<'_>, deadline: Option<Deadline>) -> Result<(), Refused> {
        let room = &|others, event| self.has_room(others, event);
        let mut need = offer.need();
        let mut place = match deadline {
            Some(_) => self.join(need),
            None if self.gate.try_turn(need, room) => Place::Turn,
            None => return self.give_up(offer),
        };
        loop {
            // After `join`: a shutdown that released the producers before `join` is visible here.
            if self.shutdown.is_requested() {
                return self.give_up(offer);
            }
            if let (Place::InQueue(waiter), Some(deadline)) = (&place, deadline) {
                // The writer may be lingering.
                self.wakeup.wake();
                match self.gate.wait(waiter, deadline, room) {
                    Waited::Turn => thread::reset_overtakes(),
                    Waited::TimedOut | Waited::Released => return self.give_up(offer),
                }
                if self.shutdown.is_requested() {
                    return self.give_up(offer);
                }
            }
            match self.offer(offer) {
                Ok(spilled) => {
                    let result = self.after_push(spilled);
                    self.end_turn(need);
                    return result.map_err(Refused::Closed);
                }
                Err(back) => offer = back,
            }
            if deadline.is_none_or(Deadline::has_passed) {
                self.end_turn(need);
                return self.give_up(offer);
            }
            // A long event may have its buffer now and lack only a slot.
            let had = std::mem::replace(&mut need, offer.need());
            place = self.gate.wait_again(had, need, room);
        }
    }

    /// Joins the blocked producers, or gets a turn at once.
    fn join(&self, need: Need) -> Place {
        let place = self.gate.join(need, &|others, event| {
            let must_wait = others.slots > 0
                && (self.lanes.len() >= self.soft_limit.get()
                    || self.must_wait_too(thread::count_overtake(), others.slots));
            !must_wait && self.has_room(others, event)
        });
        if matches!(place, Place::InQueue(_)) && !self.soft_limit.applies() {
            // The writer waits, so it admits no producer. This thread admits the first blocked producers,
            // which may include itself.
            self.admit();
        }
        place
    }

    pub(super) fn admit(&self) {
        self.gate.admit(MAX_TURNS, &|others, event| self.has_room(others, event));
    }

    /// Ends a turn, and admits other producers if the writer does not.
    fn end_turn(&self, need: Need) {
        // The writer admits producers after it has taken events. It may have taken this event already
        // and found no room for others besides this turn, which ends only now.
        if self.gate.done(need) && (!self.soft_limit.applies() || self.lanes.len() == 0) {
            self.admit();
        }
        // This fence is between the end of the turn and the read of the flag. Its counterpart is in
        // `Full::update`. A producer that found this turn's slot reserved now sees that the slot is free,
        // or this thread sees the flag.
        fence(Ordering::SeqCst);
        if self.full.is_set() && self.has_slot_beside(self.gate.waiting()) {
            self.full.clear();
        }
    }

    /// Pushes an event if there is room for it, whether or not other producers are blocked.
    fn offer<'l>(&self, offer: Offer<'l>) -> Result<bool, Offer<'l>> {
        let home = self.home();
        let mut event = match offer {
            Offer::Event(event) => event,
            Offer::Text(text) => match self.pool.fill(home, text, 0, Access::Wait) {
                Ok(tail) => Event::new(tail),
                Err(text) => return Err(Offer::Text(text)),
            },
        };
        self.lanes.draw(&mut event);
        self.lanes.try_push(home, event).map_err(Offer::Event)
    }

    fn give_up(&self, offer: Offer<'_>) -> Result<(), Refused> {
        self.discard(offer);
        match self.check_open() {
            Ok(()) => Err(Refused::Full),
            Err(closed) => Err(Refused::Closed(closed)),
        }
    }

    /// Frees the buffer of an event that was not pushed.
    fn discard(&self, offer: Offer<'_>) {
        if let Offer::Event(Event { tail: EventTail::Long { bytes, .. }, .. }) = offer {
            self.pool.free([bytes]);
        }
    }

    /// Until when a push may block; `None` if it may not.
    fn deadline(&self, waiting: Waiting) -> Option<Deadline> {
        // An unwinding thread must not depend on the agent.
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
            // The event is lost, so the agent must see it: `seq` skips a number.
            Waiting::Policy if !self.refused.add(1) => self.closed(),
            _ => Error::QueueFull,
        }
    }
}

/// Why an event was not pushed.
enum Refused {
    Full,
    Closed(Error),
}
