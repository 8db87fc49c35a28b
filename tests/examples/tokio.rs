use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;

use wedr_plugin_sdk::testing::{Script, TestAgent};

use crate::common::process::Plugin;
use crate::common::watched;
use crate::{ends_in_order, ends_with_the_agent, events, fails};

/// Returns also where it listens.
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
            assert_eq!(event.kind, "tcp.line");
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
        plugin.says("has to wait");
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
        // Closed, or reset.
        assert_eq!(connection.read(&mut [0]).unwrap_or(0), 0);
    });
}

#[test]
fn tokio_says_where_it_cannot_listen() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let plugin = Plugin::start("tokio", &agent, [&address]);
        fails(plugin, 1, &format!("Error: cannot listen on {address}: "));
    });
}
