//! Makes sockets, and asks the kernel about them.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

#[cfg(not(target_os = "linux"))]
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, getsockopt, socket, sockopt};

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::MSG_NOSIGNAL;
/// No flag is needed, because Rust's runtime ignores SIGPIPE.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) const NO_SIGNAL: MsgFlags = MsgFlags::empty();

/// Makes a socket whose file descriptor is above 2. If the host has closed a standard stream, the system
/// can give the stream's descriptor to a socket, and the host's output would go to the agent.
pub(super) fn new_socket() -> io::Result<OwnedFd> {
    let socket = lowest_socket()?;
    if socket.as_raw_fd() > 2 {
        return Ok(socket);
    }
    // The descriptor of a clone is at least 3.
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
    // `try_clone` sets close-on-exec on the clone.
    let stream = std::os::unix::net::UnixStream::from(socket.try_clone()?);
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

/// The user that the process at the other end ran as when it began to listen.
#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    Ok(getsockopt(socket, sockopt::PeerCredentials)?.uid())
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
pub(super) fn peer_uid(socket: &OwnedFd) -> io::Result<u32> {
    Ok(nix::unistd::getpeereid(socket)?.0.as_raw())
}

/// The kernel's memory, in bytes, for sent data that the other end has not read; zero if it has read all.
///
/// This is the number that the ioctl SIOCOUTQ gives for a Unix socket. It is also zero once the
/// other end has closed with bytes unread: then the next `recv` fails with ECONNRESET.
#[cfg(target_os = "linux")]
pub(super) fn unread(socket: &OwnedFd) -> io::Result<u32> {
    let [_rmem_alloc, _rcvbuf, wmem_alloc] = getsockopt(socket, mem_info::MemInfo)?;
    Ok(wmem_alloc)
}

/// Other systems do not report this number.
#[cfg(not(target_os = "linux"))]
pub(super) fn unread(_: &OwnedFd) -> io::Result<u32> {
    Err(Errno::ENOTSUP.into())
}

#[cfg(target_os = "linux")]
mod mem_info {
    use nix::{getsockopt_impl, libc, sockopt_impl};

    sockopt_impl!(
        /// SO_MEMINFO: the first three of the kernel's `SK_MEMINFO_…` values. The kernel writes all three
        /// since Linux 4.12, and no bytes beyond the given length.
        MemInfo,
        GetOnly,
        libc::SOL_SOCKET,
        libc::SO_MEMINFO,
        [u32; 3]
    );
}
