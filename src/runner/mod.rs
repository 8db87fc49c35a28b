//! The builder of a session, and the order in which a session starts.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::handshake::{SessionParams, hello, shake_hands, slices_until};
use crate::loss_log::LossReport;
use crate::metadata::Metadata;
use crate::queue::{Limits, Overflow, queue};
use crate::session::{OnClose, Session, SessionContext, SessionReport};
use crate::shutdown::{Shutdown, ShutdownHandle};
use crate::signals;
use crate::sink::EventSink;
use crate::sync::Arc;
use crate::transport::{AgentTrust, DEFAULT_PATH, Pipe, check_path};
use crate::wire::MAX_CONTENT;
use crate::writer::{Timing, Writer};

mod plugin;

pub use plugin::{Plugin, run, run_with};

/// The most events a queue may hold: 1.25 GiB of slots.
const MAX_CAPACITY: usize = 1 << 22;

/// Configures a session and runs it. Nothing is checked or opened before `run`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::{Metadata, Overflow, Runner, testing::TestAgent};
///
/// let agent = TestAgent::start()?;
/// Runner::new()
///     .pipe_path(agent.path())
///     .overflow(Overflow::Refuse)
///     .drain_timeout(Duration::from_secs(1))
///     .on_close(|report| assert_eq!(report.stats.sent, 1))
///     .run_with(Metadata::new("acme", "1.0", "Acme"), |sink, _ctx| {
///         sink.emit("acme_tick", serde_json::json!({ "alive": true }))
///     })?;
///
/// let invalid = Runner::new().channel_capacity(0);
/// let result = invalid.run_with(Metadata::new("acme", "1.0", "Acme"), |_, _| Ok(()));
/// assert!(matches!(result, Err(wedr_plugin_sdk::Error::InvalidConfig(_))));
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[must_use = "a Runner does nothing until `run` or `run_with`"]
pub struct Runner {
    pipe_path: PathBuf,
    install_signal_handler: bool,
    heartbeat: Heartbeat,
    channel_capacity: usize,
    max_queued_bytes: usize,
    overflow: Overflow,
    linger: Duration,
    connect_timeout: Duration,
    handshake_timeout: Duration,
    drain_timeout: Duration,
    trusted_agent: AgentTrust,
    loss_reports: Option<String>,
    on_close: Option<OnClose>,
    shutdown: Arc<Shutdown>,
}

#[derive(Debug, Clone, Copy)]
enum Heartbeat {
    AsTheAgentSuggests,
    Every(Option<Duration>),
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Runner {
    /// A runner with the defaults:
    ///
    /// | option | default |
    /// | --- | --- |
    /// | [`pipe_path`](Self::pipe_path) | `\\.\pipe\WazabiEDR_plugin` on Windows, `/run/wazabiedr/plugin.sock` on Unix |
    /// | [`install_signal_handler`](Self::install_signal_handler) | `true` |
    /// | [`heartbeat`](Self::heartbeat) | the agent's suggestion, or 30 s |
    /// | [`channel_capacity`](Self::channel_capacity) | 8192 events |
    /// | [`max_queued_bytes`](Self::max_queued_bytes) | 64 MiB |
    /// | [`overflow`](Self::overflow) | [`Overflow::Block`] |
    /// | [`linger`](Self::linger) | 1 ms |
    /// | [`connect_timeout`](Self::connect_timeout) | 5 s |
    /// | [`handshake_timeout`](Self::handshake_timeout) | 10 s |
    /// | [`drain_timeout`](Self::drain_timeout) | 3 s |
    /// | [`trusted_agent`](Self::trusted_agent) | [`AgentTrust::OwnerOrRoot`] |
    /// | [`loss_reports`](Self::loss_reports) | none |
    /// | [`on_close`](Self::on_close) | nothing |
    ///
    /// A duration that is too long for the clock means no limit.
    pub fn new() -> Self {
        Self {
            pipe_path: DEFAULT_PATH.into(),
            install_signal_handler: true,
            heartbeat: Heartbeat::AsTheAgentSuggests,
            channel_capacity: 8192,
            max_queued_bytes: 64 << 20,
            overflow: Overflow::Block,
            linger: Duration::from_millis(1),
            connect_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(3),
            trusted_agent: AgentTrust::OwnerOrRoot,
            loss_reports: None,
            on_close: None,
            shutdown: Arc::new(Shutdown::new()),
        }
    }

    /// The path of the agent's pipe. The SDK reads no environment variable for it: the program decides where
    /// its telemetry goes.
    pub fn pipe_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.pipe_path = path.into();
        self
    }

