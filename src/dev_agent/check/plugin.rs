//! The plugin's process in one run.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::super::group;
use crate::error::{Printable, shortened};

/// How many of the last lines that the plugin printed are kept, and how many bytes of each.
const LINES: usize = 50;
const LINE: u64 = 8 << 10;
/// How long the check reads the plugin's output after the plugin has ended: a child process of the
/// plugin may keep the output open.
const OUTPUT_LIMIT: Duration = Duration::from_secs(1);

/// The plugin's process. Dropping it kills the process and, on Unix, its process group.
pub(super) struct Plugin {
    process: Child,
    status: Option<ExitStatus>,
    printed: Arc<Mutex<VecDeque<String>>>,
    /// The sender is dropped when all output was read.
    all_read: mpsc::Receiver<()>,
}

impl Plugin {
    pub(super) fn start(command: &[OsString], id: &str, pipe: &Path) -> Result<Self, String> {
        let (program, arguments) = command.split_first().expect("the command is not empty");
        let mut command = Command::new(program);
        command.args(arguments).env("WEDR_PLUGIN_ID", id).env("WEDR_PIPE_PATH", pipe);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Ctrl+C in the terminal must reach only the check.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut process = command.spawn().map_err(|e| {
            let program = program.to_string_lossy();
            format!(
                "cannot launch {}: {e}; build the plugin, or give its path",
                Printable(&program)
            )
        })?;
        let printed = Arc::new(Mutex::new(VecDeque::new()));
        let (reading, all_read) = mpsc::channel();
        read(process.stdout.take(), &printed, reading.clone());
        read(process.stderr.take(), &printed, reading);
        Ok(Self { process, status: None, printed, all_read })
    }

    /// The exit status; `None` while the process runs.
    pub(super) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.process.try_wait()?;
        }
        Ok(self.status)
    }

    /// Sends a signal to the plugin's process group, as a terminal does.
    #[cfg(unix)]
    pub(super) fn signal(&self, signal: nix::sys::signal::Signal) {
        if self.status.is_none() {
            // This fails only if the process has just ended.
            let _ = group::signal(&self.process, signal);
        }
    }

    /// Kills the process without notice, and returns when it has ended.
    pub(super) fn kill(&mut self) {
        if self.status.is_none() {
            // Both fail only if the process has just ended.
            let _ = group::kill(&mut self.process);
            self.status = self.process.wait().ok();
        }
    }

    /// The last lines that the plugin printed. After the end of the process, waits for the rest of them.
    pub(super) fn printed(&self) -> String {
        if self.status.is_some() {
            // No message is ever sent: this waits until both senders are dropped.
            let _ = self.all_read.recv_timeout(OUTPUT_LIMIT);
        }
        Vec::from(self.printed.lock().clone()).join("\n")
    }

    /// The last line that the plugin printed, in quotes, for a report.
    pub(super) fn last_output(&self) -> Option<String> {
        let printed = self.printed();
        let line = printed.lines().rev().find(|line| !line.trim().is_empty())?;
        Some(format!("\"{}\"", Printable(&shortened(line.trim()))))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        self.kill();
    }
}

fn read(
    from: Option<impl Read + Send + 'static>,
    printed: &Arc<Mutex<VecDeque<String>>>,
    reading: mpsc::Sender<()>,
) {
    let printed = Arc::clone(printed);
    let mut from = BufReader::new(from.expect("it is piped"));
    thread::spawn(move || {
        // Dropped when all output was read.
        let _reading = reading;
        let mut line = Vec::new();
        while from.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            let mut printed = printed.lock();
            if printed.len() == LINES {
                printed.pop_front();
            }
            printed.push_back(String::from_utf8_lossy(&line).trim_end().to_owned());
            line.clear();
        }
    });
}
