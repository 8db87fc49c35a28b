//! What the test agent recorded.

use std::time::Instant;

use super::seq::SeqCheck;
use crate::wire::message::{Event, Hello, PluginMessage};

/// A message and its time of arrival.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::testing::RecordedSession;
///
/// /// The longest time between two messages.
/// fn longest_gap(session: &RecordedSession) -> Duration {
///     let pairs = session.received.windows(2);
///     pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
/// }
/// # assert_eq!(longest_gap(&RecordedSession::default()), Duration::ZERO);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// The time at which the agent had read the message.
    pub at: Instant,
    /// The message.
    pub message: PluginMessage,
}

/// How a session ended.
///
/// # Examples
///
/// This fails for a plugin that ends without goodbye:
///
/// ```
/// use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd};
/// fn assert_in_order(session: &RecordedSession) {
///     assert_eq!(session.end, Some(SessionEnd::Goodbye), "{:?}", session.received.last());
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// The plugin sent goodbye.
    Goodbye,
    /// The plugin closed the pipe without goodbye.
    Disconnected {
        /// Whether the last frame was incomplete.
        mid_frame: bool,
    },
    /// The plugin violated the protocol as described, and the agent closed the session.
    Violation(String),
    /// The agent closed the session, because of its script, a call to
    /// [`disconnect`](super::TestAgent::disconnect), or the drop of the [`TestAgent`](super::TestAgent).
    ByAgent,
}

/// What the agent recorded about one session.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};
/// # use wedr_plugin_sdk::{Metadata, Runner};
///
/// let agent = TestAgent::start()?;
/// let runner = Runner::new().pipe_path(agent.path());
/// runner.run_with(Metadata::new("8f0c", "1.0", "Acme"), |sink, _ctx| {
///     sink.emit("acme_boot", serde_json::json!({ "pid": 4 }))
/// })?;
///
/// let session = agent.ended_session(Duration::from_secs(30)).expect("the session ended");
/// assert_eq!(session.hello.as_ref().unwrap().plugin_id, "8f0c");
/// let event = session.events().next().unwrap();
/// assert_eq!((event.seq, &*event.kind), (0, "acme_boot"));
/// assert_eq!(event.payload["pid"], 4);
/// assert_eq!(session.missing_seqs(), 0);
/// assert_eq!(session.end, Some(SessionEnd::Goodbye));
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecordedSession {
    /// The plugin's hello, once it has arrived.
    pub hello: Option<Hello>,
    /// The messages after hello, in order.
    pub received: Vec<Received>,
    /// How the session ended, once it has ended.
    pub end: Option<SessionEnd>,
}

impl RecordedSession {
    /// Returns the events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.received.iter().filter_map(|r| match &r.message {
            PluginMessage::Event(event) => Some(event),
            _ => None,
        })
    }

    /// Returns the arrival times of the heartbeats, in order.
    pub fn heartbeats(&self) -> impl Iterator<Item = Instant> {
        let is_heartbeat = |r: &&Received| matches!(r.message, PluginMessage::Heartbeat { .. });
        self.received.iter().filter(is_heartbeat).map(|r| r.at)
    }

    /// Returns how many sequence numbers are missing. Each missing number belongs to an event that
    /// the plugin lost or refused.
    ///
    /// The number in a heartbeat counts as seen, whether or not the next event carries it again.
    pub fn missing_seqs(&self) -> u64 {
        let mut check = SeqCheck::default();
        // `serve` ends a session at a number that is out of order, so there is no error.
        let missing = self.received.iter().filter_map(|r| check.next(&r.message).ok());
        missing.map(|numbers| numbers.end - numbers.start).sum()
    }

    pub(super) fn keep(&mut self, message: PluginMessage) {
        match message {
            PluginMessage::Hello(hello) => self.hello = Some(hello),
            message => self.received.push(Received { at: Instant::now(), message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(messages: impl IntoIterator<Item = serde_json::Value>) -> RecordedSession {
        let mut session = RecordedSession::default();
        for message in messages {
            session.keep(serde_json::from_value(message).unwrap());
        }
        session
    }

    fn event(seq: u64) -> serde_json::Value {
        serde_json::json!({
            "type": "event", "seq": seq, "ts_unix_ns": 0, "kind": "test", "payload": null,
        })
    }

    fn heartbeat(seq: u64) -> serde_json::Value {
        serde_json::json!({ "type": "heartbeat", "seq": seq })
    }

    #[test]
    fn missing_seqs_accepts_both_kinds_of_heartbeat() {
        assert_eq!(session([]).missing_seqs(), 0);
        let carries_the_next = [event(0), heartbeat(1), heartbeat(1), event(1), heartbeat(2)];
        assert_eq!(session(carries_the_next).missing_seqs(), 0);
        let uses_one_up = [event(0), heartbeat(1), heartbeat(2), event(3), heartbeat(4)];
        assert_eq!(session(uses_one_up).missing_seqs(), 0);
    }

    #[test]
    fn missing_seqs_sums_all_gaps() {
        let gaps = [event(2), event(5), heartbeat(6), event(6), heartbeat(10), event(10)];
        assert_eq!(session(gaps).missing_seqs(), 2 + 2 + 3);
        let at_the_end = [event(0), heartbeat(u64::MAX)];
        assert_eq!(session(at_the_end).missing_seqs(), u64::MAX - 1);
    }
}
