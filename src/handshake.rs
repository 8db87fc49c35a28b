//! Hello and its answer.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Printable, RejectReason, Result, shortened};
use crate::metadata::Metadata;
use crate::shutdown::Shutdown;
use crate::transport::{Arrival, Pipe, Read};
use crate::wire::frame::{FrameReader, PREFIX};
use crate::wire::message::{AgentMessage, HelloAck, PluginMessage, from_content, to_frame};
use crate::wire::{DEFAULT_HEARTBEAT_SEC, MAX_CONTENT};

/// How often the connecting and the handshake check for the shutdown.
const SLICE: Duration = Duration::from_millis(20);

/// The parameters of the session from the agent's answer, checked.
#[derive(Debug)]
pub(crate) struct SessionParams {
    pub(crate) session_id: String,
    pub(crate) server_version: String,
    /// Bytes of an event's content.
    pub(crate) max_content: usize,
    pub(crate) heartbeat: Duration,
}

/// The frame of hello, if the wire can carry it.
pub(crate) fn hello(metadata: &Metadata) -> Result<Vec<u8>> {
    if metadata.plugin_id.is_empty() {
        let no_id = "the metadata's plugin_id is empty; give the id the plugin is enrolled under";
        return Err(Error::InvalidConfig(no_id.into()));
    }
    let id = &metadata.plugin_id;
    if id.trim() != id || id.contains(char::is_control) {
        return Err(Error::InvalidConfig(format!(
            "the plugin_id {id:?} has white space around it or a control character in it, and no \
             plugin is enrolled under such an id; remove these characters from the metadata or \
             from WEDR_PLUGIN_ID"
        )));
    }
    let frame = to_frame(&PluginMessage::hello(metadata));
    let content = frame.len() - PREFIX;
    if content > MAX_CONTENT {
        return Err(Error::InvalidConfig(format!(
            "hello takes {content} bytes and the wire carries {MAX_CONTENT}: shorten the metadata's \
             plugin_id, plugin_version or plugin_name"
        )));
    }
    Ok(frame)
}

/// Divides a wait until `deadline` into slices, so that a shutdown is seen. Returns a function that gives the
/// end of the next slice, or `None` after the shutdown or `deadline`.
pub(crate) fn slices_until(
    shutdown: &Shutdown,
    deadline: Deadline,
) -> impl FnMut() -> Option<Deadline> {
    move || {
        let over = shutdown.is_requested() || deadline.has_passed();
        (!over).then(|| Deadline::after(SLICE).earlier(deadline))
    }
}

/// Sends hello and reads the answer. `None` if the shutdown was requested meanwhile.
pub(crate) fn shake_hands(
    pipe: &mut Pipe,
    hello: &[u8],
    timeout: Duration,
    shutdown: &Shutdown,
) -> Result<Option<SessionParams>> {
    let deadline = Deadline::after(timeout);
    let next_deadline = &mut slices_until(shutdown, deadline);
    // An agent that refuses without reading hello has left its reason in the pipe.
    pipe.on_arrival(Arrival::EndsWrite);
    let mut rest = hello;
    while !rest.is_empty() {
        match pipe.write(rest, next_deadline) {
            Ok(written @ 1..) => rest = &rest[written..],
            Ok(_) | Err(_) => break,
        }
    }
    let mut answer = FrameReader::default();
    let mut chunk = [0; 4096];
    loop {
        match pipe.read(&mut chunk, next_deadline) {
            Ok(Read::Bytes(n)) => answer.feed(&chunk[..n]),
            Ok(Read::NotYet | Read::Closed) | Err(_) if shutdown.is_requested() => return Ok(None),
            Ok(Read::NotYet) => return Err(Error::HandshakeTimeout(timeout)),
            Ok(Read::Closed) | Err(_) => return Err(Error::HandshakeClosed),
        }
        match answer.next_content() {
            // Bytes after the first answer have no meaning.
            Ok(Some(content)) => {
                let params = params(content)?;
                if !rest.is_empty() {
                    let early = "the agent acknowledged hello before it had read all of hello";
                    return Err(Error::Protocol(early.into()));
                }
                pipe.on_arrival(Arrival::IsDiscarded);
                return Ok(Some(params));
            }
            Ok(None) => {}
            Err(bad) => return Err(Error::Protocol(format!("it sent {bad}"))),
        }
    }
}

/// Interprets the agent's answer.
pub(crate) fn params(content: &[u8]) -> Result<SessionParams> {
    match from_content(content) {
        Ok(AgentMessage::HelloAck(ack)) => Ok(ack.into()),
        Ok(AgentMessage::Reject { reason }) => {
            Err(Error::Rejected { reason: RejectReason::from_wire(reason) })
        }
        Err(e) => Err(Error::Protocol(format!(
            "its answer is neither hello_ack nor reject: {}",
            Printable(&shortened(&e.to_string()))
        ))),
    }
}

impl From<HelloAck> for SessionParams {
    fn from(ack: HelloAck) -> Self {
        let heartbeat = match ack.heartbeat_sec {
            0 => DEFAULT_HEARTBEAT_SEC,
            seconds => seconds,
        };
        Self {
            max_content: ack.max_content(),
            session_id: ack.session_id,
            server_version: ack.server_version,
            heartbeat: Duration::from_secs(heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_fields_of_an_ack_have_defaults() {
        let params = params(br#"{"type":"hello_ack","session_id":"s","extra":[1]}"#).unwrap();
        assert_eq!((params.max_content, params.heartbeat.as_secs()), (1 << 20, 30));
        assert_eq!(params.server_version, "unknown");
    }

    #[test]
    fn limits_are_lowered_to_those_of_the_wire() {
        let limit = |n: u64| {
            let ack = format!(
                r#"{{"type":"hello_ack","session_id":"s","max_payload_bytes":{n},"heartbeat_sec":0}}"#
            );
            let params = params(ack.as_bytes()).unwrap();
            assert_eq!(params.heartbeat.as_secs(), 30);
            params.max_content
        };
        assert_eq!(
            [0, 10, 1 << 20, 4 << 30, u64::MAX].map(limit),
            [0, 10, 1 << 20, 1 << 20, 1 << 20]
        );
    }

    #[test]
    fn violations_of_the_protocol_are_named() {
        for content in [
            &b"null"[..],
            b"{}",
            b"\xff",
            br#"{"type":"hello_ack"}"#,
            br#"["hello_ack","s"]"#,
            br#"{"type":"reject"}"#,
            br#"{"type":"welcome","session_id":"s"}"#,
            br#"{"type":"hello_ack","session_id":"s","session_id":"t"}"#,
            br#"{"type":"hello_ack","session_id":"s"} {}"#,
            "[".repeat(100_000).as_bytes(),
        ] {
            assert!(matches!(params(content), Err(Error::Protocol(_))), "{content:?}");
        }
    }
}
