//! Reads recordings of `wedr-dev-agent --format ndjson` for the tasks that convert them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::ExitCode;

use super::examiner::Note;
use crate::testing::Event;

/// Why a task ended early.
pub(super) enum Stop {
    /// An error message for the user.
    Cannot(String),
    /// The reader of standard output has closed it.
    Closed,
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

impl From<io::Error> for Stop {
    /// An error of standard output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Cannot(format!("cannot write to standard output: {error}")),
        }
    }
}

/// Passes each recorded event to `each`, in order.
pub(super) fn read(path: &Path, mut each: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let file = File::open(path).map_err(|e| {
        Stop::Cannot(format!("cannot open {}: {e}; give the path of a recording", path.display()))
    })?;
    for (n, line) in BufReader::new(file).lines().enumerate() {
        let cannot = |e: &dyn std::error::Error| {
            Stop::Cannot(format!(
                "cannot read {}, line {}: {e}; record the file with wedr-dev-agent --format ndjson",
                path.display(),
                n + 1
            ))
        };
        let line = line.map_err(|e| cannot(&e))?;
        each(serde_json::from_str(&line).map_err(|e| cannot(&e))?)?;
    }
    Ok(())
}

/// Prints notes to standard error.
pub(super) fn print(notes: &[Note]) {
    for Note { what, remedy } in notes {
        // An error of standard error cannot be reported.
        let _ = writeln!(io::stderr(), "note: {what}: {remedy}");
    }
}

/// Prints the error message of a task, if there is one, and returns the task's exit status.
pub(super) fn status(ended: Result<bool>) -> ExitCode {
    match ended {
        Ok(true) | Err(Stop::Closed) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Cannot(what)) => {
            let _ = writeln!(io::stderr(), "wedr-dev-agent: {what}");
            ExitCode::FAILURE
        }
    }
}
