//! The crate's one error type, and the agent's reasons for a refusal.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use nix::errno::Errno;

mod printable;
mod reject;

#[cfg(feature = "dev-agent")]
pub(crate) use printable::shortened_to;
pub(crate) use printable::{Printable, shortened};
pub use reject::RejectReason;

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

type BoxedError = Box<dyn StdError + Send + Sync>;

/// What can go wrong, from configuration to the last event.
///
/// `main` may return it: its `Debug` is the same sentence as its `Display`,
/// followed by its causes, because that is what Rust prints then. `docs/errors.md` in the
/// repository shows each as printed, with its cause and remedy.
///
/// A sentence that needs its first cause has it in it: whoever prints the chain of
/// [`source`](StdError::source)s sees that one twice.
///
/// # Examples
///
/// ```
/// let error = wedr_plugin_sdk::Error::MissingPluginId;
/// assert!(error.is_permanent());
/// assert!(error.to_string().contains("WEDR_PLUGIN_ID"));
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `WEDR_PLUGIN_ID` is unset or empty.
    #[error(
        "no plugin id: the environment variable WEDR_PLUGIN_ID is unset or empty; the agent sets \
         it for the plugins it launches, so set it yourself to start this one by hand, or name \
         the id with Metadata::new"
    )]
    MissingPluginId,

    /// The agent refused the plugin in the handshake.
    #[error("the agent refused this plugin: {}: {}", Printable(&shortened(reason.as_str())), reason.remedy())]
    Rejected {
        /// Why, in the agent's words.
        reason: RejectReason,
    },

    /// The session is shutting down.
    #[error("the session is shutting down and takes no more events; return from the plugin's body")]
    Shutdown,

    /// An operating system error: a lost pipe (see [`Error::is_disconnected`]), a writer's thread
    /// that could not be started, or one of the body's own.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// The agent's pipe could not be opened.
    #[error(
        "cannot connect to the agent at {}: {source}; {}",
        Printable(&path.to_string_lossy()),
        connect_remedy(source)
    )]
    Connect {
        /// The pipe that was tried.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },

    /// The agent did not answer hello in time.
    #[error(
        "the agent did not answer hello within {0:?}; it may be hung or overloaded: look at its \
         log, or raise Runner::handshake_timeout"
    )]
    HandshakeTimeout(Duration),

    /// The agent closed the pipe before any answer: a refusal whose reason was lost, or the
    /// agent went away.
    #[error(
        "the agent closed the pipe before it answered hello: it refused this plugin and the \
         reason was lost (too many sessions, most often), or it went away; its log says which"
    )]
    HandshakeClosed,

    /// The agent answered with something that is not the protocol.
    #[error(
        "what answered hello does not speak the plugin protocol: {}; check that the pipe is the \
         agent's, and that agent and SDK are of matching versions",
        Printable(.0)
    )]
    Protocol(String),

    /// The process at the other end of the pipe is not one that may be trusted.
    #[error(
        "not trusting the process at the other end of the pipe: {}; {TRUST_REMEDY}",
        Printable(.0)
    )]
    UntrustedAgent(String),

    /// An event is larger than the agent accepts. Nothing was queued.
    #[error(
        "the event takes {size} bytes and the agent accepts at most {max}; send less of it, or \
         split it into several events"
    )]
    PayloadTooLarge {
        /// Bytes of the event's frame without its length prefix, counted with 20 digits of `seq`.
        size: usize,
        /// The session's limit in bytes.
        max: usize,
    },

    /// A payload is nested deeper than the agent's parser accepts. Nothing was queued.
    #[error(
        "the payload is nested more than {max} levels deep, which the agent cannot parse; flatten it"
    )]
    PayloadTooDeep {
        /// The deepest nesting accepted.
        max: usize,
    },

    /// A payload cannot be written as JSON that the agent accepts. Nothing was queued.
    ///
    /// Also what a `serde_json` error of the body's own becomes with `?`: wrap those with
    /// [`Error::plugin`].
    #[error("the payload cannot be sent as JSON: {0}; mend the value, or its Serialize")]
    Json(#[from] serde_json::Error),

    /// The queue is full and the caller does not wait. The event was not queued.
    #[error(
        "the event queue is full: the agent reads more slowly than events come; drop the event, \
         try again later, or raise Runner::channel_capacity or Runner::max_queued_bytes"
    )]
    QueueFull,

    /// A flush ran out of time. The events stay queued and are still on their way.
    #[error(
        "the queued events did not reach the pipe within {0:?}; they stay queued: the agent \
         reads slowly or not at all, so allow more time or look at its log"
    )]
    FlushTimeout(Duration),

    /// The session ended before every accepted event could be sent.
    #[error(
        "{count} accepted event(s) could not be sent before the session ended; the agent read \
         too slowly or not at all: look at its log, or raise Runner::drain_timeout"
    )]
    Undelivered {
        /// How many events were lost.
        count: u64,
    },

    /// The handlers for Ctrl+C and termination could not be installed.
    #[error(
        "cannot install the handlers for Ctrl+C and termination: {0}; if the host has its own, \
         use Runner::install_signal_handler(false) and call ShutdownHandle::shutdown from them"
    )]
    SignalHandler(#[source] BoxedError),

    /// The Runner or the metadata are unusable. Nothing was opened.
    #[error("bad configuration: {}", Printable(.0))]
    InvalidConfig(String),

    /// The plugin's own failure, see [`Error::plugin`].
    #[error(transparent)]
    Plugin(BoxedError),
}

