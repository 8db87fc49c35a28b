//! The gate: producers wait here for a slot and for bytes of the budget, first come, first served.
//!
//! A producer that finds the queue full does not wait inside a channel, because the channel would wake
//! one producer per event that is taken. It waits here for a *turn*. A turn is the right to one slot
//! and to the bytes that the producer's event needs. When the writer has made room for many events, it
//! gives turns to the producers that have waited longest, at most as many as there are free slots.
//!
//! * New producers leave a slot, and bytes, for each producer that waits or has a turn. A producer
//!   that checked for room without the lock can still take a slot that belongs to a turn. Then the
//!   producer with the turn waits again, at the front of the wait queue.
//! * While the first waiting producer waits for bytes, a producer that needs no bytes may get a turn before
//!   it. A producer that needs bytes may not.
//! * A wake-up of a thread costs a system call. So the writer gives few turns at a time, unless it is about
//!   to wait. While the writer waits, a producer whose turn ends gives turns to others.
//!
//! The gate does not know the queue or its events.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::need::Need;
use crate::deadline::Deadline;
use crate::sync::{
    Arc, AtomicBool, AtomicU64, AtomicUsize, Condvar, Mutex, MutexGuard, Ordering, fence,
};

pub(super) struct Gate {
    /// How many producers wait or have a turn, and the bytes they need. Written under the lock only,
    /// read by every producer.
    waiting: AtomicUsize,
    waiting_bytes: AtomicUsize,
    /// See [`Gate::has_byte_waiters`]. Written under the lock only.
    has_byte_waiters: AtomicBool,
    queue: WaitQueue,
}

/// On cache lines of its own, so that its lock does not slow producers that only read `waiting`.
#[repr(align(128))]
struct WaitQueue {
    state: Mutex<State>,
    waits: AtomicU64,
    longest_wait_ns: AtomicU64,
}

struct State {
    /// Producers without a turn, the longest waiting first.
    waiters: VecDeque<Arc<Waiter>>,
    /// The turns that are given and not yet used: their number, and their bytes.
    turns: Need,
    /// What all producers that wait or have a turn need together.
    total: Need,
}

/// A waiting producer.
pub(super) struct Waiter {
    need: Need,
    turn: Mutex<Turn>,
    changed: Condvar,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    NotYet,
    Given,
    /// The queue is closed.
    Released,
}

/// What a producer got at the gate.
pub(super) enum Place {
    /// A turn, which the producer must end with [`Gate::done`] or exchange with [`Gate::wait_again`].
    Turn,
    /// A place in the wait queue.
    InQueue(Arc<Waiter>),
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    Turn,
    TimedOut,
    Released,
}

/// A function that checks for room: `room(reserved, need)` tells whether there is room for `need` besides
/// the room that is reserved for other producers.
pub(super) type Room<'a> = &'a dyn Fn(Need, Need) -> bool;

impl Gate {
    pub(super) fn new() -> Self {
        let state =
            State { waiters: VecDeque::new(), turns: Need::default(), total: Need::default() };
        Self {
            waiting: AtomicUsize::new(0),
            waiting_bytes: AtomicUsize::new(0),
            has_byte_waiters: AtomicBool::new(false),
            queue: WaitQueue {
                state: Mutex::new(state),
                waits: AtomicU64::new(0),
                longest_wait_ns: AtomicU64::new(0),
            },
        }
    }

    /// How many producers wait or have a turn. Each has a right to a slot.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether a producer waits for bytes, and not only for a slot.
    #[inline]
    pub(super) fn has_byte_waiters(&self) -> bool {
        self.has_byte_waiters.load(Ordering::Relaxed)
    }

    /// The bytes that new producers must leave to those that wait or have a turn: 0 as long as no
    /// producer waits for bytes.
    #[inline]
    pub(super) fn reserved_bytes(&self) -> usize {
        if self.has_byte_waiters() { self.waiting_bytes.load(Ordering::Relaxed) } else { 0 }
    }

    /// The number of waits so far, including those in progress.
    pub(super) fn waits(&self) -> u64 {
        self.queue.waits.load(Ordering::Relaxed)
    }

    /// The longest wait that has ended.
    pub(super) fn longest_wait(&self) -> Duration {
        Duration::from_nanos(self.queue.longest_wait_ns.load(Ordering::Relaxed))
    }

