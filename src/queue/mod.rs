//! The queue between the producers and the writer: when an event may enter it, and how it closes.
//!
//! # The closing rule
//!
//! `push` must not accept an event that the writer's last pass misses. The receiving end of a channel
//! cannot close it and keep its content, so two fences decide:
//!
//! * a producer pushes its event, issues a `SeqCst` fence (Fp), then reads the shutdown flag;
//! * the writer reads the shutdown flag as set, issues a `SeqCst` fence (Fw), then takes all events.
//!
//! All `SeqCst` fences have one order, so there are two cases:
//!
//! * Fp comes first. The event that the producer pushed before Fp is visible after Fw. The writer
//!   takes it.
//! * Fw comes first. The flag that the writer read before Fw is visible after Fp. The producer sees
//!   the flag and returns an error, whether or not the writer took the event.
//!
//! [`Consumer::close`] has the writer's half, the private `Queue::after_push` has the producers'. The
//! loom models in this folder check both.
//!
//! On x86 the exchange that reserves the event's slot serves as Fp
//! ([`fence_after_exchange`](crate::sync::fence_after_exchange)). The reservation is then visible
//! before the producer reads the flag, although the slot may not be filled yet. A channel with a
//! reserved slot does not look empty, so the writer waits until the slot is filled.

mod consumer;
mod flush;
mod full;
mod gate;
mod lanes;
mod lending;
mod losses;
#[cfg(all(test, wedr_loom))]
mod model;
mod need;
mod pool;
mod producer;
mod stats;
mod thread;
mod wakeup;

use crate::deadline::Deadline;
use crate::shutdown::Shutdown;
use crate::stats::Counters;
use crate::sync::Arc;

use flush::Flushes;
use full::{Full, SoftLimit};
use gate::Gate;
use losses::LossCounter;
use pool::Pool;
use wakeup::Wakeup;

pub(crate) use consumer::Consumer;
pub(crate) use lanes::Event;
pub(crate) use producer::Queue;

/// What `emit` does when the queue is full.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Overflow, Runner};
/// // For callbacks that must not block: refuse the event, and let the agent see the gap.
/// let runner = Runner::new().overflow(Overflow::Refuse).channel_capacity(65_536);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Overflow {
    /// `emit` blocks until there is room: a slow agent slows emission, and no event is lost.
    #[default]
    Block,
    /// `emit` returns [`Error::QueueFull`](crate::Error::QueueFull) at once. The event is counted as
    /// [`refused`](crate::Stats::refused), and the agent sees a gap in `seq`.
    Refuse,
}

/// How long a push may block while the queue is full.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Waiting {
    /// The session's overflow policy decides.
    Policy,
    /// The caller's own limit. A refusal at this limit is not counted, because the caller may try again.
    Until(Deadline),
    Never,
}

/// The configuration of a queue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Events in all lanes together.
    pub(crate) capacity: usize,
    /// The byte budget: bytes of the buffers of all long events.
    pub(crate) heap_bytes: usize,
    /// The most bytes of one event's content.
    pub(crate) max_content: usize,
    pub(crate) overflow: Overflow,
    /// Whether the writer sends events that report losses.
    pub(crate) reports_losses: bool,
}

/// Creates a queue. `shutdown` closes it.
pub(crate) fn queue(limits: Limits, shutdown: Arc<Shutdown>) -> (Arc<Queue>, Consumer) {
    with_lanes(limits, lanes::count(limits.capacity), shutdown)
}

fn with_lanes(limits: Limits, count: usize, shutdown: Arc<Shutdown>) -> (Arc<Queue>, Consumer) {
    let (lanes, merge) = lanes::lanes(limits.capacity, count);
    let queue = Arc::new(Queue {
        lanes,
        limits,
        shutdown: Arc::clone(&shutdown),
        lost_pipe: std::sync::OnceLock::new(),
        wakeup: Wakeup::new(),
        gate: Gate::new(),
        pool: Pool::new(count, limits.heap_bytes),
        full: Full::new(),
        soft_limit: SoftLimit::new(),
        refused: LossCounter::new(),
        reported_lost: LossCounter::new(),
        flushes: Flushes::new(),
        counters: Counters::default(),
    });
    // Weak, because the queue holds a reference to the shutdown.
    let weak = std::sync::Arc::downgrade(&queue);
    shutdown.on_request(move || {
        if let Some(queue) = weak.upgrade() {
            queue.gate.release_all();
            queue.wakeup.wake();
        }
    });
    let consumer = Consumer::new(Arc::clone(&queue), merge);
    (queue, consumer)
}

#[cfg(all(test, not(wedr_loom)))]
mod tests;
