//! Standard output and standard error, and the status line below them.

use std::fmt::Display;
use std::io::{self, Write};
use std::sync::Arc;

use console::{Style, Term};
use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use super::ending::Ending;

/// The agent's two outputs, whole lines each.
pub(super) struct Screen {
    /// `None` without a terminal.
    status: Option<ProgressBar>,
    /// Whether standard output can still be written to. Held while it is.
    open: Mutex<bool>,
    ending: Arc<Ending>,
}

impl Screen {
    pub(super) fn new(ending: Arc<Ending>) -> Self {
        // With events in a pipe whose reader prints to the same terminal, it would be in the way.
        let terminal = Term::stdout().is_term() && Term::stderr().is_term();
        let status = terminal.then(|| {
            // The ^C that a terminal echoes makes the cursor a line lower than it is thought to be:
            // then the empty line is what is left over.
            let line = ProgressStyle::with_template("\n{spinner:.green} {msg}");
            ProgressBar::new_spinner().with_style(line.expect("a sound template"))
        });
        Self { status, open: Mutex::new(true), ending }
    }

    /// How many columns there are to fold text into; `None` if it is not to be folded.
    pub(super) fn columns() -> Option<usize> {
        Term::stdout().size_checked().map(|(_, columns)| columns.into())
    }

    pub(super) fn status(&self) -> Option<&ProgressBar> {
        self.status.as_ref()
    }

    /// Writes lines of events to standard output. The agent ends if nobody takes them.
    pub(super) fn events(&self, lines: &str) {
        let mut open = self.open.lock();
        if !*open || lines.is_empty() {
            return;
        }
        let mut out = io::stdout();
        let written =
            self.beside_status(|| out.write_all(lines.as_bytes()).and_then(|()| out.flush()));
        if let Err(e) = written {
            *open = false;
            drop(open);
            // A reader that has seen enough is no trouble.
            if e.kind() != io::ErrorKind::BrokenPipe {
                self.trouble(format_args!("cannot write events to standard output: {e}"));
            }
            self.ending.asked.request();
        }
    }

    /// Writes a line to standard error; the caller has escaped what came from elsewhere.
    pub(super) fn note(&self, line: impl Display) {
        let line = format!("{line}\n");
        // There is nobody else to tell.
        let _ = self.beside_status(|| io::stderr().write_all(line.as_bytes()));
    }

    /// A note that should not be overlooked.
    pub(super) fn trouble(&self, line: impl Display) {
        self.note(Style::new().for_stderr().red().apply_to(line));
    }

    fn beside_status<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.status {
            Some(line) => line.suspend(write),
            None => write(),
        }
    }
}
