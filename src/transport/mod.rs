//! A local pipe with deadlines. It does not know frames.
//!
//! Each platform is one module with the same names in it, and has one transport. CONTRIBUTING.md says
//! what a second one would need. The contract of the modules:
//!
//! * `check_path` returns an error for a path that cannot be a pipe's. It opens nothing.
//! * `Pipe::connect` opens the pipe. While the agent is too busy to accept a connection, it calls
//!   `next_deadline` and tries again. If `next_deadline` returns `None`, `connect` fails with `TimedOut`.
//! * `Pipe::check_agent` checks that the process at the other end is trusted.
//! * `Pipe::read` returns the bytes that have arrived, at least one. `Pipe::write` hands some bytes to the
//!   operating system and returns how many. If the pipe is not ready, they call `next_deadline` and wait. If
//!   `next_deadline` returns `None`, `read` returns [`Read::NotYet`] and `write` returns 0. After a 0 nothing
//!   more may be written: the system may have taken some of the bytes.
//! * [`Arrival`], set by `Pipe::on_arrival`, decides what a waiting `write` does with bytes that arrive: an
//!   agent may send something instead of reading.
//! * `Pipe::check_peer` fails if the agent is gone. It never waits. It reads and discards bytes that the agent
//!   sent after its answer; they do not show whether the agent lives.
//! * `Pipe::wait_closed` waits until the agent has closed the pipe. On Unix it returns [`Closed::Orderly`] only
//!   if the agent has read everything. On Windows it returns [`Closed::Orderly`] for every close, because
//!   Windows does not report what the agent has read.
//! * Dropping a `Pipe` closes it.
//! * `Listener` (feature `test-util`) is the other end, for the test agent. A plugin can connect as soon as
//!   the listener exists. `Pipe::disconnect` closes that end as the agent does: bytes that the plugin has not
//!   read may be lost. `temporary_path` names a pipe for a listener, and `remove` removes what the listener
//!   leaves at that path.
//! * `DEFAULT_PATH` is the agent's pipe.
//!
//! A function calls `next_deadline` before each wait. `next_deadline` returns the end of that wait, or `None`
//! to give up.

use crate::deadline::Deadline;

#[cfg(unix)]
mod unix;
#[cfg(unix)]
use unix as sys;

#[cfg(windows)]
mod windows;
#[cfg(windows)]
use windows as sys;

#[cfg(not(any(unix, windows)))]
compile_error!("wedr-plugin-sdk has transports for Unix and Windows only");

#[cfg(all(windows, feature = "test-util"))]
pub(crate) use sys::press_ctrl_c;
pub(crate) use sys::{DEFAULT_PATH, Pipe, check_path};
#[cfg(feature = "test-util")]
pub(crate) use sys::{Listener, remove, temporary_path};

/// Called before each wait. Returns the end of that wait, or `None` to give up.
pub(crate) type NextDeadline<'a> = &'a mut dyn FnMut() -> Option<Deadline>;

/// What a waiting write does with bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It leaves them to be read. This is the default.
    Stays,
    /// It gives up, as if `next_deadline` had returned `None`.
    EndsWrite,
    /// It discards them and continues.
    IsDiscarded,
}

/// The result of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// The other end closed, and everything it sent has been read.
    Closed,
    /// No bytes arrived before `next_deadline` returned `None`.
    NotYet,
}

/// How the other end closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// On Unix: it had read everything. On Windows: it closed, with or without bytes unread.
    Orderly,
    /// It left bytes unread, the system does not report unread bytes, or the pipe failed.
    Abruptly,
    /// It had not closed before `next_deadline` returned `None`.
    NotYet,
}

/// Which process may be at the other end of the pipe.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{AgentTrust, Runner};
/// # #[cfg(unix)]
/// // An agent with a user of its own.
/// let runner = Runner::new().trusted_agent(AgentTrust::Uid(990));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum AgentTrust {
    /// A process of root (on Windows: a pipe of SYSTEM or the Administrators group) or of the plugin's
    /// own user.
    #[default]
    OwnerOrRoot,
    /// A process of this user. No other user is trusted, not even root.
    #[cfg(unix)]
    Uid(u32),
    /// Any process: the process that listens on the pipe gets the events.
    Any,
}
