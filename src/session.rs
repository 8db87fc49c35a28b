//! A running session as its body sees it, and its end on every exit path.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::handshake::SessionParams;
use crate::queue::Queue;
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::signals::Membership;
use crate::sink::EventSink;
use crate::stats::Stats;
use crate::sync::Arc;
use crate::writer::{Finish, Writer};

/// The session, for the plugin's body. It is cheap to clone, and any thread may use it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::{EventSink, Result, SessionContext};
///
/// fn body(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
///     while !ctx.is_shutting_down() {
///         sink.emit("acme_tick", serde_json::json!({ "session": ctx.session_id() }))?;
///         ctx.sleep(Duration::from_secs(10));
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct SessionContext {
    shutdown: Arc<Shutdown>,
    params: Arc<SessionParams>,
}

impl SessionContext {
    pub(crate) fn new(shutdown: Arc<Shutdown>, params: SessionParams) -> Self {
        Self { shutdown, params: Arc::new(params) }
    }

    /// Whether the session is shutting down: a signal came, a [`ShutdownHandle`] was used, the pipe was
    /// lost, or the body has returned.
    #[inline]
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Parks the calling thread until the session is shutting down. For a body whose events come from
    /// callbacks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use wedr_plugin_sdk::{EventSink, Result, SessionContext};
    /// # fn register(_: impl Fn(&str) + Send) {}
    /// fn body(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    ///     let sink = sink.clone();
    ///     register(move |path| {
    ///         // After the shutdown `try_emit` fails; ignore that.
    ///         let _ = sink.event("acme_open").try_emit(path);
    ///     });
    ///     ctx.wait_for_shutdown();
    ///     Ok(())
    /// }
    /// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
    /// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
    /// # let handle = runner.shutdown_handle();
    /// # runner.run_with(wedr_plugin_sdk::Metadata::new("a", "1", "A"), |sink, ctx| {
    /// #     handle.shutdown();
    /// #     body(sink, ctx)
    /// # })?;
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn wait_for_shutdown(&self) {
        self.shutdown.wait_until(Deadline::NEVER);
    }

    /// Sleeps for `dur`, or until the session is shutting down, whichever comes first.
    pub fn sleep(&self, dur: Duration) {
        self.shutdown.wait_until(Deadline::after(dur));
    }

    /// A handle that ends this session.
    ///
    /// # Examples
    ///
    /// ```
    /// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
    /// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
    /// runner.run_with(wedr_plugin_sdk::Metadata::new("acme", "1", "Acme"), |_sink, ctx| {
    ///     let handle = ctx.shutdown_handle();
    ///     // A worker thread can end the session.
    ///     std::thread::spawn(move || handle.shutdown());
    ///     ctx.wait_for_shutdown();
    ///     Ok(())
    /// })?;
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(Arc::clone(&self.shutdown))
    }

    /// The session's id. The text is the agent's: escape it before you print it to a terminal.
    pub fn session_id(&self) -> &str {
        &self.params.session_id
    }

    /// The agent's version, or `unknown`. The text is the agent's: escape it before you print it to a
    /// terminal.
    pub fn server_version(&self) -> &str {
        &self.params.server_version
    }

    /// The size limit of an event in bytes, at most 1 MiB. It applies to the whole content of the frame,
    /// with `seq` counted as 20 digits.
    pub fn max_payload_bytes(&self) -> usize {
        self.params.max_content
    }
}

impl fmt::Debug for SessionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionContext")
            .field("session_id", &self.session_id())
            .field("server_version", &self.server_version())
            .field("max_payload_bytes", &self.max_payload_bytes())
            .field("shutting_down", &self.is_shutting_down())
            .finish()
    }
}

/// How a session ended, for [`Runner::on_close`](crate::Runner::on_close).
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::SessionReport;
///
/// /// One line for the plugin's log.
/// fn line(report: &SessionReport) -> String {
///     let (stats, confirmed) = (&report.stats, report.confirmed);
///     format!(
///         "{:?} after {} events; {} refused, {} undelivered; confirmed: {confirmed}",
///         report.cause, stats.sent, stats.refused, stats.undelivered
///     )
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionReport {
    /// The session's id. The text is the agent's: escape it before you print it to a terminal.
    pub session_id: String,
    /// What ended the session.
    pub cause: CloseCause,
    /// The final counters. No event is queued any more.
    pub stats: Stats,
    /// The time from the shutdown until the goodbye was sent or the SDK gave up.
    pub drained_in: Duration,
    /// Whether the whole goodbye was handed to the operating system. If it is false,
    /// [`undelivered`](Stats::undelivered) is 0 and the pipe was not lost, then every event was sent, and
    /// the drain timeout expired before the goodbye.
    pub goodbye_sent: bool,
    /// Whether the agent closed the pipe after the goodbye and had read everything by then. It does not
    /// mean that the agent stored everything.
    ///
    /// It is false if that is not certain: the agent did not close in time; it closed, or shut both
    /// directions, with bytes unread; or the operating system does not report what is unread (Unix systems
    /// other than Linux, and Linux before 4.12). On Windows it means only that the agent closed the pipe
    /// after the goodbye.
    pub confirmed: bool,
}

