//! How the test agent behaves. `serve.rs` performs a script, also for the dev agent's faults
//! (`Faults::script`) and for the scenarios of `wedr-dev-agent check`.

use std::time::Duration;

use crate::wire::message::{AgentMessage, HelloAck, to_frame};
use crate::wire::{DEFAULT_HEARTBEAT_SEC, MAX_CONTENT};

/// How a [`TestAgent`](super::TestAgent) behaves in each session. By default it behaves like the real agent:
/// it acknowledges hello, reads everything, and closes the session when it has read goodbye. If you set
/// several answers to hello, the agent uses the last one.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::testing::Script;
/// let script = Script::new().max_payload_bytes(4096).stop_reading_after(100);
/// ```
#[derive(Debug, Clone)]
#[must_use = "pass the Script to TestAgent::with"]
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

/// How the agent answers hello.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Ack,
    /// The whole acknowledgement, with a pause before each byte.
    Slowly(Duration),
    Reject(String),
    /// These bytes, whatever they are.
    Bytes(Vec<u8>),
    /// Half of the acknowledgement; then the agent closes the session.
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
    /// Creates the script of an agent that behaves correctly.
    pub fn new() -> Self {
        Self {
            ack: HelloAck {
                session_id: "test-session".into(),
                server_version: "test-agent".into(),
                max_payload_bytes: MAX_CONTENT as u64,
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

    /// Sets the session's id in the acknowledgement. The default is `test-session`.
    pub fn session_id(mut self, id: impl Into<String>) -> Self {
        self.ack.session_id = id.into();
        self
    }

    /// Sets the agent's version in the acknowledgement. The default is `test-agent`.
    pub fn server_version(mut self, version: impl Into<String>) -> Self {
        self.ack.server_version = version.into();
        self
    }

    /// Sets the limit for events in the acknowledgement, in bytes, length prefix excluded. The default is
    /// 1 MiB. An event above it is a violation.
    pub fn max_payload_bytes(mut self, bytes: u64) -> Self {
        self.ack.max_payload_bytes = bytes;
        self
    }

    /// Sets the heartbeat interval in the acknowledgement, in seconds. The default is 30.
    pub fn heartbeat_sec(mut self, seconds: u64) -> Self {
        self.ack.heartbeat_sec = seconds;
        self
    }

    /// Rejects the plugin like the real agent: the agent sends the reject in two writes and closes the session
    /// at once.
    pub fn reject(mut self, reason: impl Into<String>) -> Self {
        self.answer = Answer::Reject(reason.into());
        self
    }

    /// Answers as soon as a plugin connects, without reading hello. The real agent rejects a plugin in this
    /// way when it has too many sessions.
    pub fn answer_before_hello(mut self) -> Self {
        self.answers_before_hello = true;
        self
    }

    /// Reads hello and sends no answer.
    pub fn never_answer(mut self) -> Self {
        self.answer = Answer::Never;
        self
    }

    /// Acknowledges hello one byte at a time, with a pause before each byte.
    pub fn answer_slowly(mut self, pause: Duration) -> Self {
        self.answer = Answer::Slowly(pause);
        self
    }

    /// Answers hello with these bytes. They must include the length prefix.
    pub fn answer_with(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.answer = Answer::Bytes(bytes.into());
        self
    }

    /// Answers hello with a frame that has these bytes as its content.
    pub fn answer_with_body(self, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref();
        let length = u32::try_from(content.len()).unwrap_or(u32::MAX);
        self.answer_with([&length.to_le_bytes(), content].concat())
    }

    /// Answers hello only with a length prefix, which announces a frame of `length` bytes.
    pub fn announce(self, length: u32) -> Self {
        self.answer_with(length.to_le_bytes())
    }

    /// Sends the first half of the acknowledgement and closes the session.
    pub fn close_mid_answer(mut self) -> Self {
        self.answer = Answer::HalfAndClose;
        self
    }

    /// Reads hello and closes the session without an answer.
    pub fn close_before_answer(mut self) -> Self {
        self.answer = Answer::Close;
        self
    }

    /// Sends these bytes after the acknowledgement. The real agent sends nothing after it.
    pub fn send_after_ack(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.sent_after_ack = bytes.into();
        self
    }

    /// Stops reading when it has recorded this many events, until [`TestAgent::resume`]. It may have read up to
    /// 64 KiB more than it records.
    ///
    /// [`TestAgent::resume`]: super::TestAgent::resume
    pub fn stop_reading_after(mut self, events: usize) -> Self {
        self.stop_reading_after = Some(events);
        self
    }

    /// Closes the session when it has recorded this many events.
    pub fn close_after(mut self, events: usize) -> Self {
        self.close_after = Some(events);
        self
    }

    /// Reads at most this many bytes per second, in up to 100 reads per second. 0 counts as 1.
    pub fn read_slowly(mut self, bytes_per_sec: u32) -> Self {
        self.bytes_per_sec = Some(bytes_per_sec);
        self
    }

    /// Keeps the session open after goodbye.
    pub fn stay_after_goodbye(mut self) -> Self {
        self.stays_after_goodbye = true;
        self
    }

    pub(super) fn ack_frame(&self) -> Vec<u8> {
        to_frame(&AgentMessage::HelloAck(self.ack.clone()))
    }

    pub(super) fn max_content(&self) -> usize {
        self.ack.max_content()
    }
}
