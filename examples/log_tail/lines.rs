//! From bytes to events.

use std::ops::Not;
use std::path::Path;

use jiff::Zoned;
use serde::Serialize;
use wedr_plugin_sdk::{EventSink, Result};

use crate::timestamp;

/// The payload of a `log.line`.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    /// Without its line ending; what is not UTF-8 is replaced by U+FFFD.
    text: &'a str,
    /// Of a line that is too long for one event: which part this is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    part: Option<u64>,
    /// Another part follows.
    #[serde(skip_serializing_if = "Not::not")]
    more: bool,
    /// The file ended, or was truncated, before the line did.
    #[serde(skip_serializing_if = "Not::not")]
    unfinished: bool,
}

/// Where lines go.
pub(crate) struct Forwarder {
    sink: EventSink,
    file: String,
    /// How many bytes of a line surely fit into an event.
    pub(crate) longest: usize,
}

impl Forwarder {
    pub(crate) fn new(sink: EventSink, file: &Path, max_payload_bytes: usize) -> Self {
        let file = file.to_string_lossy().into_owned();
        // A byte takes up to six in JSON; 256 is for the rest of the event.
        let longest = (max_payload_bytes / 6).saturating_sub(256 + file.len());
        Self {
            sink,
            file,
            // With no room at all, `emit` says so; a character needs four.
            longest: longest.max(4),
        }
    }

    pub(crate) fn start(&self, position: Option<u64>) -> Result<()> {
        let payload = serde_json::json!({ "file": self.file, "position": position });
        self.sink.emit("log.start", payload)
    }
}

/// Puts one file's lines together.
#[derive(Default)]
pub(crate) struct Lines {
    /// What came of a line that has not been forwarded; at most the longest and one piece.
    pending: Vec<u8>,
    /// How many parts of it have been forwarded.
    parts: u64,
    /// When it happened, if it says so. Its first part tells, for all.
    ts_unix_ns: Option<u64>,
}

impl Lines {
    /// Takes bytes with at most one newline, at their end.
    pub(crate) fn push(&mut self, bytes: &[u8], out: &Forwarder) -> Result<()> {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.ends_with(b"\n");
        while self.text().len() > out.longest {
            let cut = character_start(&self.pending, out.longest);
            self.emit(cut, true, false, out)?;
        }
        if whole {
            self.emit(self.pending.len(), false, false, out)?;
        }
        Ok(())
    }

    /// No more will come: forwards what there is of a line.
    pub(crate) fn finish(&mut self, out: &Forwarder) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.emit(self.pending.len(), false, true, out)
    }

    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    fn text(&self) -> &[u8] {
        without_ending(&self.pending)
    }

    /// Forwards the first `length` bytes, and forgets them once they are accepted.
    fn emit(&mut self, length: usize, more: bool, unfinished: bool, out: &Forwarder) -> Result<()> {
        let text = String::from_utf8_lossy(without_ending(&self.pending[..length]));
        if self.parts == 0 {
            self.ts_unix_ns = timestamp::find(&text, &Zoned::now());
        }
        let line = Line {
            file: &out.file,
            text: &text,
            part: (more || self.parts > 0).then_some(self.parts + 1),
            more,
            unfinished,
        };
        let event = out.sink.event("log.line");
        match self.ts_unix_ns {
            Some(ns) => event.ts_unix_ns(ns).emit(&line)?,
            None => event.emit(&line)?,
        }
        self.pending.drain(..length);
        self.parts = if more { self.parts + 1 } else { 0 };
        Ok(())
    }
}

fn without_ending(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The last place at or before `at` where a character starts, or `at` if it is no text.
fn character_start(bytes: &[u8], at: usize) -> usize {
    let is_start = |i: &usize| bytes[*i] & 0b1100_0000 != 0b1000_0000;
    (at - 3..=at).rev().find(is_start).unwrap_or(at)
}
