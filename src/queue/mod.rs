//! The queue between the producers and the writer: who may put an event in, and when no more.
//!
//! # The closing rule
//!
//! An event that `push` accepted must be seen by the writer's last look into the channel, or be
//! refused. The channel cannot be closed from the receiving end while keeping what is in it, so
//! two fences decide:
//!
//! * a producer puts its event in, issues a `SeqCst` fence (Fp), then looks at the shutdown flag;
//! * the writer sees the shutdown flag, issues a `SeqCst` fence (Fw), then takes what is there.
//!
//! All `SeqCst` fences have one order. If Fp comes first, what the producer put in before Fp is
//! visible after Fw: the writer takes it. If Fw comes first, the flag that the writer had seen
//! before Fw is visible after Fp: the producer sees it and returns an error, whether or not the
//! writer took the event. There is no third case. [`Outlet::close`] has the writer's half,
//! [`Queue::settle`] the producers'; the loom model beside this file checks both, and the one of
//! the room condvar in [`room`].
//!
//! On x86 the exchange that reserves the event's slot serves as Fp
//! ([`fence_after_exchange`]). The slot is then reserved for all to see before the producer looks
//! at the flag, though perhaps not yet filled, and the channel does not pass for empty while one
//! is: the writer waits for it.

mod bell;
mod flush;
#[cfg(all(test, wedr_loom))]
mod model;
mod outlet;
mod refusals;
mod room;

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::stats::{Counters, Stats};
use crate::sync::{
    Arc, AtomicUsize, Ordering, Sender, TrySendError, bounded, fence_after_exchange,
};
use crate::wire::event::EventTail;

use bell::Bell;
use flush::Flushes;
use refusals::Refusals;
use room::Room;

pub(crate) use outlet::Outlet;

/// What a full queue does to `emit`.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Overflow, Runner};
/// // For callbacks that must not wait: drop, and let the agent see the gap.
/// let runner = Runner::new().overflow(Overflow::Refuse).channel_capacity(65_536);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// `emit` waits for room: a slow agent slows emission, and no event is lost.
    #[default]
    Block,
    /// `emit` returns [`Error::QueueFull`] at once. The event is counted as
    /// [`refused`](crate::Stats::refused), and the agent sees a gap in `seq`.
    Refuse,
}

/// How long a push may wait for room.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waiting {
    /// As the session's overflow policy says.
    Policy,
    /// The caller's own limit; a full queue at its end is no refusal, since the caller may try
    /// again.
    Until(Deadline),
    Never,
}

/// The limits of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Events in the channel.
    pub(crate) capacity: usize,
    /// Bytes of the events that are too long to be stored inline.
    pub(crate) heap_bytes: usize,
    /// Bytes of an event's body.
    pub(crate) max_body: usize,
    pub(crate) overflow: Overflow,
}

/// What a full queue has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    Slot,
    Bytes,
}

/// The producers' side; the writer's is the [`Outlet`].
pub(crate) struct Queue {
    events: Sender<EventTail>,
    limits: Limits,
    /// Closes the queue.
    shutdown: Arc<Shutdown>,
    /// Set before `shutdown` is, if it is the pipe's loss that closes the queue.
    lost: OnceLock<std::sync::Arc<io::Error>>,
    bell: Bell,
    room: Room,
    budget: Budget,
    refusals: Refusals,
    flushes: Flushes,
    counters: Counters,
}

// A panic in a caller's `Serialize` comes before anything is queued, and holds no lock.
impl std::panic::RefUnwindSafe for Queue {}

/// The heap bytes that are queued. On a cache line of its own, since large events change it.
#[repr(align(128))]
struct Budget {
    charged: AtomicUsize,
}

/// Makes a queue that `shutdown` closes.
pub(crate) fn queue(limits: Limits, shutdown: Arc<Shutdown>) -> (Arc<Queue>, Outlet) {
    let (sender, receiver) = bounded(limits.capacity);
    let queue = Arc::new(Queue {
        events: sender,
        limits,
        shutdown: Arc::clone(&shutdown),
        lost: OnceLock::new(),
        bell: Bell::new(),
        room: Room::new(),
        budget: Budget { charged: AtomicUsize::new(0) },
        refusals: Refusals::new(),
        flushes: Flushes::new(),
        counters: Counters::default(),
    });
    // Weak, since the queue holds the shutdown.
    let weak = std::sync::Arc::downgrade(&queue);
    shutdown.on_request(move || {
        if let Some(queue) = weak.upgrade() {
            queue.room.release_all();
            queue.bell.ring();
        }
    });
    let outlet = Outlet::new(Arc::clone(&queue), receiver);
    (queue, outlet)
}

