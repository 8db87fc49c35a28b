//! How the writer waits for work, and what wakes it.

use crate::deadline::{Deadline, is_waiting};
use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, fence};

const AWAKE: u32 = 0;
/// Any event wakes the writer.
const IDLE: u32 = 1;
/// The writer lets events gather: a full lane, a flush or the shutdown wakes it, an event does not.
const LINGERING: u32 = 2;

/// Producers look at `mode` after every event. They write it only to wake the writer, and only the
/// producer that does so pays for the wake-up. So `mode` has a cache line of its own.
#[repr(align(128))]
pub(super) struct Wakeup {
    mode: AtomicU32,
    woken: Mutex<bool>,
    changed: Condvar,
}

impl Wakeup {
    pub(super) fn new() -> Self {
        Self { mode: AtomicU32::new(AWAKE), woken: Mutex::new(false), changed: Condvar::new() }
    }

    /// Wakes an idle writer. The caller has put an event in, and issued a fence since.
    #[inline]
    pub(super) fn event_queued(&self) {
        if self.mode.load(Ordering::Relaxed) == IDLE {
            self.wake();
        }
    }

    /// Wakes a writer that rests, whether idle or lingering. The caller has put an event in, and
    /// issued a fence since.
    pub(super) fn lane_full(&self) {
        if self.mode.load(Ordering::Relaxed) != AWAKE {
            self.wake();
        }
    }

    /// Wakes a waiting writer after a change that it must see.
    #[cold]
    pub(super) fn wake(&self) {
        if is_waiting() {
            // This is an allocator hook that `parking_lot` called. The writer sees the change when it next
            // looks, at most half a second later.
            return;
        }
        // The caller's change comes before this fence. The writer looks again after its own fence.
        fence(Ordering::SeqCst);
        if self.mode.swap(AWAKE, Ordering::Relaxed) != AWAKE {
            *self.woken.lock() = true;
            self.changed.notify_one();
        }
    }

    /// Rests until an event arrives, unless `may_rest` finds something to do in a last look.
    pub(super) fn idle(&self, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.rest(IDLE, deadline, may_rest);
    }

    /// Rests, but events do not end the rest.
    pub(super) fn linger(&self, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.rest(LINGERING, deadline, may_rest);
    }

    fn rest(&self, mode: u32, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.mode.store(mode, Ordering::Relaxed);
        // The writer announces its rest, then looks for work once more. A caller makes its change,
        // issues a fence, then reads `mode`. So the writer sees the change or the caller sees the rest.
        // Otherwise the writer could sleep although there is work.
        fence(Ordering::SeqCst);
        if may_rest() {
            let mut woken = self.woken.lock();
            while !*woken && !deadline.wait(&self.changed, &mut woken) {}
            *woken = false;
        }
        self.mode.store(AWAKE, Ordering::Relaxed);
    }
}
