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

/// Every error of this crate, from the configuration to the last event.
///
/// If `main` returns an error, Rust prints its `Debug`. So `Debug` is the same sentence as `Display`,
/// followed by the error's causes. `docs/errors.md` in the repository shows each error as it is
/// printed, with its cause and remedy.
///
/// Some sentences contain their first cause. A program that prints the whole chain of
/// [`source`](StdError::source)s prints that cause twice.
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
        /// The reason that the agent gave.
        reason: RejectReason,
    },

    /// The session is shutting down.
    #[error(
        "the session is shutting down and accepts no more events; return from the plugin's body"
    )]
    Shutdown,

    /// An operating system error: the pipe was lost (see [`Error::is_disconnected`]), the writer's
    /// thread could not be started, or the body returned an `io::Error` of its own.
    #[error(transparent)]
    Io(#[from] io::Error),

    /// The agent's pipe could not be opened.
    #[error(
        "cannot connect to the agent at {}: {source}; {}",
        Printable(&path.to_string_lossy()),
        connect_remedy(source)
    )]
    Connect {
        /// The path of the pipe.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },

    /// The agent did not answer hello in time.
    #[error(
        "the agent did not answer hello within {0:?}; it may be hung or overloaded: look at its \
         log, or raise Runner::handshake_timeout"
    )]
    HandshakeTimeout(Duration),

    /// The agent closed the pipe before it answered hello. It refused the plugin and the reason was lost,
    /// or it stopped.
    #[error(
        "the agent closed the pipe before it answered hello: it refused this plugin and the \
         reason was lost, or it stopped; if its log has no line about this plugin, it has too many \
         sessions, could not read hello, or failed to check the plugin's identity"
    )]
    HandshakeClosed,

    /// The answer to hello violates the protocol.
    #[error(
        "the answer to hello violates the plugin protocol: {}; check that the pipe is the agent's, \
         and that the versions of agent and SDK match",
        Printable(.0)
    )]
    Protocol(String),

    /// The process at the other end of the pipe is not trusted. Nothing was sent to it.
    #[error("the process at the other end of the pipe is not trusted: {}", Printable(.0))]
    UntrustedAgent(String),

    /// An event is larger than the agent accepts. Nothing was queued.
    #[error(
        "the event has {size} bytes and the agent accepts at most {max}; shorten it, or split it into \
         several events"
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
    /// `?` turns a `serde_json` error of the body itself into this variant too. Wrap such an error with
    /// [`Error::plugin`].
    #[error("the payload cannot be sent as JSON: {0}; correct the value, or its Serialize")]
    Json(#[from] serde_json::Error),

    /// The queue is full and the call may not block. The event was not queued.
    #[error(
        "the event queue is full: the agent reads more slowly than the plugin emits; drop the event, \
         try again later, or raise Runner::channel_capacity or Runner::max_queued_bytes"
    )]
    QueueFull,

    /// The timeout of a flush expired. The events stay queued, and the writer still sends them.
    #[error(
        "not all queued events were handed to the operating system within {0:?}; they stay queued; \
         the agent reads slowly or not at all: allow more time, or look at its log"
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

    /// The configuration of the Runner or the metadata is not valid. Nothing was opened.
    #[error("bad configuration: {}", Printable(.0))]
    InvalidConfig(String),

    /// An error of the plugin itself, see [`Error::plugin`].
    #[error(transparent)]
    Plugin(BoxedError),
}

