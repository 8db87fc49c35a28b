//! The trait of plugins, and the functions that run one.

use super::Runner;
use crate::error::Result;
use crate::metadata::Metadata;
use crate::session::SessionContext;
use crate::sink::EventSink;

/// A plugin as a type, for a plugin with state. A closure for [`run_with`] works too.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::{EventSink, Metadata, Plugin, Result, Runner, SessionContext};
/// # use wedr_plugin_sdk::testing::TestAgent;
///
/// struct Counter {
///     seen: u64,
/// }
///
/// impl Plugin for Counter {
///     fn metadata(&self) -> Metadata {
///         Metadata::new("8f0c", env!("CARGO_PKG_VERSION"), "counter")
///     }
///
///     fn run(&mut self, sink: &EventSink, _: &SessionContext) -> Result<()> {
///         self.seen += 1;
///         sink.emit("counter_seen", serde_json::json!({ "n": self.seen }))
///     }
/// }
///
/// # let agent = TestAgent::start()?;
/// let mut counter = Counter { seen: 0 };
/// Runner::new().pipe_path(agent.path()).run(&mut counter)?;
/// assert_eq!(counter.seen, 1);
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
pub trait Plugin {
    /// The plugin's identity for hello. Called once, before anything else.
    fn metadata(&self) -> Metadata;

    /// Produces events until it has no more, or the session is shutting down.
    ///
    /// # Errors
    ///
    /// The error that it returns is the result of the run, except
    /// [`Error::Shutdown`](crate::Error::Shutdown), which counts as `Ok`.
    fn run(&mut self, sink: &EventSink, ctx: &SessionContext) -> Result<()>;
}

impl<P: Plugin + ?Sized> Plugin for &mut P {
    fn metadata(&self) -> Metadata {
        (**self).metadata()
    }

    fn run(&mut self, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
        (**self).run(sink, ctx)
    }
}

impl<P: Plugin + ?Sized> Plugin for Box<P> {
    fn metadata(&self) -> Metadata {
        (**self).metadata()
    }

    fn run(&mut self, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
        (**self).run(sink, ctx)
    }
}

/// Runs a plugin for one session with the agent on its default pipe, with the defaults of
/// [`Runner::new`].
///
/// # Errors
///
/// As [`Runner::run_with`].
///
/// # Panics
///
/// As [`Runner::run_with`].
///
/// # Examples
///
/// ```no_run
/// # struct Sensor;
/// # impl wedr_plugin_sdk::Plugin for Sensor {
/// #     fn metadata(&self) -> wedr_plugin_sdk::Metadata {
/// #         wedr_plugin_sdk::Metadata::new("acme-sensor", "1.0", "Sensor")
/// #     }
/// #     fn run(&mut self, _: &wedr_plugin_sdk::EventSink, _: &wedr_plugin_sdk::SessionContext)
/// #         -> wedr_plugin_sdk::Result<()> { Ok(()) }
/// # }
/// fn main() -> wedr_plugin_sdk::Result<()> {
///     wedr_plugin_sdk::run(Sensor)
/// }
/// ```
pub fn run<P: Plugin>(plugin: P) -> Result<()> {
    Runner::new().run(plugin)
}

/// Runs a closure as a plugin for one session with the agent on its default pipe, with the
/// defaults of [`Runner::new`].
///
/// # Errors
///
/// As [`Runner::run_with`].
///
/// # Panics
///
/// As [`Runner::run_with`].
///
/// # Examples
///
/// ```no_run
/// fn main() -> wedr_plugin_sdk::Result<()> {
///     let meta = wedr_plugin_sdk::metadata!("acme-boot")?;
///     wedr_plugin_sdk::run_with(meta, |sink, _ctx| {
///         sink.emit("acme_boot", serde_json::json!({ "pid": std::process::id() }))
///     })
/// }
/// ```
pub fn run_with<F>(metadata: Metadata, body: F) -> Result<()>
where
    F: FnOnce(&EventSink, &SessionContext) -> Result<()>,
{
    Runner::new().run_with(metadata, body)
}
