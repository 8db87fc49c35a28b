//! Waits for a socket, and reads its state without waiting.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv, send};

use super::socket::NO_SIGNAL;
use crate::deadline::Deadline;

/// How long to sleep before the next try where the system cannot wait for the socket. A write that
/// waited in this way used 3 % of one processor core in a debug build.
const RETRY_INTERVAL: Duration = Duration::from_millis(1);

/// Whether the system was short of memory. The socket is intact, and a later try may succeed.
pub(super) fn is_short_of_memory(e: Errno) -> bool {
    matches!(e, Errno::ENOBUFS | Errno::ENOMEM)
}

/// Whether `poll` failed for a reason that does not concern the socket.
///
/// EINVAL means that the process' limit on descriptors (`RLIMIT_NOFILE`) is zero: `poll` rejects an array
/// that is longer than this limit. The open descriptors stay usable.
fn cannot_poll(e: Errno) -> bool {
    e == Errno::EINVAL || is_short_of_memory(e)
}

/// Sleeps until the next try, at most until `deadline`.
pub(super) fn pause(deadline: Deadline) {
    pause_for(RETRY_INTERVAL, deadline);
}

/// Sleeps for `interval`, at most until `deadline`.
pub(super) fn pause_for(interval: Duration, deadline: Deadline) {
    let left = deadline.instant().map(|at| at.saturating_duration_since(Instant::now()));
    std::thread::sleep(left.unwrap_or(interval).min(interval));
}

/// Waits for `events`, an error or `deadline`, whichever comes first. May return early.
///
/// # Errors
///
/// EBADF if the descriptor was closed.
pub(super) fn wait_for(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    deadline: Deadline,
) -> io::Result<()> {
    loop {
        let timeout = match deadline.instant() {
            None => PollTimeout::NONE,
            Some(at) => {
                let left = at.saturating_duration_since(Instant::now());
                // Rounded up. Otherwise the caller would spin in the last millisecond.
                let ms = left.as_micros().div_ceil(1000);
                PollTimeout::try_from(ms).unwrap_or(PollTimeout::MAX)
            }
        };
        match polled(fd, events, timeout) {
            Err(Errno::EINTR) => {}
            Err(e) if cannot_poll(e) => {
                pause(deadline);
                return Ok(());
            }
            Err(e) => return Err(e.into()),
            Ok(_) => return Ok(()),
        }
    }
}

/// The socket's state: POLLIN, POLLHUP and POLLERR as they are now. Never waits.
///
/// # Errors
///
/// EBADF if the descriptor was closed, and the socket's own error.
pub(super) fn state(fd: BorrowedFd<'_>) -> io::Result<PollFlags> {
    loop {
        match polled(fd, PollFlags::POLLIN, PollTimeout::ZERO) {
            // Retry on EINTR; it does not mean that the pipe is lost.
            Err(Errno::EINTR) => {}
            Err(e) if cannot_poll(e) => return probed(fd),
            result => return Ok(result?),
        }
    }
}

fn polled(fd: BorrowedFd<'_>, events: PollFlags, timeout: PollTimeout) -> nix::Result<PollFlags> {
    let mut fds = [PollFd::new(fd, events)];
    poll(&mut fds, timeout)?;
    let found = fds[0].revents().unwrap_or(PollFlags::empty());
    if found.contains(PollFlags::POLLNVAL) {
        return Err(Errno::EBADF);
    }
    Ok(found)
}

/// The socket's state without `poll`. POLLHUP means that both directions are shut: a read returns the end of
/// the stream, and even an empty `send` fails.
fn probed(fd: BorrowedFd<'_>) -> io::Result<PollFlags> {
    let peek = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(fd.as_raw_fd(), &mut [0], peek) {
        Ok(0) => match send(fd.as_raw_fd(), &[], MsgFlags::MSG_DONTWAIT | NO_SIGNAL) {
            Err(Errno::EPIPE) => Ok(PollFlags::POLLIN | PollFlags::POLLHUP),
            _ => Ok(PollFlags::POLLIN),
        },
        Ok(_) => Ok(PollFlags::POLLIN),
        Err(Errno::EAGAIN | Errno::EINTR) => Ok(PollFlags::empty()),
        Err(e) if is_short_of_memory(e) => Ok(PollFlags::empty()),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Shutdown;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn probe_reports_the_same_state_as_poll() {
        type Act = fn(&mut UnixStream);
        let acts: [Act; 5] = [
            |_| {},
            |agent| assert_eq!(std::io::Write::write(agent, b"x").unwrap(), 1),
            |agent| agent.shutdown(Shutdown::Write).unwrap(),
            |agent| agent.shutdown(Shutdown::Read).unwrap(),
            |agent| agent.shutdown(Shutdown::Both).unwrap(),
        ];
        for (index, act) in acts.into_iter().enumerate() {
            let (plugin, mut agent) = UnixStream::pair().unwrap();
            act(&mut agent);
            let probed = probed(plugin.as_fd()).unwrap();
            assert_eq!(probed, state(plugin.as_fd()).unwrap(), "act {index}");
        }
        let (plugin, agent) = UnixStream::pair().unwrap();
        drop(agent);
        assert_eq!(probed(plugin.as_fd()).unwrap(), state(plugin.as_fd()).unwrap());
    }
}
