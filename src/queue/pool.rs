//! The buffers of long events: a budget of bytes, and recycled buffers.
//!
//! To allocate a buffer for each long event and to free it in another thread costs more than to
//! serialise the event. So each lane has a *shelf* of empty buffers. The writer puts emptied buffers on
//! the shelf of their lane, and the producers of that lane use the buffers again. A producer that finds the
//! shelf locked allocates a buffer. It waits for the lock only if the queue is full or other producers are
//! blocked.
//!
//! All buffers count against the budget, also those on the shelves. When bytes run out, the buffers on
//! the shelves are freed first.

use crate::deadline::is_waiting;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::wire::MAX_CONTENT;
use crate::wire::event::{EventTail, LongText};

/// The smallest buffer, in bytes.
const SMALLEST: usize = 512;
/// The number of classes for each power of two. With four, a buffer is at most a quarter too long.
const STEPS: usize = 4;
/// Classes from [`SMALLEST`] to the limit of an event's content.
const CLASSES: usize = class_of(MAX_CONTENT) + 1;
/// How often a thread tries to lock a shelf that is locked.
const ATTEMPTS: usize = if cfg!(all(test, wedr_loom)) { 1 } else { 8 };

/// How a thread locks a shelf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Gives up if the shelf stays locked: the calling thread itself may hold the lock.
    Try,
    /// Waits for the lock. Only for threads that are marked as inside the queue: see
    /// [`Inside`](super::thread::Inside).
    Wait,
}

pub(super) struct Pool {
    budget: Budget,
    /// One for each lane.
    shelves: Vec<Shelf>,
}

/// On a cache line of its own, since producers change it.
#[repr(align(128))]
struct Budget {
    /// Bytes of all buffers, filled or empty.
    charged: AtomicUsize,
    max: usize,
}

/// On cache lines of its own, since producers of other lanes do not use it.
#[repr(align(128))]
struct Shelf {
    stacks: Mutex<Stacks>,
    /// The capacity of all its buffers. Written under the lock only.
    bytes: AtomicUsize,
}

/// The empty buffers of one class. The last one is taken first.
#[derive(Default)]
struct Stack {
    buffers: Vec<Vec<u8>>,
    /// The smallest number of buffers since the last trim: that many buffers were not needed.
    fewest: usize,
}

type Stacks = [Stack; CLASSES];

impl Stack {
    fn pop(&mut self) -> Option<Vec<u8>> {
        let buffer = self.buffers.pop();
        self.fewest = self.fewest.min(self.buffers.len());
        buffer
    }
}

/// The class of a buffer with this capacity.
const fn class_of(capacity: usize) -> usize {
    let capacity = if capacity < SMALLEST { SMALLEST } else { capacity };
    let doublings = (capacity / SMALLEST).ilog2();
    let step = (capacity >> doublings) * STEPS / SMALLEST - STEPS;
    doublings as usize * STEPS + step
}

/// The length of a new buffer of this class.
const fn length(class: usize) -> usize {
    (SMALLEST << (class / STEPS)) / STEPS * (STEPS + class % STEPS)
}

/// The class of the buffers that are long enough for `bytes`.
fn class_for(bytes: usize) -> usize {
    let class = class_of(bytes);
    if length(class) < bytes { class + 1 } else { class }
}

/// The bytes charged for a text of `bytes` bytes, if it needs a new buffer.
pub(super) fn cost(bytes: usize) -> usize {
    length(class_for(bytes))
}

impl Pool {
    pub(super) fn new(lanes: usize, max: usize) -> Self {
        let shelf = || Shelf {
            stacks: Mutex::new(std::array::from_fn(|_| Stack::default())),
            bytes: AtomicUsize::new(0),
        };
        Self {
            budget: Budget { charged: AtomicUsize::new(0), max },
            shelves: (0..lanes).map(|_| shelf()).collect(),
        }
    }

