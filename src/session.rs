//! A running session, as its body sees it, and its end on every way out.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::handshake::Terms;
use crate::queue::Queue;
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::sink::EventSink;
use crate::stats::Stats;
use crate::sync::Arc;
use crate::writer::{Finish, Writer};

/// What a plugin's body may ask of its session. Cheap to clone, for any thread.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::{EventSink, Result, SessionContext};
///
/// fn body(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
///     while !ctx.is_shutting_down() {
///         sink.emit("acme.tick", serde_json::json!({ "session": ctx.session_id() }))?;
///         ctx.sleep(Duration::from_secs(10));
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct SessionContext {
    shutdown: Arc<Shutdown>,
    terms: Arc<Terms>,
}

impl SessionContext {
    pub(crate) fn new(shutdown: Arc<Shutdown>, terms: Terms) -> Self {
        Self { shutdown, terms: Arc::new(terms) }
    }

    /// Says whether the session is shutting down: a signal came, a [`ShutdownHandle`] was used,
    /// the pipe was lost, or the body has returned.
    #[inline]
    pub fn is_shutting_down(&self) -> bool {
        self.shutdown.is_requested()
    }

    /// Parks until the session is shutting down: for a body whose events come from callbacks.
    ///
    /// # Examples
    ///
    /// ```
    /// # use wedr_plugin_sdk::{EventSink, Result, SessionContext};
    /// # fn register(_: impl Fn(&str) + Send) {}
    /// fn body(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    ///     let sink = sink.clone();
    ///     register(move |path| {
    ///         // After the shutdown it fails, and that is all.
    ///         let _ = sink.event("acme.open").try_emit(path);
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
    ///     // A worker that cannot go on ends the session for all.
    ///     std::thread::spawn(move || handle.shutdown());
    ///     ctx.wait_for_shutdown();
    ///     Ok(())
    /// })?;
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(Arc::clone(&self.shutdown))
    }

    /// The session's id, in the agent's words: escape it before you print it to a terminal.
    pub fn session_id(&self) -> &str {
        &self.terms.session_id
    }

    /// The agent's version, in its words: escape it before you print it to a terminal. `unknown`
    /// if it did not say.
    pub fn server_version(&self) -> &str {
        &self.terms.server_version
    }

    /// The largest event in bytes: its frame without the length prefix, counted with 20 digits of
    /// `seq`; at most 1 MiB.
    pub fn max_payload_bytes(&self) -> usize {
        self.terms.max_body
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
    /// The session's id, in the agent's words: escape it before you print it to a terminal.
    pub session_id: String,
    /// What ended it.
    pub cause: CloseCause,
    /// Its accounts; nothing is queued any more.
    pub stats: Stats,
    /// From the shutdown until everything was sent, goodbye included, or given up.
    pub drained_in: Duration,
    /// The agent closed the pipe after goodbye: it consumed everything. (On Windows: it closed
    /// the pipe, which is as much as can be seen.)
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
    /// The body returned of its own accord.
    BodyReturned,
    /// A signal or a [`ShutdownHandle`] asked for it.
    ShutdownRequested,
    /// The agent went away, or dropped the session.
    PipeLost,
    /// The body panicked (or the SDK's writer did, which would be a defect of the SDK).
    Panicked,
}

pub(crate) type OnClose = Box<dyn FnOnce(&SessionReport) + Send>;

/// A session whose writer runs. [`Session::run`] ends it.
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

    /// Runs the body, and ends the session whichever way the body ends.
    pub(crate) fn run<F>(self, body: F, on_close: Option<OnClose>) -> Result<()>
    where
        F: FnOnce(&EventSink, &SessionContext) -> Result<()>,
    {
        let Self { sink, queue, ctx, writer } = self;
        let shutdown = &ctx.shutdown;
        let already_over = shutdown.is_requested();
        shutdown.set_body_running(!already_over);
        let outcome = if already_over {
            Ok(Ok(()))
        } else {
            catch_unwind(AssertUnwindSafe(|| body(&sink, &ctx)))
        };
        shutdown.set_body_running(false);
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
                confirmed: finish.is_some_and(|f| f.confirmed),
            };
            // The plugin's code as well: a further signal ends the process if it hangs.
            shutdown.set_body_running(true);
            let closed = catch_unwind(AssertUnwindSafe(|| on_close(&report)));
            shutdown.set_body_running(false);
            closed
        });
        // The body's panic says most; then the writer's, which is a defect of this crate.
        let result = unless_panicked(outcome);
        unless_panicked(finished);
        unless_panicked(closed.unwrap_or(Ok(())));
        verdict(result, &queue)
    }
}

fn verdict(body: Result<()>, queue: &Queue) -> Result<()> {
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

/// Lets a panic that was caught go on.
fn unless_panicked<T>(result: Result<T, Box<dyn Any + Send>>) -> T {
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

// `seq` overflows only where that is checked.
#[cfg(all(test, debug_assertions, feature = "test-util", not(wedr_loom)))]
mod tests;
