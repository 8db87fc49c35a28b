//! One run of the plugin: the actions and the waits of a scenario.

use std::ffi::OsString;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::agent::{Agent, State};
use super::plugin::Plugin;
use crate::deadline::Deadline;
use crate::dev_agent::examiner::Examiner;
use crate::error::{Printable, shortened};
use crate::shutdown::Shutdown;
use crate::testing::Script;
use crate::wire::SCHEMA_VERSION;

/// How long the agent may take to read what the plugin sent before its end.
const READ_LIMIT: Duration = Duration::from_secs(2);
/// How often a wait checks whether the process has ended or the check was cancelled.
pub(super) const SLICE: Duration = Duration::from_millis(20);

/// What all trials share.
pub(super) struct Settings {
    pub(super) command: Vec<OsString>,
    /// How long the first event may take.
    pub(super) first_event: Duration,
    pub(super) examiner: Arc<Mutex<Examiner>>,
    /// Set by Ctrl+C.
    pub(super) cancelled: Arc<Shutdown>,
}

/// Why a scenario stopped early.
pub(super) enum Stop {
    /// The plugin failed: what the check saw, and what to do.
    Failed { seen: String, remedy: String },
    /// The check itself cannot continue.
    Cannot(String),
    /// The user pressed Ctrl+C.
    Cancelled,
}

pub(super) type Result<T, E = Stop> = std::result::Result<T, E>;

pub(super) fn failed<T>(seen: impl Into<String>, remedy: impl Into<String>) -> Result<T> {
    Err(Stop::Failed { seen: seen.into(), remedy: remedy.into() })
}

/// The result of a wait.
pub(super) enum Awaited {
    Yes,
    Ended(ExitStatus),
    TooLong,
}

/// A plugin that runs, and its agent.
pub(super) struct Trial<'a> {
    pub(super) settings: &'a Settings,
    id: String,
    // Dropped before the agent, so that the plugin is killed before its agent ends.
    pub(super) plugin: Plugin,
    pub(super) agent: Agent,
    /// When the plugin was started, or asked to end, or its session was ended.
    pub(super) since: Instant,
}

impl<'a> Trial<'a> {
    /// Starts the plugin against an agent that behaves as `script` says.
    pub(super) fn start(settings: &'a Settings, script: Script) -> Result<Self> {
        let agent = Agent::start(script, Arc::clone(&settings.examiner))
            .map_err(|e| Stop::Cannot(format!("cannot start an agent: {e}")))?;
        // A new id each time, so that a plugin that stores its id fails.
        let id = crate::dev_agent::new_id();
        let plugin = Plugin::start(&settings.command, &id, agent.path()).map_err(Stop::Cannot)?;
        Ok(Self { settings, id, plugin, agent, since: Instant::now() })
    }

    /// Starts the plugin again, against a new agent. Ends the first run.
    pub(super) fn start_again(&mut self, script: Script) -> Result<()> {
        *self = Self::start(self.settings, script)?;
        Ok(())
    }

    pub(super) fn kill(&mut self) {
        self.plugin.kill();
    }

    /// Waits for a session with a valid hello.
    pub(super) fn hello(&mut self) -> Result<()> {
        let limit = self.settings.first_event;
        match self.wait(limit, State::has_hello)? {
            Awaited::Yes => {}
            Awaited::Ended(status) => {
                return failed(
                    self.with_last_output(format!("the plugin ended before hello, {status}")),
                    "connect to the path in WEDR_PIPE_PATH and send hello first",
                );
            }
            Awaited::TooLong => {
                return failed(
                    self.with_last_output(format!("no hello within {limit:?}")),
                    "connect to the path in WEDR_PIPE_PATH and send hello first",
                );
            }
        }
        let hello = self.agent.with_state(|state| state.first().and_then(|s| s.hello.clone()));
        let hello = hello.expect("there was a hello");
        if hello.plugin_id != self.id {
            return failed(
                format!("hello has the plugin_id {}", Printable(&shortened(&hello.plugin_id))),
                "send the value of WEDR_PLUGIN_ID as plugin_id; the agent rejects any other",
            );
        }
        if hello.schema_version != SCHEMA_VERSION {
            return failed(
                format!("hello has the schema_version {}", hello.schema_version),
                format!("send {SCHEMA_VERSION}; the agent rejects any other: schema_mismatch"),
            );
        }
        Ok(())
    }

