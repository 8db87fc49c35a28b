//! The position file stores how far the log was forwarded, for the next start.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use wedr_plugin_sdk::{Error, EventSink, Result};

use crate::failure::{Failure, LastingProblem, REPLACE};
use crate::file::{Head, Id};
use crate::follow::EVERY;

/// The content of a position file, as JSON.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Saved {
    version: u32,
    /// The path of the log.
    log: String,
    /// The oldest first. The last file was the log.
    pub(crate) files: Vec<SavedFile>,
    /// Files with a name of a rotated log that are not forwarded.
    pub(crate) others: BTreeSet<Id>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SavedFile {
    pub(crate) id: Id,
    /// The offset in bytes of the first line that was not forwarded.
    pub(crate) position: u64,
    pub(crate) head: Head,
}

const VERSION: u32 = 1;

impl Saved {
    pub(crate) fn new(log: &str, files: Vec<SavedFile>, others: BTreeSet<Id>) -> Self {
        Self { version: VERSION, log: log.to_owned(), files, others }
    }

    /// Why the position file cannot be used for this log.
    fn fault(&self, log: &Path) -> Option<String> {
        if self.version != VERSION {
            return Some(format!("it has version {} instead of {VERSION}", self.version));
        }
        if self.log != log.to_string_lossy() {
            return Some(format!("it is for another log, {}", self.log));
        }
        let is_wrong = |file: &SavedFile| !file.head.fits(file.position);
        let wrong = self.files.iter().position(is_wrong)?;
        Some(format!("the position and the head of file {wrong} contradict each other"))
    }
}

pub(crate) struct PositionFile {
    path: PathBuf,
    /// The last saved content.
    last: Option<Saved>,
    /// The time of the last attempt to save.
    tried: Option<Instant>,
    problem: LastingProblem,
}

impl PositionFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: None, tried: None, problem: LastingProblem::default() }
    }

    /// Returns `None` if the file does not exist yet.
    pub(crate) fn load(&self, log: &Path) -> Result<Option<Saved>> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::plugin(Failure::new("read", &self.path, e))),
        };
        let saved = serde_json::from_slice::<Saved>(&bytes).map_err(|e| e.to_string());
        let saved = saved.and_then(|saved| saved.fault(log).map_or(Ok(saved), Err));
        let refused = |why| {
            let remedy = "it is not a position file of this log; name another file, or remove it to \
                          start without a position";
            Error::plugin(Failure::with_remedy("use", &self.path, remedy, why))
        };
        saved.map(Some).map_err(refused)
    }

    /// Whether it is time to save again.
    pub(crate) fn is_due(&self) -> bool {
        self.tried.is_none_or(|at| at.elapsed() >= EVERY)
    }

    /// Saves a new position when the operating system has taken the events of all lines before it.
    /// Returns a failure that must be reported. If the first save fails, this is an error, except when
    /// another process has the position file open.
    pub(crate) fn keep(&mut self, saved: Saved, sink: &EventSink) -> Result<Option<Failure>> {
        if self.last.as_ref() == Some(&saved) {
            return Ok(None);
        }
        match sink.flush(EVERY) {
            Ok(()) => {}
            // The agent is slow: try again at the next look.
            Err(Error::FlushTimeout(_)) => return Ok(None),
            Err(e) => return Err(e),
        }
        self.tried = Some(Instant::now());
        match self.write(&saved) {
            Ok(()) => {
                self.last = Some(saved);
                Ok(self.problem.set(None))
            }
            Err(failure) if self.last.is_none() && !failure.is_replacing_an_open_file() => {
                Err(Error::plugin(failure))
            }
            Err(failure) => Ok(self.problem.set(Some(failure))),
        }
    }

    /// Saves the last position. Waits up to a second for another process that has the file open.
    pub(crate) fn write_at_end(&self, saved: &Saved) -> Result<(), Failure> {
        let began = Instant::now();
        loop {
            match self.write(saved) {
                Err(failure) if failure.is_replacing_an_open_file() && began.elapsed() < EVERY => {
                    thread::sleep(Duration::from_millis(10));
                }
                result => return result,
            }
        }
    }

    /// Replaces the file atomically: a reader sees the old content or the new content, also after a
    /// power failure.
    fn write(&self, saved: &Saved) -> Result<(), Failure> {
        let mut temporary = self.path.clone().into_os_string();
        temporary.push(".tmp");
        let temporary = Path::new(&temporary);
        let written = || -> io::Result<()> {
            match fs::remove_file(temporary) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            // `create_new` does not follow a link that another user created.
            let mut file = File::create_new(temporary)?;
            file.write_all(&serde_json::to_vec(saved)?)?;
            file.sync_all()
        };
        written().map_err(|e| Failure::new("write", &self.path, e))?;
        fs::rename(temporary, &self.path).map_err(|e| {
            let remedy =
                "close other programs that have it open, and allow the plugin's user to replace it";
            Failure::with_remedy(REPLACE, &self.path, remedy, e)
        })
    }
}
