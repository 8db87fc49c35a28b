//! Errors with the operation, the path and the remedy.

use std::error::Error as StdError;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wedr_plugin_sdk::Error;

#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {remedy}", path.display())]
pub(crate) struct Failure {
    operation: &'static str,
    path: PathBuf,
    remedy: &'static str,
    source: Box<dyn StdError + Send + Sync>,
}

impl Failure {
    pub(crate) fn new(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::with_remedy(operation, path, remedy(&source), source)
    }

    pub(crate) fn with_remedy(
        operation: &'static str,
        path: &Path,
        remedy: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { operation, path: path.to_owned(), remedy, source: source.into() }
    }

    /// Whether a file could not be replaced because another process has it open. Only Windows refuses this.
    pub(crate) fn is_replacing_an_open_file(&self) -> bool {
        // ERROR_ACCESS_DENIED, ERROR_SHARING_VIOLATION
        let codes = [5, 32];
        let source = self.source.downcast_ref::<io::Error>();
        let code = source.and_then(io::Error::raw_os_error);
        cfg!(windows) && self.operation == REPLACE && code.is_some_and(|code| codes.contains(&code))
    }

    /// The message and its cause.
    pub(crate) fn full(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// For `map_err`: turns an I/O error into the plugin's error.
pub(crate) fn failed(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::plugin(Failure::new(operation, path, source))
}

/// The operation that replaces a file by another.
pub(crate) const REPLACE: &str = "replace";

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "it must exist",
        ErrorKind::PermissionDenied => "allow the plugin's user to do this",
        ErrorKind::InvalidInput => "it must be a regular file, not a link to one",
        _ if is_out_of_descriptors(error) => {
            "raise the limit of open files (LimitNOFILE= in systemd, ulimit -n in a shell)"
        }
        _ => "check its file system",
    }
}

pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes = [nix::errno::Errno::EMFILE as i32, nix::errno::Errno::ENFILE as i32];
    // ERROR_TOO_MANY_OPEN_FILES
    #[cfg(windows)]
    let codes = [4];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

/// A problem is reported after this time. A rotated log is unreadable for some microseconds, a folder is
/// missing while its file system is mounted again, and on Windows another program may have the position
/// file open.
const LASTING: Duration = Duration::from_secs(5);

/// A problem that may disappear before the next look.
#[derive(Default)]
pub(crate) struct LastingProblem {
    since: Option<Instant>,
    reported: String,
}

impl LastingProblem {
    pub(crate) fn is_lasting(&self) -> bool {
        self.since.is_some_and(|since| since.elapsed() >= LASTING)
    }

    /// Records the current problem. Returns a lasting problem once, to be reported.
    pub(crate) fn set(&mut self, problem: Option<Failure>) -> Option<Failure> {
        let Some(failure) = problem else {
            *self = Self::default();
            return None;
        };
        self.since.get_or_insert_with(Instant::now);
        let text = failure.full();
        if !self.is_lasting() || text == self.reported {
            return None;
        }
        self.reported = text;
        Some(failure)
    }
}
