//! Compares the example frames in `tests/vectors` with the real code. The README there explains their format.

mod common;
mod raw;

use std::collections::HashSet;
use std::path::Path;

use common::{LIMIT, metadata, runner, watched};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{Error, RejectReason};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    meaning: String,
    direction: Side,
    after: After,
    frame: Vec<Part>,
    message: Option<Value>,
    gives: Option<Gives>,
    refused: Option<Refused>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum Side {
    PluginToAgent,
    AgentToPlugin,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum After {
    Connect,
    Hello,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Bytes(String),
    Repeated { repeat: String, times: usize },
}

#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Gives {
    Session {
        session_id: String,
        server_version: String,
        max_payload_bytes: usize,
        heartbeat_sec: u64,
    },
    Rejection {
        rejected: String,
        known: bool,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    by: String,
    why: String,
}

impl Vector {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in &self.frame {
            match part {
                Part::Bytes(hex) => bytes.extend(unhex(hex)),
                Part::Repeated { repeat, times } => bytes.extend(unhex(repeat).repeat(*times)),
            }
        }
        bytes
    }

    fn message(&self) -> Value {
        let message = self.message.clone();
        expanded(message.unwrap_or_else(|| panic!("{}: no message", self.name)))
    }
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| {
            let pair = std::str::from_utf8(pair).expect("hex is ASCII");
            u8::from_str_radix(pair, 16).unwrap_or_else(|e| panic!("{pair:?} in {hex:?}: {e}"))
        })
        .collect()
}

/// A message in which the short forms are expanded.
fn expanded(value: Value) -> Value {
    match value {
        Value::Object(object) => {
            let number = |key: &str| object.get(key).and_then(Value::as_u64);
            if let (Some(Value::String(text)), Some(times)) =
                (object.get("$repeat"), number("$times"))
            {
                return text.repeat(usize::try_from(times).expect("it fits a frame")).into();
            }
            if let Some(levels) = number("$nested") {
                return (1..levels).fold(json!([]), |inner, _| json!([inner]));
            }
            if let Some(levels) = number("$nested_objects") {
                return (1..levels).fold(json!({}), |inner, _| json!({ "a": inner }));
            }
            let expand = |(key, value)| (key, expanded(value));
            object.into_iter().map(expand).collect::<Map<_, _>>().into()
        }
        other => other,
    }
}

const FILES: [&str; 4] =
    ["plugin_to_agent.json", "tolerated.json", "agent_to_plugin.json", "refused.json"];

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors"))
}

fn vectors(file: &str) -> Vec<Vector> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        about: String,
        vectors: Vec<Vector>,
    }
    let text = std::fs::read_to_string(folder().join(file)).expect("the vectors are there");
    let parsed: File = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert!(!parsed.about.is_empty() && !parsed.vectors.is_empty());
    parsed.vectors
}

#[test]
fn every_vector_is_whole_and_in_a_file_that_is_checked() {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "README.md")
        .collect();
    files.sort_unstable();
    let mut checked = FILES;
    checked.sort_unstable();
    assert_eq!(files, checked);

    let mut names = HashSet::new();
    for vector in FILES.into_iter().flat_map(vectors) {
        let name = &vector.name;
        assert!(names.insert(name.clone()), "{name} comes twice");
        assert!(!vector.meaning.is_empty(), "{name}");
        let bytes = vector.bytes();
        assert!(bytes.len() >= 4, "{name}: no length");
        if let Some(refused) = &vector.refused {
            assert!(
                vector.message.is_none() && vector.gives.is_none(),
                "{name}: a refused frame has no message and gives nothing"
            );
            assert!(!refused.why.is_empty(), "{name}");
            let refuser = match vector.direction {
                Side::PluginToAgent => "agent",
                Side::AgentToPlugin => "plugin",
            };
            assert_eq!(refused.by, refuser, "{name}");
        } else {
            let announced = u32::from_le_bytes(bytes[..4].try_into().unwrap());
            assert_eq!(announced as usize, bytes.len() - 4, "{name}: the length in the prefix");
            let decoded: Value = serde_json::from_slice(&bytes[4..]).unwrap();
            let message = vector.message();
            assert_eq!(decoded["type"], message["type"], "{name}");
        }
        let answers = vector.direction == Side::AgentToPlugin;
        assert!(!answers || vector.after == After::Hello, "{name}: an answer comes after hello");
        assert_eq!(
            vector.gives.is_some(),
            answers && vector.refused.is_none(),
            "{name}: only a valid answer gives a result"
        );
    }
}

