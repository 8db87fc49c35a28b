//! loom's primitives in the shapes that the crate uses, for the models in `queue::model`.
//!
//! What they do not show: a wait with a deadline never times out, nobody wakes spuriously,
//! `notify_one` wakes who came first, and a waiter knows all that its waker knew (the code that
//! ships notifies while it holds the lock, or right after, so the lock has told it already).

use std::ops::{Deref, DerefMut};
use std::time::Instant;

pub(crate) use crossbeam_channel::{TryRecvError, TrySendError};
pub(crate) use loom::sync::atomic::fence;
/// Not loom's, which has no `Weak` and no `dyn`: counting references is not what is checked.
pub(crate) use std::sync::Arc;

use super::Ordering;

/// An atomic whose every access is a race with every other.
///
/// loom 0.7 takes two loads to be independent, and compares an access only with the last one: a
/// thread that loads and then stores hides from its store that others have loaded before, and
/// interleavings are never run (tokio-rs/loom#166, #392). Here each access first notifies a
/// condvar that nobody waits on, which changes nothing, and depends on all before it.
#[derive(Debug, Default)]
struct Raced<A> {
    atomic: A,
    accesses: loom::sync::Condvar,
}

macro_rules! raced {
    ($($name:ident: $value:ty { $($method:ident($($arg:ident: $type:ty),*) -> $result:ty;)* })*) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name(Raced<loom::sync::atomic::$name>);

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(Raced {
                    atomic: loom::sync::atomic::$name::new(value),
                    accesses: loom::sync::Condvar::new(),
                })
            }

            $(pub(crate) fn $method(&self, $($arg: $type),*) -> $result {
                self.0.accesses.notify_one();
                self.0.atomic.$method($($arg),*)
            })*
        }
    )*};
}

raced! {
    AtomicBool: bool {
        load(order: Ordering) -> bool;
        store(value: bool, order: Ordering) -> ();
    }
    AtomicU32: u32 {
        load(order: Ordering) -> u32;
        store(value: u32, order: Ordering) -> ();
        swap(value: u32, order: Ordering) -> u32;
    }
    AtomicU64: u64 {
        load(order: Ordering) -> u64;
        store(value: u64, order: Ordering) -> ();
        fetch_add(value: u64, order: Ordering) -> u64;
        fetch_or(value: u64, order: Ordering) -> u64;
        fetch_max(value: u64, order: Ordering) -> u64;
        compare_exchange(from: u64, to: u64, ok: Ordering, err: Ordering) -> Result<u64, u64>;
    }
    AtomicUsize: usize {
        load(order: Ordering) -> usize;
        store(value: usize, order: Ordering) -> ();
        fetch_or(value: usize, order: Ordering) -> usize;
        fetch_sub(value: usize, order: Ordering) -> usize;
        compare_exchange(from: usize, to: usize, ok: Ordering, err: Ordering) -> Result<usize, usize>;
    }
}

macro_rules! fetch_update {
    ($($name:ident: $value:ty),*) => {$(
        impl $name {
            pub(crate) fn fetch_update(
                &self,
                set: Ordering,
                fetch: Ordering,
                update: impl Fn($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                let mut now = self.load(fetch);
                while let Some(next) = update(now) {
                    match self.compare_exchange(now, next, set, fetch) {
                        Err(moved) => now = moved,
                        done => return done,
                    }
                }
                Err(now)
            }
        }
    )*};
}

fetch_update! { AtomicU64: u64, AtomicUsize: usize }

/// `parking_lot::Mutex`: no poison.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Holds loom's guard, but for the time of a wait.
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap()))
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().unwrap()
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().unwrap()
    }
}

/// `parking_lot::Condvar`: waits on a borrowed guard.
pub(crate) struct Condvar(loom::sync::Condvar);

pub(crate) struct WaitTimeoutResult;

impl Condvar {
    pub(crate) fn new() -> Self {
        Self(loom::sync::Condvar::new())
    }

    pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.0.take().unwrap();
        guard.0 = Some(self.0.wait(held).unwrap());
    }

    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _deadline: Instant,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}

impl WaitTimeoutResult {
    #[expect(clippy::unused_self, reason = "parking_lot's signature")]
    pub(crate) fn timed_out(&self) -> bool {
        false
    }
}

/// Makes a stand-in for `crossbeam_channel::bounded`.
///
/// It is crossbeam's own algorithm (`flavors/array.rs`, after Vyukov): a ring whose slots carry
/// stamps, `tail` and `head` moved by compare-and-swap. So it can do what crossbeam can: reserve a
/// slot and publish it later, have a later message published before an earlier one, answer "full"
/// or "empty" from what a thread happens to see. It promises *less*, so that no fence of the
/// queue's own can hide behind one of crossbeam's:
///
/// * crossbeam issues a `SeqCst` fence before it says "full" or "empty"; here there is none;
/// * `tail` and `head` are moved and read with `SeqCst` there, `Relaxed` here.
///
/// All that is left of ordering is what a channel cannot do without: the stamp, stored with
/// `Release` once the message is in (or out), loaded with `Acquire` before it is taken out (or
/// in). The messages themselves lie in a mutex of the standard library, which loom does not know:
/// it adds no order to the model, and since loom runs one thread at a time it is always free. A
/// stamp that admitted two threads to one slot would show as a missing message.
///
/// A mutex around a `VecDeque` would be too strong: whoever looks into the channel would then see
/// all that its last user did, fence or no fence.
pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let ring = Arc::new(Ring::new(capacity));
    (Sender(Arc::clone(&ring)), Receiver(ring))
}

