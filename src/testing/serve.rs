//! The agent's side of one session.

use std::time::Duration;

use super::record::SessionEnd;
use super::script::{Answer, Script};
use crate::deadline::Deadline;
use crate::transport::{Listener, Pipe, Read};
use crate::wire::frame::{FrameReader, PREFIX};
use crate::wire::message::{AgentMessage, PluginMessage, from_body, to_frame};

/// How often a waiting thread looks whether the agent was told something.
const SLICE: Duration = Duration::from_millis(20);

/// Who runs a session: told what comes, asked how long it may go on.
pub(crate) trait Host {
    /// Whether the agent is to close the session now.
    fn must_close(&self) -> bool;
    /// Waits until `until`, or until the session is to be closed.
    fn pause(&self, until: Deadline);
    /// Returns when the session, which stopped reading as its script says, may read on or is to
    /// be closed.
    fn stall(&mut self);
    /// Comes before every read, which may wait.
    fn before_reading(&mut self);
    /// A message, as the protocol allows it, and its body.
    fn took(&mut self, message: PluginMessage, body: &[u8]);
    /// What broke the protocol, and its bytes; the session ends.
    fn refused(&mut self, what: &str, bytes: &[u8]);
}

/// Takes connections until `stopped`, those that wait by then included.
pub(crate) fn accept_all(
    listener: &mut Listener,
    stopped: impl Fn() -> bool,
    mut opened: impl FnMut(Pipe),
) {
    loop {
        match listener.accept(&mut || (!stopped()).then(|| Deadline::after(SLICE))) {
            Ok(Some(pipe)) => opened(pipe),
            // Out of descriptors, say: what waits in the backlog is taken later.
            Err(_) if !stopped() => std::thread::sleep(SLICE),
            Ok(None) | Err(_) => break,
        }
    }
}

/// Serves a session until it ends, and closes the pipe.
pub(crate) fn serve(script: &Script, host: &mut impl Host, mut pipe: Pipe) -> SessionEnd {
    let mut serving = Serving {
        script,
        host,
        pipe: &mut pipe,
        frames: FrameReader::default(),
        buffer: vec![0; 64 << 10],
        said: Said::default(),
    };
    let (Ok(end) | Err(end)) = serving.answer_and_read();
    if end == SessionEnd::ByAgent {
        pipe.disconnect();
    }
    end
}

struct Serving<'a, H> {
    script: &'a Script,
    host: &'a mut H,
    pipe: &'a mut Pipe,
    frames: FrameReader,
    buffer: Vec<u8>,
    said: Said,
}

/// What the plugin has said so far, as far as the protocol asks.
#[derive(Default)]
struct Said {
    hello: bool,
    goodbye: bool,
    events: usize,
    last_seq: Option<u64>,
}

impl Said {
    /// Notes `message`, or says how it breaks the protocol.
    fn note(&mut self, message: &PluginMessage) -> Result<(), String> {
        match (message, self.hello) {
            (PluginMessage::Hello(_), false) => self.hello = true,
            (PluginMessage::Hello(_), true) => return Err("a second hello".into()),
            (message, false) => return Err(format!("{message:?} before hello")),
            (message, true) => {
                match (message.seq(), self.last_seq) {
                    (Some(seq), Some(before)) if seq <= before => {
                        return Err(format!("seq {seq} after {before}"));
                    }
                    _ => {}
                }
                self.last_seq = message.seq().or(self.last_seq);
                self.events += usize::from(matches!(message, PluginMessage::Event(_)));
                self.goodbye = *message == PluginMessage::Goodbye;
            }
        }
        Ok(())
    }
}

