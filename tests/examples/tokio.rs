use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::thread;

use wedr_plugin_sdk::testing::{Event, Script, TestAgent};

use crate::common::process::{Plugin, Process};
use crate::common::watched;
use crate::{ends_in_order, ends_with_the_agent, events, fails};

/// Starts the example. Also returns the address at which it listens.
fn started(script: Script) -> (TestAgent, Plugin, String) {
    let agent = TestAgent::with(script).unwrap();
    let mut plugin = Plugin::start("tokio", &agent, ["127.0.0.1:0"]);
    let said = plugin.says("listening on ");
    let address = said.split(' ').next_back().unwrap().to_owned();
    (agent, plugin, address)
}

#[test]
fn tokio_forwards_lines_of_several_connections() {
    watched(|| {
        let (agent, plugin, address) = started(Script::new());
        let mut connections = [(); 3].map(|()| TcpStream::connect(&address).unwrap());
        for (n, connection) in connections.iter_mut().enumerate() {
            write!(connection, "line {n}\r\n").unwrap();
            events(&agent, |events| events.len() == n + 1);
        }
        let seen = events(&agent, |_| true);
        for (n, (event, connection)) in seen.iter().zip(&connections).enumerate() {
            assert_eq!(event.kind, "tcp_line");
            assert_eq!(event.payload["text"], format!("line {n}"));
            assert_eq!(event.payload["from"], connection.local_addr().unwrap().to_string());
        }
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn tokio_serves_others_while_one_waits_for_room_and_loses_nothing() {
    watched(|| {
        const LINES: usize = 12_000;
        let (agent, mut plugin, address) = started(Script::new().stop_reading_after(1));
        let mut hasty = TcpStream::connect(&address).unwrap();
        let line = |n| format!("{n:06}{}", "x".repeat(150));
        let writing = thread::spawn(move || {
            (0..LINES).for_each(|n| writeln!(hasty, "{}", line(n)).unwrap());
        });
        plugin.says("must wait");
        // The runtime has one thread.
        let late = TcpStream::connect(&address).unwrap();
        plugin.says(&format!("{} is connected", late.local_addr().unwrap()));
        agent.resume();
        let seen = events(&agent, |events| events.len() == LINES);
        writing.join().unwrap();
        assert!(seen.iter().map(|e| e.payload["text"].as_str().unwrap()).eq((0..LINES).map(line)));
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn tokio_ends_with_the_agent_and_drops_its_connections() {
    watched(|| {
        let (agent, plugin, address) = started(Script::new());
        let mut connection = TcpStream::connect(&address).unwrap();
        writeln!(connection, "a line").unwrap();
        events(&agent, |events| events.len() == 1);
        ends_with_the_agent(plugin, &agent);
        // The connection is closed or reset.
        assert_eq!(connection.read(&mut [0]).unwrap_or(0), 0);
    });
}

#[test]
fn tokio_names_an_address_that_it_cannot_use() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let plugin = Plugin::start("tokio", &agent, [&address]);
        fails(plugin, 1, &format!("Error: cannot listen on {address}: "));
    });
}

#[test]
fn tokio_splits_long_lines_between_characters() {
    watched(|| {
        let (agent, plugin, address) = started(Script::new());
        for before in 0..4 {
            let line = format!("{}{}", "x".repeat(before), "😀".repeat(10_000));
            let before = agent.sessions()[0].events().count();
            let mut connection = TcpStream::connect(&address).unwrap();
            write!(connection, "{line}\r\nnext\n").unwrap();
            let is_next = |event: &Event| event.payload["text"] == "next";
            let seen =
                events(&agent, |events| events.len() > before && is_next(events[events.len() - 1]));
            let pieces = &seen[before..seen.len() - 1];
            let text: String = pieces.iter().map(|e| e.payload["text"].as_str().unwrap()).collect();
            assert_eq!(text, line);
            for (n, piece) in pieces.iter().enumerate() {
                assert_eq!(piece.payload["part"], n + 1);
                assert_eq!(piece.payload["more"], n + 1 < pieces.len());
            }
            assert_eq!(seen[seen.len() - 1].payload.get("part"), None);
        }
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn tokio_splits_lines_too_long_for_a_small_limit() {
    watched(|| {
        let (agent, plugin, address) = started(Script::new().max_payload_bytes(4096));
        // Each byte takes six bytes in JSON.
        let line = "\u{1}".repeat(5000);
        let mut connection = TcpStream::connect(&address).unwrap();
        writeln!(connection, "{line}").unwrap();
        let seen =
            events(&agent, |events| events.last().is_some_and(|e| e.payload["more"] == false));
        let text: String = seen.iter().map(|e| e.payload["text"].as_str().unwrap()).collect();
        assert_eq!(text, line);
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn tokio_outlives_the_reader_of_its_standard_error() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("tokio", &agent);
        let mut process = Process::start(command.arg("127.0.0.1:0").stderr(Stdio::piped()));
        let mut stderr = BufReader::new(process.0.stderr.take().unwrap());
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        drop(stderr);
        let mut connection =
            TcpStream::connect(line.trim_end().rsplit(' ').next().unwrap()).unwrap();
        writeln!(connection, "a line").unwrap();
        events(&agent, |events| events.len() == 1);
        agent.disconnect();
        assert_eq!(process.0.wait().unwrap().code(), Some(1));
    });
}

#[test]
fn tokio_takes_its_address_from_the_environment() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("tokio", &agent);
        let mut plugin = Plugin::spawn(command.env("TOKIO_ADDRESS", "127.0.0.1:0"));
        plugin.says("listening on ");
        ends_in_order(plugin, &agent);
    });
}
