//! What a session counts.

use std::time::Duration;

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// A session's accounts so far.
///
/// `sent + undelivered + queued` covers every event for which `emit` returned `Ok`. The numbers
/// are read one after another: while events flow they may be a few events apart.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Metadata, Runner, testing::TestAgent};
///
/// let agent = TestAgent::start()?;
/// Runner::new().pipe_path(agent.path()).run_with(Metadata::new("acme", "1", "Acme"), |sink, _| {
///     sink.emit("acme.tick", serde_json::json!({}))?;
///     sink.flush(std::time::Duration::from_secs(5))?;
///     assert_eq!(sink.stats().sent, 1);
///     Ok(())
/// })?;
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Events handed whole to the operating system.
    pub sent: u64,
    /// Accepted events that could not be sent: the pipe was lost, or the drain timeout ran out.
    pub undelivered: u64,
    /// Events that `emit` refused because the queue was full, under
    /// [`Overflow::Refuse`](crate::Overflow::Refuse) or on a thread that was unwinding.
    pub refused: u64,
    /// Events accepted and not yet sent, those in the writer's hand included.
    pub queued: usize,
    /// The most events that the queue held when the writer looked.
    pub queue_high_water: usize,
    /// How often an `emit` had to wait for room, those that still wait included.
    pub waits: u64,
    /// The longest such wait that has ended.
    pub longest_wait: Duration,
    /// Bytes handed to the operating system after hello, those of torn frames included.
    pub bytes_sent: u64,
    /// Calls that handed bytes over.
    pub writes: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
}

/// What the writer counts: only its thread stores, anybody reads. On a cache line of its own, so
/// that counting does not slow the producers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) sent: Counter,
    pub(crate) undelivered: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) writes: Counter,
    pub(crate) heartbeats: Counter,
    /// Events taken from the queue and not yet written.
    pub(crate) in_hand: AtomicUsize,
    pub(crate) queue_high_water: AtomicUsize,
}

impl Counters {
    pub(crate) fn saw_queued(&self, events: usize) {
        if events > self.queue_high_water.load(Ordering::Relaxed) {
            self.queue_high_water.store(events, Ordering::Relaxed);
        }
    }
}

/// A count with one writing thread: a load and a store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.store(self.get() + n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