mod bytes {
    use super::raw::{RawAgent, RawPipe};
    use super::*;
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;
    use wedr_plugin_sdk::Metadata;
    use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd};

    /// The hello of every session in the vectors.
    fn hello() -> Vector {
        vectors(FILES[0]).swap_remove(0)
    }

    fn vectors_metadata() -> Metadata {
        let hello = hello().message();
        let text = |key: &str| hello[key].as_str().expect("a text").to_owned();
        Metadata::new(text("plugin_id"), text("plugin_version"), text("plugin_name"))
    }

    fn is_heartbeat(vector: &Vector) -> bool {
        vector.message()["type"] == "heartbeat"
    }

    #[test]
    fn session_writes_exactly_these_bytes() {
        watched(|| {
            let mut wanted = vectors("plugin_to_agent.json");
            wanted.retain(|vector| !is_heartbeat(vector));
            let agent = RawAgent::start();
            let got = thread::scope(|scope| {
                let session = scope.spawn(|| agent.accept().serve());
                let runner = agent.runner().heartbeat(None);
                runner
                    .run_with(vectors_metadata(), |sink, _| {
                        for event in wanted.iter().map(Vector::message) {
                            if event["type"] == "event" {
                                let kind = event["kind"].as_str().unwrap();
                                let ts = event["ts_unix_ns"].as_u64().unwrap();
                                sink.emit_with_ts(kind, ts, event["payload"].clone())?;
                            }
                        }
                        Ok(())
                    })
                    .unwrap();
                session.join().unwrap()
            });
            for (got, wanted) in got.iter().zip(&wanted) {
                assert_frame(got, wanted);
            }
            assert_eq!(got.len(), wanted.len());
        });
    }

    #[test]
    fn idle_session_sends_exactly_these_heartbeats() {
        watched(|| {
            let mut wanted = vectors("plugin_to_agent.json");
            wanted.retain(is_heartbeat);
            let count = wanted.len();
            let agent = RawAgent::start();
            let (enough, wait_for_enough) = mpsc::channel();
            let got = thread::scope(|scope| {
                let session = scope.spawn(|| {
                    let mut pipe = agent.accept();
                    pipe.shake_hands();
                    let beats: Vec<_> = (0..count).map_while(|_| pipe.next_frame()).collect();
                    enough.send(()).unwrap();
                    pipe.rest_of_session();
                    beats
                });
                let runner = agent.runner().heartbeat(Duration::from_millis(1));
                runner
                    .run_with(vectors_metadata(), |_, _| {
                        wait_for_enough.recv().map_err(Error::plugin)
                    })
                    .unwrap();
                session.join().unwrap()
            });
            for (got, wanted) in got.iter().zip(&wanted) {
                assert_frame(got, wanted);
            }
            assert_eq!(got.len(), count);
        });
    }

    /// Long frames are not printed.
    fn assert_frame(got: &[u8], wanted: &Vector) {
        let bytes = wanted.bytes();
        let show =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(400)]).into_owned();
        assert!(
            got == bytes,
            "{}:\n   got {:?}\nwanted {:?}",
            wanted.name,
            show(got),
            show(&bytes)
        );
        let decoded: Value = serde_json::from_slice(&bytes[4..]).unwrap();
        assert!(decoded == wanted.message(), "{}: its message", wanted.name);
    }

    #[test]
    fn agent_accepts_all_valid_frames() {
        watched(|| {
            let must = ["plugin_to_agent.json", "tolerated.json"];
            for vector in must.into_iter().flat_map(vectors) {
                let agent = TestAgent::start().unwrap();
                let mut plugin = RawPipe::connect(agent.path());
                if vector.after == After::Hello {
                    plugin.send(&hello().bytes()).unwrap();
                }
                plugin.send(&vector.bytes()).unwrap();
                let taken = |session: &RecordedSession| match vector.after {
                    After::Connect => session.hello.is_some(),
                    After::Hello => !session.received.is_empty(),
                };
                let done = |sessions: &[RecordedSession]| {
                    let first = sessions.first();
                    first.is_some_and(|session| session.end.is_some() || taken(session))
                };
                assert!(agent.wait_until(LIMIT, done), "{}", vector.name);
                let session = agent.sessions().swap_remove(0);
                assert!(taken(&session), "{}: {:?}", vector.name, session.end);
                let got = match session.received.first() {
                    Some(received) => json!(received.message),
                    None => with_type("hello", json!(session.hello)),
                };
                assert!(got == vector.message(), "{}", vector.name);
            }
        });
    }

    fn with_type(name: &str, mut object: Value) -> Value {
        object["type"] = name.into();
        object
    }

    #[test]
    fn agent_ends_a_session_on_each_violation() {
        watched(|| {
            for vector in vectors("refused.json") {
                if vector.direction != Side::PluginToAgent {
                    continue;
                }
                let agent = TestAgent::start().unwrap();
                let mut plugin = RawPipe::connect(agent.path());
                if vector.after == After::Hello {
                    plugin.send(&hello().bytes()).unwrap();
                }
                // The agent may close the pipe before everything is written.
                let _ = plugin.send(&vector.bytes());
                let session = agent.ended_session(LIMIT);
                let session = session.unwrap_or_else(|| panic!("{}: taken", vector.name));
                assert!(
                    matches!(session.end, Some(SessionEnd::Violation(_))),
                    "{}: {:?}",
                    vector.name,
                    session.end
                );
                assert_eq!(session.received.len(), 0, "{}", vector.name);
                assert_eq!(
                    session.hello.is_some(),
                    vector.after == After::Hello,
                    "{}",
                    vector.name
                );
            }
        });
    }
}