    /// Makes an event from a text, in a buffer that counts against the budget. `reserved` bytes of the budget
    /// belong to other producers. Returns the text if there are not enough bytes.
    pub(super) fn fill<'l>(
        &self,
        home: usize,
        mut text: LongText<'l>,
        reserved: usize,
        access: Access,
    ) -> Result<EventTail, LongText<'l>> {
        if reserved > 0 {
            // A lent buffer counts against the budget, and other producers have a right to its bytes.
            text.keep();
        }
        let at_most = cost(text.as_bytes().len());
        let text = match text.into_buffer(at_most) {
            Ok((bytes, was_lent)) => {
                return if was_lent || self.charge(bytes.capacity(), reserved, access) {
                    Ok(EventTail::Long { bytes, home: home as u8 })
                } else {
                    Err(LongText::from_buffer(bytes))
                };
            }
            Err(text) => text,
        };
        let class = class_for(text.as_bytes().len());
        let shelved = if reserved == 0 { self.pop(home, class, access) } else { None };
        let mut bytes = shelved.unwrap_or_default();
        if bytes.capacity() == 0 {
            bytes.reserve_exact(length(class));
            if !self.charge(bytes.capacity(), reserved, access) {
                return Err(text);
            }
        }
        bytes.extend_from_slice(text.as_bytes());
        Ok(EventTail::Long { bytes, home: home as u8 })
    }

    /// Takes a buffer of this class from the shelf. It stays charged.
    fn pop(&self, home: usize, class: usize, access: Access) -> Option<Vec<u8>> {
        let mut stacks = self.lock(home, access)?;
        let buffer = stacks[class].pop()?;
        self.change_shelf_bytes(home, |bytes| bytes - buffer.capacity());
        Some(buffer)
    }

    /// Changes the byte count of a shelf that the caller has locked.
    fn change_shelf_bytes(&self, home: usize, change: impl FnOnce(usize) -> usize) {
        let bytes = &self.shelves[home].bytes;
        // Release: see `in_use`.
        bytes.store(change(bytes.load(Ordering::Relaxed)), Ordering::Release);
    }

    /// Bytes of the budget that events use.
    pub(super) fn in_use(&self) -> usize {
        // The shelves first, with Acquire: a freed buffer that is no longer counted on its shelf is no
        // longer charged either.
        let on_shelves = self.shelves.iter().map(|shelf| shelf.bytes.load(Ordering::Acquire)).sum();
        self.budget.charged.load(Ordering::Relaxed).saturating_sub(on_shelves)
    }

    /// Whether events use at most half of the budget.
    pub(super) fn is_half_free(&self) -> bool {
        self.in_use() <= self.budget.max / 2
    }

    fn lock(&self, home: usize, access: Access) -> Option<MutexGuard<'_, Stacks>> {
        if access == Access::Wait {
            return Some(self.shelves[home].stacks.lock());
        }
        if is_waiting() {
            return None;
        }
        (0..ATTEMPTS).find_map(|_| {
            let stacks = self.shelves[home].stacks.try_lock();
            if stacks.is_none() {
                std::hint::spin_loop();
            }
            stacks
        })
    }

    fn lock_all(&self) -> Vec<MutexGuard<'_, Stacks>> {
        self.shelves.iter().map(|shelf| shelf.stacks.lock()).collect()
    }

    /// Charges bytes if they fit besides the reserved bytes. If nothing is charged or reserved, it
    /// charges any number: an event larger than the whole budget is queued alone.
    fn charge(&self, bytes: usize, reserved: usize, access: Access) -> bool {
        let admit =
            |charged: usize| self.budget.fits(charged, reserved, bytes).then_some(charged + bytes);
        let charge =
            || self.budget.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        if charge().is_ok() {
            return true;
        }
        if access == Access::Try {
            return false;
        }
        // With all shelves locked, so that no buffer moves from one shelf to another meanwhile.
        let mut freed = Vec::new();
        let mut shelves = self.lock_all();
        for (home, stacks) in shelves.iter_mut().enumerate() {
            freed.append(
                &mut self.take_off(home, stacks, |stack| std::mem::take(&mut stack.buffers)),
            );
        }
        charge().is_ok()
    }

    /// Whether `bytes` fit besides the reserved bytes. Only for threads that are marked as inside the
    /// queue.
    pub(super) fn has_room(&self, reserved: usize, bytes: usize) -> bool {
        let fits = || self.budget.fits(self.in_use(), reserved, bytes);
        fits() || {
            // A buffer may have moved from one shelf to another during the count.
            let _shelves = self.lock_all();
            fits()
        }
    }

    /// Takes a buffer for texts of `bytes` bytes from the shelf, if there is one, and if all buffers leave
    /// `leave` bytes of the budget.
    pub(super) fn lend(&self, home: usize, bytes: usize, leave: usize) -> Option<Vec<u8>> {
        let class = class_for(bytes);
        let charged = self.budget.charged.load(Ordering::Relaxed);
        // A text over the wire's limit has no class, because its bytes are counted and not stored.
        if class < CLASSES && charged.saturating_add(leave) <= self.budget.max {
            self.pop(home, class, Access::Try)
        } else {
            None
        }
    }

    /// Takes a buffer back that [`lend`](Self::lend) returned.
    pub(super) fn take_back(&self, home: usize, buffer: Vec<u8>) {
        match self.lock(home, Access::Try) {
            Some(mut stacks) => self.shelve(home, &mut stacks, [buffer]),
            None => self.free([buffer]),
        }
    }

    /// Stops charging a buffer that was lent.
    pub(super) fn write_off(&self, bytes: usize) {
        self.budget.charged.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Puts emptied buffers on the shelf `home`; returns false if the shelf is locked.
    pub(super) fn put_back(&self, home: usize, emptied: &mut Vec<Vec<u8>>, access: Access) -> bool {
        let Some(mut stacks) = self.lock(home, access) else {
            return false;
        };
        self.shelve(home, &mut stacks, emptied.drain(..));
        true
    }

    fn shelve(&self, home: usize, stacks: &mut Stacks, buffers: impl IntoIterator<Item = Vec<u8>>) {
        let mut added = 0;
        for mut buffer in buffers {
            buffer.clear();
            added += buffer.capacity();
            stacks[class_of(buffer.capacity()).min(CLASSES - 1)].buffers.push(buffer);
        }
        self.change_shelf_bytes(home, |bytes| bytes + added);
    }

    /// Frees buffers that are on no shelf.
    pub(super) fn free(&self, buffers: impl IntoIterator<Item = Vec<u8>>) {
        for buffer in buffers {
            self.budget.charged.fetch_sub(buffer.capacity(), Ordering::Relaxed);
        }
    }

    /// Frees the buffers that were not needed since the last trim.
    pub(super) fn trim(&self) {
        for home in 0..self.shelves.len() {
            let Some(mut stacks) = self.lock(home, Access::Try) else { continue };
            let unneeded = self
                .take_off(home, &mut stacks, |stack| stack.buffers.drain(..stack.fewest).collect());
            drop(stacks);
            drop(unneeded);
        }
    }

    /// Removes the buffers that `choose` takes from each stack, and stops charging them.
    fn take_off(
        &self,
        home: usize,
        stacks: &mut Stacks,
        choose: impl Fn(&mut Stack) -> Vec<Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        for stack in stacks {
            taken.append(&mut choose(stack));
            stack.fewest = stack.buffers.len();
        }
        let bytes: usize = taken.iter().map(Vec::capacity).sum();
        // In this order, as `in_use` explains.
        self.budget.charged.fetch_sub(bytes, Ordering::Relaxed);
        self.change_shelf_bytes(home, |before| before - bytes);
        taken
    }

    #[cfg(all(test, not(wedr_loom)))]
    pub(super) fn lock_shelf(&self) -> impl Drop {
        self.shelves[0].stacks.lock()
    }

    #[cfg(all(test, not(wedr_loom)))]
    pub(super) fn charged(&self) -> usize {
        self.budget.charged.load(Ordering::Relaxed)
    }
}

impl Budget {
    fn fits(&self, charged: usize, reserved: usize, bytes: usize) -> bool {
        let others = charged.saturating_add(reserved);
        others == 0 || others.saturating_add(bytes) <= self.max
    }
}

#[cfg(all(test, not(wedr_loom)))]
mod tests {
    use super::*;

    #[test]
    fn buffer_is_at_most_a_quarter_too_long() {
        assert_eq!((0..6).map(length).collect::<Vec<_>>(), [512, 640, 768, 896, 1024, 1280]);
        assert_eq!(length(CLASSES - 1), 1 << 20);
        for bytes in (1..=1 << 20).step_by(97).chain([511, 512, 513, 1 << 20]) {
            let class = class_for(bytes);
            let longest = if bytes <= SMALLEST { SMALLEST } else { bytes + bytes / 4 };
            assert!((bytes..=longest).contains(&length(class)), "{bytes}: {}", length(class));
            assert_eq!(class_of(length(class)), class);
        }
    }
}