    /// Whether Ctrl+C, SIGTERM and SIGHUP (on Windows every console event) shut the session down.
    ///
    /// The SDK installs the handlers once per process and replaces existing ones, also for a signal that was
    /// ignored on entry: under `nohup` a SIGHUP still ends the session. The handlers stay after the session.
    /// After the first signal, each later session in the process ends at once with `Ok`, without running its
    /// body. A further signal, at least 1 s after the first, ends the drain at once. It ends the process with
    /// status 130 if the body or `on_close` then runs for 250 ms more, or if the process has no session.
    ///
    /// A host with handlers of its own passes `false` and calls [`ShutdownHandle::shutdown`] from them. If
    /// another runner in the process has installed the SDK's handlers, they shut this session down too.
    ///
    /// A raw signal handler must not call the SDK, not even [`try_emit`]: set a flag there, and let a thread
    /// call the SDK. `docs/deploying.md`, *Signals*, has the less usual cases: signals blocked on entry,
    /// forks, two copies of the SDK, `panic = "abort"`.
    ///
    /// [`try_emit`]: crate::EventBuilder::try_emit
    ///
    /// # Examples
    ///
    /// ```
    /// let runner = wedr_plugin_sdk::Runner::new().install_signal_handler(false);
    /// let handle = runner.shutdown_handle();
    /// let on_stop = move || handle.shutdown(); // the host's own handler calls it
    /// # on_stop();
    /// ```
    pub fn install_signal_handler(mut self, yes: bool) -> Self {
        self.install_signal_handler = yes;
        self
    }

    /// The interval of the heartbeats; `None` sends none. An agent may end a session on which it received no
    /// frame for about three times the interval that it suggests.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use wedr_plugin_sdk::Runner;
    /// let every_ten_seconds = Runner::new().heartbeat(Duration::from_secs(10));
    /// let never = Runner::new().heartbeat(None);
    /// ```
    pub fn heartbeat(mut self, every: impl Into<Option<Duration>>) -> Self {
        self.heartbeat = Heartbeat::Every(every.into());
        self
    }

    /// How many events the queue holds, 1 to 4 194 304. Each slot takes 320 bytes from the start. An event
    /// larger than about 200 bytes also has a buffer, which counts against
    /// [`max_queued_bytes`](Self::max_queued_bytes).
    pub fn channel_capacity(mut self, frames: usize) -> Self {
        self.channel_capacity = frames;
        self
    }

    /// Memory limit for queued events larger than about 200 bytes. While no bytes count against the limit, the
    /// queue accepts one event of any size, so the limit may be smaller than an event.
    pub fn max_queued_bytes(mut self, bytes: usize) -> Self {
        self.max_queued_bytes = bytes;
        self
    }

    /// What `emit` does when the queue is full.
    pub fn overflow(mut self, policy: Overflow) -> Self {
        self.overflow = policy;
        self
    }

    /// How long the writer lets events gather after a write, at most. A longer time delays events by up to
    /// that much and saves processor time while events stream. Zero writes each event at once.
    pub fn linger(mut self, at_most: Duration) -> Self {
        self.linger = at_most;
        self
    }

    /// How long to try again while the agent is too busy to accept a connection. If no agent listens, the run
    /// fails at once.
    pub fn connect_timeout(mut self, t: Duration) -> Self {
        self.connect_timeout = t;
        self
    }

    /// How long the agent may take to read hello and answer it.
    pub fn handshake_timeout(mut self, t: Duration) -> Self {
        self.handshake_timeout = t;
        self
    }

    /// How long after the shutdown the SDK may still send queued events. With zero it sends only the events
    /// that the pipe takes at once.
    pub fn drain_timeout(mut self, t: Duration) -> Self {
        self.drain_timeout = t;
        self
    }

    /// Which process may be at the other end of the pipe.
    pub fn trusted_agent(mut self, trust: AgentTrust) -> Self {
        self.trusted_agent = trust;
        self
    }

    /// Sends an event of this kind when events were lost, so that a rule of the agent can match the
    /// loss.
    ///
    /// Its payload is the flat object `{"refused":…,"lost":…,"refused_total":…,"lost_total":…}`.
    /// `refused` counts the events that a full queue refused under
    /// [`Overflow::Refuse`], `lost` those that the plugin reported with [`EventSink::report_lost`],
    /// both since the last report. The totals count since the session began. The writer sends a
    /// report as soon as a count has changed, at most once a second, and before goodbye. A full queue
    /// does not stop the report, and the report does not count as [`sent`](crate::Stats::sent). If no
    /// event is refused or lost, no report is sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use wedr_plugin_sdk::{Metadata, Overflow, Runner, testing::TestAgent};
    /// # let agent = TestAgent::start()?;
    /// # let runner = Runner::new().pipe_path(agent.path());
    /// # let meta = Metadata::new("acme", "1", "Acme");
    /// runner.overflow(Overflow::Refuse).loss_reports("acme_lost").run_with(meta, |sink, _ctx| {
    ///     // The event source says that it dropped 3 events.
    ///     sink.report_lost(3);
    ///     Ok(())
    /// })?;
    /// # let session = agent.ended_session(std::time::Duration::from_secs(30)).unwrap();
    /// # assert_eq!(session.events().next().unwrap().payload["lost"], 3);
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn loss_reports(mut self, kind: impl Into<String>) -> Self {
        self.loss_reports = Some(kind.into());
        self
    }

