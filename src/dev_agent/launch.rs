//! Launches the plugin and restarts it.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use console::Style;
use parking_lot::Mutex;

use super::ending::Ending;
use super::screen::Screen;
use super::tally::Tally;
use super::{process, service};
use crate::deadline::Deadline;
use crate::error::Printable;
use crate::transport::DEFAULT_PATH;

/// How often the agent checks whether the plugin has exited.
const POLL: Duration = Duration::from_millis(20);

pub(super) struct Launcher {
    pub(super) command: Vec<OsString>,
    pub(super) plugin_id: String,
    pub(super) pipe: PathBuf,
    pub(super) restart: bool,
    /// Whether the plugin gets no terminal and no Ctrl+C, and its output is discarded.
    pub(super) like_service: bool,
    pub(super) screen: Arc<Screen>,
    pub(super) tally: Arc<Tally>,
    pub(super) ending: Arc<Ending>,
    /// The process, until the agent has reaped it: until then no other process gets its id. A thread
    /// that holds this lock must not print: printing may block, and Ctrl+C needs the lock.
    pub(super) running: Mutex<Option<Child>>,
}

impl Launcher {
    /// Runs the plugin until it ends; with `restart`, until the agent ends. Returns `None` if the plugin
    /// never ran.
    pub(super) fn run(&self) -> Result<Option<ExitStatus>, String> {
        let mut backoff = Backoff::default();
        let mut last = None;
        loop {
            let started = Instant::now();
            match self.run_once() {
                Ok(None) => return Ok(last),
                Ok(status) => last = status,
                // The user may be rebuilding the program at this moment.
                Err(e) if last.is_some() => self.screen.warn(e),
                Err(e) => return Err(e),
            }
            if !self.restart || self.ending.asked.is_requested() {
                return Ok(last);
            }
            let pause = backoff.next(started.elapsed());
            self.screen.note(format_args!("the agent restarts the plugin in {pause:?}"));
            if self.ending.asked.wait_until(Deadline::after(pause)) {
                return Ok(last);
            }
        }
    }

    /// Returns `None` if the agent ends and the plugin was not launched.
    fn run_once(&self) -> Result<Option<ExitStatus>, String> {
        let (output, all_read) = mpsc::channel();
        let Some(id) = self.launch(output)? else { return Ok(None) };
        let status = self.wait(id).map_err(|e| format!("cannot wait for the plugin: {e}"))?;
        let hints = Hints::until_closed(&all_read, Deadline::after(process::OUTPUT_LIMIT));
        let ended = format!("plugin {id} ended, {status}");
        if status.success() {
            self.screen.note(ended);
        } else {
            self.screen.warn(ended);
        }
        let never_connected = self.tally.sessions() == 0 && !self.ending.asked.is_requested();
        // A plugin finds the agent's default pipe without `WEDR_PIPE_PATH`.
        if never_connected
            && self.pipe != Path::new(DEFAULT_PATH)
            && hints.suggests_wrong_path(status)
        {
            self.screen.warn(
                "the plugin never connected: it must pass WEDR_PIPE_PATH to Runner::pipe_path; see \
                 docs/first-plugin.md",
            );
        }
        Ok(Some(status))
    }

    /// Starts the process and returns its id. Returns `None` if the agent ends.
    fn launch(&self, output: mpsc::Sender<Hints>) -> Result<Option<u32>, String> {
        let mut process = {
            // An interrupt that came before this lock has set the flag. A later interrupt finds the process.
            let mut running = self.running.lock();
            if self.ending.asked.is_requested() {
                return Ok(None);
            }
            let spawn = if self.like_service { service::spawn } else { process::with_output };
            let mut process = process::start(&self.command, &self.plugin_id, &self.pipe, spawn)?;
            let outputs = (process.stdout.take(), process.stderr.take());
            let id = process.id();
            *running = Some(process);
            (id, outputs)
        };
        let (id, (stdout, stderr)) = &mut process;
        let plugin_id = Printable(&self.plugin_id);
        self.screen.note(format_args!("plugin {id} launched, WEDR_PLUGIN_ID={plugin_id}"));
        self.pass_on(stdout.take(), "stdout", output.clone());
        self.pass_on(stderr.take(), "stderr", output);
        Ok(Some(*id))
    }

