//! Push events into the WazabiEDR agent, from a process of your own.
//!
//! ```no_run
//! fn main() -> wedr_plugin_sdk::Result<()> {
//!     let meta = wedr_plugin_sdk::metadata!("acme-tick")?;
//!     wedr_plugin_sdk::run_with(meta, |sink, ctx| {
//!         while !ctx.is_shutting_down() {
//!             sink.emit("acme.tick", serde_json::json!({ "alive": true }))?;
//!             ctx.sleep(std::time::Duration::from_secs(10));
//!         }
//!         Ok(())
//!     })
//! }
//! ```
//!
//! **What you write** is one function that produces events: a closure for [`run_with`], or a type
//! that implements [`Plugin`] for [`run`]. Options are set on a [`Runner`]. The [`EventSink`] it
//! gets may be cloned into any callback or thread: `emit` serialises the event, queues it, and does
//! not wait for the pipe.
//!
//! **What happens to it**: one thread of the SDK's own writes what is queued to the agent's pipe,
//! in batches, with heartbeats between. An event for which `emit` returned `Ok` is handed to the
//! operating system before the session's goodbye, or counted as undelivered; there is no third
//! way. A full queue makes `emit` wait, unless you say otherwise ([`Overflow`],
//! [`EventBuilder::try_emit`], [`EventBuilder::emit_timeout`]).
//!
//! **When it goes wrong** you get an [`Error`] that says what to do. Ctrl+C, SIGTERM, SIGHUP, a
//! [`ShutdownHandle`], a lost pipe and your function's return all end the session in the same
//! order: what is queued is sent, within [`Runner::drain_timeout`], then goodbye. Nothing is
//! retried and nothing reconnects: if the agent goes, `run` returns an error, the process exits,
//! and its supervisor starts it again.
//!
//! Two things lose what is queued, since they leave no time to send it: [`std::process::exit`]
//! during a session, and a fork after its start, which the SDK does not support.
//!
//! # Features
//!
//! - `test-util` (off by default): `testing`, an agent in your test's own process.

mod batch;
mod deadline;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod metadata;
mod queue;
mod runner;
mod session;
mod shutdown;
mod signals;
mod sink;
mod stats;
mod sync;
#[cfg(feature = "test-util")]
pub mod testing;
mod transport;
mod wire;
mod writer;

pub use error::{Error, RejectReason, Result};
pub use metadata::Metadata;
pub use queue::Overflow;
pub use runner::{Plugin, Runner, run, run_with};
pub use session::{CloseCause, SessionContext, SessionReport};
pub use shutdown::ShutdownHandle;
pub use sink::{EventBuilder, EventSink};
pub use stats::Stats;
pub use transport::AgentTrust;

/// [`Metadata::from_env`] with the version of the crate that calls it.
///
/// # Errors
///
/// As [`Metadata::from_env`].
///
/// # Examples
///
/// ```no_run
/// let meta = wedr_plugin_sdk::metadata!("acme-tick")?;
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[macro_export]
macro_rules! metadata {
    ($plugin_name:expr $(,)?) => {
        $crate::Metadata::from_env($plugin_name, ::core::env!("CARGO_PKG_VERSION"))
    };
}
