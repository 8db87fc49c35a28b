//! A Unix stream socket, never blocking but in `poll`.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, UnixAddr, connect, getsockopt, recv, send, socket,
    sockopt,
};

use super::{AgentTrust, Arrival, Closed, Patience, Read};
use crate::deadline::Deadline;
use crate::error::{Error, Result};

pub(crate) const DEFAULT_PATH: &str = "/run/wazabiedr/plugin.sock";

/// How long to wait before trying a full backlog again: nothing tells when there is room.
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

/// The longest path of a socket in bytes: what `sockaddr_un` has, less the terminating NUL.
const PATH_MAX: usize =
    if cfg!(any(target_os = "linux", target_os = "android")) { 107 } else { 103 };

pub(crate) struct Pipe {
    socket: OwnedFd,
    arrival: Arrival,
}

impl Pipe {
    pub(crate) fn connect(path: &Path, patience: Patience<'_>) -> io::Result<Self> {
        let address = UnixAddr::new(path)?;
        loop {
            // A new socket each time: POSIX does not say what a failed connect leaves.
            let socket = new_socket()?;
            match connect(socket.as_raw_fd(), &address) {
                Ok(()) => return Ok(Self { socket, arrival: Arrival::Stays }),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => match patience() {
                    None => return Err(backlog_full()),
                    Some(deadline) => {
                        let now = Instant::now();
                        let left = deadline.instant().map(|at| at.saturating_duration_since(now));
                        std::thread::sleep(left.unwrap_or(BACKLOG_INTERVAL).min(BACKLOG_INTERVAL));
                    }
                },
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// The kernel's word for who listened when the plugin connected.
    pub(crate) fn check_agent(&self, trust: &AgentTrust) -> Result<()> {
        let own = nix::unistd::geteuid().as_raw();
        let trusted = match trust {
            AgentTrust::Any => return Ok(()),
            AgentTrust::OwnerOrRoot => [0, own],
            AgentTrust::Uid(uid) => [*uid, *uid],
        };
        let uid = peer_uid(&self.socket).map_err(|e| {
            Error::UntrustedAgent(format!("the system does not say which user it runs as ({e})"))
        })?;
        if trusted.contains(&uid) {
            return Ok(());
        }
        Err(Error::UntrustedAgent(match trust {
            AgentTrust::Uid(wanted) => {
                format!("it runs as user {uid}, and only user {wanted} is trusted")
            }
            _ => {
                format!("it runs as user {uid}, which is neither root nor the plugin's own, {own}")
            }
        }))
    }

    pub(crate) fn read(&mut self, into: &mut [u8], patience: Patience<'_>) -> io::Result<Read> {
        loop {
            match recv(self.raw(), into, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => return Ok(Read::Closed),
                Ok(n) => return Ok(Read::Bytes(n)),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => match patience() {
                    None => return Ok(Read::NotYet),
                    Some(deadline) => self.wait_for(PollFlags::POLLIN, deadline)?,
                },
                Err(e) => return Err(e.into()),
            }
        }
    }

    pub(crate) fn on_arrival(&mut self, arrival: Arrival) {
        self.arrival = arrival;
    }

    pub(crate) fn write(&mut self, bytes: &[u8], patience: Patience<'_>) -> io::Result<usize> {
        // Whether to wait for arrivals as well; not after the end of the stream, which would
        // never stop to arrive.
        let mut listens = self.arrival != Arrival::Stays;
        loop {
            match send(self.raw(), bytes, MsgFlags::MSG_DONTWAIT | NO_SIGNAL) {
                Ok(n) => return Ok(n),
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => {}
                Err(e) => return Err(e.into()),
            }
            let events = if listens { poll_now(self.socket.as_fd())? } else { PollFlags::empty() };
            if events.contains(PollFlags::POLLIN) {
                if self.arrival == Arrival::EndsWrite {
                    return Ok(0);
                }
                listens = self.throw_away();
            }
            let Some(deadline) = patience() else { return Ok(0) };
            let arrivals = if listens { PollFlags::POLLIN } else { PollFlags::empty() };
            self.wait_for(PollFlags::POLLOUT | arrivals, deadline)?;
        }
    }

    pub(crate) fn check_peer(&mut self) -> io::Result<()> {
        let events = poll_now(self.socket.as_fd())?;
        if events.contains(PollFlags::POLLIN) {
            self.throw_away();
        }
        // An end of stream alone is not the end: the agent has nothing more to say after its
        // answer, and may shut its sending side down.
        if events.intersects(PollFlags::POLLHUP | PollFlags::POLLERR) {
            return Err(match getsockopt(&self.socket, sockopt::SocketError) {
                Ok(error) if error != 0 => io::Error::from_raw_os_error(error),
                _ => Errno::EPIPE.into(),
            });
        }
        Ok(())
    }

    /// Reads one buffer and forgets it, no more: an agent that talks all the time must not hold
    /// the writer. False at the end of the stream.
    fn throw_away(&self) -> bool {
        let mut thrown_away = [0; 16 << 10];
        recv(self.raw(), &mut thrown_away, MsgFlags::MSG_DONTWAIT) != Ok(0)
    }

    pub(crate) fn wait_closed(&mut self, patience: Patience<'_>) -> Closed {
        let mut thrown_away = [0; 4096];
        loop {
            let awaited = match recv(self.raw(), &mut thrown_away, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => match poll_now(self.socket.as_fd()) {
                    Ok(events) if events.contains(PollFlags::POLLHUP) => return Closed::Orderly,
                    // Only its sending side: wait for the rest, which poll always reports.
                    _ => PollFlags::empty(),
                },
                // Also after bytes patience is asked: an agent may never stop talking.
                Ok(_) | Err(Errno::EINTR | Errno::EAGAIN) => PollFlags::POLLIN,
                Err(_) => return Closed::Abruptly,
            };
            match patience() {
                None => return Closed::NotYet,
                Some(deadline) => {
                    if self.wait_for(awaited, deadline).is_err() {
                        return Closed::Abruptly;
                    }
                }
            }
        }
    }

    fn raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn wait_for(&self, events: PollFlags, deadline: Deadline) -> io::Result<()> {
        poll_until(self.socket.as_fd(), events, deadline)
    }
}

fn backlog_full() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "its backlog of connections stayed full")
}

/// Waits for `events`, an error or `deadline`, whichever comes first.
fn poll_until(fd: BorrowedFd<'_>, events: PollFlags, deadline: Deadline) -> io::Result<()> {
    loop {
        let timeout = match deadline.instant() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up, or the last millisecond would be spent spinning.
                let ms = left.as_micros().div_ceil(1000);
                PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
            }
        };
        match poll(&mut [PollFd::new(fd, events)], timeout) {
            Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
}

fn poll_now(fd: BorrowedFd<'_>) -> io::Result<PollFlags> {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    // Interrupted even so: it is no sign of the pipe's loss.
    while let Err(e) = poll(&mut fds, PollTimeout::ZERO) {
        if e != Errno::EINTR {
            return Err(e.into());
        }
    }
    Ok(fds[0].revents().unwrap_or(PollFlags::empty()))
}

#[cfg(any(target_os = "linux", target_os = "android"))]
const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
/// Rust's runtime has SIGPIPE ignored.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// A socket whose number is above those of the standard streams. If one of these was closed, its
/// number is the next to be given out, and what the host prints there would go to the agent.
fn new_socket() -> io::Result<OwnedFd> {
    let socket = lowest_socket()?;
    if socket.as_raw_fd() > 2 {
        return Ok(socket);
    }
    // std has clones begin at 3.
    socket.try_clone()
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn lowest_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socket(AddressFamily::Unix, SockType::Stream, flags, None)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn lowest_socket() -> io::Result<OwnedFd> {
    let socket = socket(AddressFamily::Unix, SockType::Stream, SockFlag::empty(), None)?;
    // A clone is made close-on-exec.
    let stream = std::os::unix::net::UnixStream::from(socket.try_clone()?);
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    Ok(getsockopt(socket, sockopt::PeerCredentials)?.uid())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(socket)?.0.as_raw())
}

#[cfg(feature = "test-util")]
pub(crate) use listener::{Listener, remove, temporary_path};

#[cfg(feature = "test-util")]
mod listener {
    use std::fs::DirBuilder;
    use std::os::unix::fs::DirBuilderExt;
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::{Arrival, AsFd, Deadline, Path, Patience, Pipe, PollFlags, io, poll_until};

    /// A path for a socket in a new folder that no other user can enter.
    pub(crate) fn temporary_path() -> io::Result<PathBuf> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("wedr-agent-{}-{count}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            match DirBuilder::new().mode(0o700).create(&folder) {
                Ok(()) => return Ok(folder.join("plugin.sock")),
                // Left over from a process with the same id.
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
        /// A socket's buffer outlives its other end, so this is a close like any other.
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

        /// The next connection; `None` once `patience` ends.
        pub(crate) fn accept(&mut self, patience: Patience<'_>) -> io::Result<Option<Pipe>> {
            loop {
                match self.socket.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(true)?;
                        let arrival = Arrival::Stays;
                        return Ok(Some(Pipe { socket: stream.into(), arrival }));
                    }
                    Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => match patience() {
                        None => return Ok(None),
                        Some(deadline) => self.wait(deadline)?,
                    },
                    Err(e) => return Err(e),
                }
            }
        }

        fn wait(&self, deadline: Deadline) -> io::Result<()> {
            poll_until(self.socket.as_fd(), PollFlags::POLLIN, deadline)
        }
    }
}
