//! A plugin whose events come from a library's thread, in a callback that must not block: it reports changes
//! in a folder. If the queue is full, the event is dropped. The SDK counts dropped events and reports them in
//! an event of their own.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example callback -- FOLDER
//! ```
//!
//! Settings: the folder, as the argument or in `CALLBACK_FOLDER`. The agent launches plugins without
//! arguments.
//!
//! - `folder_start` is the first event: the plugin watches the folder from now on.
//! - `folder_change` has `what` and `path`. For a rename within the folder, `to` is the new path.
//! - `folder_lost` counts the events that were dropped since the last report. The agent also sees a gap in
//!   `seq`.
//!
//! If the folder is removed, renamed or replaced, the plugin ends with an error, because its paths would be
//! wrong. On Windows the plugin does not detect that another folder replaced it.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, process};

use notify::{RecursiveMode, Watcher};
use serde::Serialize;
use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result, Runner, SessionContext, metadata};

/// How often the body checks the folder.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let argument = env::args_os().nth(1).or_else(|| env::var_os("CALLBACK_FOLDER"));
    let (Some(folder), None) = (argument, env::args_os().nth(2)) else {
        eprintln!("usage: callback FOLDER, or set CALLBACK_FOLDER");
        process::exit(2);
    };
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner
        .overflow(Overflow::Refuse)
        .loss_reports("folder_lost")
        .channel_capacity(1024)
        .run_with(metadata!("callback")?, |sink, ctx| watch(folder.as_ref(), sink, ctx))
}

fn watch(folder: &Path, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let identity = identity(folder);
    let (fail, failure) = mpsc::channel();
    let (to_emit, to_end, path) = (sink.clone(), ctx.shutdown_handle(), folder.to_owned());
    let on_change = move |change| match report(change, &path, identity, &to_emit) {
        // The SDK counts the events that it refuses.
        Ok(()) | Err(Error::QueueFull) => {}
        Err(other) => {
            // The body reads only the first error.
            let _ = fail.send(other);
            to_end.shutdown();
        }
    };
    let unwatchable = |e| cannot_watch(folder, e);
    let mut watcher = notify::recommended_watcher(on_change).map_err(unwatchable)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(unwatchable)?;
    let started = json!({ "folder": folder.to_string_lossy() });
    let mut result = sink.event("folder_start").emit_timeout(&started, CHECK_INTERVAL);
    while result.is_ok() && !ctx.is_shutting_down() {
        ctx.sleep(CHECK_INTERVAL);
        result = check(folder, identity);
    }
    drop(watcher);
    // If the callback failed, its error is the cause of any other error.
    failure.try_recv().map_or(result, Err)
}

#[derive(Serialize)]
struct Change {
    what: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
}

/// Reports a change. Runs on the watcher's thread.
fn report(
    change: notify::Result<notify::Event>,
    folder: &Path,
    identity: Identity,
    sink: &EventSink,
) -> Result<()> {
    let change = change.map_err(|e| {
        Error::plugin(format!(
            "watching the folder failed: {e}; fix the cause, and start the plugin again"
        ))
    })?;
    if change.need_rescan() {
        // The operating system lost at least one change.
        sink.report_lost(1);
    }
    let mut paths = change.paths.iter().map(|path| path.to_string_lossy().into_owned());
    let (Some(path), false) = (paths.next(), change.kind.is_access()) else {
        return Ok(());
    };
    check(folder, identity)?;
    let payload = Change { what: format!("{:?}", change.kind), path, to: paths.next() };
    sink.event("folder_change").emit(&payload)
}

/// Distinguishes a folder from another folder at the same path.
type Identity = Option<(u64, u64)>;

#[cfg(unix)]
fn identity(folder: &Path) -> Identity {
    use std::os::unix::fs::MetadataExt;
    folder.metadata().ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Without inode numbers, this shows only whether a folder exists.
#[cfg(not(unix))]
fn identity(folder: &Path) -> Identity {
    folder.is_dir().then_some((0, 0))
}

/// Fails if the folder is no longer at its path.
fn check(folder: &Path, expected: Identity) -> Result<()> {
    if expected.is_some() && identity(folder) == expected {
        return Ok(());
    }
    Err(cannot_watch(folder, notify::Error::generic("it was removed, renamed or replaced")))
}

fn cannot_watch(folder: &Path, e: notify::Error) -> Error {
    let folder = folder.display();
    Error::plugin(format!(
        "cannot watch {folder}: {e}; it must be a folder on a local disk and keep its path"
    ))
}