fn reason(text: &str) -> Option<RejectReason> {
    Some(match text {
        "bad_handshake" => RejectReason::BadHandshake,
        "schema_mismatch" => RejectReason::SchemaMismatch,
        "unknown_plugin_id" => RejectReason::UnknownPluginId,
        "path_mismatch" => RejectReason::PathMismatch,
        "hash_mismatch" => RejectReason::HashMismatch,
        "signature_invalid" => RejectReason::SignatureInvalid,
        "revoked" => RejectReason::Revoked,
        "too_many_sessions" => RejectReason::TooManySessions,
        _ => return None,
    })
}

#[test]
fn plugin_interprets_each_answer_as_specified() {
    watched(|| {
        for vector in vectors("agent_to_plugin.json") {
            let name = &vector.name;
            let agent = TestAgent::with(Script::new().answer_with(vector.bytes())).unwrap();
            match vector.gives.as_ref().unwrap() {
                Gives::Session { session_id, server_version, max_payload_bytes, heartbeat_sec } => {
                    let beats =
                        || agent.wait_until(LIMIT, |sessions| sessions[0].heartbeats().count() > 0);
                    let result = runner(&agent).run_with(metadata(), |sink, ctx| {
                        assert_eq!(ctx.session_id(), session_id, "{name}");
                        assert_eq!(ctx.server_version(), server_version, "{name}");
                        assert_eq!(ctx.max_payload_bytes(), *max_payload_bytes, "{name}");
                        // A test cannot wait for longer intervals.
                        if *heartbeat_sec <= 1 {
                            assert!(beats(), "{name}: no heartbeat");
                        } else {
                            sink.flush(LIMIT)?;
                            assert_eq!(sink.stats().heartbeats, 0, "{name}");
                        }
                        Ok(())
                    });
                    result.unwrap_or_else(|e| panic!("{name}: {e}"));
                }
                Gives::Rejection { rejected, known } => {
                    let result = runner(&agent).run_with(metadata(), |_, _| panic!("{name}"));
                    let Err(Error::Rejected { reason: got }) = result else {
                        panic!("{name}: {result:?}");
                    };
                    let wanted = reason(rejected);
                    assert_eq!(wanted.is_some(), *known, "{name}");
                    let other = || RejectReason::Other(rejected.clone());
                    assert_eq!(got, wanted.unwrap_or_else(other), "{name}");
                }
            }
        }
    });
}

#[test]
fn plugin_refuses_each_invalid_answer() {
    watched(|| {
        for vector in vectors("refused.json") {
            if vector.direction != Side::AgentToPlugin {
                continue;
            }
            let name = &vector.name;
            let agent = TestAgent::with(Script::new().answer_with(vector.bytes())).unwrap();
            let result = runner(&agent).run_with(metadata(), |_, _| panic!("{name}: the body ran"));
            assert!(matches!(result, Err(Error::Protocol(_))), "{name}: {result:?}");
            let session = agent.ended_session(LIMIT).unwrap();
            assert_eq!(session.received.len(), 0, "{name}: the plugin sent events");
        }
    });
}
