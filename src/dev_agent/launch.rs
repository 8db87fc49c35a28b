//! The plugin that the agent launches itself.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use console::Style;
use parking_lot::Mutex;

use super::ending::Ending;
use super::screen::Screen;
use super::tally::Tally;
use crate::deadline::Deadline;
use crate::error::Printable;

/// How often it is looked whether the plugin has exited.
const POLL: Duration = Duration::from_millis(20);
/// How long what the plugin said may take to be read once it has exited: a process that it left
/// behind may keep its outputs open.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// Bytes of a line of the plugin's that are shown as one.
const LINE: u64 = 8 << 10;

pub(super) struct Launcher {
    pub(super) command: Vec<OsString>,
    pub(super) plugin_id: String,
    pub(super) pipe: PathBuf,
    pub(super) restart: bool,
    pub(super) screen: Arc<Screen>,
    pub(super) tally: Arc<Tally>,
    pub(super) ending: Arc<Ending>,
    /// The process, as long as it was not waited for: till then its id is its own.
    pub(super) running: Mutex<Option<Child>>,
}

impl Launcher {
    /// Runs the plugin, again and again if it is to be restarted, until it or the agent ends.
    /// `None` if it never ran.
    pub(super) fn run(&self) -> Result<Option<ExitStatus>, String> {
        let mut backoff = Backoff::default();
        let mut last = None;
        loop {
            let started = Instant::now();
            match self.run_once() {
                Ok(None) => return Ok(last),
                Ok(status) => last = status,
                // It may be being built just now.
                Err(e) if last.is_some() => self.screen.trouble(e),
                Err(e) => return Err(e),
            }
            if !self.restart || self.ending.asked.is_requested() {
                return Ok(last);
            }
            let pause = backoff.next(started.elapsed());
            self.screen.note(format_args!("plugin restarts in {pause:?}"));
            if self.ending.asked.wait_until(Deadline::after(pause)) {
                return Ok(last);
            }
        }
    }

    /// `None` if it was not launched, since the agent ends.
    fn run_once(&self) -> Result<Option<ExitStatus>, String> {
        let sessions_before = self.tally.sessions();
        let (said, all_said) = mpsc::channel::<()>();
        let Some(id) = self.launch(said)? else { return Ok(None) };
        let status = self.wait(id).map_err(|e| format!("cannot wait for the plugin: {e}"))?;
        // Nothing is ever sent: it ends when the last sender is dropped.
        let _ = all_said.recv_timeout(LAST_WORDS);
        let ended = format!("plugin {id} ended, {status}");
        if status.success() {
            self.screen.note(ended);
        } else {
            self.screen.trouble(ended);
        }
        if self.tally.sessions() == sessions_before && !self.ending.asked.is_requested() {
            self.screen.trouble(
                "it never connected: it has to pass WEDR_PIPE_PATH to Runner::pipe_path; see \
                 docs/first-plugin.md",
            );
        }
        Ok(Some(status))
    }

    /// Starts the process; returns its id.
    fn launch(&self, said: mpsc::Sender<()>) -> Result<Option<u32>, String> {
        let (program, arguments) = self.command.split_first().expect("clap saw a command");
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("WEDR_PLUGIN_ID", &self.plugin_id)
            .env("WEDR_PIPE_PATH", &self.pipe)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // Ctrl+C reaches it through `interrupt` alone, then: once, whoever sent it.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        // An interrupt comes before, and is seen here, or after, and finds the process.
        let mut running = self.running.lock();
        if self.ending.asked.is_requested() {
            return Ok(None);
        }
        let mut process = command.spawn().map_err(|e| {
            let program = program.to_string_lossy();
            format!("cannot launch {}: {e}; build it, or give its path", Printable(&program))
        })?;
        let id = process.id();
        let plugin_id = Printable(&self.plugin_id);
        self.screen.note(format_args!("plugin {id} launched, WEDR_PLUGIN_ID={plugin_id}"));
        self.pass_on(process.stdout.take(), "stdout", said.clone());
        self.pass_on(process.stderr.take(), "stderr", said);
        *running = Some(process);
        Ok(Some(id))
    }

    /// Waits for the process; kills it if it outlasts the agent's end.
    fn wait(&self, id: u32) -> io::Result<ExitStatus> {
        let mut killed = false;
        loop {
            let mut running = self.running.lock();
            let process = running.as_mut().expect("nobody else waits for it");
            if let Some(status) = process.try_wait()? {
                *running = None;
                return Ok(status);
            }
            if !killed && self.ending.deadline().has_passed() {
                killed = true;
                self.screen.trouble(format_args!("plugin {id} has not ended in 5 s: killed"));
                kill(process)?;
            }
            drop(running);
            thread::sleep(POLL);
        }
    }

    /// Passes a Ctrl+C on. On Windows the console has done so.
    #[cfg_attr(windows, expect(clippy::unused_self, reason = "there is nothing left to do"))]
    pub(super) fn interrupt(&self) {
        #[cfg(unix)]
        if let Some(process) = &*self.running.lock() {
            // It fails only if the process has ended.
            let _ = signal(process, nix::sys::signal::SIGINT);
        }
    }

    /// Shows what the plugin says, each line marked.
    fn pass_on(
        &self,
        from: Option<impl Read + Send + 'static>,
        name: &'static str,
        said: mpsc::Sender<()>,
    ) {
        let screen = Arc::clone(&self.screen);
        let mut from = BufReader::new(from.expect("it was asked for"));
        thread::spawn(move || {
            // Dropped when all was read.
            let _said = said;
            let mark = Style::new().for_stderr().blue();
            let mut line = Vec::new();
            while from.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
                let text = String::from_utf8_lossy(&line).replace('\t', "    ");
                let text = Printable(text.trim_end_matches(['\r', '\n']));
                screen.note(format_args!("{} {text}", mark.apply_to(format!("{name} |"))));
                line.clear();
            }
        });
    }
}

#[cfg(unix)]
fn kill(process: &mut Child) -> io::Result<()> {
    signal(process, nix::sys::signal::SIGKILL)
}

#[cfg(windows)]
fn kill(process: &mut Child) -> io::Result<()> {
    process.kill()
}

/// To the process and those that it started.
#[cfg(unix)]
fn signal(process: &Child, signal: nix::sys::signal::Signal) -> io::Result<()> {
    let id = i32::try_from(process.id()).expect("a process id is an i32");
    Ok(nix::sys::signal::killpg(nix::unistd::Pid::from_raw(id), signal)?)
}

/// How long to wait before the plugin is launched again: as the agent does it.
#[derive(Default)]
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(60);

    /// After a run as long as the longest pause it begins anew.
    fn next(&mut self, ran: Duration) -> Duration {
        self.0 = match self.0 {
            Duration::ZERO => Self::FIRST,
            _ if ran >= Self::LAST => Self::FIRST,
            pause => (pause * 2).min(Self::LAST),
        };
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_a_minute_and_begins_anew_after_a_long_run() {
        let mut backoff = Backoff::default();
        let mut seconds = |ran| backoff.next(Duration::from_secs(ran)).as_secs();
        let pauses: Vec<_> = (0..8).map(|_| seconds(0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!([seconds(60), seconds(59), seconds(0)], [1, 2, 4]);
    }
}
