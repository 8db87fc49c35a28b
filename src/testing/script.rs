//! How the test agent behaves.

use std::time::Duration;

use crate::wire::message::{AgentMessage, HelloAck, to_frame};
use crate::wire::{DEFAULT_HEARTBEAT_SEC, MAX_BODY};

/// How a [`TestAgent`](super::TestAgent) behaves, in every session. By itself: like the agent,
/// which acknowledges hello, reads everything, and closes once it has read goodbye. Of several
/// answers to hello the last that was set counts.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::testing::Script;
/// let script = Script::new().max_payload_bytes(4096).stop_reading_after(100);
/// ```
#[derive(Debug, Clone)]
#[must_use = "a Script is for TestAgent::with"]
pub struct Script {
    ack: HelloAck,
    pub(super) answer: Answer,
    pub(super) answers_before_hello: bool,
    pub(super) sent_after_ack: Vec<u8>,
    pub(super) stop_reading_after: Option<usize>,
    pub(super) close_after: Option<usize>,
    pub(super) bytes_per_sec: Option<u32>,
    pub(super) stays_after_goodbye: bool,
}

/// What the agent does about hello.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Ack,
    /// The whole answer with a pause before every byte.
    Slowly(Duration),
    Reject(String),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// Half of the acknowledgement, and closes.
    HalfAndClose,
    Close,
    Never,
}

impl Default for Script {
    fn default() -> Self {
        Self::new()
    }
}

impl Script {
    /// An agent that behaves.
    pub fn new() -> Self {
        Self {
            ack: HelloAck {
                session_id: "test-session".into(),
                server_version: "test-agent".into(),
                max_payload_bytes: MAX_BODY as u64,
                heartbeat_sec: DEFAULT_HEARTBEAT_SEC,
            },
            answer: Answer::Ack,
            answers_before_hello: false,
            sent_after_ack: Vec::new(),
            stop_reading_after: None,
            close_after: None,
            bytes_per_sec: None,
            stays_after_goodbye: false,
        }
    }

    /// The session's id in the acknowledgement; `test-session` otherwise.
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.ack.session_id = id.into();
        self
    }

    /// The agent's version in the acknowledgement; `test-agent` otherwise.
    pub fn server_version(mut self, version: impl Into<String>) -> Self {
        self.ack.server_version = version.into();
        self
    }

    /// The largest event that it says it accepts, in bytes without the length prefix; 1 MiB
    /// otherwise.
    pub fn max_payload_bytes(mut self, bytes: u64) -> Self {
        self.ack.max_payload_bytes = bytes;
        self
    }

    /// The heartbeat that it suggests, in seconds; 30 otherwise.
    pub fn heartbeat_sec(mut self, seconds: u64) -> Self {
        self.ack.heartbeat_sec = seconds;
        self
    }

    /// Rejects hello, as the agent does it: in two writes, and closes at once.
    pub fn reject(mut self, reason: impl Into<String>) -> Self {
        self.answer = Answer::Reject(reason.into());
        self
    }

    /// Answers as soon as it is connected to, and does not read hello; with [`reject`](Self::reject)
    /// what the agent does when it has too many sessions.
    pub fn answer_before_hello(mut self) -> Self {
        self.answers_before_hello = true;
        self
    }

    /// Reads hello and says nothing.
    pub fn never_answer(mut self) -> Self {
        self.answer = Answer::Never;
        self
    }

    /// Acknowledges hello one byte at a time, with a pause before each.
    pub fn answer_slowly(mut self, pause: Duration) -> Self {
        self.answer = Answer::Slowly(pause);
        self
    }

    /// Answers hello with these bytes, length prefix and all.
    pub fn answer_with(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.answer = Answer::Bytes(bytes.into());
        self
    }

    /// Answers hello with a frame of these bytes, and the length prefix before them.
    pub fn answer_with_body(self, body: impl AsRef<[u8]>) -> Self {
        let body = body.as_ref();
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        self.answer_with([&length.to_le_bytes(), body].concat())
    }

    /// Answers hello with a length prefix alone: a frame of that many bytes is to come.
    pub fn announce(self, length: u32) -> Self {
        self.answer_with(length.to_le_bytes())
    }

    /// Sends the first half of its acknowledgement and closes.
    pub fn close_mid_answer(mut self) -> Self {
        self.answer = Answer::HalfAndClose;
        self
    }

    /// Reads hello and closes.
    pub fn close_before_answer(mut self) -> Self {
        self.answer = Answer::Close;
        self
    }

    /// Sends these bytes after its acknowledgement, which the agent never does.
    pub fn send_after_ack(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.sent_after_ack = bytes.into();
        self
    }

    /// Stops reading once it has this many events, until [`TestAgent::resume`]; it has read at
    /// most 64 KiB more than it shows.
    ///
    /// [`TestAgent::resume`]: super::TestAgent::resume
    pub fn stop_reading_after(mut self, events: usize) -> Self {
        self.stop_reading_after = Some(events);
        self
    }

    /// Closes once it has this many events.
    pub fn close_after(mut self, events: usize) -> Self {
        self.close_after = Some(events);
        self
    }

    /// Reads at most this many bytes a second, in up to 100 pieces a second; at least one byte.
    pub fn read_slowly(mut self, bytes_per_sec: u32) -> Self {
        self.bytes_per_sec = Some(bytes_per_sec);
        self
    }

    /// Does not close after goodbye.
    pub fn stay_after_goodbye(mut self) -> Self {
        self.stays_after_goodbye = true;
        self
    }

    pub(super) fn ack_frame(&self) -> Vec<u8> {
        to_frame(&AgentMessage::HelloAck(self.ack.clone()))
    }

    pub(super) fn max_body(&self) -> usize {
        self.ack.max_body()
    }
}
