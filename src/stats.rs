//! The counters of a session. `Queue::stats` in `queue/stats.rs` collects them into [`Stats`]: those of
//! the writer from [`Counters`], those of the producers from the queue's gate and `queue/losses.rs`.

use std::time::Duration;

use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The counters of a session.
///
/// `sent + undelivered + queued` is the number of events for which `emit` returned `Ok`. The counters are
/// read one after another, so they may differ by a few events while events flow.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Metadata, Runner, testing::TestAgent};
///
/// let agent = TestAgent::start()?;
/// Runner::new().pipe_path(agent.path()).run_with(Metadata::new("acme", "1", "Acme"), |sink, _| {
///     sink.emit("acme_tick", serde_json::json!({}))?;
///     sink.flush(std::time::Duration::from_secs(5))?;
///     assert_eq!(sink.stats().sent, 1);
///     Ok(())
/// })?;
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Events handed whole to the operating system. The agent may not have read them yet.
    pub sent: u64,
    /// Accepted events that could not be sent: the pipe was lost, or the drain timeout expired.
    pub undelivered: u64,
    /// Events that `emit` refused because the queue was full: under
    /// [`Overflow::Refuse`](crate::Overflow::Refuse), or on a thread that must not block, because it was
    /// unwinding or already inside an `emit` (in an allocator hook).
    pub refused: u64,
    /// Events that the plugin reported with [`report_lost`](crate::EventSink::report_lost).
    pub lost: u64,
    /// Events accepted and not yet sent, including those that the writer has taken.
    pub queued: usize,
    /// The largest value of `queued` so far. It may exceed `channel_capacity` by the events that the
    /// writer had taken: those of one write, and one from each lane.
    pub queue_high_water: usize,
    /// How often an `emit` blocked on a full queue, including those that still block.
    pub waits: u64,
    /// The longest time that an `emit` waited for room; waits in progress are not included. An `emit`
    /// whose slot another thread took waits again, and each of these waits is measured alone.
    pub longest_wait: Duration,
    /// Bytes handed to the operating system after hello, including those of partly written frames.
    pub bytes_sent: u64,
    /// Write calls that handed over bytes.
    pub writes: u64,
    /// Heartbeats sent.
    pub heartbeats: u64,
}

/// The writer's counters. Only the writer's thread stores them, except the high-water mark; any thread may
/// read them. They have cache lines of their own, so that counting does not slow the producers.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) sent: Counter,
    pub(crate) undelivered: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) writes: Counter,
    pub(crate) heartbeats: Counter,
    /// Whether the writer is taking events, so that `in_flight` is not up to date.
    taking: AtomicBool,
    /// Events taken from the queue and not yet handed to the operating system.
    pub(crate) in_flight: AtomicUsize,
    pub(crate) queue_high_water: AtomicUsize,
}

impl Counters {
    pub(crate) fn set_taking(&self, taking: bool) {
        // Release: the taken events are counted in `in_flight` before this flag is cleared.
        self.taking.store(taking, Ordering::Release);
    }

    /// Whether the writer has sent all events that it took.
    pub(crate) fn is_idle(&self) -> bool {
        !self.taking.load(Ordering::Acquire) && self.in_flight.load(Ordering::Acquire) == 0
    }

    /// Any thread may call this.
    pub(crate) fn note_queued(&self, events: usize) {
        if events > self.queue_high_water.load(Ordering::Relaxed) {
            self.queue_high_water.fetch_max(events, Ordering::Relaxed);
        }
    }

    /// What the writer has taken; `None` while it takes events.
    pub(crate) fn taken(&self) -> Option<Taken> {
        (!self.taking.load(Ordering::Acquire)).then(|| Taken {
            in_flight: self.in_flight.load(Ordering::Acquire),
            sent: self.sent.get(),
        })
    }
}

/// What the writer has taken out of the queue. If two reads are equal, the writer has neither taken nor sent
/// an event between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    pub(crate) in_flight: usize,
    /// Events sent so far.
    sent: u64,
}

/// A counter that only one thread changes. So it needs no locked instruction, only a load and a store.
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

/// How many events were lost so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Refused by `emit` because the queue was full.
    pub(crate) refused: u64,
    /// Reported by the plugin.
    pub(crate) reported: u64,
}

impl Losses {
    pub(crate) fn total(self) -> u64 {
        self.refused.saturating_add(self.reported)
    }
}
