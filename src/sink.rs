//! The producers' side of a session.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;

use crate::clock::unix_ns_now;
use crate::deadline::Deadline;
use crate::error::Result;
use crate::queue::{Event, Queue, Waiting};
use crate::stats::Stats;
use crate::sync::Arc;

/// Takes a plugin's events. It is cheap to clone, and any number of threads may use it.
///
/// `Ok` from any of its `emit`s is a promise: the SDK hands the event to the operating system before the
/// session's goodbye, or counts it as [`undelivered`](Stats::undelivered). If one emit returned before
/// another began, its event comes first, whatever threads they ran on.
///
/// A sink may outlive its session: every emit then fails with
/// [`Error::Shutdown`](crate::Error::Shutdown), or with the lost pipe's error.
///
/// # Threads
///
/// The SDK joins no thread of the plugin. The shutdown releases a thread that is blocked in an `emit`, so
/// you need not stop it before the body returns.
///
/// On a thread that is unwinding from a panic, no `emit` blocks. This includes the panic hook and each `Drop`
/// that runs then. In the destructor of a thread-local, an `emit` may block as usual: if it must not, use
/// [`try_emit`](EventBuilder::try_emit).
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Error, Metadata, Runner, testing::TestAgent};
///
/// let agent = TestAgent::start()?;
/// let mut kept = None;
/// Runner::new().pipe_path(agent.path()).run_with(Metadata::new("acme", "1", "Acme"), |sink, _| {
///     sink.emit("acme_start", serde_json::json!({ "pid": 4 }))?;
///     kept = Some(sink.clone());
///     Ok(())
/// })?;
/// let late = kept.unwrap().emit("acme_late", serde_json::json!({}));
/// assert!(matches!(late, Err(Error::Shutdown)));
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Clone)]
pub struct EventSink {
    queue: Arc<Queue>,
}

impl EventSink {
    pub(crate) fn new(queue: Arc<Queue>) -> Self {
        Self { queue }
    }

    /// Queues an event that happened now.
    ///
    /// `Ok` means that the event is queued. The SDK sends it before the goodbye, or counts it as
    /// [`undelivered`](crate::Stats::undelivered). To wait until it is sent, use [`flush`](Self::flush).
    ///
    /// `kind` is any text. Name it `vendor_event`, with underscores: no rule of the released agent
    /// matches a kind with a dot. Rules match the top-level fields of an object that are text,
    /// numbers or bools. If the clock shows a time before 1970 or after 2554, the SDK sends the
    /// nearest time that the wire can hold.
    ///
    /// If the queue is full, it blocks or fails, as the session's [`Overflow`](crate::Overflow) says. On a
    /// thread that is unwinding from a panic it never blocks.
    ///
    /// # Errors
    ///
    /// - [`Error::Shutdown`](crate::Error::Shutdown) once the session is shutting down.
    /// - [`Error::Io`](crate::Error::Io) once the pipe is known to be lost.
    /// - [`Error::QueueFull`](crate::Error::QueueFull) if the queue is full and `emit` may not block. A full
    ///   queue is detected before the payload is serialised, so this error hides those below.
    /// - [`Error::PayloadTooLarge`](crate::Error::PayloadTooLarge),
    ///   [`Error::PayloadTooDeep`](crate::Error::PayloadTooDeep) and
    ///   [`Error::Json`](crate::Error::Json) for payloads that the agent would not accept. This includes
    ///   keys that begin with `$serde_json::private::`: some agents would read such an object as
    ///   something else.
    ///
    /// `serde_json` writes a NaN or an infinity as `null`. The agent reads an integer beyond 64 bits
    /// as a float. It may read a float one step off, unless its `serde_json` has the feature
    /// `float_roundtrip`.
    ///
    /// # Examples
    ///
    /// ```
    /// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
    /// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
    /// # runner.run_with(wedr_plugin_sdk::Metadata::new("acme", "1", "Acme"), |sink, ctx| {
    /// sink.emit("acme_login", serde_json::json!({ "user": "alice" }))?;
    ///
    /// let core_dump = "x".repeat(ctx.max_payload_bytes());
    /// let refused = sink.emit("acme_crash", serde_json::json!({ "core": core_dump }));
    /// assert!(matches!(refused, Err(wedr_plugin_sdk::Error::PayloadTooLarge { .. })));
    /// # Ok(())
    /// # })?;
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn emit(&self, kind: &str, payload: Value) -> Result<()> {
        self.event(kind).emit(&payload)
    }

