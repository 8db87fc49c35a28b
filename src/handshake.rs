//! Hello and its answer.

use std::time::Duration;

use crate::deadline::Deadline;
use crate::error::{Error, Printable, RejectReason, Result, shortened};
use crate::metadata::Metadata;
use crate::shutdown::Shutdown;
use crate::transport::{Arrival, Pipe, Read};
use crate::wire::frame::{FrameReader, PREFIX};
use crate::wire::message::{AgentMessage, HelloAck, PluginMessage, from_body, to_frame};
use crate::wire::{DEFAULT_HEARTBEAT_SEC, MAX_BODY};

/// How often the handshake looks whether the shutdown was asked for.
const SLICE: Duration = Duration::from_millis(20);

/// What the agent said of the session, checked.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) session_id: String,
    pub(crate) server_version: String,
    /// Bytes of an event's body.
    pub(crate) max_body: usize,
    pub(crate) heartbeat: Duration,
}

/// The frame of hello, if it is one that the wire can carry.
pub(crate) fn hello(metadata: &Metadata) -> Result<Vec<u8>> {
    if metadata.plugin_id.is_empty() {
        let nameless =
            "the metadata's plugin_id is empty; give the id the plugin is enrolled under";
        return Err(Error::InvalidConfig(nameless.into()));
    }
    let frame = to_frame(&PluginMessage::hello(metadata));
    let body = frame.len() - PREFIX;
    if body > MAX_BODY {
        return Err(Error::InvalidConfig(format!(
            "hello takes {body} bytes and the wire carries {MAX_BODY}: shorten the metadata's \
             plugin_id, plugin_version or plugin_name"
        )));
    }
    Ok(frame)
}

/// Patience before there is a session: until `deadline`, in slices in which a shutdown is seen.
pub(crate) fn until(shutdown: &Shutdown, deadline: Deadline) -> impl FnMut() -> Option<Deadline> {
    move || {
        let over = shutdown.is_requested() || deadline.has_passed();
        (!over).then(|| Deadline::after(SLICE).earlier(deadline))
    }
}

/// Says hello and reads the answer. `None` if the shutdown was asked for meanwhile.
pub(crate) fn shake_hands(
    pipe: &mut Pipe,
    hello: &[u8],
    timeout: Duration,
    shutdown: &Shutdown,
) -> Result<Option<Terms>> {
    let deadline = Deadline::after(timeout);
    let patience = &mut until(shutdown, deadline);
    // An agent that refuses without reading hello leaves its reason all the same.
    pipe.on_arrival(Arrival::EndsWrite);
    let mut rest = hello;
    while !rest.is_empty() {
        match pipe.write(rest, patience) {
            Ok(written @ 1..) => rest = &rest[written..],
            Ok(_) | Err(_) => break,
        }
    }
    let mut answer = FrameReader::default();
    let mut chunk = [0; 4096];
    loop {
        match pipe.read(&mut chunk, patience) {
            Ok(Read::Bytes(n)) => answer.feed(&chunk[..n]),
            Ok(Read::NotYet | Read::Closed) | Err(_) if shutdown.is_requested() => return Ok(None),
            Ok(Read::NotYet) => return Err(Error::HandshakeTimeout(timeout)),
            Ok(Read::Closed) | Err(_) => return Err(Error::HandshakeClosed),
        }
        match answer.next_body() {
            // What comes after the first answer is nobody's business.
            Ok(Some(body)) => {
                let terms = terms(body)?;
                if !rest.is_empty() {
                    let early = "it acknowledged hello before it had read it";
                    return Err(Error::Protocol(early.into()));
                }
                pipe.on_arrival(Arrival::IsThrownAway);
                return Ok(Some(terms));
            }
            Ok(None) => {}
            Err(bad) => return Err(Error::Protocol(format!("it sent {bad}"))),
        }
    }
}

/// What the agent's answer says.
pub(crate) fn terms(body: &[u8]) -> Result<Terms> {
    match from_body(body) {
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

impl From<HelloAck> for Terms {
    fn from(ack: HelloAck) -> Self {
        let heartbeat = match ack.heartbeat_sec {
            0 => DEFAULT_HEARTBEAT_SEC,
            seconds => seconds,
        };
        Self {
            max_body: ack.max_body(),
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
    fn what_an_ack_leaves_out_has_a_default() {
        let terms = terms(br#"{"type":"hello_ack","session_id":"s","extra":[1]}"#).unwrap();
        assert_eq!((terms.max_body, terms.heartbeat.as_secs()), (1 << 20, 30));
        assert_eq!(terms.server_version, "unknown");
    }

    #[test]
    fn limits_are_taken_down_to_what_the_wire_carries() {
        let limit = |n: u64| {
            let ack = format!(
                r#"{{"type":"hello_ack","session_id":"s","max_payload_bytes":{n},"heartbeat_sec":0}}"#
            );
            let terms = terms(ack.as_bytes()).unwrap();
            assert_eq!(terms.heartbeat.as_secs(), 30);
            terms.max_body
        };
        assert_eq!(
            [0, 10, 1 << 20, 4 << 30, u64::MAX].map(limit),
            [0, 10, 1 << 20, 1 << 20, 1 << 20]
        );
    }

    #[test]
    fn what_is_not_the_protocol_is_said_to_be_that() {
        for body in [
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
            assert!(matches!(terms(body), Err(Error::Protocol(_))), "{body:?}");
        }
    }
}