    /// Waits for hello and the first event.
    pub(super) fn first_event(&mut self) -> Result<()> {
        self.hello()?;
        let limit = self.settings.first_event;
        match self.wait(limit, State::has_event)? {
            Awaited::Yes => Ok(()),
            Awaited::Ended(status) => failed(
                self.with_last_output(format!("the plugin ended before its first event, {status}")),
                "keep the session open, and send an event",
            ),
            Awaited::TooLong => failed(
                self.with_last_output(format!("no event within {limit:?} after hello")),
                "send an event at the start, cause an event while the check runs, or raise \
                 --first-event",
            ),
        }
    }

    /// Waits for the first event. A plugin that sends none in time is not a failure.
    pub(super) fn first_event_if_any(&mut self) -> Result<()> {
        self.hello()?;
        self.wait(self.settings.first_event, |state| state.has_event() || state.has_ended())?;
        Ok(())
    }

    /// Watches the plugin for `span`: the plugin and its session must not end. `during` names the
    /// span, and `remedy` is for a plugin that fails.
    pub(super) fn stays(&mut self, span: Duration, during: &str, remedy: &str) -> Result<()> {
        match self.wait(span, State::has_ended)? {
            Awaited::TooLong => Ok(()),
            Awaited::Ended(_) | Awaited::Yes => self.ended_early(&format!(" {during}"), remedy),
        }
    }

    /// Watches the idle session for `span`: the time between two frames must not exceed `longest`.
    pub(super) fn sends_heartbeats(&mut self, span: Duration, longest: Duration) -> Result<String> {
        let silent =
            |state: &State| state.first().is_some_and(|s| s.silence() > longest || s.end.is_some());
        match self.wait(span, silent)? {
            Awaited::TooLong => Ok(self.agent.with_state(|state| {
                let session = state.first().expect("there was a hello");
                format!("at most {:.1?} without a frame", session.silence())
            })),
            Awaited::Yes if !self.agent.with_state(State::has_ended) => failed(
                format!("no frame for more than {longest:?}"),
                "send a heartbeat every heartbeat_sec seconds of hello_ack (here 1) from a separate \
                 thread or timer; the agent may close a session without frames",
            ),
            Awaited::Ended(_) | Awaited::Yes => {
                self.ended_early("", "keep the session open until a signal asks the plugin to end")
            }
        }
    }

    pub(super) fn agent_resumes(&self) {
        self.agent.resume();
    }

    pub(super) fn check_violations(&self) -> Result<()> {
        match self.agent.with_state(|state| state.violation().map(str::to_owned)) {
            None => Ok(()),
            Some(what) => failed(
                format!("the plugin violated the protocol: {}", Printable(&what)),
                "see docs/protocol.md; the real agent closes the session too",
            ),
        }
    }

    /// Waits until `wanted` holds, at most for `limit`.
    pub(super) fn wait(
        &mut self,
        limit: Duration,
        wanted: impl Fn(&State) -> bool,
    ) -> Result<Awaited> {
        let deadline = Deadline::after(limit);
        let mut ended = None;
        loop {
            let reached = self.agent.wait(SLICE, &wanted);
            self.check_violations()?;
            if reached {
                return Ok(Awaited::Yes);
            }
            match ended {
                None => {
                    let status = self.status()?;
                    ended = status.map(|status| (status, Deadline::after(READ_LIMIT)));
                }
                // The agent may not have read everything that the plugin sent.
                Some((status, last)) if last.has_passed() => return Ok(Awaited::Ended(status)),
                Some(_) => {}
            }
            if ended.is_none() && deadline.has_passed() {
                return Ok(Awaited::TooLong);
            }
        }
    }

    /// The exit status; `None` while the process runs.
    pub(super) fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.settings.cancelled.is_requested() {
            return Err(Stop::Cancelled);
        }
        self.plugin.status().map_err(|e| Stop::Cannot(format!("cannot wait for the plugin: {e}")))
    }

    pub(super) fn with_last_output(&self, seen: String) -> String {
        match self.plugin.last_output() {
            None => seen,
            Some(line) => format!("{seen}; the plugin printed {line}"),
        }
    }
}
