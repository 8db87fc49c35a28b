//! The dev agent's process, and what it prints.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use tempfile::TempDir;
use wedr_plugin_sdk::Runner;

use crate::common::LIMIT;
use crate::common::process::{PROCESS_LIMIT, Process};

/// More lines than any test prints.
const MANY: usize = 100_000;

/// The binary, with no plugin's id in its environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wedr-dev-agent"));
    command.env_remove("WEDR_PLUGIN_ID").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

/// A path for a pipe without a listener.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    _folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = if cfg!(unix) {
            folder.path().join("plugin.sock")
        } else {
            let name = folder.path().file_name().unwrap().to_str().unwrap();
            format!(r"\\.\pipe\wedr-dev-agent-test-{name}").into()
        };
        Self { path, _folder: folder }
    }
}

/// A running dev agent, which is killed when this is dropped.
pub(crate) struct DevAgent {
    process: Process,
    events: Option<Receiver<String>>,
    notes: Receiver<String>,
    pub(crate) pipe: PathBuf,
    place: Option<Place>,
}

impl DevAgent {
    /// A dev agent with a pipe of its own.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, MANY)
    }

    /// A dev agent whose standard output is read only as far as the test asks for events.
    #[cfg(unix)]
    pub(crate) fn start_unread(arguments: &[&str]) -> Self {
        Self::start_with(arguments, 0)
    }

    fn start_with(arguments: &[&str], events_ahead: usize) -> Self {
        let place = Place::new();
        let mut command = command();
        command.arg("--pipe").arg(&place.path).args(arguments);
        let mut agent = Self::spawn_with(&mut command, events_ahead);
        agent.place = Some(place);
        agent
    }

    /// A dev agent that launches `program`, with a private pipe.
    pub(crate) fn launch(arguments: &[&str], program: impl AsRef<Path>) -> Self {
        Self::spawn(command().args(arguments).arg("--").arg(program.as_ref()))
    }

    /// Starts the dev agent, and returns when it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, MANY)
    }

    fn spawn_with(command: &mut Command, events_ahead: usize) -> Self {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(command);
        let events = Some(lines(process.0.stdout.take().unwrap(), events_ahead));
        let notes = lines(process.0.stderr.take().unwrap(), MANY);
        let mut agent = Self { process, events, notes, pipe: PathBuf::new(), place: None };
        let listening = agent.note("listening on ");
        let pipe = listening.trim_start_matches("listening on ").split(';').next().unwrap();
        agent.pipe = pipe.into();
        agent
    }

    /// Runs a plugin in this process, with a session at the dev agent. On a loaded machine its drain may take
    /// long.
    pub(crate) fn runner(&self) -> Runner {
        Runner::new().pipe_path(&self.pipe).install_signal_handler(false).drain_timeout(LIMIT)
    }

    /// The next line on standard output.
    pub(crate) fn event(&self) -> String {
        self.events.as_ref().unwrap().recv_timeout(PROCESS_LIMIT).expect("one more event")
    }

    /// The next line on standard error that contains `text`. Lines before it are skipped.
    pub(crate) fn note(&self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.notes.recv_timeout(PROCESS_LIMIT) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(e) => panic!("nothing about {text:?} ({e}) after {before:#?}"),
            }
        }
    }

    /// Closes the reader of standard output, as `head` does after some lines.
    pub(crate) fn close_events(&mut self) {
        self.events = None;
    }

    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        self.process.send(nix::sys::signal::SIGINT);
    }

    /// Waits until the dev agent has ended. No reader takes its events.
    #[cfg(unix)]
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        self.process.0.wait().unwrap()
    }

    /// Waits until the dev agent has ended. Returns the rest of standard output and standard error.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let events = self.events.iter().flatten().collect();
        let notes = self.notes.iter().collect();
        (self.process.0.wait().unwrap(), events, notes)
    }

    /// Ends the dev agent with Ctrl+C, on systems where a test can send it.
    pub(crate) fn stop(&mut self) -> (Vec<String>, Vec<String>) {
        #[cfg(unix)]
        self.interrupt();
        #[cfg(windows)]
        self.process.kill();
        let (status, events, notes) = self.ended();
        assert!(status.success() || cfg!(windows), "{status}: {notes:#?}");
        (events, notes)
    }
}

/// Reads `ahead` lines more than were requested.
fn lines(from: impl Read + Send + 'static, ahead: usize) -> Receiver<String> {
    let (send, lines) = mpsc::sync_channel(ahead);
    // The reader closes its end when the test needs no more lines.
    thread::spawn(move || {
        let mut from = BufReader::new(from).lines();
        from.by_ref().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    lines
}

/// A plugin's end of the pipe, on the level of bytes.
#[cfg(unix)]
pub(crate) fn connect(pipe: &Path) -> impl Read + Write {
    std::os::unix::net::UnixStream::connect(pipe).unwrap()
}

#[cfg(windows)]
pub(crate) fn connect(pipe: &Path) -> impl Read + Write {
    std::fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}
