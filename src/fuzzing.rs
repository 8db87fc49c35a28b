//! Entry points for the fuzz targets in `fuzz/`: the code that reads bytes from the agent. Built under
//! `cfg(fuzzing)` alone, which `cargo fuzz` sets. `.ci/run` checks that the targets compile.

use std::time::Duration;

use crate::error::Result;
use crate::handshake;
use crate::wire::frame::FrameReader;

/// Reads the frames in `pieces`. Returns their contents, and the error in the bytes after them.
pub fn contents<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Vec<u8>>, Option<String>) {
    let mut reader = FrameReader::default();
    let mut contents = Vec::new();
    for piece in pieces {
        reader.feed(piece);
        loop {
            match reader.next_content() {
                Ok(Some(content)) => contents.push(content.to_vec()),
                Ok(None) => break,
                Err(bad) => return (contents, Some(bad.to_string())),
            }
        }
    }
    (contents, None)
}

/// The parameters of a session from the agent's answer.
#[derive(Debug)]
pub struct Answer {
    /// As the agent wrote it.
    pub session_id: String,
    /// Bytes of an event's content.
    pub max_content: usize,
    /// The interval of the heartbeats.
    pub heartbeat: Duration,
}

/// Reads the content of the agent's answer to hello.
///
/// # Errors
///
/// Fails if the content is a refusal, or not an answer.
pub fn answer(content: &[u8]) -> Result<Answer> {
    let params = handshake::params(content)?;
    let (max_content, heartbeat) = (params.max_content, params.heartbeat);
    Ok(Answer { session_id: params.session_id, max_content, heartbeat })
}
