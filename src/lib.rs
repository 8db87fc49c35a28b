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
//! A kind is any text, but rules of the released agent match only kinds without a dot, such as
//! `acme_tick`.
//!
//! # What you write
//!
//! You write one function that produces events, the *body*: a closure for [`run_with`], or a type that
//! implements [`Plugin`] for [`run`]. Options are set on a [`Runner`]. You may clone the [`EventSink`] into
//! any callback or thread. The [`SessionContext`] tells the body when to stop.
//!
//! # What the SDK does
//!
//! `emit` serialises the event in the caller's thread and queues it. It does not wait for the pipe. One
//! thread of the SDK writes the queued events to the agent in batches, and sends heartbeats in between. If
//! `emit` returned `Ok`, the SDK hands the event to the operating system before the session's goodbye, or
//! counts it as undelivered.
//!
//! # What happens on failures
//!
//! You get an [`Error`] that says what failed, where, and what to do about it. If you return it from `main`,
//! Rust prints that text.
//!
//! | event | effect |
//! | --- | --- |
//! | the agent does not run, or refuses the plugin | `run` fails at once: [`Error::Connect`], [`Error::Rejected`]; the body does not run |
//! | the agent reads slowly | when the queue is full, `emit` blocks, or fails if it may not block ([`Overflow`], [`EventBuilder::try_emit`], [`EventBuilder::emit_timeout`]) |
//! | an event is too large, nested too deep or not valid JSON | that `emit` fails; later events are not affected |
//! | Ctrl+C, SIGTERM, SIGHUP, a [`ShutdownHandle`], or the body returns | the SDK sends the queued events within [`Runner::drain_timeout`], then goodbye; `run` returns `Ok` |
//! | the time expires before everything is sent | `run` fails: [`Error::Undelivered`] |
//! | the agent goes away | `emit` fails, the session shuts down, and `run` fails ([`Error::is_disconnected`]): exit, and let the supervisor start the process again |
//! | the body panics | as if it had returned; then the panic continues |
//!
//! The SDK does not retry and does not reconnect. If the process ends during a session, the queued events are
//! lost. A fork during a session is not supported. See [`Runner::run_with`].
//!
//! # Features
//!
//! - `test-util` (off by default): `testing`, an agent in your test's own process.
//! - `dev-agent` (off by default): the binary `wedr-dev-agent`, an agent to develop plugins against. It
//!   includes `test-util` and adds the dependencies of a terminal program.
//!
//! # Guides
//!
//! The guides are in the [repository](https://github.com/wazabiedr/wedr-plugin-sdk), under `docs`: your first
//! plugin, testing, callbacks that must not block, tuning, under the real agent, deploying, errors.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batch;
mod clock;
mod deadline;
#[cfg(feature = "dev-agent")]
#[doc(hidden)]
pub mod dev_agent;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod handshake;
mod loss_log;
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
        // The code of this page uses `#[test]`. The std that is built from source for Wine lacks the crate
        // for that.
        #[cfg(unix)]
        testing = "../docs/testing.md";
        callbacks = "../docs/callbacks.md";
        deploying = "../docs/deploying.md";
        migrating = "../docs/migrating.md";
    }
}
