//! The primitives that threads meet on, exchanged for loom's when the models run
//! (`--cfg wedr_loom`), so that what is checked is the code that ships.

#[cfg(not(all(test, wedr_loom)))]
mod real {
    pub(crate) use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::Arc;
    pub(crate) use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, fence};
}

#[cfg(not(all(test, wedr_loom)))]
pub(crate) use real::*;

#[cfg(all(test, wedr_loom))]
mod modelled;
#[cfg(all(test, wedr_loom))]
pub(crate) use modelled::*;

pub(crate) use std::sync::atomic::Ordering;
