//! The agent's side of one session.

use std::time::Duration;

use super::record::SessionEnd;
use super::script::{Answer, Script};
use super::seq::{OutOfOrder, SeqCheck};
use crate::deadline::Deadline;
use crate::transport::{Listener, Pipe, Read};
use crate::wire::frame::{FrameReader, PREFIX};
use crate::wire::message::{AgentMessage, PluginMessage, from_content, to_frame};

/// How often a waiting thread checks for a command to the agent.
const SLICE: Duration = Duration::from_millis(20);

/// The owner of a session. `serve` passes it each message, and asks it whether to continue.
pub(crate) trait Host {
    /// Whether the agent must close the session now.
    fn must_close(&self) -> bool;
    /// Waits until `until`, or until the session must be closed.
    fn pause(&self, until: Deadline);
    /// Called when the session stops reading. Returns when it may continue, or when it must be closed.
    fn stall(&mut self);
    /// Called before each read. The read may block.
    fn before_reading(&mut self);
    /// Called for each valid message, with its content.
    fn on_message(&mut self, message: PluginMessage, content: &[u8]);
    /// Called for a violation of the protocol, with the invalid bytes. The session ends.
    fn on_violation(&mut self, what: &str, bytes: &[u8]);
}

/// Accepts connections until `stopped` returns true. Also accepts the connections that are pending then.
pub(crate) fn accept_all(
    listener: &mut Listener,
    stopped: impl Fn() -> bool,
    mut opened: impl FnMut(Pipe),
) {
    loop {
        match listener.accept(&mut || (!stopped()).then(|| Deadline::after(SLICE))) {
            Ok(Some(pipe)) => opened(pipe),
            // For example, no file descriptor is free: accept the pending connections later.
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
        progress: Progress::default(),
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
    progress: Progress,
}

/// The messages so far, as far as they decide which message is valid next.
#[derive(Default)]
struct Progress {
    hello: bool,
    goodbye: bool,
    events: usize,
    seqs: SeqCheck,
}

impl Progress {
    /// Records `message`, or returns how it violates the protocol.
    fn note(&mut self, message: &PluginMessage) -> Result<(), String> {
        match (message, self.hello) {
            (PluginMessage::Hello(_), false) => self.hello = true,
            (PluginMessage::Hello(_), true) => return Err("a second hello".into()),
            (message, false) => return Err(format!("{message:?} before hello")),
            (message, true) => {
                self.seqs
                    .next(message)
                    .map_err(|OutOfOrder { seq, after }| format!("seq {seq} after {after}"))?;
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
            while !self.progress.hello {
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
            if script.close_after.is_some_and(|limit| self.progress.events >= limit) {
                return Ok(SessionEnd::ByAgent);
            }
            if script.stop_reading_after.is_some_and(|limit| self.progress.events >= limit) {
                self.host.stall();
            }
            if self.host.must_close() {
                return Ok(SessionEnd::ByAgent);
            }
            if self.take_frame()? {
                if self.progress.goodbye {
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

    /// Takes one complete frame from the bytes that were read. Returns false if there is none.
    fn take_frame(&mut self) -> Result<bool, SessionEnd> {
        let max_content = self.script.max_content();
        let content = match self.frames.next_content() {
            Ok(None) => return Ok(false),
            Ok(Some(content)) => content,
            Err(bad) => {
                let what = bad.to_string();
                self.host.on_violation(&what, self.frames.rest());
                return Err(SessionEnd::Violation(what));
            }
        };
        let taken = match from_content(content) {
            Err(e) => {
                let what = format!("a frame whose content is not a message ({e})");
                self.host.on_violation(&what, content);
                let shown = String::from_utf8_lossy(content);
                return Err(SessionEnd::Violation(format!("{what}: {shown:?}")));
            }
            Ok(PluginMessage::Event(_)) if content.len() > max_content => Err(format!(
                "an event of {} bytes, more than the limit of {max_content}",
                content.len()
            )),
            Ok(message) => self.progress.note(&message).map(|()| message),
        };
        match taken {
            Ok(message) => {
                self.host.on_message(message, content);
                Ok(true)
            }
            Err(what) => {
                self.host.on_violation(&what, content);
                Err(SessionEnd::Violation(what))
            }
        }
    }

    fn read_some(&mut self) -> Result<(), SessionEnd> {
        self.host.before_reading();
        let mut most = self.buffer.len();
        if let Some(rate) = self.script.bytes_per_sec {
            // 100 reads per second. For a lower rate, reads of one byte.
            let rate = rate.max(1);
            most = (rate / 100).clamp(1, most as u32) as usize;
            self.host.pause(Deadline::after(Duration::from_secs(most as u64) / rate));
        }
        let read = self.pipe.read(&mut self.buffer[..most], &mut next_deadline(self.host));
        match read {
            Ok(Read::Bytes(n)) => {
                self.frames.feed(&self.buffer[..n]);
                Ok(())
            }
            Ok(Read::Closed) | Err(_) => {
                let rest = self.frames.rest();
                if !rest.is_empty() {
                    self.host.on_violation("the connection ended in the middle of a frame", rest);
                }
                Err(SessionEnd::Disconnected { mid_frame: !rest.is_empty() })
            }
            Ok(Read::NotYet) => Err(SessionEnd::ByAgent),
        }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<(), SessionEnd> {
        while !bytes.is_empty() {
            match self.pipe.write(bytes, &mut next_deadline(self.host)) {
                Ok(0) => return Err(SessionEnd::ByAgent),
                Ok(written) => bytes = &bytes[written..],
                Err(_) => return Err(SessionEnd::Disconnected { mid_frame: false }),
            }
        }
        Ok(())
    }
}

/// Returns the deadline of the next slice of a wait; `None` when the session must be closed.
fn next_deadline(host: &impl Host) -> impl FnMut() -> Option<Deadline> {
    || (!host.must_close()).then(|| Deadline::after(SLICE))
}
