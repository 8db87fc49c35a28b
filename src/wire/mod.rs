//! The wire: what bytes mean, both ways. See docs/protocol.md.
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

/// The largest content in bytes, either way; a session's `hello_ack` may say less for events.
pub(crate) const MAX_CONTENT: usize = 1 << 20;
/// The version of the messages, which hello names.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// What the agent suggests when its `hello_ack` does not say, in seconds.
pub(crate) const DEFAULT_HEARTBEAT_SEC: u64 = 30;
/// How deep a payload may be nested: the agent's parser stops at 128 levels, the content is one,
/// and the limit itself is not reached.
pub(crate) const MAX_PAYLOAD_DEPTH: usize = 126;