impl Error {
    /// Wraps an error of the plugin itself, for `map_err` in its body.
    ///
    /// An error of this crate is returned unchanged, also from a `Box`. If [`Error::Shutdown`] or the loss of
    /// the pipe is anywhere in the error's chain of [`source`](StdError::source)s, this returns that
    /// error. So a session that was shut down ends with `Ok`, also if the body adds context to
    /// [`Error::Shutdown`] with `anyhow`, `eyre` or an error enum of its own.
    ///
    /// Some errors hide this crate's error from their chain of sources: an `anyhow::Error` or
    /// `eyre::Report` without context, and an enum's variant with `#[error(transparent)]`. They become
    /// [`Error::Plugin`], also after a shutdown. Take this crate's error out first, as in the second
    /// example.
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
    ///
    /// A body that uses `anyhow`:
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, EventSink, Result, SessionContext};
    ///
    /// fn produce(sink: &EventSink) -> anyhow::Result<()> {
    ///     sink.emit("acme_tick", serde_json::json!({ "alive": true }))?;
    ///     Ok(())
    /// }
    ///
    /// fn body(sink: &EventSink, _: &SessionContext) -> Result<()> {
    ///     produce(sink).map_err(|e| e.downcast::<Error>().unwrap_or_else(Error::plugin))
    /// }
    /// ```
    pub fn plugin(e: impl Into<BoxedError>) -> Self {
        match e.into().downcast::<Self>() {
            Ok(own) => *own,
            Err(e) => Self::end_of_session(&*e).unwrap_or(Self::Plugin(e)),
        }
    }

    /// [`Error::Shutdown`] or the loss of the pipe, if one of them is in the chain of sources of `e`.
    fn end_of_session(e: &(dyn StdError + 'static)) -> Option<Self> {
        let mut next = Some(e);
        while let Some(e) = next {
            let io = e.downcast_ref::<io::Error>();
            // `source` of an `io::Error` skips the error inside it.
            let inside = io.and_then(io::Error::get_ref);
            let own = Self::find(e).or_else(|| Self::find(inside?));
            let io = match own {
                Some(Self::Shutdown) => return Some(Self::Shutdown),
                Some(Self::Io(e)) => Some(e),
                _ => io,
            };
            if let Some(lost) = io.and_then(PipeLost::of) {
                return Some(Self::pipe_lost(Arc::clone(&lost.0)));
            }
            next = e.source();
        }
        None
    }

    /// This crate's error in `e`, also inside a `Box` or an `Arc`. The source of a `Box` or an `Arc` is the
    /// source of its content, so a search along the chain would skip the content itself.
    fn find<'a>(e: &'a (dyn StdError + 'static)) -> Option<&'a Self> {
        e.downcast_ref::<Self>()
            .or_else(|| e.downcast_ref::<Box<Self>>().map(|own| &**own))
            .or_else(|| e.downcast_ref::<Arc<Self>>().map(|own| &**own))
    }

    /// Whether the agent's pipe was lost. False for a broken pipe of the body itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// let own = wedr_plugin_sdk::Error::from(io::Error::from(io::ErrorKind::BrokenPipe));
    /// assert!(!own.is_disconnected());
    /// ```
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Io(e) if PipeLost::of(e).is_some())
    }

    /// Whether a new start of the same binary in the same environment cannot succeed, whatever an
    /// administrator does to the agent.
    ///
    /// True for a missing plugin id, a bad configuration, and the rejects `bad_handshake`,
    /// `schema_mismatch` and `signature_invalid`. False for the refusals that an administrator can
    /// remove, such as `unknown_plugin_id`, `hash_mismatch`, `revoked` or an untrusted process on the
    /// pipe: after the fix the agent takes up to 5 s to see it, and then a new start succeeds.
    ///
    /// Use it to choose the exit status, for example one that systemd's `RestartPreventExitStatus` names.
    ///
    /// # Examples
    ///
    /// ```
    /// use wedr_plugin_sdk::{Error, RejectReason};
    /// assert!(Error::Rejected { reason: RejectReason::SignatureInvalid }.is_permanent());
    /// assert!(!Error::Rejected { reason: RejectReason::Revoked }.is_permanent());
    /// assert!(!Error::HandshakeClosed.is_permanent());
    /// ```
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Rejected { reason } => reason.is_permanent(),
            Self::MissingPluginId | Self::InvalidConfig(_) => true,
            Self::UntrustedAgent(_)
            | Self::Shutdown
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
            // Their message already contains the message of the first cause.
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

impl PipeLost {
    fn of(e: &io::Error) -> Option<&Self> {
        e.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for PipeLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the pipe to the agent was lost: the agent stopped, or ended this session; exit, and \
             let the supervisor start the plugin again",
        )
    }
}

impl StdError for PipeLost {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.0)
    }
}

fn connect_remedy(source: &io::Error) -> &'static str {
    // These errors have no `ErrorKind`.
    #[cfg(unix)]
    if let Some(Errno::EMFILE | Errno::ENFILE) = source.raw_os_error().map(Errno::from_raw) {
        return "no file descriptor is left: close unused descriptors, or raise the limit (ulimit -n)";
    }
    match source.kind() {
        io::ErrorKind::NotFound => {
            "the pipe does not exist: start the agent, or name the agent's pipe with \
             Runner::pipe_path"
        }
        io::ErrorKind::PermissionDenied => {
            "run the plugin as a user who may open the pipe, or change the pipe's permissions"
        }
        io::ErrorKind::ConnectionRefused => {
            "no process listens on it: start the agent; if this is not the agent's socket, name the \
             agent's with Runner::pipe_path"
        }
        io::ErrorKind::TimedOut => {
            "the agent is too busy to accept a connection: try again, or raise \
             Runner::connect_timeout"
        }
        _ => "check that this is the agent's pipe; Runner::pipe_path names another",
    }
}

#[cfg(test)]
mod tests;