/// What ended a session.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::CloseCause;
/// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
/// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
/// # let meta = wedr_plugin_sdk::Metadata::new("acme", "1", "Acme");
/// runner
///     .on_close(|report| assert_eq!(report.cause, CloseCause::BodyReturned))
///     .run_with(meta, |_sink, _ctx| Ok(()))?;
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseCause {
    /// The body returned by itself.
    BodyReturned,
    /// A signal came, or a [`ShutdownHandle`] was used.
    ShutdownRequested,
    /// The agent stopped, or ended the session.
    PipeLost,
    /// The body panicked (or the SDK's writer did, which would be a defect of the SDK).
    Panicked,
}

pub(crate) type OnClose = Box<dyn FnOnce(&SessionReport) + Send>;

/// A session with a running writer. [`Session::run`] ends it.
pub(crate) struct Session {
    sink: EventSink,
    queue: Arc<Queue>,
    ctx: SessionContext,
    writer: thread::JoinHandle<Finish>,
}

impl Session {
    pub(crate) fn start(queue: Arc<Queue>, ctx: SessionContext, writer: Writer) -> Result<Self> {
        let thread = thread::Builder::new().name("wedr-writer".into());
        let writer = thread.spawn(move || writer.run()).map_err(|e| {
            let what = format!(
                "cannot start the writer's thread: {e}; the process or its user has too many \
                 threads, or memory is short"
            );
            io::Error::new(e.kind(), what)
        })?;
        Ok(Self { sink: EventSink::new(Arc::clone(&queue)), queue, ctx, writer })
    }

    /// Runs the body, and ends the session however the body ends.
    pub(crate) fn run<F>(
        self,
        body: F,
        on_close: Option<OnClose>,
        membership: &Membership,
    ) -> Result<()>
    where
        F: FnOnce(&EventSink, &SessionContext) -> Result<()>,
    {
        let Self { sink, queue, ctx, writer } = self;
        let shutdown = &ctx.shutdown;
        let outcome = if shutdown.is_requested() {
            Ok(Ok(()))
        } else {
            membership.run_plugin_code(|| catch_unwind(AssertUnwindSafe(|| body(&sink, &ctx))))
        };
        let was_requested = shutdown.is_requested();
        shutdown.request();
        let finished = writer.join();
        let cause = if outcome.is_err() || finished.is_err() {
            CloseCause::Panicked
        } else if queue.lost().is_some() {
            CloseCause::PipeLost
        } else if was_requested {
            CloseCause::ShutdownRequested
        } else {
            CloseCause::BodyReturned
        };
        let closed = on_close.map(|on_close| {
            let finish = finished.as_ref().ok();
            let report = SessionReport {
                session_id: ctx.session_id().to_owned(),
                cause,
                stats: queue.stats(),
                drained_in: finish.map_or(Duration::ZERO, |f| f.drained_in),
                goodbye_sent: finish.is_some_and(|f| f.goodbye_sent),
                confirmed: finish.is_some_and(|f| f.confirmed),
            };
            membership.run_plugin_code(|| catch_unwind(AssertUnwindSafe(|| on_close(&report))))
        });
        // A panic of the body takes precedence over a panic of the writer, which is a defect of this crate.
        let result = unless_panicked(outcome);
        unless_panicked(finished);
        unless_panicked(closed.unwrap_or(Ok(())));
        session_result(result, &queue)
    }
}

fn session_result(body: Result<()>, queue: &Queue) -> Result<()> {
    match body {
        Ok(()) | Err(Error::Shutdown) => {}
        Err(own) => return Err(own),
    }
    if let Some(lost) = queue.lost() {
        return Err(lost);
    }
    match queue.stats().undelivered {
        0 => Ok(()),
        count => Err(Error::Undelivered { count }),
    }
}

/// Returns the result, or resumes the panic that was caught.
fn unless_panicked<T>(result: Result<T, Box<dyn Any + Send>>) -> T {
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

// The tests need the panic of an overflow.
#[cfg(all(test, debug_assertions, feature = "test-util", not(wedr_loom)))]
mod tests;