    /// Queues an event that happened `ts_unix_ns` nanoseconds after 1970-01-01 UTC.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    ///
    /// # Examples
    ///
    /// ```
    /// # fn body(sink: &wedr_plugin_sdk::EventSink) -> wedr_plugin_sdk::Result<()> {
    /// // From a record that was written earlier.
    /// sink.emit_with_ts("acme_login", 1_700_000_000_000_000_000, serde_json::json!({}))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit_with_ts(&self, kind: &str, ts_unix_ns: u64, payload: Value) -> Result<()> {
        self.event(kind).ts_unix_ns(ts_unix_ns).emit(&payload)
    }

    /// Builds an event. Use it for a typed payload, which needs no [`Value`], or to choose how long to block.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, EventSink};
    ///
    /// #[derive(serde::Serialize)]
    /// struct Opened<'a> {
    ///     path: &'a str,
    /// }
    ///
    /// /// In a callback that must not block. Returns whether the event was dropped.
    /// fn on_open(sink: &EventSink, path: &str) -> bool {
    ///     matches!(sink.event("acme_open").try_emit(&Opened { path }), Err(Error::QueueFull))
    /// }
    /// ```
    pub fn event<'a>(&'a self, kind: &'a str) -> EventBuilder<'a> {
        EventBuilder { queue: &self.queue, kind, ts_unix_ns: None }
    }

    /// Waits until every event accepted before the call has been handed to the operating system.
    ///
    /// From then on the events survive the end of this process. The agent may not have read them yet:
    /// an event that it has not read is lost if the agent dies. Only
    /// [`SessionReport::confirmed`](crate::SessionReport::confirmed) shows that the agent has read
    /// everything.
    ///
    /// A flush takes no slot in the queue. During the shutdown it waits for the drain. With a timeout
    /// of zero it only checks whether all events have been handed over.
    ///
    /// # Errors
    ///
    /// - [`Error::FlushTimeout`](crate::Error::FlushTimeout) after `timeout`; the events stay queued, and the
    ///   SDK still sends them.
    /// - [`Error::Io`](crate::Error::Io) if the pipe was lost.
    /// - [`Error::Undelivered`](crate::Error::Undelivered) if the drain timeout expired before all accepted
    ///   events were sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn body(sink: &wedr_plugin_sdk::EventSink) -> wedr_plugin_sdk::Result<()> {
    /// sink.emit("acme_alarm", serde_json::json!({ "user": "alice" }))?;
    /// // Once this returns `Ok`, the alarm survives the end of this process.
    /// sink.flush(std::time::Duration::from_secs(5))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.queue.flush(timeout)
    }

    /// Reports `count` events that never reached `emit`: events that the source lost, or that the
    /// plugin gave up after a [`try_emit`](EventBuilder::try_emit).
    ///
    /// The count is added to [`Stats::lost`], and `seq` skips as many numbers, so that the agent
    /// sees the gap. With [`Runner::loss_reports`](crate::Runner::loss_reports) the SDK also sends an
    /// event that reports the loss. This never blocks and never fails. It counts at most 2⁴⁰ events
    /// a call, and counts nothing once the session has sent its last event.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, EventSink};
    ///
    /// /// In a callback that must not block.
    /// fn on_open(sink: &EventSink, path: &str) {
    ///     if let Err(Error::QueueFull) = sink.event("acme_open").try_emit(path) {
    ///         sink.report_lost(1);
    ///     }
    /// }
    /// ```
    pub fn report_lost(&self, count: u64) {
        self.queue.report_lost(count);
    }

    /// The session's counters so far.
    pub fn stats(&self) -> Stats {
        self.queue.stats()
    }
}

