//! The messages inside the frames, as JSON objects with a `type`.
//!
//! The messages to the agent are public only through `testing`.
#![cfg_attr(not(feature = "test-util"), allow(unreachable_pub))]

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{DEFAULT_HEARTBEAT_SEC, MAX_CONTENT, SCHEMA_VERSION, frame};
use crate::metadata::Metadata;

/// A message from the plugin to the agent.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::testing::PluginMessage;
/// let message = serde_json::from_str(r#"{"type":"heartbeat","seq":7}"#)?;
/// assert_eq!(PluginMessage::Heartbeat { seq: 7 }, message);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum PluginMessage {
    /// The first message.
    Hello(Hello),
    /// An event.
    Event(Event),
    /// Shows that the plugin is alive.
    Heartbeat {
        /// The number of the next event. A plugin may also count heartbeats like events: then no
        /// event has this number.
        seq: u64,
    },
    /// The last message: all accepted events came before it.
    Goodbye,
}

/// The plugin's identity.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::testing::RecordedSession;
/// fn assert_version(session: &RecordedSession) {
///     let hello = session.hello.as_ref().expect("the plugin sent hello");
///     assert_eq!(hello.plugin_version, env!("CARGO_PKG_VERSION"));
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// The id that the plugin is enrolled under.
    pub plugin_id: String,
    /// The plugin's own version.
    pub plugin_version: String,
    /// The plugin's name, for people.
    pub plugin_name: String,
    /// The version of these messages: 1.
    pub schema_version: u32,
}

/// An event, as the agent gets it.
///
/// # Examples
///
/// ```
/// use wedr_plugin_sdk::testing::Event;
///
/// #[derive(serde::Deserialize)]
/// struct Login {
///     user: String,
/// }
///
/// /// The payload as a type of the plugin's.
/// fn login(event: &Event) -> serde_json::Result<Login> {
///     serde_json::from_value(event.payload.clone())
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// The event's number in the session, from 0. A gap means that events were lost.
    pub seq: u64,
    /// The time of the event, in nanoseconds since 1970-01-01 UTC.
    pub ts_unix_ns: u64,
    /// What happened, such as `acme_tick`.
    pub kind: String,
    /// The event's data.
    pub payload: Value,
}

/// A message from the agent to the plugin: the answer to hello. There is no other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum AgentMessage {
    HelloAck(HelloAck),
    Reject { reason: String },
}

/// The protocol has `u32` numbers here. They are read as `u64`, so that a larger number does not end the
/// handshake: the limit is lowered to 1 MiB, and a long interval only means few heartbeats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HelloAck {
    pub(crate) session_id: String,
    #[serde(default = "unknown")]
    pub(crate) server_version: String,
    #[serde(default = "max_content")]
    pub(crate) max_payload_bytes: u64,
    #[serde(default = "heartbeat_sec")]
    pub(crate) heartbeat_sec: u64,
}

impl HelloAck {
    /// The most bytes that the content of an event may have: the agent's limit, but at most 1 MiB.
    pub(crate) fn max_content(&self) -> usize {
        usize::try_from(self.max_payload_bytes).unwrap_or(MAX_CONTENT).min(MAX_CONTENT)
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn max_content() -> u64 {
    MAX_CONTENT as u64
}

fn heartbeat_sec() -> u64 {
    DEFAULT_HEARTBEAT_SEC
}

impl PluginMessage {
    pub(crate) fn hello(metadata: &Metadata) -> Self {
        Self::Hello(Hello {
            plugin_id: metadata.plugin_id.clone(),
            plugin_version: metadata.plugin_version.clone(),
            plugin_name: metadata.plugin_name.clone(),
            schema_version: SCHEMA_VERSION,
        })
    }
}

/// The message that a content holds.
pub(crate) fn from_content<T: DeserializeOwned>(content: &[u8]) -> serde_json::Result<T> {
    // serde also accepts an array as a message.
    if !content.trim_ascii_start().starts_with(b"{") {
        return Err(serde_json::Error::custom("it is not a JSON object"));
    }
    serde_json::from_slice(content)
}

/// The frame of `message`. The caller checks that its content has at most 1 MiB.
pub(crate) fn to_frame(message: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::new();
    let at = frame::start(&mut out);
    serde_json::to_writer(&mut out, message)
        .expect("a message serialises, and a write to a Vec does not fail");
    frame::finish(&mut out, at, 0);
    out
}
