//! How the writer rests, and what wakes it.

use crate::deadline::Deadline;
use crate::sync::{AtomicU32, Condvar, Mutex, Ordering, fence};

const AWAKE: u32 = 0;
/// Any event wakes it.
const IDLE: u32 = 1;
/// It lets events gather: a full queue, a flush or the shutdown wakes it, an event does not.
const LINGERING: u32 = 2;

/// Producers look at `mode` after every event, and write it only to wake the writer; whoever
/// does so pays for the wake-up, alone.
pub(super) struct Bell {
    mode: AtomicU32,
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Bell {
    pub(super) fn new() -> Self {
        Self { mode: AtomicU32::new(AWAKE), rung: Mutex::new(false), changed: Condvar::new() }
    }

    /// Wakes an idle writer. The caller has put an event in and issued a fence since.
    #[inline]
    pub(super) fn event_queued(&self) {
        if self.mode.load(Ordering::Relaxed) == IDLE {
            self.ring();
        }
    }

    /// Wakes the writer, if it rests.
    #[cold]
    pub(super) fn ring(&self) {
        // Whatever the caller changed, it changed before: the writer looks again after its fence.
        fence(Ordering::SeqCst);
        if self.mode.swap(AWAKE, Ordering::Relaxed) != AWAKE {
            *self.rung.lock() = true;
            self.changed.notify_one();
        }
    }

    /// Rests until an event comes, unless `may_rest` says after a last look that there is
    /// something to do.
    pub(super) fn idle(&self, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.rest(IDLE, deadline, may_rest);
    }

    /// Rests, but not for events.
    pub(super) fn linger(&self, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.rest(LINGERING, deadline, may_rest);
    }

    fn rest(&self, mode: u32, deadline: Deadline, may_rest: impl FnOnce() -> bool) {
        self.mode.store(mode, Ordering::Relaxed);
        // Between saying that it rests and looking a last time; the other half is in who rings.
        fence(Ordering::SeqCst);
        if may_rest() {
            let mut rung = self.rung.lock();
            while !*rung && !deadline.wait(&self.changed, &mut rung) {}
            *rung = false;
        }
        self.mode.store(AWAKE, Ordering::Relaxed);
    }
}
