//! The agent: the bench's own binary, started again. It reads as fast as it can, and discards everything.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

const ROLE: &str = "WEDR_BENCH_AGENT";

pub struct Agent {
    child: Child,
    path: PathBuf,
    _folder: TempDir,
}

impl Agent {
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the socket");
        let path = folder.path().join("agent.sock");
        let mut child = Command::new(std::env::current_exe().expect("the bench's own path"))
            .env(ROLE, &path)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the agent's process");
        let mut ready = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut ready)
            .expect("the agent reports that it listens");
        Self { child, path, _folder: folder }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Stops the agent's process until the result is dropped.
    pub fn stop(&self) -> Stopped {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        kill(pid, Signal::SIGSTOP).expect("our own child");
        Stopped(pid)
    }
}

/// A stopped agent.
pub struct Stopped(Pid);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the agent's process this never returns. In the bench's process it returns at once.
pub fn serve_if_asked() {
    let Some(path) = std::env::var_os(ROLE) else { return };
    let listener = UnixListener::bind(path).expect("the socket");
    println!("listening");
    for stream in listener.incoming() {
        let stream = stream.expect("a connection");
        std::thread::spawn(move || serve(stream));
    }
}

fn serve(mut stream: UnixStream) {
    const GOODBYE: &[u8] = br#"{"type":"goodbye"}"#;
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("hello");
    let mut hello = vec![0; u32::from_le_bytes(length) as usize];
    stream.read_exact(&mut hello).expect("hello");
    let ack = br#"{"type":"hello_ack","session_id":"bench"}"#;
    stream.write_all(&(ack.len() as u32).to_le_bytes()).expect("an ack");
    stream.write_all(ack).expect("an ack");
    let mut buffer = vec![0; 256 << 10];
    // The goodbye comes last. Two reads may each return a part of it.
    let mut tail = Vec::new();
    while let Ok(read @ 1..) = stream.read(&mut buffer) {
        let last = &buffer[..read];
        tail.extend_from_slice(&last[last.len().saturating_sub(GOODBYE.len())..]);
        tail.drain(..tail.len().saturating_sub(GOODBYE.len()));
        if tail == GOODBYE {
            break;
        }
    }
}
