//! A local pipe with deadlines, which knows nothing of frames.
//!
//! A platform is one module with the same names in it. What they promise:
//!
//! * `check_path` says what is wrong with a path that can be no pipe's; nothing is opened.
//! * `Pipe::connect` opens the pipe. While the agent is too busy to take another connection it
//!   asks `patience` and tries again.
//! * `Pipe::check_agent` compares who runs the other end with who may.
//! * `Pipe::read` returns what has arrived, at least a byte; `Pipe::write` hands some bytes over
//!   and returns how many. If the pipe is not ready they ask `patience` and wait; when it says
//!   no more, `read` returns [`Read::NotYet`] and `write` returns 0. After a 0 nothing may be
//!   written any more: some of the bytes may have gone out.
//! * While a `write` waits and something arrives, what `Pipe::on_arrival` was told decides
//!   ([`Arrival`]): an agent may say something instead of reading.
//! * `Pipe::check_peer` fails if the agent is gone, and never waits. What the agent sends after
//!   its answer is read and thrown away; it proves neither life nor death.
//! * `Pipe::wait_closed` waits until the agent has closed the pipe.
//! * Dropping a `Pipe` closes it.
//! * `Listener` (feature `test-util`) is the other end, for the test agent; it may be connected
//!   to as soon as it is made. `Pipe::disconnect` closes that end as the agent does, with no
//!   regard to what the plugin has not read yet. `temporary_path` names a pipe for it, and `remove`
//!   clears what it leaves behind.
//! * `DEFAULT_PATH` is the agent's.
//!
//! `patience` is asked every time before something is waited for: it returns until when to wait
//! before it is asked again, or `None` to give up.

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

/// Asked before every wait: until when, or no more.
pub(crate) type Patience<'a> = &'a mut dyn FnMut() -> Option<Deadline>;

/// What a waiting write does about bytes that arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing; they stay to be read. A new pipe does this.
    Stays,
    /// It gives up, as if its patience had ended.
    EndsWrite,
    /// It throws them away and goes on.
    IsThrownAway,
}

/// What became of a read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Bytes(usize),
    /// The other end closed, and everything it sent has been read.
    Closed,
    NotYet,
}

/// How the other end closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Closed {
    /// In order: it has read everything.
    Orderly,
    /// With something unread.
    Abruptly,
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
    /// One that runs as root (on Windows: whose pipe belongs to SYSTEM or the Administrators) or
    /// as the plugin's own user.
    #[default]
    OwnerOrRoot,
    /// One that runs as this user, and no other, not even root.
    #[cfg(unix)]
    Uid(u32),
    /// Any process: whoever listens on the pipe gets the events.
    Any,
}