    /// Gives a turn if there is room besides the room that all waiting producers and all turns need.
    pub(super) fn try_turn(&self, need: Need, room: Room<'_>) -> bool {
        let mut state = self.queue.state.lock();
        let has_room = room(state.total, need);
        if has_room {
            state.turns.add(need);
            self.enter(&mut state, need);
        }
        has_room
    }

    /// Gives a turn, or a place at the end of the wait queue.
    pub(super) fn join(&self, need: Need, room: Room<'_>) -> Place {
        let waiter = Arc::new(Waiter::new(need));
        let mut state = self.queue.state.lock();
        let others = state.total;
        if self.enter_with_turn(&mut state, others, need, room) {
            return Place::Turn;
        }
        state.waiters.push_back(Arc::clone(&waiter));
        drop(state);
        self.queue.waits.fetch_add(1, Ordering::Relaxed);
        Place::InQueue(waiter)
    }

    /// Exchanges a turn for a place at the front of the wait queue, because another producer took the
    /// room, or a part of it. `need` is what the event needs now.
    pub(super) fn wait_again(&self, had: Need, need: Need, room: Room<'_>) -> Place {
        let waiter = Arc::new(Waiter::new(need));
        let mut state = self.queue.state.lock();
        state.turns.subtract(had);
        state.total.subtract(had);
        let others = state.turns;
        if self.enter_with_turn(&mut state, others, need, room) {
            return Place::Turn;
        }
        state.waiters.push_front(Arc::clone(&waiter));
        drop(state);
        Place::InQueue(waiter)
    }

    /// Counts a producer as waiting, and gives it a turn if there is room besides `others`.
    fn enter_with_turn(
        &self,
        state: &mut MutexGuard<'_, State>,
        others: Need,
        need: Need,
        room: Room<'_>,
    ) -> bool {
        self.enter(state, need);
        // This producer first counts itself as waiting, then checks for room. The writer first takes
        // events, then reads the count in `has_waiters`. With a fence on both sides, the producer sees
        // the room or the writer sees the producer. Otherwise the producer could wait without a turn.
        fence(Ordering::SeqCst);
        let has_room = room(others, need);
        if has_room {
            state.turns.add(need);
        } else if need.bytes > 0 && !room(others.only_bytes(), need.only_bytes()) {
            self.has_byte_waiters.store(true, Ordering::Relaxed);
        }
        has_room
    }

    /// Waits for a turn. When `deadline` has passed, it checks once more for room that belongs to no
    /// other producer.
    pub(super) fn wait(&self, waiter: &Arc<Waiter>, deadline: Deadline, room: Room<'_>) -> Waited {
        let start = Instant::now();
        let turn = waiter.wait(deadline);
        let outcome = match turn {
            Turn::Given => Waited::Turn,
            Turn::Released => {
                self.exit(&mut self.queue.state.lock(), waiter.need);
                Waited::Released
            }
            Turn::NotYet => self.time_out(waiter, room),
        };
        let ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.queue.longest_wait_ns.fetch_max(ns, Ordering::Relaxed);
        outcome
    }

    fn time_out(&self, waiter: &Arc<Waiter>, room: Room<'_>) -> Waited {
        let mut state = self.queue.state.lock();
        // The producer may have got a turn meanwhile.
        let turn = *waiter.turn.lock();
        match turn {
            Turn::Given => return Waited::Turn,
            Turn::Released => {
                self.exit(&mut state, waiter.need);
                return Waited::Released;
            }
            Turn::NotYet => {}
        }
        let place = state.waiters.iter().position(|other| Arc::ptr_eq(other, waiter));
        let mut before = state.turns;
        if let Some(place) = place {
            state.waiters.iter().take(place).for_each(|other| {
                // A producer before this one that needs bytes keeps the right to them. It cannot use its
                // slot yet, so this producer may take that slot.
                before.bytes += other.need.bytes;
                before.slots += usize::from(other.need.bytes == 0);
            });
            state.waiters.remove(place);
        }
        if room(before, waiter.need) {
            state.turns.add(waiter.need);
            return Waited::Turn;
        }
        self.exit(&mut state, waiter.need);
        drop(state);
        if waiter.need.bytes > 0 {
            // The next producer may need fewer bytes, so that it can get a turn now.
            self.admit(usize::MAX, room);
        }
        Waited::TimedOut
    }

