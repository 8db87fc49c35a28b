//! Locks, atomics and channels. With `--cfg wedr_loom` they are loom's, so the models check the code
//! that is shipped.

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
    /// On x86 an atomic exchange is a full barrier, whatever its ordering argument (Intel's manual,
    /// volume 3: "Loads and Stores Are Not Reordered with Locked Instructions"). So only the compiler
    /// must not reorder. A fence instruction would wait until the event's cache lines have arrived from
    /// the other core.
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
