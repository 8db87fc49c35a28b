//! loom's primitives in the shapes that the crate uses, for the models in `queue::model`.
//!
//! They differ from the real primitives:
//!
//! * A wait with a deadline never times out.
//! * No thread wakes spuriously.
//! * `notify_one` wakes the thread that has waited longest.
//! * A woken thread sees all that its waker did before the notification. In the shipped code the lock
//!   gives this order: the waker notifies while it holds the lock, or right after.

use std::ops::{Deref, DerefMut};
use std::time::Instant;

pub(crate) use crossbeam_channel::{TryRecvError, TrySendError};
pub(crate) use loom::sync::atomic::fence;
use loom::thread::ThreadId;
/// Not loom's `Arc`, which has no `Weak` and no `dyn`. The models do not check reference counts.
pub(crate) use std::sync::Arc;

use super::Ordering;

/// Always a fence: loom models the language, not a processor.
pub(crate) fn fence_after_exchange() {
    fence(Ordering::SeqCst);
}

/// An atomic of which loom misses no interleaving.
///
/// loom 0.7 compares an access only with the last access that it might race with. If a thread loads and
/// then stores, its own load hides the earlier loads of other threads. So loom never tries the order in
/// which the store comes before those loads (tokio-rs/loom#166, #392). Therefore each thread that loads
/// has an object of its own here, which only its loads and the stores of other threads access. This
/// access is a `notify_one` without a waiting thread: its only effect is that loom tries more orders.
#[derive(Debug, Default)]
struct Raced<A> {
    atomic: A,
    loaded_by: std::sync::Mutex<Vec<(ThreadId, Arc<loom::sync::Condvar>)>>,
}

impl<A> Raced<A> {
    fn new(atomic: A) -> Self {
        Self { atomic, loaded_by: std::sync::Mutex::default() }
    }

    fn to_load(&self) -> &A {
        let me = loom::thread::current().id();
        let mut loaded_by = self.loaded_by.lock().unwrap();
        let mine = match loaded_by.iter().find(|(thread, _)| *thread == me) {
            Some((_, touched)) => Arc::clone(touched),
            None => {
                let touched = Arc::new(loom::sync::Condvar::new());
                loaded_by.push((me, Arc::clone(&touched)));
                touched
            }
        };
        drop(loaded_by);
        mine.notify_one();
        &self.atomic
    }

    fn to_store(&self) -> &A {
        let me = loom::thread::current().id();
        let loaded_by = self.loaded_by.lock().unwrap().clone();
        for (_, touched) in loaded_by.iter().filter(|(thread, _)| *thread != me) {
            touched.notify_one();
        }
        &self.atomic
    }
}

macro_rules! raced {
    ($($name:ident: $value:ty { $($store:ident($($arg:ident: $type:ty),*) -> $result:ty;)* })*) => {$(
        #[derive(Debug, Default)]
        pub(crate) struct $name(Raced<loom::sync::atomic::$name>);

        impl $name {
            pub(crate) fn new(value: $value) -> Self {
                Self(Raced::new(loom::sync::atomic::$name::new(value)))
            }

            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.to_load().load(order)
            }

            $(pub(crate) fn $store(&self, $($arg: $type),*) -> $result {
                self.0.to_store().$store($($arg),*)
            })*
        }
    )*};
}

raced! {
    AtomicBool: bool {
        store(value: bool, order: Ordering) -> ();
    }
    AtomicU32: u32 {
        swap(value: u32, order: Ordering) -> u32;
    }
    AtomicU64: u64 {
        store(value: u64, order: Ordering) -> ();
        fetch_add(value: u64, order: Ordering) -> u64;
        fetch_or(value: u64, order: Ordering) -> u64;
        fetch_max(value: u64, order: Ordering) -> u64;
    }
    AtomicUsize: usize {
        store(value: usize, order: Ordering) -> ();
        fetch_add(value: usize, order: Ordering) -> usize;
        fetch_or(value: usize, order: Ordering) -> usize;
        fetch_sub(value: usize, order: Ordering) -> usize;
        fetch_max(value: usize, order: Ordering) -> usize;
        compare_exchange(from: usize, to: usize, ok: Ordering, err: Ordering) -> Result<usize, usize>;
    }
}

