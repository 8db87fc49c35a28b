//! How Ctrl+C gets to a plugin process: it has a console of its own, which it shares with a
//! process that presses it, as the agent shares its own with the plugins that it launched.

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
/// There is nothing else to send, but what ends a process at once.
pub(crate) const TERMINATE: Signal = Signal;

/// Set in the process that presses.
const PRESSES: &str = "WEDR_TEST_PRESSES";
/// A console that nobody sees.
const CREATE_NO_WINDOW: u32 = 0x0800_0000;
/// What a process ends with that does not handle Ctrl+C.
const STATUS_CONTROL_C_EXIT: u32 = 0xc000_013a;

/// This binary, to be started in a role, with a process beside it that presses Ctrl+C. They have
/// the same output, and end with the same status.
pub(crate) fn program() -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(PRESSES, "").creation_flags(CREATE_NO_WINDOW).stdin(Stdio::piped());
    command
}

pub(crate) fn send(process: &mut Child, _: Signal) {
    process.stdin.as_mut().expect("it is told to press").write_all(b"press\n").unwrap();
}

pub(crate) fn died_of(status: ExitStatus, _: Signal) -> bool {
    // Wine 8 ends it with 0; that it did not end in order shows at the agent's end.
    [STATUS_CONTROL_C_EXIT.cast_signed(), 0].map(Some).contains(&status.code())
}

/// Does nothing to a process that has been waited for.
pub(crate) fn end(process: &mut Child) {
    // It ends the plugin when its input ends; `wait` closes it.
    let _ = process.wait();
}

/// Presses Ctrl+C for every line of its input, until the plugin beside it has ended. Returns at
/// once in any other process.
pub(crate) fn press_if_told_to() {
    if std::env::var_os(PRESSES).is_none() {
        return;
    }
    // Its own presses reach it too.
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
