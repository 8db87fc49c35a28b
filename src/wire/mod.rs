//! The wire: what bytes mean, both ways. See docs/protocol.md.

mod buffer;
pub(crate) mod event;
pub(crate) mod frame;
mod json;
pub(crate) mod message;
mod raw;

/// The largest body in bytes, either way; a session's `hello_ack` may say less for events.
pub(crate) const MAX_BODY: usize = 1 << 20;
/// The version of the messages, which hello names.
pub(crate) const SCHEMA_VERSION: u32 = 1;
/// What the agent suggests when its `hello_ack` does not say, in seconds.
pub(crate) const DEFAULT_HEARTBEAT_SEC: u64 = 30;
/// How deep a payload may be nested: the agent's parser stops at 128 levels, the body is one,
/// and the limit itself is not reached.
pub(crate) const MAX_PAYLOAD_DEPTH: usize = 126;
