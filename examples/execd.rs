//! A plugin that runs another program and turns each line of its output into an event.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example execd -- journalctl -f -o json
//! ```
//!
//! Settings: the program and its arguments, as arguments or in `EXECD_COMMAND`. In the variable, spaces separate
//! the words, and there is no quoting. The agent launches plugins without arguments.
//!
//! # Events
//!
//! - A line that is a JSON object becomes an `execd_json` with this object, unchanged, as its payload. The agent
//!   reads integers beyond 64 bits as floats, and of two equal keys it keeps the last.
//! - Any other line becomes an `execd_text` with the field `text`. Bytes that are not UTF-8 are replaced. A long
//!   line is split between characters. Its pieces also have `part`, counted from 1, and `more`, which is false
//!   for the last piece.
//!
//! If the agent is slow, the program blocks when it writes. Many programs buffer their output when they write
//! to a pipe: `stdbuf -oL PROGRAM` makes them write each line at once.
//!
//! # How it ends
//!
//! When the output ends, `execd` ends its session and exits with the program's exit status. If the program
//! started a background process that holds the output open, the session lasts until that process ends.
//!
//! At a shutdown, the program gets SIGTERM (on Windows Ctrl+Break) and the end of its input. After 2 s `execd`
//! kills it. On Unix SIGTERM and the kill go to the program's process group, and `execd` kills the rest of
//! the group when the program has ended. `execd` does not end a daemon that leaves the group: run the program in
//! the foreground. `execd` discards what the program prints after the shutdown. The program shares the standard
//! error of `execd`.
//!
//! If the agent kills `execd` itself, no code of `execd` runs. The program sees the end of its
//! input, and its next write fails: on Unix with SIGPIPE, on Windows with an error. A program that neither reads
//! its input nor writes keeps running. To end it too:
//!
//! - On Linux, run `setpriv --pdeathsig TERM PROGRAM`. Under systemd, the end of the unit ends it.
//! - On Windows, this example cannot end it: end it in the Task Manager. In your own plugin, put the program
//!   into a job object with `JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE`.

#![cfg_attr(windows, allow(unsafe_code))]

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::json;
use serde_json::value::RawValue;
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, metadata};

/// How long the program may take to end. The agent gives both processes together five seconds.
const GRACE: Duration = Duration::from_secs(2);

fn main() {
    let mut words: Vec<_> =
        env::args_os().skip(1).skip_while(|argument| argument == "--").collect();
    if words.is_empty() {
        let command = env::var("EXECD_COMMAND").unwrap_or_default();
        words = command.split_whitespace().map(Into::into).collect();
    }
    let Some((program, arguments)) = words.split_first() else {
        eprintln!("usage: execd [--] PROGRAM [ARGUMENT]..., or set EXECD_COMMAND");
        exit(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // The session has ended before `exit`, so no event is lost.
    exit(plugin(&mut command).unwrap_or_else(|error| {
        eprintln!("Error: {error:?}");
        1
    }));
}

/// Runs the plugin. Returns the program's exit status, or 0 after a shutdown.
fn plugin(command: &mut Command) -> Result<i32> {
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    let mut ended = None;
    runner.run_with(metadata!("execd")?, |sink, ctx| {
        ended = run(command, sink, ctx)?;
        Ok(())
    })?;
    Ok(ended.map_or(0, platform::code))
}

/// The plugin's body. Returns the program's exit status, or `None` after a shutdown.
fn run(
    command: &mut Command,
    sink: &EventSink,
    ctx: &SessionContext,
) -> Result<Option<ExitStatus>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |what| {
        move |e: io::Error| {
            Error::plugin(format!(
                "cannot {what} {program}: {e}; run it in a shell, as the same user"
            ))
        }
    };
    let mut child = platform::in_own_group(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot.clone()("start"))?;
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));

    let (result, forwarded) = mpsc::channel();
    let (sink, shutdown) = (sink.clone(), ctx.shutdown_handle());
    let max = ctx.max_payload_bytes().max(1024);
    // Not joined: on Windows, a child process of the program may hold the pipe open for longer.
    thread::spawn(move || {
        // This fails only if the body has returned.
        let _ = result.send(forward(&mut output, max, &sink));
        shutdown.shutdown();
        // A program that ends must not fail because its output is full or closed.
        let _ = io::copy(&mut output, &mut io::sink());
    });
    ctx.wait_for_shutdown();

    let forwarded = forwarded.try_recv();
    let by_itself = matches!(forwarded, Ok(Ok(())));
    let status = end(&mut child, by_itself).map_err(cannot("end"))?;
    forwarded.unwrap_or(Ok(()))?;
    Ok(by_itself.then_some(status))
}

