//! How the dev agent shows events and sessions.

use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use wedr_plugin_sdk::Metadata;

use crate::agent::DevAgent;
use crate::common::{metadata, watched};

#[test]
fn events_are_shown_for_people_and_plain_in_a_pipe() {
    watched(|| {
        let mut agent = DevAgent::start(&[]);
        agent
            .runner()
            .run_with(metadata(), |sink, _| sink.emit("acme.x", json!({ "a": 1, "b": ["c"] })))
            .unwrap();
        let event = agent.event();
        assert!(event.ends_with(r#" #1 acme.x {"a":1,"b":["c"]}"#), "{event}");
        assert_eq!(agent.note("hello"), "#1 hello from Test plugin 1.2.3, id test-plugin");
        assert!(
            agent
                .note("goodbye")
                .starts_with("#1 the plugin sent goodbye; 1 event, 0 heartbeats, ")
        );
        let (events, notes) = agent.stop();
        assert_eq!(events, [""; 0]);
        if cfg!(unix) {
            assert!(notes[0].starts_with("summary: 1 session, 1 event, "), "{notes:#?}");
            assert!(notes.iter().any(|line| line.ends_with(" 1 acme.x")), "{notes:#?}");
        }
    });
}

#[test]
fn ndjson_is_one_object_a_line_and_nothing_else_on_standard_output() {
    watched(|| {
        let mut agent = DevAgent::start(&["--format", "ndjson"]);
        let payload = json!({ "n": 1.5, "text": "two\nlines \u{1b}[2J\u{9b}\u{202e}é" });
        agent
            .runner()
            .run_with(metadata(), |sink, _| {
                for ts in 0..100 {
                    sink.emit_with_ts("acme.x", ts, payload.clone())?;
                }
                Ok(())
            })
            .unwrap();
        for n in 0..100 {
            let line = agent.event();
            assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'), "{line:?}");
            let event: Value = serde_json::from_str(&line).unwrap();
            let whole = json!({
                "session": 1, "plugin_id": "test-plugin", "seq": n, "ts_unix_ns": n,
                "kind": "acme.x", "payload": payload,
            });
            assert_eq!(event, whole);
        }
        assert_eq!(agent.stop().0, [""; 0]);
    });
}

#[test]
fn several_plugins_are_served_at_once() {
    watched(|| {
        let mut agent = DevAgent::start(&["--format", "ndjson"]);
        let together = Barrier::new(3);
        thread::scope(|scope| {
            for id in ["a", "b", "c"] {
                let (runner, together) = (agent.runner(), &together);
                scope.spawn(move || {
                    let metadata = Metadata::new(id, "1.0", id);
                    runner
                        .run_with(metadata, |sink, _| {
                            together.wait();
                            sink.emit("acme.x", json!(id))
                        })
                        .unwrap();
                });
            }
        });
        let events = [(); 3].map(|()| serde_json::from_str::<Value>(&agent.event()).unwrap());
        let mut seen: Vec<_> = events
            .iter()
            .map(|event| {
                assert_eq!(event["payload"], event["plugin_id"]);
                (event["session"].as_u64().unwrap(), event["plugin_id"].as_str().unwrap())
            })
            .collect();
        seen.sort_unstable();
        assert_eq!(seen.iter().map(|(session, _)| *session).collect::<Vec<_>>(), [1, 2, 3]);
        seen.sort_by_key(|(_, id)| *id);
        assert_eq!(seen.iter().map(|(_, id)| *id).collect::<String>(), "abc");
        let (_, notes) = agent.stop();
        let summary = notes.iter().any(|line| line.starts_with("summary: 3 sessions, 3 events"));
        assert!(summary || cfg!(windows), "{notes:#?}");
    });
}
