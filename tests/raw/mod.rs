//! Both ends of the pipe on the level of bytes, for behaviour that `testing` does not offer.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

#[cfg(windows)]
mod named_pipe;

use std::io::{self, Read, Write};
#[cfg(unix)]
use std::net::Shutdown;
#[cfg(unix)]
use std::os::unix::net::{UnixListener as Listener, UnixStream as Stream};
use std::path::{Path, PathBuf};

#[cfg(windows)]
use named_pipe::{Listener, Stream};
use serde_json::Value;
#[cfg(unix)]
use tempfile::TempDir;
use wedr_plugin_sdk::{AgentTrust, Runner};

use crate::common::LIMIT;

/// The content of an answer that opens a session.
pub const ACK: &str = r#"{"type":"hello_ack","session_id":"raw","server_version":"raw","max_payload_bytes":1048576,"heartbeat_sec":30}"#;

/// A frame: the length of `content`, then `content`.
pub fn frame(content: impl AsRef<[u8]>) -> Vec<u8> {
    let content = content.as_ref();
    let length = u32::try_from(content.len()).expect("the length fits into the prefix");
    [&length.to_le_bytes(), content].concat()
}

/// The content of a whole frame, parsed.
pub fn message(frame: &[u8]) -> Value {
    serde_json::from_slice(&frame[4..]).expect("the plugin writes JSON")
}

/// An agent that does only what the test calls.
pub struct RawAgent {
    listener: Listener,
    path: PathBuf,
    /// The folder of its socket, if the test did not choose the path. It is removed at the end.
    #[cfg(unix)]
    _folder: Option<TempDir>,
}

impl RawAgent {
    /// An agent whose socket is in a folder of its own.
    #[cfg(unix)]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let agent = Self::at(folder.path().join("plugin.sock"));
        Self { _folder: Some(folder), ..agent }
    }

    /// An agent whose pipe has a unique name.
    #[cfg(windows)]
    pub fn start() -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        Self::at(format!(r"\\.\pipe\wedr-raw-{}-{count}", std::process::id()).into())
    }

    /// An agent whose pipe belongs to `owner`, in the notation of security descriptors.
    #[cfg(windows)]
    pub fn owned_by(owner: &str) -> io::Result<Self> {
        let path = PathBuf::from(format!(r"\\.\pipe\wedr-raw-{}-{owner}", std::process::id()));
        Ok(Self { listener: Listener::bind_owned(&path, owner)?, path })
    }

    /// An agent at `path`.
    #[cfg(windows)]
    pub fn at(path: PathBuf) -> Self {
        Self { listener: Listener::bind(&path).expect("a pipe"), path }
    }

    /// An agent at `path`. Creates the folder if it does not exist.
    #[cfg(unix)]
    pub fn at(path: PathBuf) -> Self {
        let folder = path.parent().expect("a path in a folder");
        std::fs::create_dir_all(folder).expect("a folder for the socket");
        Self { listener: Listener::bind(&path).expect("a socket"), path, _folder: None }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// A runner for this agent, otherwise as `common::runner` makes it.
    pub fn runner(&self) -> Runner {
        let runner = Runner::new().pipe_path(&self.path).install_signal_handler(false);
        let runner = runner.drain_timeout(LIMIT);
        // Under Wine 8 this pipe has no owner.
        if cfg!(windows) { runner.trusted_agent(AgentTrust::Any) } else { runner }
    }

    /// Waits for the next connection, without a limit.
    pub fn accept(&self) -> RawPipe {
        RawPipe { stream: self.listener.accept().expect("a connection").0, at_a_time: usize::MAX }
    }

    /// Whether a client has connected and was not accepted yet. On Windows it must also be still connected.
    /// Never blocks.
    pub fn was_connected_to(&self) -> bool {
        self.listener.set_nonblocking(true).expect("a live socket");
        let connected = self.listener.accept().is_ok();
        self.listener.set_nonblocking(false).expect("a live socket");
        connected
    }
}

/// One end of a connection: the agent's if it was accepted, the plugin's if it was connected.
pub struct RawPipe {
    stream: Stream,
    at_a_time: usize,
}

impl RawPipe {
    pub fn connect(path: &Path) -> Self {
        #[cfg(unix)]
        let connected = Stream::connect(path);
        #[cfg(windows)]
        let connected = Stream::connect_by_path(path);
        Self { stream: connected.expect("an agent listens"), at_a_time: usize::MAX }
    }

    /// Limits the bytes that one call reads from now on.
    pub fn read_at_a_time(&mut self, bytes: usize) {
        self.at_a_time = bytes;
    }

    /// Writes all of `bytes`. Fails if the other end has closed.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// The next whole frame with its length; `None` if the other end closed first.
    pub fn next_frame(&mut self) -> Option<Vec<u8>> {
        let mut prefix = [0; 4];
        self.fill(&mut prefix)?;
        let mut frame = prefix.to_vec();
        frame.resize(4 + u32::from_le_bytes(prefix) as usize, 0);
        self.fill(&mut frame[4..])?;
        Some(frame)
    }

    /// Reads exactly so many bytes; `None` if the other end closed first.
    pub fn fill(&mut self, bytes: &mut [u8]) -> Option<()> {
        bytes.chunks_mut(self.at_a_time).try_for_each(|some| self.stream.read_exact(some)).ok()
    }

    /// Reads hello, acknowledges it, and returns it.
    pub fn shake_hands(&mut self) -> Vec<u8> {
        let hello = self.next_frame().expect("hello");
        self.send(&frame(ACK)).expect("the plugin reads its answer");
        hello
    }

    /// The frames up to goodbye, with goodbye, or up to the end of the stream.
    pub fn rest_of_session(&mut self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next_frame() {
            let last = message(&frame)["type"] == "goodbye";
            frames.push(frame);
            if last {
                break;
            }
        }
        frames
    }

    /// Behaves as an agent should: acknowledges hello and reads until goodbye. Returns hello and the frames
    /// after it. The caller closes.
    pub fn serve(&mut self) -> Vec<Vec<u8>> {
        let mut frames = vec![self.shake_hands()];
        frames.append(&mut self.rest_of_session());
        frames
    }

    /// Reads everything until the other end closes.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset after the last byte is also an end.
        let _ = self.stream.read_to_end(&mut bytes);
        bytes
    }

    /// Shuts down one direction of the connection, or both, without closing it.
    #[cfg(unix)]
    pub fn shut_down(&self, how: Shutdown) {
        self.stream.shutdown(how).expect("a live connection");
    }
}
