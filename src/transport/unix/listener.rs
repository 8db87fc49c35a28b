//! The agent's end of a socket, for the test agent and the dev agent.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::poll::PollFlags;

use super::wait::wait_for;
use super::{Arrival, NextDeadline, Pipe};
use crate::deadline::Deadline;

/// A path for a socket in a new folder that no other user can enter.
pub(crate) fn temporary_path() -> io::Result<PathBuf> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    loop {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wedr-agent-{}-{count}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        match DirBuilder::new().mode(0o700).create(&folder) {
            Ok(()) => return Ok(folder.join("plugin.sock")),
            // An earlier process with the same id left this folder behind.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
}

/// Removes what a listener at a [`temporary_path`] leaves behind.
pub(crate) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
    if let Some(folder) = path.parent() {
        let _ = std::fs::remove_dir(folder);
    }
}

impl Pipe {
    /// On Unix the same as dropping the pipe: the plugin can still read what was sent before.
    pub(crate) fn disconnect(self) {
        drop(self);
    }
}

pub(crate) struct Listener {
    socket: UnixListener,
}

impl Listener {
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        let socket = UnixListener::bind(path)?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket })
    }

    /// The next connection; `None` if `next_deadline` returns `None`.
    pub(crate) fn accept(&mut self, next_deadline: NextDeadline<'_>) -> io::Result<Option<Pipe>> {
        loop {
            match self.socket.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    let arrival = Arrival::Stays;
                    return Ok(Some(Pipe { socket: stream.into(), arrival }));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => match next_deadline() {
                    None => return Ok(None),
                    Some(deadline) => self.wait(deadline)?,
                },
                Err(e) => return Err(e),
            }
        }
    }

    fn wait(&self, deadline: Deadline) -> io::Result<()> {
        wait_for(self.socket.as_fd(), PollFlags::POLLIN, deadline)
    }
}
