//! The plugin's process in one run.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{self, Read};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, mpsc};
use std::thread;

use parking_lot::Mutex;

use super::super::process;
use crate::error::{Printable, shortened};

/// How many of the last lines that the plugin printed are kept.
const LINES: usize = 50;

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
        let mut process = process::start(command, id, pipe, process::with_output)?;
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
            let _ = process::signal(&self.process, signal);
        }
    }

    /// Kills the process without notice, and returns when it has ended.
    pub(super) fn kill(&mut self) {
        if self.status.is_none() {
            // Both fail only if the process has just ended.
            let _ = process::kill(&mut self.process);
            self.status = self.process.wait().ok();
        }
    }

    /// The last lines that the plugin printed. After the end of the process, waits for the rest of them.
    pub(super) fn printed(&self) -> String {
        if self.status.is_some() {
            // No message is ever sent: this waits until both senders are dropped.
            let _ = self.all_read.recv_timeout(process::OUTPUT_LIMIT);
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
    let from = from.expect("it is piped");
    thread::spawn(move || {
        // Dropped when all output was read.
        let _reading = reading;
        process::for_each_line(from, |line| {
            let mut printed = printed.lock();
            if printed.len() == LINES {
                printed.pop_front();
            }
            printed.push_back(line.trim_end().to_owned());
        });
    });
}
