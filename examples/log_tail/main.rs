//! A plugin that follows a log file through rotation and truncation, and forwards each line as an event.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example log_tail -- [--from-start] [--position POSITION_FILE] FILE
//! ```
//!
//! Settings, as arguments or as variables (the agent launches plugins without arguments):
//!
//! - `FILE` or `LOG_TAIL_FILE`: the log. The plugin waits for a log that does not exist yet.
//! - `--position` or `LOG_TAIL_POSITION`: the position file, see below.
//! - `--from-start` or `LOG_TAIL_FROM_START=1`: start at the beginning of the log if there is no position file.
//!
//! # Where it starts
//!
//! **Without a position file the plugin stores no position.** It starts at the end of FILE, and does not forward
//! lines that are written while it does not run. With `--from-start` it starts at the beginning of FILE at each
//! start, and repeats what it forwarded before.
//!
//! With a position file the plugin starts where it stopped, also if the log was rotated meanwhile. It replaces
//! the position file at most once a second, after the operating system has taken the events. It replaces the
//! file once more at the end of a session if the agent confirms that it read everything
//! (`SessionReport::confirmed`). Therefore:
//!
//! - After an orderly end that the agent confirms, no line is lost and no line is repeated.
//! - After any other end (a kill, a lost agent) the lines since the last save are repeated, usually those of
//!   about one second.
//! - If the agent ends before it has read everything from the pipe, lines are lost: those from before the last
//!   save whose events are still in the pipe. The pipe holds some hundred KiB.
//! - If a file is removed, compressed or truncated before the plugin has read it, its lines are lost, also while
//!   the plugin does not run. If the file was the log itself, `log_start` has `gap: true`.
//!
//! A position file belongs to one log and one process. No other user may have write access to its folder. If
//! the position file cannot be used, the plugin ends with an error.
//!
//! # Events
//!
//! - `log_start` comes before the first line. Its `position` is the offset in bytes at which the plugin starts;
//!   it is absent if the log does not exist yet. `resumed` is true if the position file gave the position.
//! - `log_line` is one line. Lines come in the order in which they were written. A line that is too long for
//!   one event is sent in numbered parts.
//! - `log_error` reports why the plugin has not been able to read the log, or to save its position, for more than
//!   5 s: for example a missing permission. The plugin continues as soon as it can.
//!
//! Each event has the path of the log in `file`.
//!
//! # Which files belong to the log
//!
//! The plugin reads a rotated file to its end. A rotated file has the name `FILE.` or `FILE-` with a number, a
//! date or `old`; or the plugin followed the file before, and its name is now `FILE.*` or `FILE-*`. The plugin
//! reads no compressed files, and no names such as `app-1.log` for `app.log`. If the folder is missing for more
//! than 5 s, the plugin ends.
//!
//! The plugin looks at the folder when the system reports a change, and once a second. Between two looks it
//! cannot detect
//!
//! - a truncation after which the same first 1024 bytes and at least as many bytes were written again,
//! - a file that is created, rotated, and then compressed or removed.

mod failure;
mod file;
mod follow;
mod followed;
mod lines;
mod names;
mod position;
mod settings;
mod timestamp;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::{env, process, thread};

use wedr_plugin_sdk::{EventSink, Result, Runner, SessionContext, SessionReport, metadata};

use follow::{EVERY, Follower};
use lines::Forwarder;
use position::{PositionFile, Saved};
use settings::{Settings, USAGE};
use watch::Watch;

fn main() -> Result<()> {
    let Some(settings) = Settings::new(env::args_os().skip(1), |name| env::var_os(name)) else {
        eprintln!("{USAGE}");
        process::exit(2);
    };
    let position = settings.position.clone().map(PositionFile::new);
    let saved = position.as_ref().map(|file| file.load(&settings.names.path)).transpose()?;

    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    let end = Arc::new(Mutex::new(None));
    let at_close = Arc::clone(&end);
    runner
        .on_close(move |report| {
            save_end(report, at_close.lock().ok().and_then(|mut end| end.take()));
        })
        .run_with(metadata!("log-tail")?, |sink, ctx| {
            run(settings, position, saved.flatten(), &end, sink, ctx)
        })
}

/// The position at the end of the session, and its file.
type End = Option<(PositionFile, Saved)>;

/// Saves the last position. Only `on_close` knows whether the agent has read everything.
fn save_end(report: &SessionReport, end: End) {
    let failure =
        end.filter(|_| report.confirmed).and_then(|(file, saved)| file.write_at_end(&saved).err());
    if let Some(failure) = failure {
        eprintln!("log_tail: {}", failure.full());
    }
}

fn run(
    settings: Settings,
    mut position: Option<PositionFile>,
    saved: Option<Saved>,
    end: &Mutex<End>,
    sink: &EventSink,
    ctx: &SessionContext,
) -> Result<()> {
    let Settings { names, from_start, .. } = settings;
    let out = Forwarder::new(sink.clone(), &names.path, ctx.max_payload_bytes());
    let mut follower = Follower::new(names.clone(), from_start, saved, out);
    let watch = Watch::new(names.clone());

    // A shutdown also ends the wait for changes.
    let (waker, until) = (watch.waker(), ctx.clone());
    thread::spawn(move || {
        until.wait_for_shutdown();
        waker.wake(false);
    });
    let result = follow(&mut follower, watch, position.as_mut(), sink, ctx);

    // The sink is closed after the shutdown request. Lines that were written after the last look, and
    // a line without a newline, are not forwarded.
    let left = follower.left();
    match position.zip(follower.saved()) {
        Some(position) => *end.lock().unwrap_or_else(PoisonError::into_inner) = Some(position),
        None if left > 0 => eprintln!(
            "log_tail: the last {left} bytes of {} were not forwarded: they were written too late, \
             or the last line has no newline",
            names.path.display()
        ),
        None => {}
    }
    result
}

/// Forwards new lines until the session ends.
fn follow(
    follower: &mut Follower,
    mut watch: Watch,
    mut position: Option<&mut PositionFile>,
    sink: &EventSink,
    ctx: &SessionContext,
) -> Result<()> {
    let mut list = true;
    while !ctx.is_shutting_down() {
        let unwatched = if list { watch.renew() } else { None };
        let has_more = follower.look(list)?;
        unwatched.map_or(Ok(()), |failure| follower.report(failure))?;
        if let Some(position) = position.as_mut().filter(|file| file.is_due()) {
            let unsaved = match follower.saved() {
                Some(saved) => position.keep(saved, sink)?,
                None => None,
            };
            unsaved.map_or(Ok(()), |failure| follower.report(failure))?;
        }
        list = has_more || watch.wait(EVERY);
    }
    Ok(())
}
