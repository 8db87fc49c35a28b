//! Reports changes in a folder from a library's own thread, which must never wait: what finds no
//! room in the queue is dropped, and the drops are counted and reported too.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example callback -- FOLDER`, with an agent on the default pipe,
//! or on the one named in `WEDR_PIPE_PATH`.
//!
//! The first event, `folder.start`, says that the folder is watched. Each `folder.dropped` says how
//! many events were lost since the one before it. The agent sees the same loss as a gap in `seq`.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;
use std::{env, process};

use notify::{RecursiveMode, Watcher};
use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result, Runner, SessionContext, metadata};

/// How often drops are looked for.
const ROUND: Duration = Duration::from_secs(1);

fn main() -> Result<()> {
    let (Some(folder), None) = (env::args_os().nth(1), env::args_os().nth(2)) else {
        eprintln!("usage: callback FOLDER");
        process::exit(2);
    };
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner
        .overflow(Overflow::Refuse)
        .channel_capacity(1024)
        .run_with(metadata!("callback")?, |sink, ctx| watch(folder.as_ref(), sink, ctx))
}

fn watch(folder: &Path, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let (fail, failure) = mpsc::channel();
    let (to_emit, to_end, path) = (sink.clone(), ctx.shutdown_handle(), folder.to_owned());
    let called = move |change| match report(change, &path, &to_emit) {
        // The session counts what it refuses.
        Ok(()) | Err(Error::QueueFull) => {}
        Err(other) => {
            // Only the first counts; the body takes no other.
            let _ = fail.send(other);
            to_end.shutdown();
        }
    };
    let unwatchable = |e| cannot_watch(folder, e);
    let mut watcher = notify::recommended_watcher(called).map_err(unwatchable)?;
    watcher.watch(folder, RecursiveMode::NonRecursive).map_err(unwatchable)?;
    let started = json!({ "folder": folder.to_string_lossy() });
    let result = sink.event("folder.start").emit_timeout(&started, ROUND);
    let result = result.and_then(|()| report_drops(sink, ctx));
    drop(watcher);
    // If the callback failed, all else comes of that.
    failure.try_recv().map_or(result, Err)
}

/// Until the shutdown. This thread may wait.
fn report_drops(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let mut reported = 0;
    while !ctx.is_shutting_down() {
        ctx.sleep(ROUND);
        let refused = sink.stats().refused;
        if refused > reported {
            eprintln!("callback: {refused} events dropped so far: the agent reads too slowly");
            let payload = json!({ "count": refused - reported });
            match sink.event("folder.dropped").emit_timeout(&payload, ROUND) {
                Ok(()) => reported = refused,
                // The next round says it.
                Err(Error::QueueFull) => {}
                Err(other) => return Err(other),
            }
        }
    }
    Ok(())
}

/// On the watcher's thread.
fn report(change: notify::Result<notify::Event>, folder: &Path, sink: &EventSink) -> Result<()> {
    let change = change.map_err(|e| {
        Error::plugin(format!("the watch of the folder broke: {e}; see the cause, and start again"))
    })?;
    if change.kind.is_access() {
        return Ok(());
    }
    if change.kind.is_remove() && change.paths.iter().any(|path| path == folder) {
        return Err(cannot_watch(folder, notify::Error::path_not_found()));
    }
    let paths: Vec<_> = change.paths.iter().map(|path| path.to_string_lossy()).collect();
    let what = format!("{:?}", change.kind);
    // With `rescan` the system has lost changes itself.
    let payload = json!({ "what": what, "paths": paths, "rescan": change.need_rescan() });
    sink.emit("folder.change", payload)
}

fn cannot_watch(folder: &Path, e: notify::Error) -> Error {
    let folder = folder.display();
    Error::plugin(format!("cannot watch {folder}: {e}; it must be there, on a local disk"))
}
