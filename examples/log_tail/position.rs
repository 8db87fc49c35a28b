//! The position file stores how far the log was forwarded, for the next start.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::mem;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use wedr_plugin_sdk::{Error, EventSink, Result};

use crate::failure::Failure;
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
    /// The last saved content and its time.
    last: Option<(Instant, Saved)>,
    /// The last attempt failed, and the failure has been reported.
    has_failed: bool,
}

impl PositionFile {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, last: None, has_failed: false }
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
        self.last.as_ref().is_none_or(|(at, _)| at.elapsed() >= EVERY)
    }

    /// Saves a new position when the operating system has taken the events of all lines before it.
    /// Returns a failure that was not reported yet. A failure of the first save is an error.
    pub(crate) fn keep(&mut self, saved: Saved, sink: &EventSink) -> Result<Option<Failure>> {
        if self.last.as_ref().is_some_and(|(_, last)| *last == saved) {
            return Ok(None);
        }
        match sink.flush(EVERY) {
            Ok(()) => {}
            // The agent is slow: try again at the next look.
            Err(Error::FlushTimeout(_)) => return Ok(None),
            Err(e) => return Err(e),
        }
        let (saved, failure) = match (self.write(&saved), self.last.take()) {
            (Ok(()), _) => (saved, None),
            (Err(failure), None) => return Err(Error::plugin(failure)),
            (Err(failure), Some((_, last))) => (last, Some(failure)),
        };
        self.last = Some((Instant::now(), saved));
        let had_failed = mem::replace(&mut self.has_failed, failure.is_some());
        Ok(failure.filter(|_| !had_failed))
    }

    /// Replaces the file atomically: a reader sees the old content or the new content, also after a
    /// power failure.
    pub(crate) fn write(&self, saved: &Saved) -> Result<(), Failure> {
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
            file.sync_all()?;
            fs::rename(temporary, &self.path)
        };
        written().map_err(|e| Failure::new("write", &self.path, e))
    }
}
