//! The agent's side of one session.

use std::io;
use std::time::{Duration, Instant};

use super::agent::Shared;
use super::record::SessionEnd;
use super::script::Answer;
use crate::transport::{Pipe, Read};
use crate::wire::frame::{FrameReader, PREFIX};
use crate::wire::message::{AgentMessage, from_body, to_frame};

/// Serves a session until it ends; the caller closes the pipe.
pub(super) fn serve(shared: &Shared, index: usize, pipe: &mut Pipe) -> SessionEnd {
    let mut serving = Serving {
        shared,
        index,
        pipe,
        frames: FrameReader::default(),
        buffer: vec![0; 64 << 10],
        events: 0,
    };
    match serving.answer_and_read() {
        Ok(end) | Err(end) => end,
    }
}

struct Serving<'a> {
    shared: &'a Shared,
    index: usize,
    pipe: &'a mut Pipe,
    frames: FrameReader,
    buffer: Vec<u8>,
    events: usize,
}

impl From<io::Error> for SessionEnd {
    fn from(_: io::Error) -> Self {
        Self::Disconnected { mid_frame: false }
    }
}

impl Serving<'_> {
    fn answer_and_read(&mut self) -> Result<SessionEnd, SessionEnd> {
        let script = &self.shared.script;
        if !script.answers_before_hello {
            while !self.shared.record(self.index, |session| session.hello.is_some()) {
                self.read_some()?;
                self.take_frame()?;
            }
        }
        match &script.answer {
            Answer::Ack => self.write(&script.ack_frame())?,
            Answer::Slowly(pause) => {
                for byte in script.ack_frame() {
                    self.shared.pause(self.index, *pause);
                    self.write(&[byte])?;
                }
            }
            Answer::Reject(reason) => {
                let frame = to_frame(&AgentMessage::Reject { reason: reason.clone() });
                self.write(&frame[..PREFIX])?;
                self.write(&frame[PREFIX..])?;
                return Ok(SessionEnd::ByAgent);
            }
            Answer::Bytes(bytes) => self.write(bytes)?,
            Answer::BytesAndClose(bytes) => {
                self.write(bytes)?;
                return Ok(SessionEnd::ByAgent);
            }
            Answer::Never => {}
        }
        self.write(&script.sent_after_ack)?;
        self.read_to_the_end()
    }

    fn read_to_the_end(&mut self) -> Result<SessionEnd, SessionEnd> {
        let script = &self.shared.script;
        loop {
            if script.close_after.is_some_and(|limit| self.events >= limit) {
                return Ok(SessionEnd::ByAgent);
            }
            if script.stop_reading_after.is_some_and(|limit| self.events >= limit) {
                self.shared.park(self.index, true);
            }
            if self.shared.must_close(self.index) {
                return Ok(SessionEnd::ByAgent);
            }
            if self.take_frame()? {
                if self.shared.record(self.index, |session| session.said_goodbye()) {
                    if script.stays_after_goodbye {
                        self.shared.park(self.index, false);
                    }
                    return Ok(SessionEnd::Goodbye);
                }
            } else {
                self.read_some()?;
            }
        }
    }

    /// Takes one whole frame of what was read; false if there is none.
    fn take_frame(&mut self) -> Result<bool, SessionEnd> {
        let violation = |what: String| Err(SessionEnd::Violation(what));
        let max_body = self.shared.script.max_body();
        let body = match self.frames.next_body() {
            Ok(None) => return Ok(false),
            Ok(Some(body)) => body,
            Err(bad) => return violation(bad.to_string()),
        };
        let message = match from_body(body) {
            Ok(message) => message,
            Err(e) => {
                let body = String::from_utf8_lossy(body);
                return violation(format!("a body that is no message ({e}): {body:?}"));
            }
        };
        if matches!(message, super::PluginMessage::Event(_)) {
            if body.len() > max_body {
                return violation(format!("an event of {} bytes, over {max_body}", body.len()));
            }
            self.events += 1;
        }
        let at = Instant::now();
        match self.shared.record(self.index, |session| session.take(message, at)) {
            Ok(()) => Ok(true),
            Err(what) => violation(what),
        }
    }

    fn read_some(&mut self) -> Result<(), SessionEnd> {
        let mut most = self.buffer.len();
        if let Some(rate) = self.shared.script.bytes_per_sec {
            // 100 pieces a second, or one byte as often as the rate has it.
            let rate = rate.max(1);
            most = (rate / 100).clamp(1, most as u32) as usize;
            self.shared.pause(self.index, Duration::from_secs(most as u64) / rate);
        }
        let patience = &mut self.shared.patience(self.index);
        match self.pipe.read(&mut self.buffer[..most], patience) {
            Ok(Read::Bytes(n)) => {
                self.frames.feed(&self.buffer[..n]);
                Ok(())
            }
            Ok(Read::Closed) | Err(_) => {
                Err(SessionEnd::Disconnected { mid_frame: self.frames.is_mid_frame() })
            }
            Ok(Read::NotYet) => Err(SessionEnd::ByAgent),
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SessionEnd> {
        while !bytes.is_empty() {
            match self.pipe.write(bytes, &mut self.shared.patience(self.index))? {
                0 => return Err(SessionEnd::ByAgent),
                written => bytes = &bytes[written..],
            }
        }
        Ok(())
    }
}
