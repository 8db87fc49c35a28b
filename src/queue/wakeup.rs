//! How the writer waits for work, and what wakes it.

use crate::deadline::{Deadline, is_waiting};
use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, fence};

const AWAKE: u32 = 0;
/// Any event wakes the writer.
const IDLE: u32 = 1;
/// The writer lets events gather: a full lane, a flush or the shutdown wakes it, an event does not.
const LINGERING: u32 = 2;

/// Producers read `mode` after every event, and write it only to wake the writer. So it has a cache line
/// of its own.
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

    /// Wakes an idle writer. The caller has pushed an event, or counted a loss, and then issued a fence.
    #[inline]
    pub(super) fn event_queued(&self) {
        if self.mode.load(Ordering::Relaxed) == IDLE {
            self.wake();
        }
    }

    /// Wakes an idle or lingering writer. The caller has pushed an event and then issued a fence.
    pub(super) fn lane_full(&self) {
        if self.mode.load(Ordering::Relaxed) != AWAKE {
            self.wake();
        }
    }

    /// Wakes a waiting writer after a change that it must see.
    #[cold]
    pub(super) fn wake(&self) {
        if is_waiting() {
            // An allocator hook emits while `parking_lot` allocates and holds its locks. The writer sees the
            // change at its next check, at most half a second later.
            return;
        }
        // The caller's change comes before this fence. The writer checks for work after its own fence.
        fence(Ordering::SeqCst);
        if self.mode.swap(AWAKE, Ordering::Relaxed) != AWAKE {
            *self.woken.lock() = true;
            self.changed.notify_one();
        }
    }

    /// Sleeps until any wake-up or `deadline`. `may_sleep` is the last check for work.
    pub(super) fn idle(&self, deadline: Deadline, may_sleep: impl FnOnce() -> bool) {
        self.sleep(IDLE, deadline, may_sleep);
    }

    /// Like [`idle`](Self::idle), but an event does not wake the writer.
    pub(super) fn linger(&self, deadline: Deadline, may_sleep: impl FnOnce() -> bool) {
        self.sleep(LINGERING, deadline, may_sleep);
    }

    #[cfg(all(test, not(wedr_loom)))]
    pub(super) fn is_lingering(&self) -> bool {
        self.mode.load(Ordering::Relaxed) == LINGERING
    }

    fn sleep(&self, mode: u32, deadline: Deadline, may_sleep: impl FnOnce() -> bool) {
        self.mode.store(mode, Ordering::Relaxed);
        // The writer stores its mode, then checks for work once more. A caller makes its change, issues
        // a fence, then reads `mode`. So the writer sees the change or the caller sees the mode.
        // Otherwise the writer could sleep although there is work.
        fence(Ordering::SeqCst);
        if may_sleep() {
            let mut woken = self.woken.lock();
            while !*woken && !deadline.wait(&self.changed, &mut woken) {}
            *woken = false;
        }
        self.mode.store(AWAKE, Ordering::Relaxed);
    }
}
