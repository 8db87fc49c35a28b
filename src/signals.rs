//! Ctrl+C, SIGTERM and SIGHUP, once per process, for every session in it.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::shutdown::Shutdown;

/// A signal that comes sooner after the first says nothing new: a supervisor may send two at
/// once.
const FURTHER_AFTER: Duration = Duration::from_secs(1);
/// What a body gets to return in when a further signal has come, before the process is ended.
const GRACE: Duration = Duration::from_millis(250);
/// By convention 128 + SIGINT.
const EXIT_STATUS: i32 = 130;

static PROCESS: Mutex<Process> =
    Mutex::new(Process { installed: false, first_signal: None, sessions: Vec::new() });

struct Process {
    installed: bool,
    first_signal: Option<Instant>,
    sessions: Vec<Weak<Shutdown>>,
}

/// A session's place among those that signals reach; leaving is dropping it.
pub(crate) struct Membership(Arc<Shutdown>);

/// Makes signals reach `shutdown`, those that already came included.
pub(crate) fn join(shutdown: &Arc<Shutdown>) -> Membership {
    let mut process = PROCESS.lock();
    process.sessions.push(Arc::downgrade(shutdown));
    let signalled = process.first_signal.is_some();
    drop(process);
    if signalled {
        shutdown.request();
    }
    Membership(Arc::clone(shutdown))
}

impl Drop for Membership {
    fn drop(&mut self) {
        PROCESS.lock().sessions.retain(|session| session.as_ptr() != Arc::as_ptr(&self.0));
    }
}

/// Installs the handlers, over whatever was there, unless an earlier session did.
pub(crate) fn install() -> Result<()> {
    let mut process = PROCESS.lock();
    if !process.installed {
        ctrlc::set_handler(on_signal).map_err(|e| Error::SignalHandler(Box::new(e)))?;
        process.installed = true;
    }
    Ok(())
}

/// Runs on `ctrlc`'s thread, once for every signal.
fn on_signal() {
    let mut process = PROCESS.lock();
    let sessions: Vec<_> = process.sessions.iter().filter_map(Weak::upgrade).collect();
    let first = *process.first_signal.get_or_insert_with(Instant::now);
    let further = first.elapsed() >= FURTHER_AFTER;
    drop(process);
    if !further {
        for session in &sessions {
            session.request();
        }
        return;
    }
    for session in &sessions {
        session.hurry();
    }
    let grace = Deadline::after(GRACE);
    // Without a session nobody is left who would end the process.
    if sessions.is_empty() || sessions.iter().any(|session| session.body_outlasts(grace)) {
        std::process::exit(EXIT_STATUS);
    }
}
