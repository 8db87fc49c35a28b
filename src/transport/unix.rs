//! A Unix stream socket. It blocks only in `poll`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, UnixAddr, connect, getsockopt, recv, send, sockopt};

use self::socket::{NO_SIGNAL, new_socket, peer_uid, unread};
use self::wait::{is_short_of_memory, pause, pause_for, state, wait_for};
use super::{AgentTrust, Arrival, Closed, NextDeadline, Read};
use crate::error::Result;

#[cfg(feature = "test-util")]
mod listener;
mod socket;
#[cfg_attr(
    not(any(target_os = "linux", target_os = "android")),
    allow(dead_code, reason = "user namespaces are Linux's")
)]
mod trust;
mod wait;

#[cfg(feature = "test-util")]
pub(crate) use listener::{Listener, remove, temporary_path};

pub(crate) const DEFAULT_PATH: &str = "/run/wazabiedr/plugin.sock";

/// How long to wait before the next attempt if the backlog is full: the system does not report when a
/// place is free.
const BACKLOG_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) fn check_path(path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err("the pipe's path is empty; give the agent's, or leave pipe_path out".into());
    }
    if bytes.contains(&0) {
        return Err(format!("the pipe's path {} has a NUL byte in it", path.display()));
    }
    match UnixAddr::new(path) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!(
            "the pipe's path has {} bytes, and a Unix socket's may have {PATH_MAX}: {}",
            bytes.len(),
            path.display()
        )),
    }
}

/// The longest path of a socket in bytes. `sockaddr_un` has one byte more, for the terminating NUL.
const PATH_MAX: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

pub(crate) struct Pipe {
    socket: OwnedFd,
    arrival: Arrival,
}

impl Pipe {
    pub(crate) fn connect(path: &Path, next_deadline: NextDeadline<'_>) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        loop {
            // A new socket for each attempt: POSIX does not define the state of a socket after a failed
            // connect.
            let socket = new_socket()?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(Self { socket, arrival: Arrival::Stays }),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => match next_deadline() {
                    None => return Err(backlog_full()),
                    Some(deadline) => pause_for(BACKLOG_INTERVAL, deadline),
                },
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Checks the user that [`peer_uid`] reports: the user of the process when it began to listen.
    pub(crate) fn check_agent(&self, trust: &AgentTrust) -> Result<()> {
        trust::check(trust, peer_uid(&self.socket))
    }

    pub(crate) fn read(
        &mut self,
        into: &mut [u8],
        next_deadline: NextDeadline<'_>,
    ) -> io::Result<Read> {
        loop {
            match recv(self.raw(), into, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Ok(Read::Closed),
                Ok(n) => return Ok(Read::Bytes(n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => match next_deadline() {
                    None => return Ok(Read::NotYet),
                    Some(deadline) => wait_for(self.socket.as_fd(), PollFlags::POLLIN, deadline)?,
                },
                Err(e) if is_short_of_memory(e) => match next_deadline() {
                    None => return Ok(Read::NotYet),
                    Some(deadline) => pause(deadline),
                },
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(crate) fn on_arrival(&mut self, arrival: Arrival) {
        self.arrival = arrival;
    }

    pub(crate) fn write(
        &mut self,
        bytes: &[u8],
        next_deadline: NextDeadline<'_>,
    ) -> io::Result<usize> {
        // Whether to wait for input too. After the end of the stream this is false, because `poll` then
        // always reports input.
        let mut listens = self.arrival != Arrival::Stays;
        let mut piece = bytes;
        loop {
            let short_of_memory = match send(self.raw(), piece, MsgFlags::MSG_DONTWAIT | NO_SIGNAL)
            {
                Ok(n) => return Ok(n),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => false,
                Err(e) if is_short_of_memory(e) => true,
                Err(e) => return Err(e.into()),
            };
            let events = if listens { state(self.socket.as_fd())? } else { PollFlags::empty() };
            if events.contains(PollFlags::POLLIN) {
                if self.arrival == Arrival::EndsWrite {
                    return Ok(0);
                }
                listens = self.discard();
            }
            let Some(deadline) = next_deadline() else { return Ok(0) };
            if short_of_memory {
                // A shorter piece takes less memory.
                piece = &piece[..piece.len().div_ceil(2)];
                pause(deadline);
            } else {
                let arrivals = if listens { PollFlags::POLLIN } else { PollFlags::empty() };
                wait_for(self.socket.as_fd(), PollFlags::POLLOUT | arrivals, deadline)?;
            }
        }
    }

    pub(crate) fn check_peer(&mut self) -> io::Result<()> {
        let events = state(self.socket.as_fd())?;
        if events.contains(PollFlags::POLLIN) {
            self.discard();
        }
        // An end of stream alone does not mean that the pipe is lost: the agent sends nothing after its
        // answer and may shut its sending side.
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Err(match getsockopt(&self.socket, sockopt::SocketError) {
                Ok(error) if error != 0 => io::Error::from_raw_os_error(error),
                _ => Errno::EPIPE.into(),
            });
        }
        Ok(())
    }

    /// Reads and discards one buffer at most: an agent that sends all the time must not block the writer.
    /// Returns false at the end of the stream.
    fn discard(&self) -> bool {
        let mut discarded = [0; 16 << 10];
        recv(self.raw(), &mut discarded, MsgFlags::MSG_DONTWAIT) != Ok(0)
    }

    pub(crate) fn wait_closed(&mut self, next_deadline: NextDeadline<'_>) -> Closed {
        let mut discarded = [0; 4096];
        loop {
            // The event to wait for; `None` for a pause.
            let awaited = match recv(self.raw(), &mut discarded, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => match state(self.socket.as_fd()) {
                    Ok(events) if events.contains(PollFlags::POLLHUP) => match self.closed() {
                        // The agent may still read bytes in its buffer; `poll` does not report when.
                        Closed::NotYet => None,
                        closed => return closed,
                    },
                    // The agent has shut only its sending side. Wait until it shuts the other side too:
                    // `poll` reports that event (POLLHUP) without a request.
                    _ => Some(PollFlags::empty()),
                },
                // Check the deadline also after bytes arrived: an agent may never stop sending.
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => Some(PollFlags::POLLIN),
                Err(e) if is_short_of_memory(e) => None,
                Err(_) => return Closed::Abruptly,
            };
            let Some(deadline) = next_deadline() else { return Closed::NotYet };
            match awaited {
                None => pause(deadline),
                Some(events) => {
                    if wait_for(self.socket.as_fd(), events, deadline).is_err() {
                        return Closed::Abruptly;
                    }
                }
            }
        }
    }

    /// How the agent closed, once both directions are shut; `NotYet` while the agent has bytes to read.
    ///
    /// `poll` does not distinguish a closed socket from a socket whose both directions are shut, from
    /// which the agent may still read. `unread` counts the bytes that the agent has not read. If the
    /// agent closes the socket without reading them, the kernel first sets the error ECONNRESET and then
    /// lowers the count. So this function reads the count first and the error after it.
    fn closed(&self) -> Closed {
        match unread(&self.socket) {
            Ok(0) => match recv(self.raw(), &mut [0], MsgFlags::MSG_DONTWAIT) {
                Ok(0) => Closed::Orderly,
                _ => Closed::Abruptly,
            },
            Ok(_) => Closed::NotYet,
            Err(_) => Closed::Abruptly,
        }
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn backlog_full() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its backlog of connections stayed full")
}
