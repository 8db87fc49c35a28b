//! How a signal gets to a plugin process on Unix.

use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus};

use nix::sys::signal::kill;
use nix::unistd::Pid;

pub(crate) use nix::sys::signal::Signal;

pub(crate) const INTERRUPT: Signal = Signal::SIGINT;
pub(crate) const TERMINATE: Signal = Signal::SIGTERM;

/// A command for this binary in a role.
pub(crate) fn program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

pub(crate) fn send(process: &mut Child, signal: Signal) {
    let id = i32::try_from(process.id()).unwrap();
    kill(Pid::from_raw(id), signal).unwrap();
}

pub(crate) fn died_of(status: ExitStatus, signal: Signal) -> bool {
    status.signal() == Some(signal as i32)
}

/// Has no effect on a process that was reaped.
pub(crate) fn end(process: &mut Child) {
    let _ = process.kill();
    let _ = process.wait();
}
