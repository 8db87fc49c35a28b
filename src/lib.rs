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
//! # What you write
//!
//! One function that produces events: a closure for [`run_with`], or a type that implements
//! [`Plugin`] for [`run`]. Options are set on a [`Runner`]. The [`EventSink`] that it gets may be
//! cloned into any callback or thread; the [`SessionContext`] says when to stop.
//!
//! # What happens to it
//!
//! `emit` serialises the event in the caller's thread, queues it, and does not wait for the pipe.
//! One thread of the SDK's own writes what is queued to the agent, in batches, with heartbeats
//! between. An event for which `emit` returned `Ok` is handed to the operating system before the
//! session's goodbye, or counted as undelivered; there is no third way.
//!
//! # When it goes wrong
//!
//! You get an [`Error`] that says what failed, where, and what to do. Return it from `main`, which
//! prints just that.
//!
//! | what | then |
//! | --- | --- |
//! | the agent does not run, or refuses the plugin | `run` fails at once: [`Error::Connect`], [`Error::Rejected`]; the body does not run |
//! | the agent reads slowly | once the queue is full `emit` waits, or fails if it may not ([`Overflow`], [`EventBuilder::try_emit`], [`EventBuilder::emit_timeout`]) |
//! | an event is too large, too deep or no JSON | that `emit` fails, and nothing else |
//! | Ctrl+C, SIGTERM, SIGHUP, a [`ShutdownHandle`], or the body returns | what is queued is sent, within [`Runner::drain_timeout`], then goodbye; `run` returns `Ok` |
//! | time runs out before everything is sent | `run` fails: [`Error::Undelivered`] |
//! | the agent goes away | `emit` fails, the session shuts down, and `run` fails ([`Error::is_disconnected`]): exit, and let the supervisor start the process again |
//! | the body panics | as if it had returned; then the panic goes on |
//!
//! Nothing is retried and nothing reconnects. Two things lose what is queued, since they leave no
//! time to send it: the end of the process during a session, and a fork after its start. See
//! [`Runner::run_with`].
//!
//! # Features
//!
//! - `test-util` (off by default): `testing`, an agent in your test's own process.
//! - `dev-agent` (off by default): the binary `wedr-dev-agent`, an agent to develop against; brings
//!   `test-util` and what a terminal program needs.
//!
//! # Guides
//!
//! In the [repository](https://github.com/wazabiedr/wedr-plugin-sdk), under `docs`: your first
//! plugin in ten minutes, testing it, callbacks that must not wait, deploying, coming from the
//! mutex-based SDK, and every error with its cause and remedy.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod deadline;
#[cfg(feature = "dev-agent")]
#[doc(hidden)]
pub mod dev_agent;
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

/// The guides' code, compiled and run with the doc tests.
#[cfg(doctest)]
mod guides {
    macro_rules! pages {
        ($($(#[$cfg:meta])* $name:ident = $page:literal;)*) => {
            $($(#[$cfg])* #[doc = include_str!($page)] mod $name {})*
        };
    }
    pages! {
        readme = "../README.md";
        first_plugin = "../docs/first-plugin.md";
        // Its blocks are tests, for which a std built from source, as under Wine, lacks a crate.
        #[cfg(unix)]
        testing = "../docs/testing.md";
        callbacks = "../docs/callbacks.md";
        deploying = "../docs/deploying.md";
        migrating = "../docs/migrating.md";
    }
}
