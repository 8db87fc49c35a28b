//! Plugins that break the protocol, in bare bytes.

use std::io::{Read, Write};

use crate::agent::{DevAgent, connect};
use crate::common::watched;

const HELLO: &str = r#"{"type":"hello","plugin_id":"raw","plugin_version":"1","plugin_name":"Raw","schema_version":1}"#;

fn event(seq: u64) -> String {
    format!(r#"{{"type":"event","seq":{seq},"ts_unix_ns":0,"kind":"k","payload":null}}"#)
}

fn frame(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_le_bytes(), body.as_bytes()].concat()
}

/// Sends `bytes` to an agent; what it says was broken, and the frame that it shows.
fn broken_by(bytes: &[u8]) -> (String, String) {
    let agent = DevAgent::start(&[]);
    let mut pipe = connect(&agent.pipe);
    pipe.write_all(bytes).unwrap();
    pipe.flush().unwrap();
    let broke = agent.note("#1 broke the protocol: ");
    let shown = agent.note("#1 its frame: ");
    agent.note("#1 was dropped; ");
    let after = |line: &str| line.split_once(": ").unwrap().1.to_owned();
    (after(&broke), after(&shown))
}

#[test]
fn a_violation_is_named_and_its_frame_shown() {
    watched(|| {
        let hello = frame(HELLO);
        let (what, shown) = broken_by(&[&hello[..], &hello].concat());
        assert_eq!((what.as_str(), shown.as_str()), ("a second hello", HELLO));

        let twice = [hello, frame(&event(4)), frame(&event(4))].concat();
        assert_eq!(broken_by(&twice), ("seq 4 after 4".into(), event(4)));

        let (what, shown) = broken_by(&frame(r#"{"type":"nonsense"}"#));
        assert!(what.starts_with("a body that is no message (unknown variant"), "{what}");
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
fn a_plugin_that_leaves_in_mid_frame_is_told_from_one_that_only_leaves() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&[frame(HELLO), frame("{\"type\"")[..8].to_vec()].concat()).unwrap();
        // Gone any sooner, it would have left before its answer.
        pipe.read_exact(&mut [0; 4]).unwrap();
        drop(pipe);
        agent.note("#1 broke the protocol: an end in the middle of a frame");
        agent.note(r#"#1 its frame: \u{7}\0\0\0{"ty"#);

        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&frame(HELLO)).unwrap();
        pipe.read_exact(&mut [0; 4]).unwrap();
        drop(pipe);
        agent.note("#2 closed the pipe without a goodbye; ");
    });
}

#[test]
fn a_gap_in_seq_is_called_out() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        let goodbye = r#"{"type":"goodbye"}"#.to_owned();
        let messages = [HELLO.to_owned(), event(1), event(2), event(7), goodbye];
        pipe.write_all(&messages.map(|body| frame(&body)).concat()).unwrap();
        agent.note("#1 seq gap: 0 left out");
        agent.note("#1 seq gap: 3 to 6 left out");
        let end = agent.note("#1 said goodbye; 3 events, ");
        assert!(end.ends_with(", 2 seq gaps (5 missing)"), "{end}");
    });
}

#[test]
fn another_schema_version_is_called_out() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let mut pipe = connect(&agent.pipe);
        pipe.write_all(&frame(&HELLO.replace(":1}", ":2}"))).unwrap();
        let said = agent.note("#1 speaks schema version 2");
        assert!(said.ends_with("schema_mismatch"), "{said}");
    });
}