/// Forwards lines until the output ends. An event has at most `max` bytes.
fn forward(output: &mut impl BufRead, max: usize, sink: &EventSink) -> Result<()> {
    // A byte takes at most six bytes in JSON. 256 bytes are for the rest of the event.
    let longest = (max / 6).saturating_sub(256).max(4);
    let mut line = Vec::new();
    // The number of the next piece of this line.
    let mut part = 1;
    loop {
        let read = output.by_ref().take((max - line.len()) as u64).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        let is_whole = read == 0 || line.ends_with(b"\n");
        if is_whole {
            let end = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n'));
            line.truncate(end.map_or(0, |end| end + 1));
            if part == 1 && forward_json(&line, sink)? {
                line.clear();
                continue;
            }
        }
        let mut rest = &line[..];
        while rest.len() > longest {
            let (piece, after) = rest.split_at(end_of_character(rest, longest));
            let text = String::from_utf8_lossy(piece);
            sink.emit("execd_text", json!({ "text": text, "part": part, "more": true }))?;
            (part, rest) = (part + 1, after);
        }
        if is_whole {
            let text = String::from_utf8_lossy(rest);
            let payload = match part {
                1 => json!({ "text": text }),
                part => json!({ "text": text, "part": part, "more": false }),
            };
            sink.emit("execd_text", payload)?;
            (part, rest) = (1, &[]);
        }
        line = rest.to_vec();
    }
}

/// Forwards a line that is a JSON object and fits into an event. Returns false for any other line.
fn forward_json(line: &[u8], sink: &EventSink) -> Result<bool> {
    let object = serde_json::from_slice::<&RawValue>(line);
    let object = object.ok().filter(|json| json.get().starts_with('{'));
    match object.map(|object| sink.event("execd_json").emit(object)) {
        Some(Ok(())) => Ok(true),
        // The line is not an object, or the agent could not parse it: forward it as text.
        None
        | Some(Err(
            Error::PayloadTooDeep { .. } | Error::PayloadTooLarge { .. } | Error::Json(_),
        )) => Ok(false),
        Some(Err(end)) => Err(end),
    }
}

/// The end of the last character that ends within the first `longest` bytes.
fn end_of_character(text: &[u8], longest: usize) -> usize {
    let is_start = |at: &usize| text[*at] & 0b1100_0000 != 0b1000_0000;
    // A character has at most four bytes. Bytes that are not UTF-8 may be split anywhere.
    (longest - 3..=longest).rev().find(is_start).unwrap_or(longest)
}

/// Ends the program: asks it to end, then kills it after [`GRACE`].
fn end(child: &mut Child, by_itself: bool) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    if !by_itself {
        platform::ask_to_end(child);
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            // Other processes of its group may still run.
            platform::kill(child);
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    platform::kill(child);
    child.wait()
}

// Both modules start the program in its own process group, so that Ctrl+C in the console does not reach
// it: `execd` ends it after the session. On Unix, a group keeps its id as long as it has members, even if
// its first process has ended.

#[cfg(unix)]
mod platform {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, ExitStatus};

    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;

    pub(crate) fn in_own_group(command: &mut Command) -> &mut Command {
        command.process_group(0)
    }

    pub(crate) fn ask_to_end(child: &Child) {
        signal(child, Signal::SIGTERM);
    }

    pub(crate) fn kill(child: &mut Child) {
        signal(child, Signal::SIGKILL);
    }

    fn signal(group: &Child, signal: Signal) {
        // This fails only if the group has no members, or if `execd` may not signal them.
        let _ = killpg(Pid::from_raw(group.id().cast_signed()), signal);
    }

    /// The exit code; for a program that a signal ended, 128 plus the signal, as in a shell.
    pub(crate) fn code(status: ExitStatus) -> i32 {
        status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1)
    }
}

#[cfg(windows)]
mod platform {
    use std::os::windows::process::CommandExt;
    use std::process::{Child, Command, ExitStatus};

    use windows_sys::Win32::System::Console::{CTRL_BREAK_EVENT, GenerateConsoleCtrlEvent};
    use windows_sys::Win32::System::Threading::CREATE_NEW_PROCESS_GROUP;

    pub(crate) fn in_own_group(command: &mut Command) -> &mut Command {
        command.creation_flags(CREATE_NEW_PROCESS_GROUP)
    }

    pub(crate) fn ask_to_end(child: &Child) {
        // SAFETY: the call takes two numbers. Without a console it fails; then the program gets only
        // the end of its input.
        unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, child.id()) };
    }

    pub(crate) fn kill(child: &mut Child) {
        // This fails only if the program has ended.
        let _ = child.kill();
    }

    pub(crate) fn code(status: ExitStatus) -> i32 {
        status.code().unwrap_or(1)
    }
}
