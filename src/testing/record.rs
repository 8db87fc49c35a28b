//! What the test agent saw.

use std::time::Instant;

use crate::wire::message::{Event, Hello, PluginMessage};

/// A message and when it came.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Received {
    /// When the agent had read it.
    pub at: Instant,
    /// What it was.
    pub message: PluginMessage,
}

/// How a session ended.
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
#[derive(Debug, Clone, Default)]
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
        last.map_or(0, |last| last + 1 - numbered)
    }

    pub(super) fn keep(&mut self, message: PluginMessage) {
        match message {
            PluginMessage::Hello(hello) => self.hello = Some(hello),
            message => self.received.push(Received { at: Instant::now(), message }),
        }
    }
}
