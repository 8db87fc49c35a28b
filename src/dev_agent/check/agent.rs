//! The agent of one run: its pipe, its sessions, and what it received in each session.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::deadline::Deadline;
use crate::dev_agent::examiner::Examiner;
use crate::error::shortened;
use crate::testing::{
    Hello, Host, PluginMessage, Script, SeqCheck, SessionEnd, accept_all, serve, wait,
};
use crate::transport::{Listener, remove, temporary_path};

/// An agent that listens until it is dropped.
pub(super) struct Agent {
    path: PathBuf,
    shared: Arc<Shared>,
    listening: Option<thread::JoinHandle<()>>,
}

struct Shared {
    script: Script,
    examiner: Arc<Mutex<Examiner>>,
    state: Mutex<State>,
    changed: Condvar,
}

/// What the plugin sent, and what the agent must do.
#[derive(Default)]
pub(super) struct State {
    /// In the order in which they were opened.
    pub(super) sessions: Vec<Session>,
    /// Sessions no longer stall, and read at full speed.
    resumed: bool,
    /// The agent must close all sessions and accept no more connections.
    over: bool,
}

/// What the plugin sent in one session.
pub(super) struct Session {
    pub(super) hello: Option<Hello>,
    pub(super) events: u64,
    pub(super) heartbeats: u64,
    /// How many sequence numbers were skipped.
    pub(super) missing: u64,
    /// When the session was opened, or when its last frame arrived.
    last_frame: Instant,
    longest_silence: Duration,
    /// How the plugin violated the protocol.
    pub(super) violation: Option<String>,
    pub(super) end: Option<SessionEnd>,
}

impl State {
    /// The first session. Most scenarios check only this one.
    pub(super) fn first(&self) -> Option<&Session> {
        self.sessions.first()
    }

    pub(super) fn has_event(&self) -> bool {
        self.first().is_some_and(|session| session.events > 0)
    }

    pub(super) fn has_hello(&self) -> bool {
        self.first().is_some_and(|session| session.hello.is_some())
    }

    pub(super) fn has_ended(&self) -> bool {
        self.first().is_some_and(|session| session.end.is_some())
    }

    pub(super) fn violation(&self) -> Option<&str> {
        self.sessions.iter().find_map(|session| session.violation.as_deref())
    }
}

impl Session {
    fn new() -> Self {
        Self {
            hello: None,
            events: 0,
            heartbeats: 0,
            missing: 0,
            last_frame: Instant::now(),
            longest_silence: Duration::ZERO,
            violation: None,
            end: None,
        }
    }

    /// The longest time without a frame so far, the current one included.
    pub(super) fn silence(&self) -> Duration {
        self.longest_silence.max(self.last_frame.elapsed())
    }
}

impl Agent {
    pub(super) fn start(script: Script, examiner: Arc<Mutex<Examiner>>) -> io::Result<Self> {
        let path = temporary_path()?;
        let started = Listener::bind(&path).and_then(|mut listener| {
            let (state, changed) = (Mutex::new(State::default()), Condvar::new());
            let shared = Arc::new(Shared { script, examiner, state, changed });
            let of_thread = Arc::clone(&shared);
            let listening =
                thread::Builder::new().spawn(move || listen(&mut listener, &of_thread))?;
            Ok((shared, listening))
        });
        match started {
            Ok((shared, listening)) => Ok(Self { path, shared, listening: Some(listening) }),
            Err(e) => {
                remove(&path);
                Err(e)
            }
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Ends every stall, and lets sessions read at full speed from now on.
    pub(super) fn resume(&self) {
        self.shared.change(|state| state.resumed = true);
    }

    /// Closes every session and removes the pipe, as when the agent's process dies.
    pub(super) fn die(&mut self) {
        self.shared.change(|state| state.over = true);
        if let Some(listening) = self.listening.take() {
            // A panic of the thread has already been printed.
            let _ = listening.join();
            remove(&self.path);
        }
    }

    pub(super) fn with_state<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        f(&self.shared.state.lock())
    }

    /// Returns whether `wanted` holds. If it does not at first, waits once for a change, at most for
    /// `slice`.
    pub(super) fn wait(&self, slice: Duration, wanted: impl Fn(&State) -> bool) -> bool {
        let mut state = self.shared.state.lock();
        if !wanted(&state) {
            self.shared.changed.wait_for(&mut state, slice);
        }
        wanted(&state)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.die();
    }
}

impl Shared {
    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let changed = change(&mut self.state.lock());
        self.changed.notify_all();
        changed
    }

    /// Waits until `done` holds, the agent ends, or `until` has passed.
    fn wait(&self, until: Deadline, done: impl Fn(&State) -> bool) {
        let mut state = self.state.lock();
        while !state.over && !done(&state) && !until.has_passed() {
            wait(&self.changed, &mut state, until);
        }
    }
}

fn listen(listener: &mut Listener, shared: &Shared) {
    let over = || shared.state.lock().over;
    thread::scope(|scope| {
        accept_all(listener, over, |pipe| {
            let index = shared.change(|state| {
                state.sessions.push(Session::new());
                state.sessions.len() - 1
            });
            scope.spawn(move || {
                let mut serving = Serving { shared, index, seqs: SeqCheck::default() };
                let end = serve(&shared.script, &mut serving, pipe);
                serving.record(|session| session.end = Some(end));
            });
        });
    });
}

/// The state of a session while the agent serves it.
struct Serving<'a> {
    shared: &'a Shared,
    index: usize,
    seqs: SeqCheck,
}

impl Serving<'_> {
    fn record<T>(&self, change: impl FnOnce(&mut Session) -> T) -> T {
        self.shared.change(|state| change(&mut state.sessions[self.index]))
    }
}

impl Host for Serving<'_> {
    fn must_close(&self) -> bool {
        self.shared.state.lock().over
    }

    /// Slows down only the reads after the first event, because the first event may be large.
    fn pause(&self, until: Deadline) {
        self.shared.wait(until, |state| state.resumed || !state.has_event());
    }

    fn stall(&mut self) {
        self.shared.wait(Deadline::NEVER, |state| state.resumed);
    }

    fn before_reading(&mut self) {}

    fn on_message(&mut self, message: PluginMessage, _content: &[u8]) {
        if let PluginMessage::Event(event) = &message {
            self.shared.examiner.lock().event(event);
        }
        // `serve` has already rejected numbers that are out of order.
        let missing = self.seqs.next(&message).unwrap_or_default();
        let missing = missing.end - missing.start;
        self.record(|session| {
            session.longest_silence = session.silence();
            session.last_frame = Instant::now();
            session.missing = session.missing.saturating_add(missing);
            match message {
                PluginMessage::Hello(hello) => session.hello = Some(hello),
                PluginMessage::Event(_) => session.events += 1,
                PluginMessage::Heartbeat { .. } => session.heartbeats += 1,
                PluginMessage::Goodbye => {}
            }
        });
    }

    fn on_violation(&mut self, what: &str, _bytes: &[u8]) {
        self.record(|session| session.violation = Some(shortened(what)));
    }
}
