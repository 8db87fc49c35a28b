//! Standard output and standard error, and the status line below them.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use console::{Style, Term};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::ending::Ending;
use super::notes::Notes;
use crate::deadline::Deadline;

/// The agent's two outputs. Each is written in whole lines.
pub(super) struct Screen {
    shared: Arc<Shared>,
    /// Whether standard output is a terminal: then lines are folded to its width.
    folds: bool,
    /// Whether standard output can still be written. A thread that writes to it holds the lock.
    open: Mutex<bool>,
    ending: Arc<Ending>,
}

/// What the thread that writes standard error shares with the other threads.
struct Shared {
    notes: Notes,
    /// `None` without a terminal.
    status: Option<ProgressBar>,
    /// Whether a write to an output failed. Does not count an output that its reader has closed.
    failed: AtomicBool,
}

impl Screen {
    pub(super) fn new(ending: Arc<Ending>) -> io::Result<Self> {
        let folds = Term::stdout().is_term();
        // If events go into a pipe, the pipe's reader may print to the same terminal: then a status
        // line would overwrite its output.
        let terminal = folds && Term::stderr().is_term();
        let status = terminal.then(|| {
            // When the terminal echoes ^C, the cursor is one line lower than the progress bar
            // expects, and the first line stays on the screen. So the first line is empty.
            let line = ProgressStyle::with_template("\n{spinner:.green} {msg}");
            ProgressBar::new_spinner().with_style(line.expect("the template is valid"))
        });
        let failed = AtomicBool::new(false);
        let shared = Arc::new(Shared { notes: Notes::default(), status, failed });
        let writing = Arc::clone(&shared);
        thread::Builder::new().spawn(move || {
            writing.notes.write_all(|line| {
                let write = || io::stderr().write_all(line.as_bytes());
                // Only the exit status can report this error.
                if let Err(e) = writing.around_status(write) {
                    writing.fail(&e);
                }
            })
        })?;
        Ok(Self { shared, folds, open: Mutex::new(true), ending })
    }

    /// How many columns the terminal has now; `None` if events go elsewhere.
    pub(super) fn columns(&self) -> Option<usize> {
        let size = if self.folds { Term::stdout().size_checked() } else { None };
        size.map(|(_, columns)| columns.into())
    }

    pub(super) fn status(&self) -> Option<&ProgressBar> {
        self.shared.status.as_ref()
    }

    /// Writes lines of events to standard output. The agent ends if they cannot be written.
    pub(super) fn events(&self, lines: &str) {
        let mut open = self.open.lock();
        if !*open || lines.is_empty() {
            return;
        }
        let mut out = io::stdout();
        let write = || out.write_all(lines.as_bytes()).and_then(|()| out.flush());
        if let Err(e) = self.shared.around_status(write) {
            *open = false;
            drop(open);
            if self.shared.fail(&e) {
                self.warn(format_args!(
                    "cannot write events to standard output: {e}; the agent ends"
                ));
            }
            self.ending.asked.request();
        }
    }

    /// Writes a line to standard error. The caller must escape text of other processes.
    pub(super) fn note(&self, line: impl Display) {
        self.shared.notes.put(format!("{line}\n"), &self.ending);
    }

    /// Writes a note in red.
    pub(super) fn warn(&self, line: impl Display) {
        self.note(Style::new().for_stderr().red().apply_to(line));
    }

    /// Waits until all notes were written, at most until a short time after `deadline`.
    pub(super) fn finish(&self, deadline: Deadline) {
        self.shared.notes.finish(deadline);
    }

    /// Whether writing an output failed.
    pub(super) fn has_failed(&self) -> bool {
        self.shared.failed.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Records that a write to an output failed, and returns true. Returns false if the reader of the output
    /// has closed it.
    fn fail(&self, e: &io::Error) -> bool {
        let fails = e.kind() != io::ErrorKind::BrokenPipe;
        self.failed.fetch_or(fails, Ordering::Relaxed);
        fails
    }

    fn around_status<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.status {
            Some(line) => line.suspend(write),
            None => write(),
        }
    }
}