impl AtomicU32 {
    /// Swaps, because loom 0.7 does not keep stores and swaps in one order: a swap may miss an earlier
    /// store (tokio-rs/loom#282). The models would then report wake-ups as lost that are not lost.
    pub(crate) fn store(&self, value: u32, order: Ordering) {
        self.swap(value, order);
    }
}

impl AtomicUsize {
    pub(crate) fn fetch_update(
        &self,
        set: Ordering,
        fetch: Ordering,
        update: impl Fn(usize) -> Option<usize>,
    ) -> Result<usize, usize> {
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

/// `parking_lot::Mutex`: no poison.
pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

/// Holds loom's guard, except during a wait.
pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

impl<T> Mutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(loom::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        MutexGuard(Some(self.0.lock().unwrap()))
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock().ok().map(|held| MutexGuard(Some(held)))
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

/// `parking_lot::Condvar`: it borrows the guard.
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

/// Replaces `crossbeam_channel::bounded`.
///
/// It is crossbeam's own algorithm (`flavors/array.rs`, after Vyukov), for one receiver: a ring
/// whose slots carry stamps, and a `tail` that senders move by compare-and-swap. So it behaves as
/// crossbeam's: a slot is reserved before it is published, a later message may be published before an
/// earlier one, and the answers "full" and "empty" depend on what a thread sees at that moment. Its
/// guarantees are weaker, so that a fence of crossbeam's cannot hide a missing fence of the queue:
///
/// * crossbeam issues a `SeqCst` fence before it answers "full" or "empty"; here there is none;
/// * crossbeam moves and reads `tail` and `head` with `SeqCst`; here it is `Relaxed`.
///
/// Only the order that every channel needs is left. It comes from the stamp of the slot: a thread loads the
/// stamp with `Acquire` before it puts a message in or takes one out, and stores it with `Release` afterwards.
/// Each message is in a mutex of the standard library. loom does not know this mutex, so it adds no
/// order. It is never contended, because loom runs one thread at a time. If a stamp admitted two threads
/// to one slot, a message would be missing.
///
/// A mutex around a `VecDeque` would be too strong: a thread that reads the channel would see all that
/// the last user of the channel did before, with or without a fence.
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

/// Disconnects. The sender has no such `Drop`: the consumer keeps the queue, and so its sender,
/// until it has taken the last event.
impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.tail.fetch_or(self.0.mark_bit, Ordering::Relaxed);
    }
}

/// `tail`, `head` and the stamps count laps above `mark_bit` and slots below it; `mark_bit` itself
/// means, in `tail` only, that the receiver is dropped.
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
            if slot.stamp.load(Ordering::Acquire) == tail {
                match self.move_tail(tail, self.after(tail)) {
                    Ok(_) => {
                        let before = slot.message.lock().unwrap().replace(message);
                        assert!(before.is_none(), "a slot was given to two senders");
                        slot.stamp.store(tail + 1, Ordering::Release);
                        return Ok(());
                    }
                    Err(moved) => tail = moved,
                }
            } else {
                // Either the slot is taken, or `tail` is out of date.
                let last = self.move_tail(usize::MAX, 0).unwrap_err();
                if last == tail {
                    if self.head.load(Ordering::Relaxed).wrapping_add(self.one_lap) == tail {
                        return Err(TrySendError::Full(message));
                    }
                    // The receiver is emptying the slot.
                    loom::thread::yield_now();
                }
                tail = last;
            }
        }
    }

    fn move_tail(&self, from: usize, to: usize) -> Result<usize, usize> {
        self.tail.compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }

    fn try_recv(&self) -> Result<T, TryRecvError> {
        let head = self.head.load(Ordering::Relaxed);
        let slot = self.slot(head);
        while slot.stamp.load(Ordering::Acquire) != head + 1 {
            if self.tail.load(Ordering::Relaxed) & !self.mark_bit == head {
                return Err(TryRecvError::Empty);
            }
            // The slot is reserved and not yet published. A slot behind it may be published already.
            loom::thread::yield_now();
        }
        let message = slot.message.lock().unwrap().take();
        self.head.store(self.after(head), Ordering::Relaxed);
        slot.stamp.store(head + self.one_lap, Ordering::Release);
        Ok(message.expect("a published slot has a message"))
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