impl fmt::Debug for EventSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventSink").field("stats", &self.stats()).finish()
    }
}

/// An event about to be emitted, from [`EventSink::event`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::{EventSink, Result};
///
/// #[derive(serde::Serialize)]
/// struct Login<'a> {
///     user: &'a str,
/// }
///
/// fn report(sink: &EventSink, user: &str, at_ns: u64) -> Result<()> {
///     let login = Login { user };
///     // If the queue is full: blocks or fails, as the Runner's overflow policy says.
///     sink.event("acme_login").ts_unix_ns(at_ns).emit(&login)?;
///     // Never blocks.
///     sink.event("acme_login").try_emit(&login)?;
///     // Blocks for 1 s at most.
///     sink.event("acme_login").emit_timeout(&login, Duration::from_secs(1))
/// }
/// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
/// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
/// # let meta = wedr_plugin_sdk::Metadata::new("acme", "1", "Acme");
/// # runner.run_with(meta, |sink, _| report(sink, "alice", 1))?;
/// # assert_eq!(agent.ended_session(Duration::from_secs(30)).unwrap().events().count(), 3);
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[must_use = "an event is queued by its emit, try_emit or emit_timeout"]
pub struct EventBuilder<'a> {
    queue: &'a Queue,
    kind: &'a str,
    ts_unix_ns: Option<u64>,
}

impl EventBuilder<'_> {
    /// The time of the event, in nanoseconds since 1970-01-01 UTC. The default is now.
    pub fn ts_unix_ns(mut self, ns: u64) -> Self {
        self.ts_unix_ns = Some(ns);
        self
    }

    /// Queues the event. If the queue is full, it blocks or fails, as the session's
    /// [`Overflow`](crate::Overflow) says.
    ///
    /// # Errors
    ///
    /// As [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// If the payload's `Serialize` panics. Nothing is queued then.
    pub fn emit<T: Serialize + ?Sized>(self, payload: &T) -> Result<()> {
        self.push(payload, Waiting::Policy)
    }

    /// Queues the event if there is room. It never blocks, whatever the overflow policy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if there is no room. The caller knows and may try again,
    /// so the event is not counted as [`refused`](Stats::refused) and skips no number in `seq`. If you drop
    /// the event, call [`EventSink::report_lost`]. The other errors are those of [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// As [`emit`](Self::emit).
    pub fn try_emit<T: Serialize + ?Sized>(self, payload: &T) -> Result<()> {
        self.push(payload, Waiting::Never)
    }

    /// Queues the event. It blocks for at most `t` if the queue is full, whatever the overflow policy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if there was no room in time. As with
    /// [`try_emit`](Self::try_emit), the event is not counted. The other errors are those of
    /// [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// As [`emit`](Self::emit).
    pub fn emit_timeout<T: Serialize + ?Sized>(self, payload: &T, t: Duration) -> Result<()> {
        self.push(payload, Waiting::Until(Deadline::after(t)))
    }

    fn push<T: Serialize + ?Sized>(self, payload: &T, waiting: Waiting) -> Result<()> {
        let queue = self.queue;
        // Check first, so that an event for which there is no room is not serialised.
        queue.check_room(waiting)?;
        let ts_unix_ns = self.ts_unix_ns.unwrap_or_else(unix_ns_now);
        let mut event = Event::blank();
        match event.tail.write(
            self.kind,
            ts_unix_ns,
            payload,
            queue.max_content(),
            queue.lender(),
        )? {
            None => queue.push(event, waiting),
            Some(text) => queue.push_long(text, waiting),
        }
    }
}

impl fmt::Debug for EventBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventBuilder")
            .field("kind", &self.kind)
            .field("ts_unix_ns", &self.ts_unix_ns)
            .finish()
    }
}