impl Queue {
    pub(crate) fn max_body(&self) -> usize {
        self.limits.max_body
    }

    /// Fails once the queue is closed, and says why.
    pub(crate) fn check_open(&self) -> Result<()> {
        if self.shutdown.is_requested() { Err(self.closed()) } else { Ok(()) }
    }

    #[cold]
    fn closed(&self) -> Error {
        match self.lost.get() {
            Some(cause) => Error::pipe_lost(std::sync::Arc::clone(cause)),
            None => Error::Shutdown,
        }
    }

    /// Puts an event in. `Ok` is a promise: the writer takes it before it is done.
    pub(crate) fn push(&self, event: EventTail, waiting: Waiting) -> Result<()> {
        self.check_open()?;
        let others = self.room.waiting();
        if others > 0 && !self.has_room_to_spare(&event, others) {
            return self.push_to_full(event, waiting);
        }
        match self.offer(event) {
            Ok(()) => self.settle(),
            Err((event, _)) => self.push_to_full(event, waiting),
        }
    }

    /// Puts an event in if there is room for it, whoever waits.
    fn offer(&self, event: EventTail) -> Result<(), (EventTail, Lack)> {
        let heap_bytes = event.heap_bytes();
        if heap_bytes > 0 && !self.budget.charge(heap_bytes, self.limits.heap_bytes) {
            return Err((event, Lack::Bytes));
        }
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            // Disconnected: the writer is done and the queue closed, as the caller will see.
            Err(TrySendError::Full(event) | TrySendError::Disconnected(event)) => {
                self.budget.release(heap_bytes);
                Err((event, Lack::Slot))
            }
        }
    }

    /// The producer's half of the closing rule and of the writer's waking, after an event went in.
    #[inline]
    fn settle(&self) -> Result<()> {
        fence_after_exchange();
        self.check_open()?;
        self.bell.event_queued();
        Ok(())
    }

    /// Waits until every event accepted so far has been handed to the operating system.
    pub(crate) fn flush(&self, timeout: Duration) -> Result<()> {
        let deadline = Deadline::after(timeout);
        let ticket = self.flushes.request();
        self.bell.ring();
        if self.flushes.wait(ticket, deadline) {
            return Ok(());
        }
        if !self.flushes.have_ended() {
            return Err(Error::FlushTimeout(timeout));
        }
        match (self.lost.get(), self.counters.undelivered.get()) {
            (Some(_), _) => Err(self.closed()),
            (None, 0) => Ok(()),
            (None, count) => Err(Error::Undelivered { count }),
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        let counters = &self.counters;
        let queued = if self.flushes.have_ended() {
            // What is in the channel now was refused.
            0
        } else {
            self.events.len() + counters.in_hand.load(Ordering::Relaxed)
        };
        Stats {
            sent: counters.sent.get(),
            undelivered: counters.undelivered.get(),
            refused: self.refusals.count(),
            queued,
            queue_high_water: counters.queue_high_water.load(Ordering::Relaxed),
            waits: self.room.waits(),
            longest_wait: self.room.longest_wait(),
            bytes_sent: counters.bytes_sent.get(),
            writes: counters.writes.get(),
            heartbeats: counters.heartbeats.get(),
        }
    }

    /// Why the pipe was lost, if it was.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.lost.get().map(|cause| Error::pipe_lost(std::sync::Arc::clone(cause)))
    }
}

impl Budget {
    /// Whether `bytes` fit.
    fn admits(&self, bytes: usize, max: usize) -> bool {
        self.charged.load(Ordering::Relaxed).saturating_add(bytes) <= max
    }

    /// Takes `bytes` if they fit, or if nothing is charged: an event larger than the whole budget
    /// goes alone.
    fn charge(&self, bytes: usize, max: usize) -> bool {
        let admit = |charged: usize| {
            (charged == 0 || charged.saturating_add(bytes) <= max).then(|| charged + bytes)
        };
        self.charged.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit).is_ok()
    }

    fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.charged.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

#[cfg(all(test, not(wedr_loom)))]
mod tests;
