//! The plugin's process and, on Unix, its process group.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[cfg(unix)]
use nix::sys::signal::{SIGKILL, Signal, killpg};

use crate::error::Printable;

/// How long a plugin may take to end after Ctrl+C or SIGTERM. Then the real agent kills it.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long the dev agent reads the plugin's output after the plugin has ended: a child process of the
/// plugin may keep the output open.
pub(super) const OUTPUT_LIMIT: Duration = Duration::from_secs(1);
/// The most bytes of the plugin's output that are one line.
const LINE: u64 = 8 << 10;

/// Starts the plugin with its id and the path of the agent's pipe. `spawn` is [`with_output`] or
/// `service::spawn`.
pub(super) fn start(
    command: &[OsString],
    id: &str,
    pipe: &Path,
    spawn: fn(&mut Command) -> io::Result<Child>,
) -> Result<Child, String> {
    let (program, arguments) = command.split_first().expect("the command is not empty");
    let mut command = Command::new(program);
    command.args(arguments).env("WEDR_PLUGIN_ID", id).env("WEDR_PIPE_PATH", pipe);
    spawn(&mut command).map_err(|e| {
        let program = program.to_string_lossy();
        format!("cannot launch {}: {e}; build the plugin, or give its path", Printable(&program))
    })
}

/// Starts a process with its output piped to the dev agent. On Unix the process has a process group of its
/// own, so that Ctrl+C in the terminal does not reach it.
pub(super) fn with_output(command: &mut Command) -> io::Result<Child> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.spawn()
}

/// Hands each line of the plugin's output to `see`, with its end. A very long line comes in pieces.
pub(super) fn for_each_line(from: impl Read, mut see: impl FnMut(&str)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.by_ref().take(LINE).read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
        see(&String::from_utf8_lossy(&line));
        line.clear();
    }
}

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