impl<H: Host> Serving<'_, H> {
    fn answer_and_read(&mut self) -> Result<SessionEnd, SessionEnd> {
        let script = self.script;
        if !script.answers_before_hello {
            while !self.said.hello {
                self.read_some()?;
                self.take_frame()?;
            }
        }
        match &script.answer {
            Answer::Ack => self.write(&script.ack_frame())?,
            Answer::Slowly(pause) => {
                for byte in script.ack_frame() {
                    self.host.pause(Deadline::after(*pause));
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
            Answer::HalfAndClose => {
                let ack = script.ack_frame();
                self.write(&ack[..ack.len() / 2])?;
                return Ok(SessionEnd::ByAgent);
            }
            Answer::Close => return Ok(SessionEnd::ByAgent),
            Answer::Never => {}
        }
        self.write(&script.sent_after_ack)?;
        self.read_to_the_end()
    }

    fn read_to_the_end(&mut self) -> Result<SessionEnd, SessionEnd> {
        let script = self.script;
        loop {
            if script.close_after.is_some_and(|limit| self.said.events >= limit) {
                return Ok(SessionEnd::ByAgent);
            }
            if script.stop_reading_after.is_some_and(|limit| self.said.events >= limit) {
                self.host.stall();
            }
            if self.host.must_close() {
                return Ok(SessionEnd::ByAgent);
            }
            if self.take_frame()? {
                if self.said.goodbye {
                    if script.stays_after_goodbye {
                        self.host.pause(Deadline::NEVER);
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
        let max_body = self.script.max_body();
        let body = match self.frames.next_body() {
            Ok(None) => return Ok(false),
            Ok(Some(body)) => body,
            Err(bad) => {
                let what = bad.to_string();
                self.host.refused(&what, self.frames.rest());
                return Err(SessionEnd::Violation(what));
            }
        };
        let taken = match from_body(body) {
            Err(e) => {
                let what = format!("a body that is no message ({e})");
                self.host.refused(&what, body);
                let shown = String::from_utf8_lossy(body);
                return Err(SessionEnd::Violation(format!("{what}: {shown:?}")));
            }
            Ok(PluginMessage::Event(_)) if body.len() > max_body => {
                Err(format!("an event of {} bytes, over {max_body}", body.len()))
            }
            Ok(message) => self.said.note(&message).map(|()| message),
        };
        match taken {
            Ok(message) => {
                self.host.took(message, body);
                Ok(true)
            }
            Err(what) => {
                self.host.refused(&what, body);
                Err(SessionEnd::Violation(what))
            }
        }
    }

    fn read_some(&mut self) -> Result<(), SessionEnd> {
        self.host.before_reading();
        let mut most = self.buffer.len();
        if let Some(rate) = self.script.bytes_per_sec {
            // 100 pieces a second, or one byte as often as the rate has it.
            let rate = rate.max(1);
            most = (rate / 100).clamp(1, most as u32) as usize;
            self.host.pause(Deadline::after(Duration::from_secs(most as u64) / rate));
        }
        let read = self.pipe.read(&mut self.buffer[..most], &mut patience(self.host));
        match read {
            Ok(Read::Bytes(n)) => {
                self.frames.feed(&self.buffer[..n]);
                Ok(())
            }
            Ok(Read::Closed) | Err(_) => {
                let rest = self.frames.rest();
                if !rest.is_empty() {
                    self.host.refused("an end in the middle of a frame", rest);
                }
                Err(SessionEnd::Disconnected { mid_frame: !rest.is_empty() })
            }
            Ok(Read::NotYet) => Err(SessionEnd::ByAgent),
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SessionEnd> {
        while !bytes.is_empty() {
            match self.pipe.write(bytes, &mut patience(self.host)) {
                Ok(0) => return Err(SessionEnd::ByAgent),
                Ok(written) => bytes = &bytes[written..],
                Err(_) => return Err(SessionEnd::Disconnected { mid_frame: false }),
            }
        }
        Ok(())
    }
}

/// Patience for as long as the session need not be closed.
fn patience(host: &impl Host) -> impl FnMut() -> Option<Deadline> {
    || (!host.must_close()).then(|| Deadline::after(SLICE))
}
