//! Ctrl+C, SIGTERM and SIGHUP: one set of handlers for all sessions of the process.

use std::error::Error as StdError;
use std::thread;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;
use crate::sync::{Arc, Condvar, Mutex};

/// A signal within this time after the first has no effect, because a supervisor may send two at once.
const FURTHER_AFTER: Duration = Duration::from_secs(1);
/// How long the plugin's code may still run after a further signal before the SDK ends the process.
const GRACE: Duration = Duration::from_millis(250);
/// By convention 128 + SIGINT.
const EXIT_STATUS: i32 = 130;

/// A lock of `parking_lot`, not of `sync`: the models' locks have no constant constructor.
static PROCESS: parking_lot::Mutex<Process> = parking_lot::Mutex::new(Process {
    id: 0,
    installed_in: None,
    first_signal: None,
    sessions: Vec::new(),
});

struct Process {
    /// The id of the process that owns these sessions and signals: a forked process inherits its
    /// parent's memory.
    id: u32,
    /// The id of the process that installed the handlers: only this process has the thread that serves
    /// them.
    installed_in: Option<u32>,
    first_signal: Option<Instant>,
    sessions: Vec<Arc<Session>>,
}

impl Process {
    /// Forgets the parent's signals and sessions if the process was forked since the last call.
    fn check_for_fork(&mut self) {
        let id = std::process::id();
        if self.id != id {
            self.id = id;
            self.first_signal = None;
            self.sessions.clear();
        }
    }
}

/// The part of a session that signals need.
struct Session {
    shutdown: Arc<Shutdown>,
    running: Mutex<Running>,
    changed: Condvar,
}

/// Which code a session runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    /// Code of the SDK. It ends by itself after the shutdown request and the end of the drain.
    Sdk,
    /// Code of the plugin, since this time: its body or its `on_close`.
    Plugin(Instant),
    /// No code: the session has ended.
    Over,
}

/// Registers a session for signals. Dropping it removes the session.
pub(crate) struct Membership(Arc<Session>);

/// Registers a session for signals. A signal that came earlier requests its shutdown at once.
pub(crate) fn join(shutdown: &Arc<Shutdown>) -> Membership {
    let session = Arc::new(Session {
        shutdown: Arc::clone(shutdown),
        running: Mutex::new(Running::Sdk),
        changed: Condvar::new(),
    });
    let mut process = PROCESS.lock();
    process.check_for_fork();
    process.sessions.push(Arc::clone(&session));
    let signalled = process.first_signal.is_some();
    drop(process);
    if signalled {
        shutdown.request();
    }
    Membership(session)
}

impl Membership {
    /// Runs code of the plugin, which must not unwind. A further signal ends the process if this
    /// code does not return.
    pub(crate) fn run_plugin_code<T>(&self, code: impl FnOnce() -> T) -> T {
        self.0.set(Running::Plugin(Instant::now()));
        let result = code();
        self.0.set(Running::Sdk);
        result
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        PROCESS.lock().sessions.retain(|session| !Arc::ptr_eq(session, &self.0));
        self.0.set(Running::Over);
    }
}

impl Session {
    fn set(&self, running: Running) {
        *self.running.lock() = running;
        self.changed.notify_all();
    }

    /// Waits until the session has ended, or one piece of the plugin's code has run for [`GRACE`] after
    /// `signal`. Returns false if the session has ended.
    fn plugin_outlasts(&self, signal: Instant) -> bool {
        let mut running = self.running.lock();
        loop {
            match *running {
                Running::Over => return false,
                Running::Sdk => self.changed.wait(&mut running),
                Running::Plugin(since) => {
                    let deadline = Deadline::since(since.max(signal), GRACE);
                    if deadline.wait(&self.changed, &mut running)
                        && *running == Running::Plugin(since)
                    {
                        return true;
                    }
                }
            }
        }
    }
}

/// Installs the handlers, unless an earlier session of this process has done so. They replace existing ones.
pub(crate) fn install() -> Result<()> {
    let mut process = PROCESS.lock();
    process.check_for_fork();
    match process.installed_in {
        Some(id) if id == process.id => return Ok(()),
        Some(_) => {
            return failed(
                "this process was forked after a session of its parent had installed them, and \
                 the thread that serves them is the parent's; fork before the first session, or \
                 start a separate program",
            );
        }
        None => {}
    }
    // `ctrlc` starts its thread last. If that failed, the handlers would be installed without a thread
    // that serves them, and the process would ignore the signals. So check first that a thread starts.
    let probe = thread::Builder::new().name("ctrl-c".into()).spawn(|| {});
    match probe {
        // An empty thread does not panic.
        Ok(probe) => drop(probe.join()),
        Err(e) => {
            return failed(format!(
                "the thread that serves them does not start: {e}; the process or its user has too \
                 many threads, or memory is short"
            ));
        }
    }
    with_signals_unblocked(|| ctrlc::set_handler(on_signal)).or_else(|e| match e {
        ctrlc::Error::System(e) => failed(format!(
            "{e}; if the handlers are in place without their thread, Ctrl+C and termination have \
             no effect on this process until a later session has installed them"
        )),
        other => failed(other),
    })?;
    process.installed_in = Some(process.id);
    Ok(())
}

fn failed(why: impl Into<Box<dyn StdError + Send + Sync>>) -> Result<()> {
    Err(Error::SignalHandler(why.into()))
}

/// Calls `install` with the signals unblocked for this thread. The thread that `install` starts
/// inherits the mask. So the handlers get the signals also in a process that was started with blocked
/// signals, and all other threads keep their masks.
#[cfg(unix)]
fn with_signals_unblocked<T>(install: impl FnOnce() -> T) -> T {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal};
    let handled: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    let before = handled.thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    let result = install();
    if let Ok(before) = before {
        // The call fails only for an invalid `how`.
        let _ = before.thread_set_mask();
    }
    result
}

/// Windows has no blocked signals.
#[cfg(not(unix))]
fn with_signals_unblocked<T>(install: impl FnOnce() -> T) -> T {
    install()
}

/// Runs on `ctrlc`'s thread, once for every signal.
fn on_signal() {
    let now = Instant::now();
    let mut process = PROCESS.lock();
    let sessions = process.sessions.clone();
    let first = *process.first_signal.get_or_insert(now);
    drop(process);
    if now.duration_since(first) < FURTHER_AFTER {
        for session in &sessions {
            session.shutdown.request();
        }
        return;
    }
    for session in &sessions {
        session.shutdown.end_drain();
    }
    // Without a session no other code would end the process.
    if sessions.is_empty() || sessions.iter().any(|session| session.plugin_outlasts(now)) {
        std::process::exit(EXIT_STATUS);
    }
}
