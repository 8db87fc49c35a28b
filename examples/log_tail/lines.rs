//! Turns bytes into lines and lines into events.

use std::ops::Not;
use std::path::Path;

use jiff::ZonedDateTime;
use serde::Serialize;
use wedr_plugin_sdk::{EventSink, Result};

use crate::timestamp;

/// The payload of a `log_start`.
#[derive(Serialize)]
pub(crate) struct Start<'a> {
    pub(crate) file: &'a str,
    /// The offset of the first byte that is read; absent if the log does not exist yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) position: Option<u64>,
    /// The position file gave the position.
    pub(crate) resumed: bool,
    /// The log of the position file was removed or truncated: lines may be missing.
    pub(crate) gap: bool,
}

/// The payload of a `log_line`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    /// Without its line ending. Bytes that are not UTF-8 are replaced by U+FFFD.
    text: &'a str,
    /// The number of this part, from 1, of a line that is too long for one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
    /// Another part follows.
    #[serde(skip_serializing_if = "Not::not")]
    more: bool,
    /// The file ended, or was truncated, before the end of the line.
    #[serde(skip_serializing_if = "Not::not")]
    unfinished: bool,
}

/// Sends the events.
pub(crate) struct Forwarder {
    sink: EventSink,
    pub(crate) file: String,
    /// How many bytes of a line always fit into an event.
    pub(crate) longest: usize,
}

impl Forwarder {
    pub(crate) fn new(sink: EventSink, file: &Path, max_payload_bytes: usize) -> Self {
        let file = file.to_string_lossy().into_owned();
        // A byte takes at most six bytes in JSON. 256 bytes are for the rest of the event.
        let longest = (max_payload_bytes / 6).saturating_sub(256 + file.len());
        Self {
            sink,
            file,
            // A character needs four. If even this does not fit, `emit` returns an error.
            longest: longest.max(4),
        }
    }

    pub(crate) fn start(&self, position: Option<u64>, resumed: bool, gap: bool) -> Result<()> {
        let start = Start { file: &self.file, position, resumed, gap };
        self.sink.event("log_start").emit(&start)
    }

    /// Reports what the plugin cannot do at the moment, and why. Standard error alone is not enough: an agent
    /// that is a service discards it.
    pub(crate) fn error(&self, error: &str) -> Result<()> {
        eprintln!("log_tail: {error}");
        let payload = serde_json::json!({ "file": self.file, "error": error });
        self.sink.emit("log_error", payload)
    }
}

/// A line that begins with at least this many NUL bytes (one disk sector) begins with a hole. A writer
/// without `O_APPEND` leaves a hole when its file is truncated, and so does a power failure.
const HOLE: u64 = 512;
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Assembles the lines of one file.
#[derive(Default)]
pub(crate) struct Lines {
    /// The next line is the first one of its file.
    is_first: bool,
    /// NUL bytes at the beginning of the line, which are not in `pending`.
    nuls: u64,
    /// The bytes of the line that have not been forwarded: at most `longest` and one piece.
    pending: Vec<u8>,
    /// How many bytes of the line have been read.
    length: u64,
    /// How many parts of the line have been forwarded.
    parts: u64,
    /// The time in the line, if there is one. All parts get the time of the first part.
    ts_unix_ns: Option<u64>,
}

impl Lines {
    /// `position` is the offset of the first byte in the file.
    pub(crate) fn from(position: u64) -> Self {
        Self { is_first: position == 0, ..Self::default() }
    }

    /// Adds bytes that contain at most one newline, at their end. `written` is the file's last write.
    pub(crate) fn push(
        &mut self,
        bytes: &[u8],
        written: &ZonedDateTime,
        out: &Forwarder,
    ) -> Result<()> {
        let rest = self.without_hole(bytes);
        self.pending.extend_from_slice(rest);
        self.length += bytes.len() as u64;
        let whole = self.pending.ends_with(b"\n");
        while self.text().len() > out.longest {
            let cut = character_start(&self.pending, out.longest);
            self.emit(cut, true, false, written, out)?;
        }
        if whole {
            self.emit(self.pending.len(), false, false, written, out)?;
        }
        Ok(())
    }

    /// Forwards an incomplete line: the file gets no more bytes.
    pub(crate) fn finish(&mut self, written: &ZonedDateTime, out: &Forwarder) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.emit(self.pending.len(), false, true, written, out)
    }

    /// How many bytes have not been forwarded.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// How many bytes of the incomplete line have been read.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Counts NUL bytes at the beginning of a line instead of storing them.
    fn without_hole<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        if !self.pending.is_empty() || self.parts > 0 {
            return bytes;
        }
        let nuls = bytes.iter().take_while(|byte| **byte == 0).count();
        self.nuls += nuls as u64;
        if nuls < bytes.len() {
            let nuls = std::mem::take(&mut self.nuls);
            if nuls < HOLE && !self.is_first {
                self.pending.resize(nuls as usize, 0);
            }
        }
        &bytes[nuls..]
    }

    fn text(&self) -> &[u8] {
        without_ending(&self.pending)
    }

    /// Forwards the first `length` bytes, and removes them when the sink has accepted them.
    fn emit(
        &mut self,
        length: usize,
        more: bool,
        unfinished: bool,
        written: &ZonedDateTime,
        out: &Forwarder,
    ) -> Result<()> {
        let mut bytes = without_ending(&self.pending[..length]);
        if self.is_first && self.parts == 0 {
            bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
        }
        let text = String::from_utf8_lossy(bytes);
        if self.parts == 0 {
            self.ts_unix_ns = timestamp::find(&text, written);
        }
        let line = Line {
            file: &out.file,
            text: &text,
            part: (more || self.parts > 0).then_some(self.parts + 1),
            more,
            unfinished,
        };
        let event = out.sink.event("log_line");
        match self.ts_unix_ns {
            Some(ns) => event.ts_unix_ns(ns).emit(&line)?,
            None => event.emit(&line)?,
        }
        self.pending.drain(..length);
        if more {
            self.parts += 1;
        } else {
            (self.parts, self.length, self.is_first) = (0, 0, false);
        }
        Ok(())
    }
}

fn without_ending(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The last offset up to `at` at which a character starts, or `at` if the bytes are not UTF-8.
fn character_start(bytes: &[u8], at: usize) -> usize {
    let is_start = |i: &usize| bytes[*i] & 0b1100_0000 != 0b1000_0000;
    (at - 3..=at).rev().find(is_start).unwrap_or(at)
}