    /// Waits for the process. Kills the process if it still runs at the agent's deadline.
    fn wait(&self, id: u32) -> io::Result<ExitStatus> {
        let mut killed = false;
        loop {
            let mut running = self.running.lock();
            let process = running.as_mut().expect("no other code waits for it");
            if let Some(status) = process.try_wait()? {
                *running = None;
                return Ok(status);
            }
            let outlasts = !killed && self.ending.deadline().has_passed();
            if outlasts {
                killed = true;
                process::kill(process)?;
            }
            drop(running);
            if outlasts {
                self.screen.warn(format_args!(
                    "plugin {id} did not end within {} s: the agent killed it",
                    process::GRACE.as_secs()
                ));
            }
            thread::sleep(POLL);
        }
    }

    /// Kills the plugin without notice.
    pub(super) fn kill(&self) {
        if let Some(process) = &mut *self.running.lock() {
            // This fails only if the process has ended.
            let _ = process::kill(process);
        }
    }

    /// Sends Ctrl+C to the plugin. On Windows the console has already sent it.
    #[cfg_attr(windows, expect(clippy::unused_self, reason = "there is nothing left to do"))]
    pub(super) fn interrupt(&self) {
        #[cfg(unix)]
        if let (Some(process), false) = (&*self.running.lock(), self.like_service) {
            // This fails only if the process has ended.
            let _ = process::signal(process, nix::sys::signal::SIGINT);
        }
    }

    /// Prints each line of the plugin's output with its stream's name, and sends the hints in it.
    fn pass_on(
        &self,
        from: Option<impl Read + Send + 'static>,
        name: &'static str,
        output: mpsc::Sender<Hints>,
    ) {
        let Some(from) = from else { return };
        let screen = Arc::clone(&self.screen);
        thread::spawn(move || {
            let mark = Style::new().for_stderr().blue();
            process::for_each_line(from, |line| {
                let text = line.replace('\t', "    ");
                // The launcher may have stopped waiting.
                let _ = output.send(Hints::in_line(&text));
                let text = Printable(text.trim_end_matches(['\r', '\n']));
                screen.note(format_args!("{} {text}", mark.apply_to(format!("{name} |"))));
            });
        });
    }
}

/// Hints in the plugin's output: why the plugin never connected.
#[derive(Debug, Clone, Copy, Default)]
struct Hints {
    printed: bool,
    names_a_pipe: bool,
}

impl Hints {
    fn in_line(line: &str) -> Self {
        let line = line.to_lowercase();
        let names_a_pipe =
            ["connect", "pipe", "socket", "no such file"].iter().any(|word| line.contains(word));
        Self { printed: true, names_a_pipe }
    }

    /// The hints of all lines, until both outputs are closed or `deadline` has passed.
    fn until_closed(lines: &mpsc::Receiver<Self>, deadline: Deadline) -> Self {
        let mut all = Self::default();
        let left = || deadline.instant().map(|at| at.saturating_duration_since(Instant::now()));
        while let Ok(line) = lines.recv_timeout(left().unwrap_or(Duration::MAX)) {
            all.printed |= line.printed;
            all.names_a_pipe |= line.names_a_pipe;
        }
        all
    }

    /// Whether a plugin that did not connect has probably tried another path: it exited with status 0, or it
    /// exited with an error status and printed no other reason.
    fn suggests_wrong_path(self, status: ExitStatus) -> bool {
        status.success() || status.code().is_some() && (!self.printed || self.names_a_pipe)
    }
}

/// How long to wait before the plugin is launched again: the same times as the real agent's.
#[derive(Default)]
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_secs(1);
    const LAST: Duration = Duration::from_secs(60);
    /// A plugin that ran for this long is restarted after [`Backoff::FIRST`] again.
    const LONG_RUN: Duration = Duration::from_secs(5 * 60);

    /// The pause after a run of length `ran`.
    fn next(&mut self, ran: Duration) -> Duration {
        self.0 = match self.0 {
            Duration::ZERO => Self::FIRST,
            _ if ran >= Self::LONG_RUN => Self::FIRST,
            pause => (pause * 2).min(Self::LAST),
        };
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_pause_doubles_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let mut seconds = |ran| backoff.next(Duration::from_secs(ran)).as_secs();
        let pauses: Vec<_> = (0..8).map(|_| seconds(0)).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!([seconds(300), seconds(299), seconds(0)], [1, 2, 4]);
    }
}