impl Error {
    /// Wraps a failure of the plugin itself, for `?` and `map_err` in its body.
    ///
    /// An error of this crate, also in a `Box`, stays what it is: a session that was shut down
    /// ends well even if [`Error::Shutdown`] came this way.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, Result};
    ///
    /// fn port(text: &str) -> Result<u16> {
    ///     text.parse().map_err(Error::plugin)
    /// }
    /// assert!(matches!(port("http"), Err(Error::Plugin(_))));
    ///
    /// let boxed: Box<dyn std::error::Error + Send + Sync> = Error::Shutdown.into();
    /// assert!(matches!(Error::plugin(boxed), Error::Shutdown));
    /// ```
    pub fn plugin(e: impl Into<BoxedError>) -> Self {
        match e.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(e) => Self::Plugin(e),
        }
    }

    /// Says whether the agent's pipe was lost, as opposed to a broken pipe of the body's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// let own = wedr_plugin_sdk::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
    /// assert!(!own.is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Io(e) if e.get_ref().is_some_and(<dyn StdError + Send + Sync>::is::<PipeLost>))
    }

    /// Says whether starting the plugin again cannot help until somebody has mended something:
    /// any reject but `too_many_sessions`, a missing plugin id, a bad configuration, an
    /// untrusted agent.
    ///
    /// Meant for the exit status, such as systemd's `RestartPreventExitStatus`.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, RejectReason};
    /// assert!(Error::Rejected { reason: RejectReason::Revoked }.is_permanent());
    /// assert!(!Error::Rejected { reason: RejectReason::TooManySessions }.is_permanent());
    /// assert!(!Error::HandshakeClosed.is_permanent());
    /// ```
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Rejected { reason } => *reason != RejectReason::TooManySessions,
            Self::MissingPluginId | Self::InvalidConfig(_) | Self::UntrustedAgent(_) => true,
            Self::Shutdown
            | Self::Io(_)
            | Self::Connect { .. }
            | Self::HandshakeTimeout(_)
            | Self::HandshakeClosed
            | Self::Protocol(_)
            | Self::PayloadTooLarge { .. }
            | Self::PayloadTooDeep { .. }
            | Self::Json(_)
            | Self::QueueFull
            | Self::FlushTimeout(_)
            | Self::Undelivered { .. }
            | Self::SignalHandler(_)
            | Self::Plugin(_) => false,
        }
    }

    /// The error for a pipe that was lost because of `cause`.
    pub(crate) fn pipe_lost(cause: Arc<io::Error>) -> Self {
        Self::Io(io::Error::new(io::ErrorKind::BrokenPipe, PipeLost(cause)))
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut cause = self.source();
        if matches!(self, Self::Json(_) | Self::SignalHandler(_) | Self::Connect { .. }) {
            // Their message already holds the first cause's.
            cause = cause.and_then(StdError::source);
        }
        while let Some(e) = cause {
            write!(f, "\n  caused by: {e}")?;
            cause = e.source();
        }
        Ok(())
    }
}

/// The private marker inside the `io::Error` of a lost pipe.
#[derive(Debug)]
struct PipeLost(Arc<io::Error>);

impl fmt::Display for PipeLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the pipe to the agent was lost: the agent stopped, or dropped this session; exit, \
             and let the supervisor start the plugin again",
        )
    }
}

impl StdError for PipeLost {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

const TRUST_REMEDY: &str = if cfg!(unix) {
    "if that is your agent, name it with Runner::trusted_agent"
} else {
    "if that is your agent, have it run as SYSTEM, an administrator or the plugin's user"
};

fn connect_remedy(source: &io::Error) -> &'static str {
    // They have no kind of their own.
    #[cfg(unix)]
    if let Some(Errno::EMFILE | Errno::ENFILE) = source.raw_os_error().map(Errno::from_raw) {
        return "no file descriptor is left: close what is not needed, or raise the limit (ulimit -n)";
    }
    match source.kind() {
        io::ErrorKind::NotFound => {
            "nothing is there: start the agent, or name the pipe that it listens on with \
             Runner::pipe_path"
        }
        io::ErrorKind::PermissionDenied => {
            "run the plugin as a user who may open it, or mend its permissions"
        }
        io::ErrorKind::ConnectionRefused => {
            "nobody listens on it: start the agent that left it behind, or, if it is no socket, \
             name the agent's with Runner::pipe_path"
        }
        io::ErrorKind::TimedOut => {
            "the agent is too busy to accept: try again, or raise Runner::connect_timeout"
        }
        _ => "check that it is the agent's pipe; Runner::pipe_path names another",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_cross_threads() {
        fn assert_send_sync<T: Send + Sync + 'static>() {}
        assert_send_sync::<Error>();
    }

    #[test]
    fn debug_is_display_followed_by_the_causes() {
        let lost = Error::pipe_lost(Arc::new(io::Error::from_raw_os_error(32)));
        let debug = format!("{lost:?}");
        assert!(debug.starts_with(&lost.to_string()), "{debug}");
        assert!(debug.contains("\n  caused by: "), "{debug}");
        assert!(lost.is_disconnected());
        let Error::Io(inner) = lost else { panic!("{debug}") };
        assert_eq!(inner.kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn wire_text_cannot_reach_a_terminal_raw() {
        let reason = RejectReason::from_wire("\u{1b}[2J\u{7}\r\n\u{202e}\u{9b}x".into());
        let shown = [reason.to_string(), Error::Rejected { reason }.to_string()];
        for text in shown {
            assert!(text.chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
        }
        let twice = Printable("a\u{1b}b").to_string();
        assert_eq!(Printable(&twice).to_string(), twice);
    }

    #[test]
    fn a_long_reason_is_shortened_in_the_message_alone() {
        let reason = RejectReason::from_wire("é".repeat(1 << 20));
        assert!(Error::Rejected { reason: reason.clone() }.to_string().len() < 1000);
        assert_eq!(reason.to_string().len(), 2 << 20);
    }
}
