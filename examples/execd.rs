//! Makes a plugin of any program that prints lines: each line of its output becomes an event.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example execd -- journalctl -f -o json`, with an agent on the
//! default pipe, or on the one named in `WEDR_PIPE_PATH`.
//!
//! A line that is a JSON object is the payload of an `execd.json`; any other becomes an
//! `execd.text`, with what is not UTF-8 replaced. A line longer than about a sixth of what the
//! agent takes comes in pieces. A slow agent makes the program wait, as a pipe does.
//!
//! When the output ends, so does the session, with the program's own exit status. At shutdown the
//! program gets SIGTERM (on Windows Ctrl+Break) and the end of its input, and is killed if it still
//! runs two seconds later; on Unix both go to its whole process group. What it prints while it ends
//! is not forwarded. Its standard error is this process'.

#![cfg_attr(windows, allow(unsafe_code))]

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::{Map, Value, json};
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, metadata};

/// What the program gets to end in. The agent gives both processes five seconds.
const GRACE: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = env::args_os().skip(1).skip_while(|argument| argument == "--");
    let Some(program) = arguments.next() else {
        eprintln!("usage: execd [--] PROGRAM [ARGUMENT]...");
        exit(2);
    };
    let mut command = Command::new(program);
    command.args(arguments);
    // The session is over by then: nothing is lost.
    exit(plugin(&mut command).unwrap_or_else(|error| {
        eprintln!("Error: {error:?}");
        1
    }));
}

/// Returns the program's exit status, or 0 if it was told to end.
fn plugin(command: &mut Command) -> Result<i32> {
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    let mut ended = None;
    runner.run_with(metadata!("execd")?, |sink, ctx| {
        ended = run(command, sink, ctx)?;
        Ok(())
    })?;
    Ok(ended.map_or(0, platform::code))
}

/// Returns the program's exit status, or nothing if it was told to end.
fn run(
    command: &mut Command,
    sink: &EventSink,
    ctx: &SessionContext,
) -> Result<Option<ExitStatus>> {
    let program = command.get_program().to_string_lossy().into_owned();
    let cannot = |what| {
        move |e: io::Error| {
            Error::plugin(format!("cannot {what} {program}: {e}; try it by hand, as this user"))
        }
    };
    let mut child = platform::apart(command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(cannot.clone()("start"))?;
    let mut output = BufReader::new(child.stdout.take().expect("it is piped"));

    let (result, forwarded) = mpsc::channel();
    let (sink, shutdown) = (sink.clone(), ctx.shutdown_handle());
    // A byte takes up to six in JSON; 256 is for the rest of the event.
    let longest = (ctx.max_payload_bytes() / 6).saturating_sub(256).max(1);
    // Not joined: on Windows a grandchild may hold the pipe open for longer.
    thread::spawn(move || {
        // Fails only if the body has returned.
        let _ = result.send(forward(&mut output, longest, &sink));
        shutdown.shutdown();
        // What is told to end must not stumble over a pipe that is full, or broken.
        let _ = io::copy(&mut output, &mut io::sink());
    });
    ctx.wait_for_shutdown();

    let forwarded = forwarded.try_recv();
    let by_itself = matches!(forwarded, Ok(Ok(())));
    let status = end(&mut child, by_itself).map_err(cannot("end"))?;
    forwarded.unwrap_or(Ok(()))?;
    Ok(by_itself.then_some(status))
}

/// Forwards lines to the end of the output.
fn forward(output: &mut impl BufRead, longest: usize, sink: &EventSink) -> Result<()> {
    let mut line = Vec::new();
    while output.by_ref().take(longest as u64).read_until(b'\n', &mut line)? > 0 {
        let json = serde_json::from_slice::<Map<String, Value>>(&line);
        match json.map(|object| sink.event("execd.json").emit(&object)) {
            Ok(Ok(())) => {}
            Err(_) | Ok(Err(Error::PayloadTooDeep { .. } | Error::PayloadTooLarge { .. })) => {
                let text = String::from_utf8_lossy(&line);
                sink.emit("execd.text", json!({ "text": text.trim_end_matches(['\r', '\n']) }))?;
            }
            Ok(Err(over)) => return Err(over),
        }
        line.clear();
    }
    Ok(())
}

/// Ends the program, in order if it lets itself be ended so.
fn end(child: &mut Child, by_itself: bool) -> io::Result<ExitStatus> {
    drop(child.stdin.take());
    if !by_itself {
        platform::ask_to_end(child);
    }
    let deadline = Instant::now() + GRACE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(Duration::from_millis(10));
    }
    platform::kill(child);
    child.wait()
}

// In either module, Ctrl+C in the console is kept from the program: it ends when the session does.
// It has not been waited for when it gets a signal, so that its id is still its own.

#[cfg(unix)]
mod platform {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, ExitStatus};

    use nix::sys::signal::{Signal, killpg};
    use nix::unistd::Pid;

    pub(crate) fn apart(command: &mut Command) -> &mut Command {
        command.process_group(0)
    }

    pub(crate) fn ask_to_end(child: &Child) {
        signal(child, Signal::SIGTERM);
    }

    pub(crate) fn kill(child: &mut Child) {
        signal(child, Signal::SIGKILL);
    }

    fn signal(group: &Child, signal: Signal) {
        // Fails only if it has ended, or may not be signalled; then it is waited for.
        let _ = killpg(Pid::from_raw(group.id().cast_signed()), signal);
    }

    /// As a shell has it.
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

    pub(crate) fn apart(command: &mut Command) -> &mut Command {
        command.creation_flags(CREATE_NEW_PROCESS_GROUP)
    }

    pub(crate) fn ask_to_end(child: &Child) {
        // SAFETY: it takes two numbers. Without a console it fails, and the end of the input is
        // all that the program is told.
        unsafe { GenerateConsoleCtrlEvent(CTRL_BREAK_EVENT, child.id()) };
    }

    pub(crate) fn kill(child: &mut Child) {
        // Fails only if it has ended.
        let _ = child.kill();
    }

    pub(crate) fn code(status: ExitStatus) -> i32 {
        status.code().unwrap_or(1)
    }
}
