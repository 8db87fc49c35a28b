//! The dev agent's process, and what it says.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use tempfile::TempDir;
use wedr_plugin_sdk::Runner;

/// How long to wait for a line: less than the watchdog does, to say which one.
const PATIENCE: Duration = Duration::from_secs(30);

/// More lines than there are.
const MANY: usize = 100_000;

/// The binary, with no plugin's id in its environment.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wedr-dev-agent"));
    command.env_remove("WEDR_PLUGIN_ID").env_remove("CLICOLOR_FORCE").stdin(Stdio::null());
    command
}

/// A place for a pipe that nobody listens on.
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

/// A running agent; killed when it is dropped.
pub(crate) struct DevAgent {
    process: Child,
    events: Option<Receiver<String>>,
    notes: Receiver<String>,
    pub(crate) pipe: PathBuf,
    place: Option<Place>,
}

impl DevAgent {
    /// One on a pipe of its own.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, MANY)
    }

    /// One whose events are read only as far as the test asks for them.
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

    /// One that launches `program` on a private pipe.
    pub(crate) fn launch(arguments: &[&str], program: impl AsRef<Path>) -> Self {
        Self::spawn(command().args(arguments).arg("--").arg(program.as_ref()))
    }

    /// Returns once it listens.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self::spawn_with(command, MANY)
    }

    fn spawn_with(command: &mut Command, events_ahead: usize) -> Self {
        let mut process =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary");
        let events = Some(lines(process.stdout.take().unwrap(), events_ahead));
        let notes = lines(process.stderr.take().unwrap(), MANY);
        let mut agent = Self { process, events, notes, pipe: PathBuf::new(), place: None };
        let listening = agent.note("listening on ");
        let pipe = listening.trim_start_matches("listening on ").split(';').next().unwrap();
        agent.pipe = pipe.into();
        agent
    }

    /// A plugin in this process that talks to it.
    pub(crate) fn runner(&self) -> Runner {
        Runner::new().pipe_path(&self.pipe).install_signal_handler(false)
    }

    /// The next line on standard output.
    pub(crate) fn event(&self) -> String {
        self.events.as_ref().unwrap().recv_timeout(PATIENCE).expect("one more event")
    }

    /// The next line on standard error that has `text` in it; those before it are left out.
    pub(crate) fn note(&self, text: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.notes.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => before.push(line),
                Err(e) => panic!("nothing about {text:?} ({e}) after {before:#?}"),
            }
        }
    }

    /// As `head` does when it has seen enough.
    pub(crate) fn close_events(&mut self) {
        self.events = None;
    }

    #[cfg(unix)]
    pub(crate) fn interrupt(&self) {
        let id = nix::unistd::Pid::from_raw(self.process.id().try_into().unwrap());
        nix::sys::signal::kill(id, nix::sys::signal::SIGINT).unwrap();
    }

    /// Waits until it has ended, and nobody has taken its events.
    #[cfg(unix)]
    pub(crate) fn exit_status(&mut self) -> ExitStatus {
        self.process.wait().unwrap()
    }

    /// Waits until it has ended; what else it said on standard output and standard error.
    pub(crate) fn ended(&mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let events = self.events.iter().flatten().collect();
        let notes = self.notes.iter().collect();
        (self.process.wait().unwrap(), events, notes)
    }

    /// Ends it with Ctrl+C, where it can be sent.
    pub(crate) fn stop(&mut self) -> (Vec<String>, Vec<String>) {
        #[cfg(unix)]
        self.interrupt();
        #[cfg(windows)]
        self.process.kill().unwrap();
        let (status, events, notes) = self.ended();
        assert!(status.success() || cfg!(windows), "{status}: {notes:#?}");
        (events, notes)
    }
}

impl Drop for DevAgent {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Reads `ahead` lines more than anybody asked for.
fn lines(from: impl Read + Send + 'static, ahead: usize) -> Receiver<String> {
    let (send, lines) = mpsc::sync_channel(ahead);
    // The reader closes its end as soon as nobody wants the lines.
    thread::spawn(move || {
        let mut from = BufReader::new(from).lines();
        from.by_ref().map_while(Result::ok).try_for_each(|line| send.send(line))
    });
    lines
}

/// A plugin's end of the pipe as bare bytes.
#[cfg(unix)]
pub(crate) fn connect(pipe: &Path) -> impl Read + Write {
    std::os::unix::net::UnixStream::connect(pipe).unwrap()
}

#[cfg(windows)]
pub(crate) fn connect(pipe: &Path) -> impl Read + Write {
    std::fs::OpenOptions::new().read(true).write(true).open(pipe).unwrap()
}
