//! A launched process and, on Unix, its process group.

use std::io;
use std::process::Child;

#[cfg(unix)]
use nix::sys::signal::{SIGKILL, Signal, killpg};

/// Kills the process group that `process` leads.
#[cfg(unix)]
pub(super) fn kill(process: &mut Child) -> io::Result<()> {
    signal(process, SIGKILL)
}

/// Kills the process alone: Windows has no process groups that can be killed.
#[cfg(windows)]
pub(super) fn kill(process: &mut Child) -> io::Result<()> {
    process.kill()
}

/// Sends a signal to the process group that `process` leads.
#[cfg(unix)]
pub(super) fn signal(process: &Child, signal: Signal) -> io::Result<()> {
    let id = i32::try_from(process.id()).expect("a process id is an i32");
    Ok(killpg(nix::unistd::Pid::from_raw(id), signal)?)
}
