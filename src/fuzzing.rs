//! The way in for the fuzz targets in `fuzz/`: what reads bytes from the agent. Built under
//! `cfg(fuzzing)` alone, which `cargo fuzz` sets.

use std::time::Duration;

use crate::error::Result;
use crate::handshake;
use crate::wire::frame::FrameReader;

/// Takes the frames out of `pieces`; returns their bodies, and what is wrong with what follows.
pub fn bodies<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let mut reader = FrameReader::default();
    let mut bodies = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next_body() {
                Ok(Some(body)) => bodies.push(body.to_vec()),
                Ok(None) => break,
                Err(bad) => return (bodies, Some(bad.to_string())),
            }
        }
    }
    (bodies, None)
}

/// What a session is told by the agent's answer.
#[derive(Debug)]
pub struct Answer {
    /// In the agent's words.
    pub session_id: String,
    /// Bytes of an event's body.
    pub max_body: usize,
    /// How often to say "alive".
    pub heartbeat: Duration,
}

/// Reads the body of the agent's answer to hello.
///
/// # Errors
///
/// If it is a refusal, or no answer.
pub fn answer(body: &[u8]) -> Result<Answer> {
    let terms = handshake::terms(body)?;
    let (max_body, heartbeat) = (terms.max_body, terms.heartbeat);
    Ok(Answer { session_id: terms.session_id, max_body, heartbeat })
}
