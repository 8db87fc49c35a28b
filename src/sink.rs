//! The producers' side of a session.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;
use serde_json::Value;

use crate::deadline::Deadline;
use crate::error::Result;
use crate::queue::{Queue, Waiting};
use crate::stats::Stats;
use crate::sync::Arc;
use crate::wire::event::EventTail;

/// Where a plugin's events go in. Cheap to clone, and to be used from any number of threads.
///
/// `Ok` from any of its `emit`s is a promise: the event is handed to the operating system before
/// the session's goodbye, or it is counted as [`undelivered`](Stats::undelivered). Events of one
/// thread keep their order.
///
/// A sink may outlive its session: every emit then fails with
/// [`Error::Shutdown`](crate::Error::Shutdown), or with the lost pipe's error.
///
/// # Threads
///
/// The SDK joins no thread of the plugin's. One that waits in an `emit` is released by the
/// shutdown, so that it need not be stopped before the body returns.
///
/// On a thread that is unwinding from a panic, in its panic hook as in a `Drop`, no `emit` waits.
/// The destructor of a thread-local is like any other caller: where it must not wait, use
/// [`try_emit`](EventBuilder::try_emit). After the session it fails, like anybody's.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{Error, Metadata, Runner, testing::TestAgent};
///
/// let agent = TestAgent::start()?;
/// let mut kept = None;
/// Runner::new().pipe_path(agent.path()).run_with(Metadata::new("acme", "1", "Acme"), |sink, _| {
///     sink.emit("acme.start", serde_json::json!({ "pid": 4 }))?;
///     kept = Some(sink.clone());
///     Ok(())
/// })?;
/// let late = kept.unwrap().emit("acme.late", serde_json::json!({}));
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

    /// Queues an event that happened now. `kind` is any text, `vendor.what` by custom. If the clock says a time before 1970 or after 2554, it
    /// is sent as the nearest that the wire can hold.
    ///
    /// A full queue makes it wait or fail, as the session's [`Overflow`](crate::Overflow) says.
    /// On a thread that is unwinding from a panic it never waits.
    ///
    /// # Errors
    ///
    /// - [`Error::Shutdown`](crate::Error::Shutdown) once the session is shutting down.
    /// - [`Error::Io`](crate::Error::Io) once the pipe is known to be lost.
    /// - [`Error::QueueFull`](crate::Error::QueueFull) if the queue is full and `emit` may not
    ///   wait.
    /// - [`Error::PayloadTooLarge`](crate::Error::PayloadTooLarge),
    ///   [`Error::PayloadTooDeep`](crate::Error::PayloadTooDeep) and
    ///   [`Error::Json`](crate::Error::Json) for what the agent would not accept. A NaN or an
    ///   infinity is sent as `null`, as `serde_json` has it.
    ///
    /// # Examples
    ///
    /// ```
    /// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
    /// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
    /// # runner.run_with(wedr_plugin_sdk::Metadata::new("acme", "1", "Acme"), |sink, ctx| {
    /// sink.emit("acme.login", serde_json::json!({ "user": "alice" }))?;
    ///
    /// let core_dump = "x".repeat(ctx.max_payload_bytes());
    /// let refused = sink.emit("acme.crash", serde_json::json!({ "core": core_dump }));
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
    /// sink.emit_with_ts("acme.login", 1_700_000_000_000_000_000, serde_json::json!({}))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit_with_ts(&self, kind: &str, ts_unix_ns: u64, payload: Value) -> Result<()> {
        self.event(kind).ts_unix_ns(ts_unix_ns).emit(&payload)
    }

    /// Builds an event: for typed payloads, which need no [`Value`], and for choosing how long
    /// to wait.
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
    /// /// In a callback that must not wait. Says whether the event was dropped.
    /// fn on_open(sink: &EventSink, path: &str) -> bool {
    ///     matches!(sink.event("acme.open").try_emit(&Opened { path }), Err(Error::QueueFull))
    /// }
    /// ```
    pub fn event<'a>(&'a self, kind: &'a str) -> EventBuilder<'a> {
        EventBuilder { queue: &self.queue, kind, ts_unix_ns: None }
    }

    /// Waits until every event accepted before the call has been handed to the operating system.
    ///
    /// It takes no place in the queue. During the shutdown it waits for the drain.
    ///
    /// # Errors
    ///
    /// - [`Error::FlushTimeout`](crate::Error::FlushTimeout) after `timeout`; the events are
    ///   still on their way.
    /// - [`Error::Io`](crate::Error::Io) if the pipe was lost.
    /// - [`Error::Undelivered`](crate::Error::Undelivered) if the drain ran out of time.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn body(sink: &wedr_plugin_sdk::EventSink) -> wedr_plugin_sdk::Result<()> {
    /// sink.emit("acme.checkpoint", serde_json::json!({ "offset": 4096 }))?;
    /// sink.flush(std::time::Duration::from_secs(5))?;
    /// // Now the offset may be written down.
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&self, timeout: Duration) -> Result<()> {
        self.queue.flush(timeout)
    }

    /// The session's accounts so far.
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
///     // Waits or fails when the queue is full, as the Runner's overflow policy says.
///     sink.event("acme.login").ts_unix_ns(at_ns).emit(&login)?;
///     // Never waits.
///     sink.event("acme.login").try_emit(&login)?;
///     // Waits for a second at most.
///     sink.event("acme.login").emit_timeout(&login, Duration::from_secs(1))
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
    /// Says when it happened, in nanoseconds since 1970-01-01 UTC. Without this: now.
    pub fn ts_unix_ns(mut self, ns: u64) -> Self {
        self.ts_unix_ns = Some(ns);
        self
    }

    /// Queues the event; a full queue makes it wait or fail, as the session's
    /// [`Overflow`](crate::Overflow) says.
    ///
    /// # Errors
    ///
    /// As [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// If the payload's `Serialize` does; nothing is queued then.
    pub fn emit<T: Serialize + ?Sized>(self, payload: &T) -> Result<()> {
        self.push(payload, Waiting::Policy)
    }

    /// Queues the event if there is room, and never waits, whatever the overflow policy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if there is none: it is the caller's to try
    /// again or to count, so that it is not counted as [`refused`](Stats::refused) and leaves no
    /// gap in `seq`. Otherwise as [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// As [`emit`](Self::emit).
    pub fn try_emit<T: Serialize + ?Sized>(self, payload: &T) -> Result<()> {
        self.push(payload, Waiting::Never)
    }

    /// Queues the event, waiting at most `t` for room, whatever the overflow policy.
    ///
    /// # Errors
    ///
    /// [`Error::QueueFull`](crate::Error::QueueFull) if there was none in time: not counted,
    /// as with [`try_emit`](Self::try_emit). Otherwise as [`EventSink::emit`].
    ///
    /// # Panics
    ///
    /// As [`emit`](Self::emit).
    pub fn emit_timeout<T: Serialize + ?Sized>(self, payload: &T, t: Duration) -> Result<()> {
        self.push(payload, Waiting::Until(Deadline::after(t)))
    }

    fn push<T: Serialize + ?Sized>(self, payload: &T, waiting: Waiting) -> Result<()> {
        // Before the work of serialising.
        self.queue.check_open()?;
        let ts_unix_ns = self.ts_unix_ns.unwrap_or_else(|| unix_ns(SystemTime::now()));
        let mut event = EventTail::blank();
        event.write(self.kind, ts_unix_ns, payload, self.queue.max_body())?;
        self.queue.push(event, waiting)
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

/// A time outside the years 1970 to 2554 gives the nearest that the wire can hold.
fn unix_ns(at: SystemTime) -> u64 {
    match at.duration_since(UNIX_EPOCH) {
        Ok(since) => (since.as_secs().checked_mul(1_000_000_000))
            .and_then(|ns| ns.checked_add(u64::from(since.subsec_nanos())))
            .unwrap_or(u64::MAX),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_before_1970_or_beyond_2554_gives_the_nearest_time_that_the_wire_holds() {
        let century = Duration::from_secs(36_525 * 24 * 3600);
        assert_eq!(unix_ns(UNIX_EPOCH - century), 0);
        assert_eq!(unix_ns(UNIX_EPOCH), 0);
        assert_eq!(unix_ns(UNIX_EPOCH + Duration::from_nanos(700)), 700);
        let last = UNIX_EPOCH + Duration::from_nanos(u64::MAX);
        // What Windows has as a clock's tick.
        let tick = Duration::from_nanos(100);
        assert!(unix_ns(last - tick) < u64::MAX);
        assert_eq!(unix_ns(last + tick), u64::MAX);
        assert_eq!(unix_ns(last + century), u64::MAX);
    }
}
