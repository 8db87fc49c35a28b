//! Recordings become schemas, and events for the agent's rule tools.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::agent::{DevAgent, command};
use crate::common::{metadata, watched};

/// A folder with a recording in it.
struct Recording {
    folder: TempDir,
    file: PathBuf,
}

impl Recording {
    /// Events as the dev agent prints them: kinds and payloads.
    fn of(events: &[(&str, Value)]) -> Self {
        let line = |(n, (kind, payload)): (usize, &(&str, Value))| {
            json!({
                "session": 1, "plugin_id": "id", "seq": n, "ts_unix_ns": n,
                "kind": kind, "payload": payload,
            })
            .to_string()
                + "\n"
        };
        Self::text(&events.iter().enumerate().map(line).collect::<String>())
    }

    fn text(text: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("recording.ndjson");
        fs::write(&file, text).unwrap();
        Self { folder, file }
    }

    fn schema(&self) -> Output {
        command().arg("schema").arg(&self.file).output().unwrap()
    }

    /// Compares the recording with a schema of one module.
    fn expect(&self, module: &str, events: &Value) -> Output {
        self.expect_text(&json!([{ "module": module, "events": events }]).to_string())
    }

    fn expect_text(&self, schema: &str) -> Output {
        let expected = self.folder.path().join("schema.json");
        fs::write(&expected, schema).unwrap();
        command().arg("schema").arg(&self.file).arg("--expect").arg(expected).output().unwrap()
    }

    fn events(&self) -> Output {
        command().arg("events").arg(&self.file).output().unwrap()
    }
}

/// Standard output as lines.
fn lines(output: &Output) -> Vec<&str> {
    std::str::from_utf8(&output.stdout).unwrap().lines().collect()
}

