//! Plugins that break the protocol, on the level of bytes.

use std::io::{Read, Write};

use crate::agent::{DevAgent, connect};
use crate::common::watched;

const HELLO: &str = r#"{"type":"hello","plugin_id":"raw","plugin_version":"1","plugin_name":"Raw","schema_version":1}"#;

fn event(seq: u64) -> String {
    format!(r#"{{"type":"event","seq":{seq},"ts_unix_ns":0,"kind":"k","payload":null}}"#)
}

fn frame(content: &str) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap();
    [&length.to_le_bytes(), content.as_bytes()].concat()
}

/// Sends `bytes` to a dev agent. Returns its lines about the violation and the frame.
fn broken_by(bytes: &[u8]) -> (String, String) {
    let agent = DevAgent::start(&[]);
    let mut pipe = connect(&agent.pipe);
    pipe.write_all(bytes).unwrap();
    pipe.flush().unwrap();
    let broke = agent.note("#1 the plugin violated the protocol: ");
    let shown = agent.note("#1 the frame: ");
    agent.note("#1 the agent closed the session: the plugin violated the protocol; ");
    let after = |line: &str| line.split_once(": ").unwrap().1.to_owned();
    (after(&broke), after(&shown))
}

#[test]
fn violation_is_named_and_its_frame_shown() {
    watched(|| {
        let hello = frame(HELLO);
        let (what, shown) = broken_by(&[&hello[..], &hello].concat());
        assert_eq!((what.as_str(), shown.as_str()), ("a second hello", HELLO));

        let twice = [hello, frame(&event(4)), frame(&event(4))].concat();
        assert_eq!(broken_by(&twice), ("seq 4 after 4".into(), event(4)));

        let (what, shown) = broken_by(&frame(r#"{"type":"nonsense"}"#));
        assert!(
            what.starts_with("a frame whose content is not a message (unknown variant"),
            "{what}"
        );
        assert_eq!(shown, r#"{"type":"nonsense"}"#);
    });
}

#[test]
fn bytes_that_are_no_frame_are_shown_escaped_and_shortened() {
    watched(|| {
        let text = format!("GET \u{1b}]0;{}\r\n", "x".repeat(5000));
        let (what, shown) = broken_by(text.as_bytes());
        assert_eq!(what, "a frame of 542393671 bytes, where the limit is 1048576");
        assert!(shown.starts_with(r"GET \u{1b}]0;xxx"), "{shown}");
        assert!(shown.contains("bytes in all)") && shown.len() < 1100, "{shown}");
    });
}

#[test]
fn end_in_mid_frame_differs_from_a_missing_goodbye() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&[frame(HELLO), frame("{\"type\"")[..8].to_vec()].concat()).unwrap();
        // Wait for the answer. A close before the answer would be another kind of end.
        pipe.read_exact(&mut [0; 4]).unwrap();
        drop(pipe);
        agent.note(
            "#1 the plugin violated the protocol: the connection ended in the middle of a frame",
        );
        agent.note(r#"#1 the frame: \u{7}\0\0\0{"ty"#);

        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&frame(HELLO)).unwrap();
        pipe.read_exact(&mut [0; 4]).unwrap();
        drop(pipe);
        agent.note("#2 the plugin closed the pipe without goodbye; ");
    });
}

#[test]
fn gap_in_seq_is_reported() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        let goodbye = r#"{"type":"goodbye"}"#.to_owned();
        let messages = [HELLO.to_owned(), event(1), event(2), event(7), goodbye];
        pipe.write_all(&messages.map(|content| frame(&content)).concat()).unwrap();
        agent.note("#1 seq gap: 0 missing");
        agent.note("#1 seq gap: 3 to 6 missing");
        let end = agent.note("#1 the plugin sent goodbye; 3 events, ");
        assert!(end.ends_with(", 2 seq gaps (5 missing)"), "{end}");
    });
}

#[test]
fn largest_seq_is_counted_in_every_session() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let heartbeat = format!(r#"{{"type":"heartbeat","seq":{}}}"#, u64::MAX);
        let goodbye = r#"{"type":"goodbye"}"#;
        for session in 1..=2 {
            let mut pipe = connect(&agent.pipe);
            let messages = [HELLO, &heartbeat, &heartbeat, goodbye];
            pipe.write_all(&messages.map(frame).concat()).unwrap();
            let end = agent
                .note(&format!("#{session} the plugin sent goodbye; 0 events, 2 heartbeats, "));
            assert!(end.ends_with("(18,446,744,073,709,551,615 missing)"), "{end}");
        }
    });
}

#[test]
fn heartbeat_with_the_next_events_number_is_no_gap() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        let heartbeat = |seq: u64| format!(r#"{{"type":"heartbeat","seq":{seq}}}"#);
        let goodbye = r#"{"type":"goodbye"}"#.to_owned();
        let (max, last) = (heartbeat(u64::MAX), event(u64::MAX));
        let numbered = [event(0), heartbeat(1), heartbeat(1), event(1), max.clone(), max, last];
        let messages = [&[HELLO.to_owned()], &numbered[..], &[goodbye]].concat();
        let frames: Vec<_> = messages.iter().flat_map(|content| frame(content)).collect();
        pipe.write_all(&frames).unwrap();
        agent.note("#1 seq gap: 2 to 18446744073709551614 missing");
        let end = agent.note("#1 the plugin sent goodbye; 3 events, 4 heartbeats, ");
        assert!(end.ends_with(", 1 seq gap (18,446,744,073,709,551,613 missing)"), "{end}");
    });
}

#[test]
fn another_schema_version_is_reported() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&frame(&HELLO.replace(":1}", ":2}"))).unwrap();
        let said = agent.note("#1 hello has schema version 2");
        assert!(said.ends_with("schema_mismatch"), "{said}");
    });
}
