//! The primitives that threads meet on, exchanged for loom's when the models run
//! (`--cfg wedr_loom`), so that what is checked is the code that ships.

#[cfg(not(all(test, wedr_loom)))]
mod real {
    pub(crate) use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, fence};
    use std::sync::atomic::{Ordering, compiler_fence};

    /// A `SeqCst` fence for a thread that has just changed something by an atomic exchange, as
    /// `try_send` does to reserve a slot.
    ///
    /// On x86 that exchange was a full barrier, whatever ordering it was written with (Intel's
    /// manual, volume 3: "Loads and Stores Are Not Reordered with Locked Instructions"): only the
    /// compiler has to be held back. A fence proper would wait for the event's cache lines to come
    /// from the other core.
    #[inline]
    pub(crate) fn fence_after_exchange() {
        if cfg!(any(target_arch = "x86", target_arch = "x86_64")) {
            compiler_fence(Ordering::SeqCst);
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

#[cfg(not(all(test, wedr_loom)))]
pub(crate) use real::*;

#[cfg(all(test, wedr_loom))]
mod modelled;
#[cfg(all(test, wedr_loom))]
pub(crate) use modelled::*;

pub(crate) use std::sync::atomic::Ordering;
