//! The test agent: its pipe, its threads, and the waits that a test uses.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::record::RecordedSession;
use super::script::Script;
use super::serve::{Host, accept_all, serve};
use super::wait;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::transport::{Listener, remove, temporary_path};
use crate::wire::message::PluginMessage;

/// An agent in the test's own process. Dropping it closes its pipe and all sessions.
///
/// # Examples
///
/// The agent stops reading until the queue is full, then continues. No event is lost:
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::testing::{Script, TestAgent};
/// use wedr_plugin_sdk::{Error, Metadata, Runner};
///
/// const LIMIT: Duration = Duration::from_secs(30);
/// let agent = TestAgent::with(Script::new().stop_reading_after(1))?;
/// let runner =
///     Runner::new().pipe_path(agent.path()).channel_capacity(16).drain_timeout(LIMIT);
/// let mut accepted = 0;
/// runner.run_with(Metadata::new("acme", "1.0", "Acme"), |sink, _ctx| {
///     while sink.event("acme_tick").try_emit("some text").is_ok() {
///         accepted += 1;
///     }
///     agent.resume();
///     Ok(())
/// })?;
/// let session = agent.ended_session(LIMIT).expect("the session ended");
/// assert_eq!(session.events().count(), accepted);
/// # Ok::<(), Error>(())
/// ```
pub struct TestAgent {
    path: PathBuf,
    /// Whether the agent made the path's folder. If so, it removes the folder in `drop`.
    is_temporary: bool,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

/// What the agent's threads share.
struct Shared {
    script: Script,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sessions: Vec<RecordedSession>,
    /// Whether sessions that stopped reading may continue to read.
    resumed: bool,
    /// The agent must close the sessions with a lower index.
    disconnected: usize,
    stopped: bool,
}

impl TestAgent {
    /// Starts an agent that behaves like the real agent.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the agent cannot make its pipe or start its thread.
    pub fn start() -> Result<Self> {
        Self::with(Script::new())
    }

    /// Starts an agent that behaves as `script` says.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn with(script: Script) -> Result<Self> {
        let path = temporary_path()?;
        let remedy = if cfg!(unix) { "; the pipe is in the folder of TMPDIR" } else { "" };
        Self::listening_at(&path, true, script).map_err(|e| {
            remove(&path);
            cannot_start(&path, &e, remedy)
        })
    }

    /// Starts an agent that behaves as `script` says, at a path of your choice. Use it to test a plugin
    /// that starts before its agent, or whose agent restarts at the same path.
    ///
    /// On Unix the agent makes a socket at the path, and removes the socket when it is dropped. On
    /// Windows the path is `\\.\pipe\` and a name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the path exists or cannot be used, or if the agent cannot
    /// start its thread.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use wedr_plugin_sdk::testing::{Script, TestAgent};
    /// # use wedr_plugin_sdk::{Error, Metadata, Runner};
    /// # let free = TestAgent::start()?;
    /// # let path = free.path().with_extension("later");
    /// let plugin = || Runner::new().pipe_path(&path).run_with(
    ///     Metadata::new("acme", "1.0", "Acme"),
    ///     |sink, _ctx| sink.emit("acme_boot", serde_json::json!({})),
    /// );
    /// assert!(matches!(plugin(), Err(Error::Connect { .. })));
    ///
    /// let agent = TestAgent::at(&path, Script::new())?;
    /// plugin()?;
    /// plugin()?;
    /// let second = agent.nth_ended_session(1, Duration::from_secs(30)).expect("the session ended");
    /// assert_eq!(second.events().count(), 1);
    /// # Ok::<(), Error>(())
    /// ```
    pub fn at(path: impl AsRef<Path>, script: Script) -> Result<Self> {
        let path = path.as_ref();
        let remedy = "; choose a path that does not exist, in a folder that exists";
        Self::listening_at(path, false, script).map_err(|e| cannot_start(path, &e, remedy))
    }

