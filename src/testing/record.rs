//! What the test agent saw.

use std::time::Instant;

use crate::wire::message::{Event, Hello, PluginMessage};

/// A message and when it came.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use wedr_plugin_sdk::testing::RecordedSession;
///
/// /// The longest silence between two messages.
/// fn longest_gap(session: &RecordedSession) -> Duration {
///     let pairs = session.received.windows(2);
///     pairs.map(|pair| pair[1].at - pair[0].at).max().unwrap_or_default()
/// }
/// # assert_eq!(longest_gap(&RecordedSession::default()), Duration::ZERO);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// When the agent had read it.
    pub at: Instant,
    /// What it was.
    pub message: PluginMessage,
}

/// How a session ended.
///
/// # Examples
///
/// A plugin that ends without its goodbye:
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
    /// The plugin said goodbye.
    Goodbye,
    /// The plugin closed the pipe without a goodbye.
    Disconnected {
        /// In the middle of a frame.
        mid_frame: bool,
    },
    /// The plugin broke the protocol, and the agent dropped the session.
    Violation(String),
    /// The agent closed the pipe, as its script says or because it was stopped.
    ByAgent,
}

/// One session, as the agent saw it.
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
///     sink.emit("acme.boot", serde_json::json!({ "pid": 4 }))
/// })?;
///
/// let session = agent.ended_session(Duration::from_secs(30)).expect("it ended");
/// assert_eq!(session.hello.as_ref().unwrap().plugin_id, "8f0c");
/// let event = session.events().next().unwrap();
/// assert_eq!((event.seq, &*event.kind), (0, "acme.boot"));
/// assert_eq!(event.payload["pid"], 4);
/// assert_eq!(session.missing_seqs(), 0);
/// assert_eq!(session.end, Some(SessionEnd::Goodbye));
/// # Ok::<(), wedr_plugin_sdk::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RecordedSession {
    /// Who the plugin said it was, once it has.
    pub hello: Option<Hello>,
    /// What came after hello, in order.
    pub received: Vec<Received>,
    /// How it ended, once it has.
    pub end: Option<SessionEnd>,
}

impl RecordedSession {
    /// The events, in order.
    pub fn events(&self) -> impl Iterator<Item = &Event> {
        self.received.iter().filter_map(|r| match &r.message {
            PluginMessage::Event(event) => Some(event),
            _ => None,
        })
    }

    /// The heartbeats' arrival times, in order.
    pub fn heartbeats(&self) -> impl Iterator<Item = Instant> {
        let is_heartbeat = |r: &&Received| matches!(r.message, PluginMessage::Heartbeat { .. });
        self.received.iter().filter(is_heartbeat).map(|r| r.at)
    }

    /// How many numbers `seq` has skipped: events that the plugin had to refuse.
    pub fn missing_seqs(&self) -> u64 {
        let last = self.received.iter().rev().find_map(|r| r.message.seq());
        let numbered = self.received.iter().filter(|r| r.message.seq().is_some()).count() as u64;
        last.map_or(0, |last| last.saturating_sub(numbered - 1))
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

    #[test]
    fn numbers_that_seq_skipped_are_missing_up_to_the_last_there_is() {
        let mut session = RecordedSession::default();
        assert_eq!(session.missing_seqs(), 0);
        for (seq, missing) in [(0, 0), (1, 0), (5, 3), (u64::MAX, u64::MAX - 3)] {
            session.keep(PluginMessage::Heartbeat { seq });
            assert_eq!(session.missing_seqs(), missing, "{seq}");
        }
    }
}
