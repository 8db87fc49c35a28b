//! The wire format: messages to bytes and back. See docs/protocol.md.
//!
//! The limits on payloads are checked in three places: `event` checks the size of an event, `json` checks
//! values while it writes them, and `raw` checks text that is JSON already. The agents in this crate
//! check them again in `testing/serve.rs`.

mod buffer;
pub(crate) mod event;
pub(crate) mod frame;
mod json;
mod long;
pub(crate) mod message;
mod raw;

/// The largest content in bytes, in both directions. `hello_ack` may set a lower limit for events.
pub(crate) const MAX_CONTENT: usize = 1 << 20;
/// The version of the messages, which hello names.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// The interval of heartbeats in seconds, if `hello_ack` does not suggest one.
pub(crate) const DEFAULT_HEARTBEAT_SEC: u64 = 30;
/// How many levels deep a payload may be nested. The agent's parser accepts at most 127 levels, and the
/// content's object is one of them.
pub(crate) const MAX_PAYLOAD_DEPTH: usize = 126;