    fn listening_at(path: &Path, is_temporary: bool, script: Script) -> io::Result<Self> {
        let mut listener = Listener::bind(path)?;
        let shared = Arc::new(Shared {
            script,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let mut agent = Self {
            path: path.to_owned(),
            is_temporary,
            shared: Arc::clone(&shared),
            listening: None,
        };
        let thread = thread::Builder::new().name("test-agent".into());
        agent.listening = Some(thread.spawn(move || listen(&mut listener, &shared))?);
        Ok(agent)
    }

    /// Returns the path of the agent's pipe, for [`Runner::pipe_path`](crate::Runner::pipe_path).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns all sessions so far, in the order in which they were opened.
    pub fn sessions(&self) -> Vec<RecordedSession> {
        self.shared.state.lock().sessions.clone()
    }

    /// Waits until `wanted` returns true for the sessions, at most for `timeout`. Returns false on a
    /// timeout. `wanted` is called after each change. It must not use the agent, which is locked meanwhile.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use wedr_plugin_sdk::testing::TestAgent;
    /// let agent = TestAgent::start()?;
    /// let connected = agent.wait_until(Duration::ZERO, |sessions| !sessions.is_empty());
    /// assert!(!connected);
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    #[must_use = "false: the condition was not true in time"]
    pub fn wait_until(
        &self,
        timeout: Duration,
        mut wanted: impl FnMut(&[RecordedSession]) -> bool,
    ) -> bool {
        let deadline = Deadline::after(timeout);
        let mut state = self.shared.state.lock();
        while !wanted(&state.sessions) {
            if deadline.has_passed() {
                return false;
            }
            wait(&self.shared.changed, &mut state, deadline);
        }
        true
    }

    /// Waits until the first session has at least `count` events. Returns false on a timeout.
    #[must_use = "false: the events did not arrive in time"]
    pub fn wait_for_events(&self, count: usize, timeout: Duration) -> bool {
        self.wait_for_events_in(0, count, timeout)
    }

    /// Waits until a session has at least `count` events. Returns false on a timeout. Sessions are
    /// numbered from 0, in the order in which they were opened.
    #[must_use = "false: the events did not arrive in time"]
    pub fn wait_for_events_in(&self, session: usize, count: usize, timeout: Duration) -> bool {
        self.wait_until(timeout, |sessions| {
            sessions.get(session).is_some_and(|session| session.events().count() >= count)
        })
    }

    /// Waits until the first session has ended, and returns it. Returns `None` on a timeout.
    #[must_use = "None: the session did not end in time"]
    pub fn ended_session(&self, timeout: Duration) -> Option<RecordedSession> {
        self.nth_ended_session(0, timeout)
    }

    /// Waits until session `n` has ended, and returns it. Returns `None` on a timeout. Sessions are
    /// numbered from 0, in the order in which they were opened.
    #[must_use = "None: the session did not end in time"]
    pub fn nth_ended_session(&self, n: usize, timeout: Duration) -> Option<RecordedSession> {
        let ended = |sessions: &[RecordedSession]| {
            sessions.get(n).is_some_and(|session| session.end.is_some())
        };
        self.wait_until(timeout, ended).then(|| self.sessions().swap_remove(n))
    }

    /// Ends every stall of [`stop_reading_after`](Script::stop_reading_after): the sessions continue to read,
    /// and later sessions do not stop.
    pub fn resume(&self) {
        self.shared.state.lock().resumed = true;
        self.shared.changed.notify_all();
    }

    /// Closes all open sessions without reading the rest of their input.
    pub fn disconnect(&self) {
        let mut state = self.shared.state.lock();
        state.disconnected = state.sessions.len();
        self.shared.changed.notify_all();
    }
}

fn cannot_start(path: &Path, e: &io::Error, remedy: &str) -> Error {
    let what = format!("cannot start a test agent at {}: {e}{remedy}", path.display());
    io::Error::new(e.kind(), what).into()
}

impl fmt::Debug for TestAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestAgent").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        self.shared.state.lock().stopped = true;
        self.shared.changed.notify_all();
        if let Some(listening) = self.listening.take() {
            // A panic of the thread has already been printed.
            let _ = listening.join();
        }
        if self.is_temporary {
            remove(&self.path);
        } else if cfg!(unix) {
            // The folder belongs to the test.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Shared {
    fn open_session(&self) -> usize {
        let mut state = self.state.lock();
        state.sessions.push(RecordedSession::default());
        self.changed.notify_all();
        state.sessions.len() - 1
    }
}

/// One session. `serve` reports its messages here, and this records them.
struct Session<'a> {
    shared: &'a Shared,
    index: usize,
}

impl Session<'_> {
    /// Changes the session's record and wakes waiting threads.
    fn record(&self, change: impl FnOnce(&mut RecordedSession)) {
        change(&mut self.shared.state.lock().sessions[self.index]);
        self.shared.changed.notify_all();
    }

    fn must_end(&self, state: &State) -> bool {
        state.stopped || self.index < state.disconnected
    }
}

impl Host for Session<'_> {
    fn must_close(&self) -> bool {
        self.must_end(&self.shared.state.lock())
    }

    fn pause(&self, until: Deadline) {
        let mut state = self.shared.state.lock();
        while !self.must_end(&state) && !until.has_passed() {
            wait(&self.shared.changed, &mut state, until);
        }
    }

    fn stall(&mut self) {
        let mut state = self.shared.state.lock();
        while !self.must_end(&state) && !state.resumed {
            self.shared.changed.wait(&mut state);
        }
    }

    fn before_reading(&mut self) {}

    fn on_message(&mut self, message: PluginMessage, _content: &[u8]) {
        self.record(|session| session.keep(message));
    }

    fn on_violation(&mut self, _what: &str, _bytes: &[u8]) {}
}

fn listen(listener: &mut Listener, shared: &Shared) {
    let stopped = || shared.state.lock().stopped;
    thread::scope(|scope| {
        accept_all(listener, stopped, |pipe| {
            let mut session = Session { shared, index: shared.open_session() };
            scope.spawn(move || {
                // `serve` closes the pipe before it returns: a session that is recorded as ended has no
                // open pipe.
                let end = serve(&shared.script, &mut session, pipe);
                session.record(|session| session.end = Some(end));
            });
        });
    });
}