    /// Sets a function that is called when the session is over and the pipe is closed, on the thread that runs
    /// the session. It is not called if there was no session. A second `on_close` replaces the first.
    ///
    /// # Examples
    ///
    /// ```
    /// # let agent = wedr_plugin_sdk::testing::TestAgent::start()?;
    /// # let runner = wedr_plugin_sdk::Runner::new().pipe_path(agent.path());
    /// # let meta = wedr_plugin_sdk::Metadata::new("acme", "1", "Acme");
    /// runner
    ///     .on_close(|report| eprintln!("{:?}: {} events sent", report.cause, report.stats.sent))
    ///     .run_with(meta, |sink, _ctx| sink.emit("acme_boot", serde_json::json!({})))?;
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    pub fn on_close(mut self, f: impl FnOnce(&SessionReport) + Send + 'static) -> Self {
        self.on_close = Some(Box::new(f));
        self
    }

    /// A handle that ends the session. If it is used before the session begins, there is no session.
    pub fn shutdown_handle(&self) -> ShutdownHandle {
        ShutdownHandle::new(Arc::clone(&self.shutdown))
    }

    /// Runs `plugin` for one session.
    ///
    /// # Errors
    ///
    /// As [`run_with`](Self::run_with).
    ///
    /// # Panics
    ///
    /// As [`run_with`](Self::run_with).
    pub fn run<P: Plugin>(self, mut plugin: P) -> Result<()> {
        self.run_with(plugin.metadata(), |sink, ctx| plugin.run(sink, ctx))
    }

    /// Runs `body` for one session: connects, sends hello, runs the body, sends the queued events and goodbye.
    ///
    /// It returns within 250 ms of the body's return or of [`drain_timeout`](Self::drain_timeout)
    /// after the shutdown, whichever is later.
    ///
    /// If the shutdown is requested before the session has begun, it returns `Ok` without running the body. It
    /// still returns these errors: an invalid configuration, handlers that could not be installed, a refusal
    /// that it has read, and a writer's thread that could not be started.
    ///
    /// # Processes
    ///
    /// The process must outlast the session. [`std::process::exit`], an abort, or a return from
    /// `main` while the session runs on another thread, ends it without a goodbye: queued events are
    /// lost and not counted. The agent sees the same as after a kill.
    ///
    /// Forking during a session is not supported: the child has the queue but no writer. There
    /// `emit` returns `Ok` until the queue is full, and then blocks forever; no event is sent, and
    /// the run does not end. Fork before the session. A child that becomes another program at once, as
    /// [`std::process::Command`] does it, is not affected, and does not inherit the pipe.
    ///
    /// # Errors
    ///
    /// Before the session: [`Error::InvalidConfig`], [`Error::SignalHandler`],
    /// [`Error::Connect`], [`Error::UntrustedAgent`], [`Error::HandshakeTimeout`],
    /// [`Error::HandshakeClosed`], [`Error::Protocol`], [`Error::Rejected`], and [`Error::Io`] if
    /// the writer's thread could not be started. After it: the body's own error, if there is one
    /// other than [`Error::Shutdown`]; else [`Error::Io`] if the pipe was lost, whatever the body
    /// returned; else [`Error::Undelivered`].
    ///
    /// # Panics
    ///
    /// If the body or the `on_close` callback panics. The session ends in order before `run_with` panics.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, Metadata, Runner};
    /// let metadata = Metadata::new("acme", "1", "Acme");
    /// # #[cfg(unix)]
    /// # let path = "/nowhere/plugin.sock";
    /// # #[cfg(windows)]
    /// # let path = r"\\.\pipe\nowhere";
    /// match Runner::new().pipe_path(path).run_with(metadata, |_sink, _ctx| Ok(())) {
    ///     Err(error @ Error::Connect { .. }) => assert!(!error.is_permanent()),
    ///     other => panic!("there is no agent there: {other:?}"),
    /// }
    /// ```
    pub fn run_with<F>(self, metadata: Metadata, body: F) -> Result<()>
    where
        F: FnOnce(&EventSink, &SessionContext) -> Result<()>,
    {
        let hello = self.check(&metadata)?;
        let membership = signals::join(&self.shutdown);
        if self.install_signal_handler {
            signals::install()?;
        }
        match self.open(&hello) {
            Ok(Some((pipe, params))) => {
                self.start(pipe, params)?.run(body, self.on_close, &membership)
            }
            Ok(None) => Ok(()),
            Err(rejected @ Error::Rejected { .. }) => Err(rejected),
            // Errors after a shutdown request are not reported.
            Err(_) if self.shutdown.is_requested() => Ok(()),
            Err(e) => Err(e),
        }
    }

