//! How Ctrl+C gets to a plugin process on Windows: the plugin has a console of its own. A second process in
//! this console presses Ctrl+C.

use std::io::Write;
use std::os::windows::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use wedr_plugin_sdk::testing::press_ctrl_c;

/// Ctrl+C.
pub(crate) struct Signal;

pub(crate) const INTERRUPT: Signal = Signal;
/// Windows has no other signal that does not end a process at once.
pub(crate) const TERMINATE: Signal = Signal;

/// Set in the process that presses Ctrl+C.
const PRESSES: &str = "WEDR_TEST_PRESSES";
/// A console without a window.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// The exit status of a process that does not handle Ctrl+C.
const STATUS_CONTROL_C_EXIT: u32 = 0xc000_013a;

/// A command for this binary in a role, with a second process that presses Ctrl+C. Both have the same output
/// and end with the same status.
pub(crate) fn program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PRESSES, "").creation_flags(CREATE_NO_WINDOW).stdin(Stdio::piped());
    command
}

pub(crate) fn send(process: &mut Child, _: Signal) {
    process.stdin.as_mut().expect("it is told to press").write_all(b"press\n").unwrap();
}

pub(crate) fn died_of(status: ExitStatus, _: Signal) -> bool {
    // Under Wine 8 the status is 0. The agent sees that the plugin did not end in order.
    [STATUS_CONTROL_C_EXIT.cast_signed(), 0].map(Some).contains(&status.code())
}

/// Has no effect on a process that was reaped.
pub(crate) fn end(process: &mut Child) {
    // The process ends the plugin when its input ends; `wait` closes the input.
    let _ = process.wait();
}

/// Presses Ctrl+C for each line of its input, until the plugin has ended. In any other process it returns at
/// once.
pub(crate) fn press_if_told_to() {
    if std::env::var_os(PRESSES).is_none() {
        return;
    }
    // This process gets its own Ctrl+C too.
    ctrlc::set_handler(|| {}).unwrap();
    let this = std::env::current_exe().unwrap();
    let mut plugin = Command::new(this).env_remove(PRESSES).stdin(Stdio::null()).spawn().unwrap();
    let (told, presses) = mpsc::channel();
    thread::spawn(move || {
        std::io::stdin().lines().map_while(Result::ok).try_for_each(|_| told.send(()))
    });
    loop {
        match presses.recv_timeout(Duration::from_millis(20)) {
            Ok(()) => press_ctrl_c().unwrap(),
            Err(RecvTimeoutError::Timeout) => {}
            // The test is over.
            Err(RecvTimeoutError::Disconnected) => plugin.kill().unwrap(),
        }
        if let Some(status) = plugin.try_wait().unwrap() {
            std::process::exit(status.code().expect("every process has one"));
        }
    }
}
