//! A file whose lines are forwarded.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::time::SystemTime;

use jiff::ZonedDateTime;
use wedr_plugin_sdk::Result;

use crate::failure::{Failure, failed};
use crate::file::{Head, Id, Status, last_line, open, read_at};
use crate::lines::{Forwarder, Lines};
use crate::names::{Found, Names};
use crate::position::SavedFile;

pub(crate) struct Followed {
    pub(crate) id: Id,
    /// The file's entry in the last list; `None` if it has no name in the folder.
    pub(crate) found: Option<Found>,
    /// The file was truncated or replaced since the position was saved.
    pub(crate) is_replaced: bool,
    /// How many bytes were read.
    pub(crate) position: u64,
    /// `None` before the file is opened, and for older files except while they are read.
    file: Option<File>,
    /// The last known length, of the open file or from the folder's list.
    length: u64,
    modified: Option<SystemTime>,
    /// What to do when the file is opened.
    start: Start,
    head: Head,
    lines: Lines,
}

#[derive(Clone, Copy)]
enum Start {
    Done,
    /// `position` is the end of the file. If the last line has no newline, go back to its start.
    LastLine,
    /// `position` and `head` are from the position file: check whether they fit.
    Resumed,
}

pub(crate) enum Opening {
    Open,
    /// The file has no name, so it can no longer be opened.
    Nameless,
    /// Another file has its name now.
    Renamed,
    Failed(Failure),
}

impl Followed {
    pub(crate) fn from_start(found: Found) -> Self {
        Self {
            id: found.status.id,
            length: found.status.length,
            modified: found.status.modified,
            found: Some(found),
            is_replaced: false,
            position: 0,
            file: None,
            start: Start::Done,
            head: Head::default(),
            lines: Lines::from(0),
        }
    }

    pub(crate) fn from_end(found: Found) -> Self {
        let position = found.status.length;
        Self { position, start: Start::LastLine, ..Self::from_start(found) }
    }

    pub(crate) fn resumed(saved: SavedFile) -> Self {
        Self {
            id: saved.id,
            length: saved.position,
            modified: None,
            found: None,
            is_replaced: false,
            position: saved.position,
            file: None,
            start: Start::Resumed,
            head: saved.head,
            lines: Lines::from(saved.position),
        }
    }

    pub(crate) fn saved(&self) -> SavedFile {
        // All lines before the incomplete one have been forwarded.
        let position = self.position - self.lines.length();
        SavedFile { id: self.id, position, head: self.head.clone() }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.file.is_some()
    }

    /// Whether the file is known to have content.
    pub(crate) fn is_used(&self) -> bool {
        self.length > 0
    }

    /// Whether the file is longer than what was read, according to the folder's list.
    pub(crate) fn has_grown(&self) -> bool {
        self.found.as_ref().is_some_and(|found| found.status.length > self.position)
    }

    /// How many of its bytes were not forwarded.
    pub(crate) fn left(&self) -> u64 {
        let length = self.file.as_ref().and_then(|file| Status::of(file).ok()).map(|s| s.length);
        let unread = length.unwrap_or(self.length).saturating_sub(self.position);
        unread + self.lines.pending() as u64
    }

    /// Opens the file, unless it is open. A line may have up to `longest` bytes.
    pub(crate) fn open(&mut self, names: &Names, longest: usize) -> Result<Opening> {
        if self.file.is_some() {
            return Ok(Opening::Open);
        }
        let Some(found) = &self.found else { return Ok(Opening::Nameless) };
        let path = names.folder.join(&found.name);
        let opened = open(&path).and_then(|file| Ok((Status::of(&file)?, file)));
        let (status, file) = match opened {
            Ok(opened) if opened.0.id == self.id => opened,
            Ok(_) => return Ok(Opening::Renamed),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Opening::Renamed),
            Err(e) => return Ok(Opening::Failed(Failure::new("open", &path, e))),
        };
        self.begin(&file, &status, longest).map_err(failed("read", &path))?;
        self.start = Start::Done;
        self.file = Some(file);
        Ok(Opening::Open)
    }

    fn begin(&mut self, file: &File, status: &Status, longest: usize) -> io::Result<()> {
        match self.start {
            Start::Done => {}
            Start::LastLine => {
                self.position = last_line(file, self.position, longest)?;
                self.head = Head::of(file, self.position)?;
                self.lines = Lines::from(self.position);
            }
            Start::Resumed if status.length >= self.position && self.head.is_of(file)? => {}
            Start::Resumed => {
                self.is_replaced = true;
                self.restart();
            }
        }
        Ok(())
    }

    fn restart(&mut self) {
        (self.position, self.head, self.lines) = (0, Head::default(), Lines::from(0));
    }

    /// Closes the file. It can be opened again as long as it has a name.
    pub(crate) fn close(&mut self) {
        self.file = None;
    }

    /// Updates the length of the open file.
    pub(crate) fn measure(&mut self, names: &Names) -> Result<()> {
        if let Some(file) = &self.file {
            let status = Status::of(file).map_err(failed("read", &names.path))?;
            (self.length, self.modified) = (status.length, status.modified);
        }
        Ok(())
    }

    /// Forwards the lines of the open file up to the measured length, and subtracts the bytes that it
    /// reads from `budget`.
    pub(crate) fn read(
        &mut self,
        buffer: &mut [u8],
        budget: &mut u64,
        names: &Names,
        out: &Forwarder,
    ) -> Result<()> {
        let Some(file) = self.file.take_if(|_| self.length != self.position) else {
            return Ok(());
        };
        let result = self.read_from(&file, buffer, budget, names, out);
        self.file = Some(file);
        result
    }

    fn read_from(
        &mut self,
        file: &File,
        buffer: &mut [u8],
        budget: &mut u64,
        names: &Names,
        out: &Forwarder,
    ) -> Result<()> {
        let written = self.written();
        let is_same = self.length >= self.position
            && self.head.is_of(file).map_err(failed("read", &names.path))?;
        if !is_same {
            // The file was truncated in place.
            self.lines.finish(&written, out)?;
            self.restart();
        }
        while self.position < self.length && *budget > 0 {
            let most = (self.length - self.position).min(*budget).min(buffer.len() as u64) as usize;
            let read = read_at(file, &mut buffer[..most], self.position);
            let read = read.map_err(failed("read", &names.path))?;
            if read == 0 {
                // The file was truncated just now. The next look detects it.
                break;
            }
            *budget -= read as u64;
            self.head.extend(self.position, &buffer[..read]);
            for bytes in buffer[..read].split_inclusive(|byte| *byte == b'\n') {
                self.position += bytes.len() as u64;
                self.lines.push(bytes, &written, out)?;
            }
        }
        Ok(())
    }

    /// Forwards an incomplete last line: the file gets no more bytes.
    pub(crate) fn finish(&mut self, out: &Forwarder) -> Result<()> {
        self.lines.finish(&self.written(), out)
    }

    /// When the file was last written, as far as is known.
    fn written(&self) -> ZonedDateTime {
        let now = ZonedDateTime::now();
        let modified = self.modified.and_then(|at| ZonedDateTime::try_from(at).ok());
        modified.map_or(now.clone(), |at| at.min(now))
    }
}