pub(crate) struct Sender<T>(Arc<Ring<T>>);

pub(crate) struct Receiver<T>(Arc<Ring<T>>);

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        self.0.try_send(message)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

impl<T> Receiver<T> {
    pub(crate) fn try_recv(&self) -> Result<T, TryRecvError> {
        self.0.try_recv()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Disconnects. The sender has no such `Drop`: the outlet keeps the queue, and so its sender,
/// until it has taken the last event.
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.tail.fetch_or(self.0.mark_bit, Ordering::Relaxed);
    }
}

/// `tail`, `head` and the stamps count laps above `mark_bit` and slots below it; `mark_bit` itself
/// says, in `tail` only, that the receiver is gone.
struct Ring<T> {
    tail: AtomicUsize,
    head: AtomicUsize,
    slots: Box<[Slot<T>]>,
    mark_bit: usize,
    one_lap: usize,
}

struct Slot<T> {
    /// Equal to `tail`: free. One more than `head`: has a message.
    stamp: AtomicUsize,
    message: std::sync::Mutex<Option<T>>,
}

impl<T> Ring<T> {
    fn new(capacity: usize) -> Self {
        let slot =
            |stamp| Slot { stamp: AtomicUsize::new(stamp), message: std::sync::Mutex::new(None) };
        let mark_bit = (capacity + 1).next_power_of_two();
        Self {
            tail: AtomicUsize::new(0),
            head: AtomicUsize::new(0),
            slots: (0..capacity).map(slot).collect(),
            mark_bit,
            one_lap: mark_bit * 2,
        }
    }

    fn slot(&self, position: usize) -> &Slot<T> {
        &self.slots[position & (self.mark_bit - 1)]
    }

    fn after(&self, position: usize) -> usize {
        if (position & (self.mark_bit - 1)) + 1 < self.slots.len() {
            position + 1
        } else {
            (position & !(self.one_lap - 1)) + self.one_lap
        }
    }

    fn try_send(&self, message: T) -> Result<(), TrySendError<T>> {
        let mut tail = self.tail.load(Ordering::Relaxed);
        loop {
            if tail & self.mark_bit != 0 {
                return Err(TrySendError::Disconnected(message));
            }
            let slot = self.slot(tail);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == tail {
                match advance(&self.tail, tail, self.after(tail)) {
                    Ok(()) => {
                        let before = slot.message.lock().unwrap().replace(message);
                        assert!(before.is_none(), "a slot was given to two senders");
                        slot.stamp.store(tail + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(moved) => tail = moved,
                }
                continue;
            }
            // It has the message of the lap before, and the receiver has not come by.
            let occupied = stamp + self.one_lap == tail + 1;
            if occupied && self.head.load(Ordering::Relaxed) + self.one_lap == tail {
                return Err(TrySendError::Full(message));
            }
            loom::thread::yield_now();
            tail = self.tail.load(Ordering::Relaxed);
        }
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            let slot = self.slot(head);
            let stamp = slot.stamp.load(Ordering::Acquire);
            if stamp == head + 1 {
                match advance(&self.head, head, self.after(head)) {
                    Ok(()) => {
                        let message = slot.message.lock().unwrap().take();
                        slot.stamp.store(head + self.one_lap, Ordering::Release);
                        return Ok(message.expect("a full slot has a message"));
                    }
                    Err(moved) => head = moved,
                }
                continue;
            }
            // A slot that is reserved and not yet published is no end: one behind it may be.
            if stamp == head && self.tail.load(Ordering::Relaxed) & !self.mark_bit == head {
                return Err(TryRecvError::Empty);
            }
            loom::thread::yield_now();
            head = self.head.load(Ordering::Relaxed);
        }
    }

    fn len(&self) -> usize {
        loop {
            let tail = self.tail.load(Ordering::Relaxed);
            let head = self.head.load(Ordering::Relaxed);
            if self.tail.load(Ordering::Relaxed) == tail {
                let (tail, slots) = (tail & !self.mark_bit, self.mark_bit - 1);
                let (from, to) = (head & slots, tail & slots);
                return match from.cmp(&to) {
                    std::cmp::Ordering::Less => to - from,
                    std::cmp::Ordering::Greater => self.slots.len() - from + to,
                    std::cmp::Ordering::Equal if tail == head => 0,
                    std::cmp::Ordering::Equal => self.slots.len(),
                };
            }
        }
    }

    fn is_empty(&self) -> bool {
        let head = self.head.load(Ordering::Relaxed);
        self.tail.load(Ordering::Relaxed) & !self.mark_bit == head
    }
}

/// Moves an end of the ring; where it is by now, if another thread was faster.
fn advance(end: &AtomicUsize, from: usize, to: usize) -> Result<(), usize> {
    end.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed).map(drop)
}