    /// Ends a turn, which the producer has used or gives up. Returns whether producers wait and no
    /// producer has a turn.
    pub(super) fn done(&self, need: Need) -> bool {
        let mut state = self.queue.state.lock();
        state.turns.subtract(need);
        self.exit(&mut state, need);
        state.turns.slots == 0 && !state.waiters.is_empty()
    }

    /// Gives turns to the producers that wait now, while there is room and until `at_most` turns are in
    /// use.
    pub(super) fn admit(&self, at_most: usize, room: Room<'_>) {
        let mut state = self.queue.state.lock();
        // A producer may use its turn and wait again before this loop ends. So the number of rounds is fixed
        // at the start.
        for _ in 0..at_most.saturating_sub(state.turns.slots).min(state.waiters.len()) {
            let Some(waiter) = state.give_turn(room) else {
                break;
            };
            // Unlocks before the wake-up, because the woken producer needs the lock at once.
            drop(state);
            waiter.changed.notify_one();
            drop(waiter);
            state = self.queue.state.lock();
        }
        let has_byte_waiters = state.waiters.iter().any(|waiter| {
            waiter.need.bytes > 0 && !room(state.turns.only_bytes(), waiter.need.only_bytes())
        });
        self.has_byte_waiters.store(has_byte_waiters, Ordering::Relaxed);
    }

    /// Whether any producer waits or has a turn. The caller has just made room.
    pub(super) fn has_waiters(&self) -> bool {
        // The caller has made room before this fence and reads the count after it. `enter_with_turn`
        // explains the pair.
        fence(Ordering::SeqCst);
        self.waiting() > 0
    }

    /// Releases all producers: the queue is closed.
    pub(super) fn release_all(&self) {
        let mut state = self.queue.state.lock();
        let waiters = std::mem::take(&mut state.waiters);
        for waiter in &waiters {
            *waiter.turn.lock() = Turn::Released;
        }
        drop(state);
        for waiter in &waiters {
            waiter.changed.notify_one();
        }
    }

    /// How many producers wait without a turn.
    #[cfg(all(test, not(wedr_loom)))]
    pub(super) fn without_turn(&self) -> usize {
        self.queue.state.lock().waiters.len()
    }

    fn enter(&self, state: &mut MutexGuard<'_, State>, need: Need) {
        state.total.add(need);
        self.publish(state);
    }

    fn exit(&self, state: &mut MutexGuard<'_, State>, need: Need) {
        state.total.subtract(need);
        self.publish(state);
    }

    fn publish(&self, state: &MutexGuard<'_, State>) {
        self.waiting.store(state.total.slots, Ordering::Relaxed);
        self.waiting_bytes.store(state.total.bytes, Ordering::Relaxed);
        if state.total.bytes == 0 {
            self.has_byte_waiters.store(false, Ordering::Relaxed);
        }
    }
}

impl State {
    /// Gives a turn to a waiting producer, which the caller must wake.
    fn give_turn(&mut self, room: Room<'_>) -> Option<Arc<Waiter>> {
        let place = self.next(room)?;
        let waiter = self.waiters.remove(place)?;
        self.turns.add(waiter.need);
        *waiter.turn.lock() = Turn::Given;
        Some(waiter)
    }

    /// The position of the producer that gets the next turn: the first producer, or, while that one
    /// waits for bytes, the first producer that needs no bytes.
    fn next(&self, room: Room<'_>) -> Option<usize> {
        let first = self.waiters.front()?;
        if room(self.turns, first.need) {
            return Some(0);
        }
        let slot = Need::event(0);
        if first.need.bytes == 0 || !room(self.turns, slot) {
            return None;
        }
        self.waiters.iter().position(|waiter| waiter.need.bytes == 0)
    }
}

impl Waiter {
    fn new(need: Need) -> Self {
        Self { need, turn: Mutex::new(Turn::NotYet), changed: Condvar::new() }
    }

    fn wait(&self, deadline: Deadline) -> Turn {
        let mut turn = self.turn.lock();
        while *turn == Turn::NotYet && !deadline.wait(&self.changed, &mut turn) {}
        *turn
    }
}

#[cfg(all(test, not(wedr_loom)))]
mod tests;
