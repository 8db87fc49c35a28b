//! Follows a log file through rotation and truncation, and forwards each line as an event.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example log_tail -- [--from-start] FILE`, with an agent on the
//! default pipe, or on the one named in `WEDR_PIPE_PATH`.
//!
//! It begins at the end of FILE, or with `--from-start` at its beginning, or waits for it to
//! appear; the first event, `log.start`, says where. From then on every line becomes one
//! `log.line`, in the order of writing, also those written to a file after it was renamed to
//! `FILE.*` or `FILE-*`. A line too long for the agent comes in numbered parts. All files of these
//! names are held open, but for packed ones.
//!
//! What it cannot see: that a file was truncated, if it has grown past its old length before the
//! next look at it; and what was in a file that came, was rotated, and was packed or removed, all
//! between two looks.

mod follow;
mod lines;
mod names;
mod timestamp;

use std::ffi::OsString;
use std::path::{Path, PathBuf, absolute};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{env, process};

use notify::event::ModifyKind;
use notify::{Event, EventKind, RecursiveMode, Watcher};
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, metadata};

use follow::Follower;
use lines::Forwarder;
use names::Names;

fn main() -> Result<()> {
    let Some((names, from_start)) = arguments(env::args_os().skip(1)) else {
        eprintln!("usage: log_tail [--from-start] FILE");
        process::exit(2);
    };
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner.run_with(metadata!("log-tail")?, |sink, ctx| run(names, from_start, sink, ctx))
}

fn arguments(given: impl Iterator<Item = OsString>) -> Option<(Names, bool)> {
    let mut from_start = false;
    let mut file = None;
    for argument in given {
        if argument == "--from-start" {
            from_start = true;
        } else if file.is_some() || argument.as_encoded_bytes().starts_with(b"-") {
            return None;
        } else {
            file = Some(absolute(argument).ok()?);
        }
    }
    Some((Names::new(file?)?, from_start))
}

fn run(names: Names, from_start: bool, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let forwarder = Forwarder::new(sink.clone(), &names.path, ctx.max_payload_bytes());
    let tail = Arc::new(Tail {
        follower: Mutex::new(Follower::new(names.clone(), from_start, forwarder)),
        names,
        ctx: ctx.clone(),
        failure: Mutex::new(None),
    });

    let names = &tail.names;
    let called = Arc::clone(&tail);
    let unwatchable = || failed("watch", &names.folder, "it must be there, on a local disk");
    let mut watcher =
        notify::recommended_watcher(move |event| called.on_event(event)).map_err(unwatchable())?;
    // The folder, since the file comes and goes. Watched before the first look, so that nothing
    // can happen between the two.
    watcher.watch(&names.folder, RecursiveMode::NonRecursive).map_err(unwatchable())?;
    // A folder with an open file in it does not report its own removal; the one above it does, but
    // may be closed to the plugin.
    if let Some(above) = names.folder.parent() {
        let _ = watcher.watch(above, RecursiveMode::NonRecursive);
    }
    tail.attempt(|follower| follower.look(true));

    // On Windows the watcher drops callbacks when many come at once, and does not say so.
    while cfg!(windows) && !ctx.is_shutting_down() {
        ctx.sleep(Duration::from_secs(1));
        tail.attempt(|follower| follower.look(true));
    }
    ctx.wait_for_shutdown();
    drop(watcher);
    // The sink closed when the shutdown was asked for, so a last look could forward nothing: what
    // was written after the look before it stays behind, and so does a line without its end.
    let left = lock(&tail.follower).left();
    if left > 0 {
        eprintln!(
            "log_tail: the last {left} bytes of {} came too late to be forwarded, or are a line \
             without its end",
            names.path.display()
        );
    }
    lock(&tail.failure).take().map_or(Ok(()), Err)
}

/// What the watcher's callback needs.
struct Tail {
    follower: Mutex<Follower>,
    names: Names,
    ctx: SessionContext,
    /// What ended the run, if it was no shutdown from outside.
    failure: Mutex<Option<Error>>,
}

impl Tail {
    /// On the watcher's thread. A slow agent makes it wait in `emit`; the events that pile up
    /// behind it cost nothing, since one look sees the work of them all.
    fn on_event(&self, event: notify::Result<Event>) {
        let broken = |why| failed("watch", &self.names.folder, why);
        self.attempt(|follower| {
            let event = event.map_err(broken("see the cause, and start again"))?;
            // Reading, and listing the folder, call back too: without this it would never end.
            if event.kind.is_access() {
                return Ok(());
            }
            let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
            if (renamed || event.kind.is_remove()) && event.paths.contains(&self.names.folder) {
                let gone = notify::Error::path_not_found();
                return Err(broken("it must be there; put it back, and start again")(gone));
            }
            // After a rescan flag nothing is known of what happened meanwhile.
            let ours =
                |path: &PathBuf| path.file_name().is_some_and(|name| self.names.contain(name));
            if !event.need_rescan() && !event.paths.iter().any(ours) {
                return Ok(());
            }
            // New bytes, the most frequent by far, need no look at the folder.
            follower.look(!matches!(event.kind, EventKind::Modify(ModifyKind::Data(_))))
        });
    }

    /// The first failure ends the session.
    fn attempt(&self, work: impl FnOnce(&mut Follower) -> Result<()>) {
        let mut follower = lock(&self.follower);
        if self.ctx.is_shutting_down() {
            return;
        }
        if let Err(error) = work(&mut follower) {
            lock(&self.failure).get_or_insert(error);
            self.ctx.shutdown_handle().shutdown();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {remedy}", path.display())]
struct Failure {
    operation: &'static str,
    path: PathBuf,
    remedy: &'static str,
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// For `map_err`: names what was done to what, and what to do about it.
fn failed<E>(operation: &'static str, path: &Path, remedy: &'static str) -> impl FnOnce(E) -> Error
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let path = path.to_owned();
    move |source| Error::plugin(Failure { operation, path, remedy, source: source.into() })
}
