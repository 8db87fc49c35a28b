//! The output on a real terminal: a pseudo-terminal, of which the test has the other end.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use nix::pty::{Winsize, openpty};
use serde_json::json;

use crate::agent::{Place, command};
use crate::common::process::Process;
use crate::common::{LIMIT, metadata, watched};

/// A terminal with 80 columns: the end of the test, and the end for programs.
fn terminal() -> (File, OwnedFd) {
    let size = Winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let ends = openpty(&size, None).unwrap();
    // Processes that other tests start inherit these ends, but not their copies. While a process has the end
    // for programs open, the test does not see the end of the output.
    let near = ends.master.try_clone().unwrap();
    (near.into(), ends.slave.try_clone().unwrap())
}

/// The text that programs wrote to a terminal.
struct Output {
    chunks: Receiver<String>,
    all: String,
}

impl Output {
    fn new(mut near: File) -> Self {
        let (send, chunks) = mpsc::channel();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            // An error means that no program has the terminal open any more.
            while let Ok(n @ 1..) = near.read(&mut chunk) {
                if send.send(String::from_utf8_lossy(&chunk[..n]).into_owned()).is_err() {
                    break;
                }
            }
        });
        Self { chunks, all: String::new() }
    }

    /// Waits until a program has written `text`.
    fn until(&mut self, text: &str) {
        while !self.all.contains(text) {
            let chunk = self.chunks.recv_timeout(LIMIT);
            self.all += &chunk.unwrap_or_else(|e| panic!("{text}: {e}, {:?}", self.all));
        }
    }
}

/// Runs a dev agent on a terminal with 80 columns, lets it show `payload`, and ends it. Returns the text on
/// the terminal.
fn shown(environment: &[(&str, &str)], payload: serde_json::Value) -> String {
    let place = Place::new();
    let (near, far) = terminal();
    let mut command = command();
    command.arg("--pipe").arg(&place.path).env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(environment.iter().copied());
    command.stdout(far.try_clone().unwrap()).stderr(far);
    let mut agent = command.stdin(Stdio::null()).spawn().unwrap();
    // This process has the programs' end open as well.
    drop(command);

    let mut screen = Output::new(near);
    screen.until("Ctrl+C ends");
    wedr_plugin_sdk::Runner::new()
        .pipe_path(&place.path)
        .install_signal_handler(false)
        .run_with(metadata(), |sink, _| sink.emit("acme.x", payload))
        .unwrap();
    screen.until("the plugin sent goodbye");
    screen.until("0 sessions · 1 event (");
    let id = nix::unistd::Pid::from_raw(agent.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::SIGINT).unwrap();
    screen.until("summary: ");
    assert!(agent.wait().unwrap().success());
    screen.all.extend(screen.chunks);
    screen.all
}

#[test]
fn terminal_gets_colours_and_a_status_line() {
    watched(|| {
        let all = shown(&[], json!({ "key": "text" }));
        assert!(all.contains("\u{1b}[36m\"key\"\u{1b}[0m"), "{all:?}");
        assert!(all.contains("/s) · "), "{all:?}");
    });
}

#[test]
fn no_color_is_honoured() {
    watched(|| {
        let all = shown(&[("NO_COLOR", "1")], json!({ "key": "text" }));
        assert!(all.contains(r#" #1 acme.x {"key":"text"}"#), "{all:?}");
        // The sequences that move the status line end with other letters.
        let colours = all.split("\u{1b}[").skip(1).any(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert!(!colours, "{all:?}");
    });
}

#[test]
fn long_event_is_folded_to_the_terminal() {
    watched(|| {
        let words = json!((0..200).map(|n| format!("word{n:03}")).collect::<Vec<_>>());
        let all = shown(&[("NO_COLOR", "1")], words);
        let (_, event) = all.split_once(" #1 acme.x ").unwrap();
        let lines: Vec<_> = event.split("\r\n").take(9).collect();
        assert!(lines[1..8].iter().all(|line| line.starts_with("    ")), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines[8].contains("… ") && lines[8].contains("bytes in total"), "{lines:#?}");
    });
}

#[test]
fn events_follow_the_terminals_width() {
    watched(|| {
        let (near, far) = terminal();
        let place = Place::new();
        let mut command = command();
        command.arg("--pipe").arg(&place.path).env("TERM", "xterm").env("NO_COLOR", "1");
        command.stdout(far.try_clone().unwrap()).stderr(far.try_clone().unwrap());
        let _agent = Process::start(&mut command);
        let mut screen = Output::new(near);
        screen.until("Ctrl+C ends");
        let words = json!((0..12).map(|n| format!("word{n:03}")).collect::<Vec<_>>());
        wedr_plugin_sdk::Runner::new()
            .pipe_path(&place.path)
            .install_signal_handler(false)
            .run_with(metadata(), |sink, _| {
                sink.emit("acme.wide", words.clone())?;
                screen.until("word011\"]");
                let resized = Command::new("stty").args(["cols", "50"]).stdin(far).status();
                assert!(resized.unwrap().success());
                sink.emit("acme.narrow", words)
            })
            .unwrap();
        screen.until("the plugin sent goodbye");
        let (wide, narrow) = screen.all.split_once(" acme.narrow ").unwrap();
        let widest = |text: &str| {
            let lines = text.split("\r\n").filter(|line| line.contains("word"));
            lines.map(|line| line.chars().count()).max().unwrap()
        };
        let (wide, narrow) = (widest(wide), widest(narrow));
        assert!(wide > 50 && narrow <= 50, "{wide}, {narrow}: {:?}", screen.all);
    });
}
