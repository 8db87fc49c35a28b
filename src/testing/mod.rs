//! A test agent that runs in the process of your test.
//!
//! A [`TestAgent`] listens on a real pipe, on Unix a socket, and records what each session sent. By default
//! it behaves like the real agent. A [`Script`] makes it inject faults.
//!
//! ```
//! use std::time::Duration;
//! use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};
//! use wedr_plugin_sdk::{EventSink, Metadata, Result, Runner, SessionContext};
//!
//! /// The plugin under test.
//! fn report_logins(sink: &EventSink, _ctx: &SessionContext) -> Result<()> {
//!     for user in ["alice", "bob"] {
//!         sink.emit("acme_login", serde_json::json!({ "user": user }))?;
//!     }
//!     Ok(())
//! }
//!
//! let agent = TestAgent::start()?;
//! Runner::new()
//!     .pipe_path(agent.path())
//!     .install_signal_handler(false)
//!     .run_with(Metadata::new("acme-logins", "1.0", "Logins"), report_logins)?;
//!
//! let session = agent.ended_session(Duration::from_secs(5)).expect("the plugin had a session");
//! let users: Vec<_> = session.events().map(|e| e.payload["user"].clone()).collect();
//! assert_eq!(users, ["alice", "bob"]);
//! assert_eq!(session.end, Some(SessionEnd::Goodbye));
//! assert_eq!(session.missing_seqs(), 0);
//! # Ok::<(), wedr_plugin_sdk::Error>(())
//! ```
//!
//! An agent that rejects the plugin, and an agent that closes the session:
//!
//! ```
//! # use wedr_plugin_sdk::testing::{Script, TestAgent};
//! # use wedr_plugin_sdk::{Error, Metadata, RejectReason, Runner};
//! let agent = TestAgent::with(Script::new().reject("revoked"))?;
//! let result = Runner::new()
//!     .pipe_path(agent.path())
//!     .run_with(Metadata::new("acme", "1.0", "Acme"), |_, _| Ok(()));
//! assert!(matches!(result, Err(Error::Rejected { reason: RejectReason::Revoked })));
//!
//! let agent = TestAgent::with(Script::new().close_after(1))?;
//! let result = Runner::new()
//!     .pipe_path(agent.path())
//!     .run_with(Metadata::new("acme", "1.0", "Acme"), |sink, ctx| {
//!         sink.emit("acme_tick", serde_json::json!({}))?;
//!         ctx.wait_for_shutdown();
//!         Ok(())
//!     });
//! assert!(result.unwrap_err().is_disconnected());
//! # Ok::<(), wedr_plugin_sdk::Error>(())
//! ```

use parking_lot::{Condvar, MutexGuard};

use crate::deadline::Deadline;

mod agent;
mod record;
mod script;
mod seq;
mod serve;

pub use crate::wire::message::{Event, Hello, PluginMessage};
pub use agent::TestAgent;
pub use record::{Received, RecordedSession, SessionEnd};
pub use script::Script;
#[cfg(feature = "dev-agent")]
pub(crate) use seq::SeqCheck;
#[cfg(feature = "dev-agent")]
pub(crate) use serve::{Host, accept_all, serve};

/// Waits once until a thread notifies `changed`, or until `deadline`.
///
/// [`Deadline::wait`] is the same for the locks of `sync`, which are loom's in the models.
pub(crate) fn wait<T>(changed: &Condvar, state: &mut MutexGuard<'_, T>, deadline: Deadline) {
    match deadline.instant() {
        None => changed.wait(state),
        Some(at) => drop(changed.wait_until(state, at)),
    }
}

/// Sends Ctrl+C to the console. For this crate's own tests: on Windows they have no other signal for a
/// process.
#[cfg(windows)]
#[doc(hidden)]
pub fn press_ctrl_c() -> std::io::Result<()> {
    crate::transport::press_ctrl_c()
}
