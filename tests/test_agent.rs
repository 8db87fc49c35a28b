//! The test agent: what it accepts, what it records, and what it waits for.

mod common;
mod raw;

#[cfg(unix)]
use std::time::Duration;

use common::{LIMIT, watched};
use raw::{RawPipe, frame};
use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};
#[cfg(unix)]
use wedr_plugin_sdk::{EventSink, testing::Script};

const HELLO: &str =
    r#"{"type":"hello","plugin_id":"i","plugin_version":"1","plugin_name":"n","schema_version":1}"#;
const GOODBYE: &str = r#"{"type":"goodbye"}"#;

fn event(seq: u64) -> String {
    format!(r#"{{"type":"event","seq":{seq},"ts_unix_ns":0,"kind":"test","payload":null}}"#)
}

fn heartbeat(seq: u64) -> String {
    format!(r#"{{"type":"heartbeat","seq":{seq}}}"#)
}

/// What a test agent records of a session with these messages between hello and goodbye.
fn recorded(messages: &[String]) -> RecordedSession {
    let agent = TestAgent::start().unwrap();
    let mut plugin = RawPipe::connect(agent.path());
    plugin.send(&frame(HELLO)).unwrap();
    plugin.next_frame().expect("an acknowledgement");
    for message in messages {
        plugin.send(&frame(message)).unwrap();
    }
    // After a violation the agent may have closed the pipe.
    let _ = plugin.send(&frame(GOODBYE));
    agent.ended_session(LIMIT).expect("the session ends")
}

#[test]
fn heartbeats_may_carry_the_next_events_number() {
    watched(|| {
        let session = recorded(&[heartbeat(0), event(0), heartbeat(1), heartbeat(1), event(1)]);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!((session.events().count(), session.missing_seqs()), (2, 0));
    });
}

#[test]
fn heartbeats_may_have_numbers_of_their_own() {
    watched(|| {
        let session = recorded(&[heartbeat(0), event(1), heartbeat(2), heartbeat(3), event(4)]);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!((session.events().count(), session.missing_seqs()), (2, 0));
    });
}

#[test]
fn gaps_are_missing_seqs_with_both_kinds_of_heartbeat() {
    watched(|| {
        let session = recorded(&[event(1), heartbeat(2), event(2), event(5), heartbeat(8)]);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!(session.missing_seqs(), 1 + 2 + 2);
    });
}

#[test]
fn repeated_event_number_is_a_violation() {
    watched(|| {
        let session = recorded(&[heartbeat(7), event(7), event(7)]);
        assert_eq!(session.end, Some(SessionEnd::Violation("seq 7 after 7".into())));
    });
}

#[cfg(unix)]
#[test]
fn agents_follow_one_another_at_a_chosen_path() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.sock");
        for _ in 0..2 {
            let agent = TestAgent::at(&path, Script::new()).unwrap();
            assert_eq!(agent.path(), path);
            for n in 0..3 {
                let body = |sink: &EventSink, _: &_| sink.emit("test", serde_json::json!(n));
                common::runner(&agent).run_with(common::metadata(), body).unwrap();
                assert!(agent.wait_for_events_in(n, 1, LIMIT));
                let session = agent.nth_ended_session(n, LIMIT).unwrap();
                assert_eq!(session.events().next().unwrap().payload, n);
            }
            assert_eq!(agent.nth_ended_session(3, Duration::ZERO), None);
            assert!(!agent.wait_for_events_in(3, 0, Duration::ZERO));
        }
        let left = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(left, 0, "each removed its socket, and not the folder");
    });
}

// Windows refuses a second listener with the same pipe name; Wine 8 does not.
#[cfg(unix)]
#[test]
fn taken_path_is_an_error_with_a_remedy() {
    watched(|| {
        let first = TestAgent::start().unwrap();
        let error = TestAgent::at(first.path(), Script::new()).unwrap_err().to_string();
        let path = first.path().display().to_string();
        assert!(error.starts_with(&format!("cannot start a test agent at {path}: ")), "{error}");
        assert!(error.ends_with("choose a path that does not exist, in a folder that exists"));
        // The first still listens.
        common::runner(&first).run_with(common::metadata(), |_, _| Ok(())).unwrap();
    });
}
