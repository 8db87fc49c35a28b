//! On a real terminal: a pseudo-terminal's far end.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;

use nix::pty::{Winsize, openpty};
use serde_json::json;

use crate::agent::{Place, command};
use crate::common::{LIMIT, metadata, watched};

/// Runs an agent on a terminal of 80 columns, has it show `payload`, and ends it. What the
/// terminal got.
fn shown(environment: &[(&str, &str)], payload: serde_json::Value) -> String {
    let place = Place::new();
    let size = Winsize { ws_row: 25, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 };
    let terminal = openpty(&size, None).unwrap();
    let mut command = command();
    command.arg("--pipe").arg(&place.path).env("TERM", "xterm").env_remove("NO_COLOR");
    command.envs(environment.iter().copied());
    command.stdout(terminal.slave.try_clone().unwrap()).stderr(terminal.slave);
    let mut agent = command.stdin(Stdio::null()).spawn().unwrap();
    // It holds the terminal's far end open as well.
    drop(command);

    let (send, chunks) = mpsc::channel();
    let mut near = File::from(terminal.master);
    thread::spawn(move || {
        let mut chunk = [0; 4096];
        // An error is how a terminal ends whose far end is closed.
        while let Ok(n @ 1..) = near.read(&mut chunk) {
            if send.send(String::from_utf8_lossy(&chunk[..n]).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut all = String::new();
    let mut until = |text: &str| {
        while !all.contains(text) {
            all += &chunks.recv_timeout(LIMIT).unwrap_or_else(|e| panic!("{text}: {e}, {all:?}"));
        }
    };
    until("Ctrl+C ends");
    wedr_plugin_sdk::Runner::new()
        .pipe_path(&place.path)
        .install_signal_handler(false)
        .run_with(metadata(), |sink, _| sink.emit("acme.x", payload))
        .unwrap();
    until("said goodbye");
    until("0 sessions · 1 event (");
    let id = nix::unistd::Pid::from_raw(agent.id().try_into().unwrap());
    nix::sys::signal::kill(id, nix::sys::signal::SIGINT).unwrap();
    until("summary: ");
    assert!(agent.wait().unwrap().success());
    all.extend(chunks);
    all
}

#[test]
fn a_terminal_gets_colours_and_a_status_line() {
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
        // What moves the status line ends in other letters.
        let colours = all.split("\u{1b}[").skip(1).any(|rest| {
            rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';').starts_with('m')
        });
        assert!(!colours, "{all:?}");
    });
}

#[test]
fn a_long_event_is_folded_to_the_terminal() {
    watched(|| {
        let words = json!((0..200).map(|n| format!("word{n:03}")).collect::<Vec<_>>());
        let all = shown(&[("NO_COLOR", "1")], words);
        let (_, event) = all.split_once(" #1 acme.x ").unwrap();
        let lines: Vec<_> = event.split("\r\n").take(9).collect();
        assert!(lines[1..8].iter().all(|line| line.starts_with("    ")), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
        assert!(lines[8].contains("… ") && lines[8].contains("bytes in all"), "{lines:#?}");
    });
}