    /// Checks the configuration before anything is opened. Returns the frame of hello.
    fn check(&self, metadata: &Metadata) -> Result<Vec<u8>> {
        let invalid = |what: String| Err(Error::InvalidConfig(what));
        if self.channel_capacity == 0 || self.channel_capacity > MAX_CAPACITY {
            return invalid(format!(
                "channel_capacity is {}, and must be between 1 and {MAX_CAPACITY} events",
                self.channel_capacity
            ));
        }
        if matches!(self.heartbeat, Heartbeat::Every(Some(Duration::ZERO))) {
            return invalid(
                "the heartbeat's interval is zero; to send no heartbeats, pass None".into(),
            );
        }
        check_path(&self.pipe_path).map_err(Error::InvalidConfig)?;
        self.loss_report(MAX_CONTENT).map_err(|e| {
            Error::InvalidConfig(format!("loss_reports: an event of this kind is not valid: {e}"))
        })?;
        hello(metadata)
    }

    fn loss_report(&self, max_content: usize) -> Result<Option<LossReport>> {
        self.loss_reports.as_ref().map(|kind| LossReport::new(kind, max_content)).transpose()
    }

    /// Connects and does the handshake. `None` if the shutdown came first.
    fn open(&self, hello: &[u8]) -> Result<Option<(Pipe, SessionParams)>> {
        let Some(mut pipe) = self.connect(&self.pipe_path)? else {
            return Ok(None);
        };
        pipe.check_agent(&self.trusted_agent)?;
        let shaken = shake_hands(&mut pipe, hello, self.handshake_timeout, &self.shutdown)?;
        Ok(shaken.map(|params| (pipe, params)))
    }

    /// Starts the writer. A failure also sets the shutdown flag, so `run_with` returns the error of this
    /// function and does not check the flag.
    fn start(&self, pipe: Pipe, params: SessionParams) -> Result<Session> {
        let limits = Limits {
            capacity: self.channel_capacity,
            heap_bytes: self.max_queued_bytes,
            max_content: params.max_content,
            overflow: self.overflow,
            reports_losses: self.loss_reports.is_some(),
        };
        let loss_report = self.loss_report(params.max_content)?;
        let timing = Timing {
            heartbeat: match self.heartbeat {
                Heartbeat::AsTheAgentSuggests => Some(params.heartbeat),
                Heartbeat::Every(every) => every,
            },
            linger: self.linger,
            drain_timeout: self.drain_timeout,
        };
        let (queue, consumer) = queue(limits, Arc::clone(&self.shutdown));
        let shutdown = Arc::clone(&self.shutdown);
        let writer = Writer::new(pipe, consumer, shutdown, timing, loss_report);
        let ctx = SessionContext::new(Arc::clone(&self.shutdown), params);
        Session::start(queue, ctx, writer)
    }

    fn connect(&self, path: &Path) -> Result<Option<Pipe>> {
        if self.shutdown.is_requested() {
            return Ok(None);
        }
        let next_deadline =
            &mut slices_until(&self.shutdown, Deadline::after(self.connect_timeout));
        match Pipe::connect(path, next_deadline) {
            Ok(pipe) => Ok(Some(pipe)),
            Err(_) if self.shutdown.is_requested() => Ok(None),
            Err(source) => Err(Error::Connect { path: path.to_owned(), source }),
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The pattern names each field, so that a new field must be handled here to compile.
        let Self {
            pipe_path,
            install_signal_handler,
            heartbeat,
            channel_capacity,
            max_queued_bytes,
            overflow,
            linger,
            connect_timeout,
            handshake_timeout,
            drain_timeout,
            trusted_agent,
            loss_reports,
            on_close: _,
            shutdown,
        } = self;
        f.debug_struct("Runner")
            .field("pipe_path", pipe_path)
            .field("install_signal_handler", install_signal_handler)
            .field("heartbeat", heartbeat)
            .field("channel_capacity", channel_capacity)
            .field("max_queued_bytes", max_queued_bytes)
            .field("overflow", overflow)
            .field("linger", linger)
            .field("connect_timeout", connect_timeout)
            .field("handshake_timeout", handshake_timeout)
            .field("drain_timeout", drain_timeout)
            .field("trusted_agent", trusted_agent)
            .field("loss_reports", loss_reports)
            .field("shutting_down", &shutdown.is_requested())
            .finish_non_exhaustive()
    }
}