fn notes(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json_of(output: &Output) -> Value {
    assert!(output.status.success(), "{}: {}", output.status, notes(output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn field(name: &str, field_type: &str) -> Value {
    json!({ "name": name, "field_type": field_type })
}

#[test]
fn plugin_becomes_schema_and_simulated_events() {
    watched(|| {
        let mut agent = DevAgent::start(&["--format", "ndjson"]);
        let payload = json!({ "n": 5, "load": 0.5, "user": "root \u{202e}é", "on": true });
        agent
            .runner()
            .run_with(metadata(), |sink, _| sink.emit("acme_tick", payload.clone()))
            .unwrap();
        let recording = Recording::text(&(agent.event() + "\n"));
        agent.stop();

        let schema = recording.schema();
        let fields = [
            field("load", "float"),
            field("n", "int"),
            field("on", "bool"),
            field("user", "string"),
        ];
        let events = json!([{ "name": "acme_tick", "fields": fields }]);
        assert_eq!(json_of(&schema), json!([{ "module": "plugin", "events": events }]));
        let expected = recording.expect_text(std::str::from_utf8(&schema.stdout).unwrap());
        assert!(expected.status.success() && expected.stdout.is_empty(), "{expected:?}");

        let events = recording.events();
        let whole = json!([{ "module": "plugin", "event_type": "acme_tick", "fields": payload }]);
        assert_eq!(json_of(&events), whole);
        assert_eq!((notes(&schema), notes(&events)), ("", ""));
        assert!(!String::from_utf8(events.stdout).unwrap().contains('\u{202e}'));
    });
}

#[test]
fn schema_has_only_what_rules_can_use() {
    watched(|| {
        let recording = Recording::of(&[
            ("mixed", json!({ "number": 1, "text": 1, "null": null, "seen_once": null })),
            (
                "mixed",
                json!({ "number": 1.5, "text": "x", "list": [1], "a-b": 1, "seen_once": true }),
            ),
            ("mixed", json!({ "big": u64::MAX })),
            ("acme.dotted", json!({ "n": 1 })),
            ("acme-dash", json!({ "n": 1 })),
            ("bare", json!("text")),
        ]);
        let schema = recording.schema();
        let mixed = [field("big", "float"), field("number", "float"), field("seen_once", "bool")];
        let events = json!([
            { "name": "acme.dotted", "fields": [field("n", "int")] },
            { "name": "bare", "fields": [] },
            { "name": "mixed", "fields": mixed },
        ]);
        assert_eq!(json_of(&schema), json!([{ "module": "plugin", "events": events }]));
        let notes = notes(&schema);
        for about in [
            "kind acme.dotted has a dot",
            "no rule can name the kind acme-dash",
            "a payload of bare is not an object",
            "the field text of mixed changes its type: int, string",
            "the field number of mixed changes its type: int, float",
            "the field list of mixed is an array",
            "no rule can name the field a-b of mixed",
        ] {
            assert!(notes.contains(&format!("note: {about}")), "nothing about {about}: {notes}");
        }
        assert_eq!(notes.lines().count(), 7, "{notes}");
    });
}

#[test]
fn every_drift_from_the_expected_schema_fails() {
    watched(|| {
        let recording = Recording::of(&[
            ("tick", json!({ "n": 5.0, "added": 1, "odd": "x" })),
            ("tick", json!({ "odd": 1 })),
            ("new", json!({})),
        ]);
        let fields = [field("n", "int"), field("odd", "string"), field("gone", "bool")];
        let ran = recording.expect("plugin", &json!([{ "name": "tick", "fields": fields }]));
        assert_eq!(ran.status.code(), Some(1), "{ran:?}");
        let drift = [
            "new: not in the schema",
            "tick.added: not in the schema",
            "tick.n: float in the recording, int in the schema",
            "tick.odd: a type that rules cannot use in the recording, string in the schema",
            "tick.gone: in the schema, but in no event",
        ];
        assert_eq!(lines(&ran), drift);

        // The schema of another module is not the schema of plugins.
        let ran = recording.expect("process", &json!([{ "name": "new", "fields": [] }]));
        assert_eq!(lines(&ran), ["new: not in the schema", "tick: not in the schema"]);
    });
}

#[test]
fn expected_kind_without_an_event_is_a_note() {
    watched(|| {
        let recording = Recording::of(&[("tick", json!({}))]);
        let events = json!([{ "name": "tick", "fields": [] }, { "name": "rare", "fields": [] }]);
        let ran = recording.expect("plugin", &events);
        assert!(ran.status.success() && ran.stdout.is_empty(), "{ran:?}");
        assert_eq!(notes(&ran), "note: the recording has no event of kind rare\n");
    });
}

#[test]
fn simulated_events_have_what_rules_see() {
    watched(|| {
        let recording = Recording::of(&[
            ("a", json!({ "n": 1, "null": null, "list": [], "object": { "n": 1 } })),
            ("b", json!([1, 2])),
            ("c", json!({ "raw_xml": "<Event/>" })),
        ]);
        let ran = recording.events();
        let event = |kind: &str, fields: Value| json!({ "module": "plugin", "event_type": kind, "fields": fields });
        let whole = json!([
            event("a", json!({ "n": 1 })),
            event("b", json!({})),
            event("c", json!({ "raw_xml": "<Event/>" })),
        ]);
        assert_eq!(json_of(&ran), whole);
        assert!(notes(&ran).contains("the real agent adds event_id"), "{}", notes(&ran));
        assert_eq!(json_of(&Recording::text("").events()), json!([]));
    });
}

#[test]
fn line_that_is_no_recorded_event_is_named() {
    watched(|| {
        let good = Recording::of(&[("tick", json!({}))]);
        let text = fs::read_to_string(&good.file).unwrap() + "12:00:00 #1 tick {}\n";
        let recording = Recording::text(&text);
        for ran in [recording.schema(), recording.events()] {
            assert_eq!(ran.status.code(), Some(1));
            let named = format!("cannot read {}, line 2: ", recording.file.display());
            assert!(notes(&ran).contains(&named), "{}", notes(&ran));
            assert!(notes(&ran).contains("--format ndjson"), "{}", notes(&ran));
            // A program that reads an incomplete array must fail as well.
            assert!(serde_json::from_slice::<Value>(&ran.stdout).is_err());
        }
        let missing = command().args(["events", "no-such-file"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(1));
        assert!(notes(&missing).contains("cannot open no-such-file: "), "{}", notes(&missing));
        let broken = good.expect_text(r#"[{"module":"plugin","events":[{"name":"tick"}]}]"#);
        assert_eq!(broken.status.code(), Some(1));
        assert!(notes(&broken).contains("cannot read the schema "), "{}", notes(&broken));
    });
}

#[test]
#[cfg(target_os = "linux")]
fn output_that_cannot_be_written_is_an_error() {
    watched(|| {
        let recording = Recording::of(&[("tick", json!({ "n": 1 }))]);
        for task in ["schema", "events"] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let mut command = command();
            command
                .arg(task)
                .arg(&recording.file)
                .stdout(full)
                .stderr(std::process::Stdio::piped());
            let ran = command.spawn().unwrap().wait_with_output().unwrap();
            assert_eq!(ran.status.code(), Some(1), "{task}");
            assert!(notes(&ran).contains("cannot write to standard output: "), "{}", notes(&ran));
        }
    });
}
