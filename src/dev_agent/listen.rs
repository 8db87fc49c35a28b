//! The program without a subcommand: an agent that listens, and launches a plugin on request.

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::cli::Live;
use super::ending::Ending;
use super::launch::Launcher;
use super::pipe::Place;
use super::screen::Screen;
use super::tally::Tally;
use super::{session, status};
use crate::deadline::Deadline;
use crate::error::Printable;
use crate::shutdown::Shutdown;
use crate::testing::{Script, accept_all};
use crate::transport::Listener;

/// How long sessions may take to print that the agent closed them.
const CLOSING: Duration = Duration::from_secs(1);

const THREADS: &str = "cannot start a thread";

/// What all of the agent's threads share.
pub(super) struct Agent {
    pub(super) cli: Live,
    pub(super) script: Script,
    pub(super) screen: Arc<Screen>,
    pub(super) tally: Arc<Tally>,
    pub(super) ending: Arc<Ending>,
    /// `None` without a command.
    pub(super) launcher: Option<Arc<Launcher>>,
}

/// Runs the agent until it ends; returns the program's exit status.
pub(super) fn main(cli: Live) -> ExitCode {
    let ending = Arc::new(Ending::new());
    let screen = match Screen::new(Arc::clone(&ending)) {
        Ok(screen) => Arc::new(screen),
        Err(e) => {
            eprintln!("wedr-dev-agent: {THREADS}: {e}");
            return ExitCode::FAILURE;
        }
    };
    let status = run(cli, &screen, &ending).unwrap_or_else(|e| {
        screen.warn(format_args!("wedr-dev-agent: {}", Printable(&e)));
        ExitCode::FAILURE
    });
    screen.finish(Deadline::after(CLOSING));
    // The exit status must show that the output is not complete.
    if screen.has_failed() { ExitCode::FAILURE } else { status }
}

fn run(cli: Live, screen: &Arc<Screen>, ending: &Arc<Ending>) -> Result<ExitCode, String> {
    let has_command = !cli.command.is_empty();
    if let (true, [program, _, ..]) = (cli.like_service, &*cli.command) {
        let program = program.to_string_lossy();
        return Err(format!(
            "--like-service launches {program} without arguments, as the agent does; remove the \
             arguments, and let the plugin read its settings from a file or from its environment"
        ));
    }
    let (place, listener) = Place::listen(cli.pipe.as_deref(), has_command)?;
    let tally = Arc::new(Tally::default());
    let launcher = has_command.then(|| {
        Arc::new(Launcher {
            command: cli.command.clone(),
            plugin_id: cli.plugin_id(),
            pipe: place.path().to_owned(),
            restart: cli.restart,
            like_service: cli.like_service,
            screen: Arc::clone(screen),
            tally: Arc::clone(&tally),
            ending: Arc::clone(ending),
            running: Mutex::new(None),
        })
    });
    handle_ctrl_c(ending, launcher.as_ref())?;
    let shown = place.path().to_string_lossy();
    screen.note(format_args!("listening on {}; Ctrl+C ends", Printable(&shown)));
    if let Some(reason) = cli.faults.unknown_reason() {
        let reason = Printable(&reason);
        screen.note(format_args!(
            "--reject {reason} is not a reason that --help lists; the agent sends it anyway"
        ));
    }
    let agent = Arc::new(Agent {
        script: cli.faults.script(),
        cli,
        screen: Arc::clone(screen),
        tally,
        ending: Arc::clone(ending),
        launcher,
    });

    let done = Arc::new(Shutdown::new());
    let serving = {
        let (agent, done) = (Arc::clone(&agent), Arc::clone(&done));
        move || {
            serve(listener, &agent);
            done.request();
        }
    };
    thread::Builder::new().spawn(serving).map_err(|e| format!("{THREADS}: {e}"))?;

    let ended = if let Some(launcher) = &agent.launcher {
        launcher.run()?
    } else {
        ending.asked.wait_until(Deadline::NEVER);
        None
    };
    ending.asked.request();
    agent.tally.wait_idle(ending.deadline());
    ending.over.request();
    // Limit the wait: the output of a session may block.
    done.wait_until(Deadline::after(CLOSING));
    screen.note(agent.tally.summary());
    Ok(ended.map_or(ExitCode::SUCCESS, exit_code))
}

/// Accepts connections until the agent is to end, and returns when the last session has ended.
fn serve(mut listener: Listener, agent: &Agent) {
    thread::scope(|scope| {
        if let Some(line) = agent.screen.status() {
            scope.spawn(|| status::keep(line, &agent.tally, &agent.ending));
        }
        let stopped = || agent.ending.asked.is_requested();
        accept_all(&mut listener, stopped, |pipe| {
            let number = agent.tally.opened();
            scope.spawn(move || session::run(agent, number, pipe));
        });
        agent.tally.all_opened();
    });
}

/// Makes Ctrl+C, SIGTERM and SIGHUP end the agent. Every end of the agent also interrupts the plugin.
fn handle_ctrl_c(ending: &Arc<Ending>, launcher: Option<&Arc<Launcher>>) -> Result<(), String> {
    let launcher = launcher.cloned();
    let interrupt = move || {
        if let Some(launcher) = &launcher {
            launcher.interrupt();
        }
    };
    ending.asked.on_request(interrupt.clone());
    let ending = Arc::clone(ending);
    let handler = move || {
        if ending.asked.is_requested() { interrupt() } else { ending.asked.request() }
    };
    ctrlc::set_handler(handler).map_err(|e| format!("cannot handle Ctrl+C: {e}"))
}

/// The plugin's exit code; for a plugin that a signal ended, 128 plus the signal, as in a shell.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(windows)]
    let signal = None;
    let code = status.code().or(signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
