//! How full the queue is, as far as producers can know without a lock.

use crate::sync::{AtomicBool, AtomicUsize, Ordering, fence};

/// Whether the queue is known to have no slot for a new producer. A producer that finds no slot sets the
/// flag. The writer clears the flag after a pass that took events. A producer clears it at the end of its
/// turn, if there is a slot. Every emit reads the flag before it serialises. So the flag has a cache line
/// of its own, and is written only when it changes.
#[repr(align(128))]
pub(super) struct Full(AtomicBool);

impl Full {
    pub(super) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the flag if there is no free slot, and clears it if there is one. Called by a producer that has
    /// found no slot, or no bytes.
    pub(super) fn update(&self, has_slot: impl Fn() -> bool) {
        if !self.is_set() && !has_slot() {
            self.0.store(true, Ordering::Relaxed);
        }
        // This producer sets the flag, then checks for a slot again. The thread that makes a slot free
        // issues a fence, then reads the flag in `clear`. So the producer sees the slot or that thread
        // sees the flag. Otherwise the flag could stay set although the queue has room.
        fence(Ordering::SeqCst);
        if has_slot() {
            self.clear();
        }
    }

    /// Clears the flag, after a fence. The caller is [`Self::update`], or the thread that has made a slot
    /// free: the writer, which has taken events, or a producer whose turn has ended.
    pub(super) fn clear(&self) {
        if self.0.load(Ordering::Relaxed) {
            self.0.store(false, Ordering::Relaxed);
        }
    }
}

/// The soft limit, in queued events. If producers are blocked and the limit is reached, a new producer that
/// may block joins them. The remaining slots stay free until the writer waits. The reason is that a queue
/// that stays full is slow: the writer finds no event in its core's cache. Only the writer writes the
/// limit, and all producers read it. So it has a cache line of its own.
#[repr(align(128))]
pub(super) struct SoftLimit(AtomicUsize);

impl SoftLimit {
    /// The writer waits, so producers may use all slots.
    pub(super) const NONE: usize = usize::MAX;

    pub(super) fn new() -> Self {
        Self(AtomicUsize::new(Self::NONE))
    }

    #[inline]
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn applies(&self) -> bool {
        self.get() != Self::NONE
    }

    pub(super) fn set(&self, events: usize) {
        if self.get() != events {
            self.0.store(events, Ordering::Relaxed);
        }
    }

    pub(super) fn lift(&self) {
        self.set(Self::NONE);
    }
}
