//! The agent for development, behind the binary `wedr-dev-agent`: see docs/dev-agent.md.

mod cli;
mod ending;
mod fold;
mod launch;
mod pipe;
mod screen;
mod session;
mod show;
mod status;
mod tally;

use std::process::{ExitCode, ExitStatus};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use parking_lot::Mutex;

use cli::Cli;
use ending::Ending;
use launch::Launcher;
use pipe::Place;
use screen::Screen;
use tally::Tally;

use crate::deadline::Deadline;
use crate::error::Printable;
use crate::shutdown::Shutdown;
use crate::testing::{Script, accept_all};
use crate::transport::Listener;

/// How long sessions may take to say that they were closed.
const CLOSING: Duration = Duration::from_secs(1);

/// What all of the agent's threads share.
struct Agent {
    cli: Cli,
    script: Script,
    screen: Arc<Screen>,
    tally: Arc<Tally>,
    ending: Arc<Ending>,
}

/// The whole program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let ending = Arc::new(Ending::new());
    let screen = Arc::new(Screen::new(Arc::clone(&ending)));
    match run(cli, &screen, &ending) {
        Ok(status) => status,
        Err(e) => {
            screen.trouble(format_args!("wedr-dev-agent: {}", Printable(&e)));
            ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli, screen: &Arc<Screen>, ending: &Arc<Ending>) -> Result<ExitCode, String> {
    let private = !cli.command.is_empty();
    let (place, listener) = Place::listen(cli.pipe.as_deref(), private)?;
    let tally = Arc::new(Tally::default());
    let launcher = private.then(|| {
        Arc::new(Launcher {
            command: cli.command.clone(),
            plugin_id: cli.plugin_id(),
            pipe: place.path().to_owned(),
            restart: cli.restart,
            screen: Arc::clone(screen),
            tally: Arc::clone(&tally),
            ending: Arc::clone(ending),
            running: Mutex::new(None),
        })
    });
    share_ctrl_c(ending, launcher.as_ref())?;
    let shown = place.path().to_string_lossy();
    screen.note(format_args!("listening on {}; Ctrl+C ends", Printable(&shown)));
    if let Some(reason) = cli.trouble.unknown_reason() {
        let reason = Printable(&reason);
        screen.note(format_args!("--reject {reason} is none of the reasons in --help"));
    }
    let agent = Arc::new(Agent {
        script: cli.trouble.script(),
        cli,
        screen: Arc::clone(screen),
        tally,
        ending: Arc::clone(ending),
    });

    let done = Arc::new(Shutdown::new());
    let serving = {
        let (agent, done) = (Arc::clone(&agent), Arc::clone(&done));
        move || {
            serve(listener, &agent);
            done.request();
        }
    };
    let threads = "cannot start a thread";
    thread::Builder::new().spawn(serving).map_err(|e| format!("{threads}: {e}"))?;

    let ended = if let Some(launcher) = &launcher {
        launcher.run()?
    } else {
        ending.asked.wait_until(Deadline::NEVER);
        None
    };
    ending.asked.request();
    agent.tally.wait_idle(ending.deadline());
    ending.over.request();
    // A session that cannot write what it shows is left behind.
    done.wait_until(Deadline::after(CLOSING));
    screen.note(agent.tally.summary());
    Ok(ended.map_or(ExitCode::SUCCESS, exit_code))
}

/// Takes connections until the agent is to end, and returns when the last session has ended.
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

/// Has Ctrl+C, SIGTERM and SIGHUP end the agent, and everything that ends it reach the plugin.
fn share_ctrl_c(ending: &Arc<Ending>, launcher: Option<&Arc<Launcher>>) -> Result<(), String> {
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

/// The plugin's own, or as a shell has it.
fn exit_code(status: ExitStatus) -> ExitCode {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(windows)]
    let signal = None;
    let code = status.code().or(signal).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
