//! The test agent's outside: its pipe, its threads, and what tests wait for.

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
use crate::deadline::Deadline;
use crate::error::Result;
use crate::transport::{Listener, remove, temporary_path};
use crate::wire::message::PluginMessage;

/// An agent in the test's own process. Dropping it closes its pipe and every session.
///
/// # Examples
///
/// A stall that ends: the queue is full meanwhile, and nothing is lost.
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
///     while sink.event("acme.tick").try_emit("some text").is_ok() {
///         accepted += 1;
///     }
///     agent.resume();
///     Ok(())
/// })?;
/// let session = agent.ended_session(LIMIT).expect("it ended");
/// assert_eq!(session.events().count(), accepted);
/// # Ok::<(), Error>(())
/// ```
pub struct TestAgent {
    path: PathBuf,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

/// What the agent's threads have in common.
struct Shared {
    script: Script,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sessions: Vec<RecordedSession>,
    /// Sessions that stopped reading may go on.
    resumed: bool,
    /// Sessions with a lower index are to be closed.
    disconnected: usize,
    stopped: bool,
}

impl TestAgent {
    /// Starts an agent that behaves.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if its pipe cannot be made, or its thread not be started.
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
        Self::at(&path, script).map_err(|e| {
            remove(&path);
            let path = path.display();
            let remedy = if cfg!(unix) { "; TMPDIR says in which folder" } else { "" };
            let what = format!("cannot start a test agent at {path}: {e}{remedy}");
            io::Error::new(e.kind(), what).into()
        })
    }

    fn at(path: &Path, script: Script) -> io::Result<Self> {
        let mut listener = Listener::bind(path)?;
        let shared = Arc::new(Shared {
            script,
            state: Mutex::new(State::default()),
            changed: Condvar::new(),
        });
        let listening = {
            let shared = Arc::clone(&shared);
            thread::Builder::new()
                .name("test-agent".into())
                .spawn(move || listen(&mut listener, &shared))?
        };
        Ok(Self { path: path.to_owned(), shared, listening: Some(listening) })
    }

    /// Where it listens, for [`Runner::pipe_path`](crate::Runner::pipe_path).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All sessions so far, in the order they were opened.
    pub fn sessions(&self) -> Vec<RecordedSession> {
        self.shared.state.lock().sessions.clone()
    }

    /// Waits until the sessions are as `wanted` says, at most for `timeout`; says whether they
    /// are. `wanted` is asked after every change; it must not use the agent.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use wedr_plugin_sdk::testing::TestAgent;
    /// let agent = TestAgent::start()?;
    /// let nobody_came = !agent.wait_until(Duration::ZERO, |sessions| !sessions.is_empty());
    /// assert!(nobody_came);
    /// # Ok::<(), wedr_plugin_sdk::Error>(())
    /// ```
    #[must_use = "false: it did not come about in time"]
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
            self.shared.wait(&mut state, deadline);
        }
        true
    }

    /// Waits until the first session has `count` events or more; says whether it has.
    #[must_use = "false: they did not come in time"]
    pub fn wait_for_events(&self, count: usize, timeout: Duration) -> bool {
        self.wait_until(timeout, |sessions| {
            sessions.first().is_some_and(|session| session.events().count() >= count)
        })
    }

    /// The first session, once it has ended; `None` if it has not within `timeout`.
    #[must_use = "None: it did not end in time"]
    pub fn ended_session(&self, timeout: Duration) -> Option<RecordedSession> {
        let ended = |sessions: &[RecordedSession]| {
            sessions.first().is_some_and(|session| session.end.is_some())
        };
        self.wait_until(timeout, ended).then(|| self.sessions().swap_remove(0))
    }

    /// Lets sessions read on that stopped after
    /// [`stop_reading_after`](Script::stop_reading_after) events, and those to come never stop.
    pub fn resume(&self) {
        self.shared.state.lock().resumed = true;
        self.shared.changed.notify_all();
    }

    /// Closes every session there is, without reading on.
    pub fn disconnect(&self) {
        let mut state = self.shared.state.lock();
        state.disconnected = state.sessions.len();
        self.shared.changed.notify_all();
    }
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
            // A panic in it was reported where it happened.
            let _ = listening.join();
        }
        remove(&self.path);
    }
}

impl Shared {
    fn wait(&self, state: &mut parking_lot::MutexGuard<'_, State>, deadline: Deadline) {
        match deadline.instant() {
            None => self.changed.wait(state),
            Some(at) => drop(self.changed.wait_until(state, at)),
        }
    }

    fn open_session(&self) -> usize {
        let mut state = self.state.lock();
        state.sessions.push(RecordedSession::default());
        self.changed.notify_all();
        state.sessions.len() - 1
    }
}

/// A session's place in the record.
struct Session<'a> {
    shared: &'a Shared,
    index: usize,
}

impl Session<'_> {
    /// Changes the session's record, and tells those who wait.
    fn record(&self, change: impl FnOnce(&mut RecordedSession)) {
        change(&mut self.shared.state.lock().sessions[self.index]);
        self.shared.changed.notify_all();
    }

    fn is_over(&self, state: &State) -> bool {
        state.stopped || self.index < state.disconnected
    }
}

impl Host for Session<'_> {
    fn must_close(&self) -> bool {
        self.is_over(&self.shared.state.lock())
    }

    fn pause(&self, until: Deadline) {
        let mut state = self.shared.state.lock();
        while !self.is_over(&state) && !until.has_passed() {
            self.shared.wait(&mut state, until);
        }
    }

    fn stall(&mut self) {
        let mut state = self.shared.state.lock();
        while !self.is_over(&state) && !state.resumed {
            self.shared.changed.wait(&mut state);
        }
    }

    fn before_reading(&mut self) {}

    fn took(&mut self, message: PluginMessage, _body: &[u8]) {
        self.record(|session| session.keep(message));
    }

    fn refused(&mut self, _what: &str, _bytes: &[u8]) {}
}

fn listen(listener: &mut Listener, shared: &Shared) {
    let stopped = || shared.state.lock().stopped;
    thread::scope(|scope| {
        accept_all(listener, stopped, |pipe| {
            let mut session = Session { shared, index: shared.open_session() };
            scope.spawn(move || {
                // It returns when the pipe is closed: first closed, then said to be.
                let end = serve(&shared.script, &mut session, pipe);
                session.record(|session| session.end = Some(end));
            });
        });
    });
}
