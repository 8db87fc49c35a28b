//! What an event may contain, what `emit` refuses, and that a refused event has no effect on others.

mod common;

use std::panic::catch_unwind;

use common::{LIMIT, assert_counters, assert_delivered, metadata, runner, session, watched};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use wedr_plugin_sdk::testing::{Event, Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Result};

/// Runs a body against an agent. Returns the events that the agent received.
fn arrived(script: Script, body: impl FnOnce(&EventSink) -> Result<()>) -> Vec<Event> {
    let agent = TestAgent::with(script).unwrap();
    runner(&agent).run_with(metadata(), |sink, _| body(sink)).unwrap();
    let session = agent.ended_session(LIMIT).unwrap();
    assert_eq!(session.missing_seqs(), 0);
    session.events().cloned().collect()
}

#[test]
fn payloads_and_kinds_arrive_unchanged() {
    watched(|| {
        let payloads = [
            json!(null),
            json!({ "text": "quotes \" \\ and \u{0} \u{7f} \u{1f600}", "empty": {}, "list": [] }),
            json!([i64::MIN, u64::MAX, 0.1, f64::MAX, f64::MIN_POSITIVE, -0.0]),
            json!({ "": { "nested": [1, [2, [3]]] } }),
        ];
        let kinds = ["", "acme.tick", "\"quoted\"\n\u{1}", &"long".repeat(1000)];
        let events = arrived(Script::new(), |sink| {
            for (kind, payload) in kinds.iter().zip(&payloads) {
                sink.emit_with_ts(kind, u64::MAX, payload.clone())?;
            }
            Ok(())
        });
        for ((event, kind), payload) in events.iter().zip(kinds).zip(&payloads) {
            assert_eq!((event.kind.as_str(), &event.payload), (kind, payload));
            assert_eq!(event.ts_unix_ns, u64::MAX);
        }
        assert_eq!(events.len(), 4);
    });
}

#[test]
fn size_of_a_kind_includes_its_escapes() {
    watched(|| {
        let events = arrived(Script::new().max_payload_bytes(1000), |sink| {
            let emit = |kind: &str| sink.event(kind).ts_unix_ns(1).emit(&());
            emit(&"\"".repeat(400))?;
            for kind in ["\"".repeat(500), "\u{1}".repeat(200), "k".repeat(2 << 20)] {
                let long = emit(&kind);
                assert!(matches!(long, Err(Error::PayloadTooLarge { .. })), "{long:?}");
            }
            Ok(())
        });
        assert_eq!((events.len(), events[0].kind.len()), (1, 400));
    });
}

#[test]
fn any_u64_timestamp_arrives_unchanged() {
    watched(|| {
        // 1970, about now, the last nanosecond of an i64 and the next, 2554.
        let times = [0, 1, 1_700_000_000_000_000_000, i64::MAX as u64, 1 << 63, u64::MAX];
        let events = arrived(Script::new(), |sink| {
            times.iter().try_for_each(|ns| sink.event("test").ts_unix_ns(*ns).emit(&()))
        });
        assert!(events.iter().map(|event| event.ts_unix_ns).eq(times));
    });
}

#[test]
fn event_without_a_timestamp_gets_the_time_of_emit() {
    watched(|| {
        let unix_ns = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos().try_into().unwrap();
        let before: u64 = unix_ns();
        let events = arrived(Script::new(), |sink| sink.emit("test", json!({})));
        assert!((before..=unix_ns()).contains(&events[0].ts_unix_ns));
    });
}

#[test]
fn session_limit_is_exact_to_the_byte() {
    watched(|| {
        let limit = 1000;
        let events = arrived(Script::new().max_payload_bytes(limit), |sink| {
            // The limit counts 20 digits for `seq`. With one digit the content is 19 bytes shorter.
            let sizes: Vec<_> = (0..1000)
                .map(|n| (n, sink.event("k").ts_unix_ns(1).emit(&"x".repeat(n))))
                .collect();
            let fits = sizes.iter().take_while(|(_, r)| r.is_ok()).count();
            for (n, result) in &sizes[fits..] {
                let over = n - fits + 1;
                let Err(Error::PayloadTooLarge { size, max }) = result else {
                    panic!("{result:?}")
                };
                assert_eq!((*size, *max), (limit as usize + over, limit as usize));
            }
            Ok(())
        });
        // Otherwise the agent would have ended the session.
        assert!(events.len() > 800);
    });
}

#[test]
fn largest_event_of_the_protocol_is_delivered() {
    watched(|| {
        let events = arrived(Script::new(), |sink| {
            let size = |n: usize| sink.event("k").ts_unix_ns(1).emit(&"x".repeat(n));
            let Err(Error::PayloadTooLarge { size: over, max }) = size(1 << 20) else {
                panic!("a megabyte of text does not fit")
            };
            assert_eq!(max, 1 << 20);
            size((1 << 20) - (over - max))?;
            assert!(size((1 << 20) - (over - max) + 1).is_err());
            Ok(())
        });
        assert_eq!(events.len(), 1);
    });
}

#[test]
fn nesting_is_refused_exactly_beyond_the_agents_limit() {
    watched(|| {
        let nested = |levels| (0..levels).fold(json!(1), |inner, _| json!({ "in": inner }));
        let events = arrived(Script::new(), |sink| {
            sink.emit("test", nested(126))?;
            let deeper = sink.emit("test", nested(127));
            assert!(matches!(deeper, Err(Error::PayloadTooDeep { max: 126 })), "{deeper:?}");
            Ok(())
        });
        assert_eq!(events[0].payload, nested(126));
    });
}

#[test]
fn non_json_values_are_null_or_refused() {
    watched(|| {
        let events = arrived(Script::new(), |sink| {
            sink.event("test").emit(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY])?;
            sink.event("test").emit(&u128::MAX)?;
            sink.event("test").emit(&i128::MIN)
        });
        assert_eq!(events[0].payload, json!([null, null, null]));
        // The agent reads the nearest value that its number types can hold.
        assert_eq!(events[1].payload, json!(2_f64.powi(128)));
        assert_eq!(events[2].payload, json!(-2_f64.powi(127)));
        assert_eq!(events.len(), 3);
    });
}

/// A map with one entry, whose key may have any type.
struct Entry<K>(K);

impl<K: Serialize> Serialize for Entry<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(&self.0, 1)])
    }
}

#[test]
fn map_keys_are_written_as_text_or_refused() {
    #[derive(Serialize)]
    enum Key {
        Plain,
        With(u8),
    }
    fn emit<K: Serialize>(sink: &EventSink, key: K) -> Result<()> {
        sink.event("test").emit(&Entry(key))
    }
    fn refused<K: Serialize>(sink: &EventSink, key: K) {
        let refused = emit(sink, key);
        assert!(matches!(refused, Err(Error::Json(_))), "{refused:?}");
    }
    let control = "\"quoted\" \\ \0\n\u{1b}[2J\u{7f}\u{2028}";
    watched(move || {
        let events = arrived(Script::new(), |sink| {
            emit(sink, "")?;
            emit(sink, control)?;
            emit(sink, 'c')?;
            emit(sink, true)?;
            emit(sink, -7)?;
            emit(sink, u128::MAX)?;
            emit(sink, 0.5)?;
            emit(sink, Some("some"))?;
            emit(sink, Key::Plain)?;
            refused(sink, f64::NAN);
            refused(sink, f32::INFINITY);
            refused(sink, ());
            refused(sink, None::<&str>);
            refused(sink, (1, 2));
            refused(sink, [1]);
            refused(sink, Key::With(1));
            refused(sink, Entry("in a key"));
            Ok(())
        });
        let max = u128::MAX.to_string();
        let keys = ["", control, "c", "true", "-7", &max, "0.5", "some", "Plain"];
        let payloads = events.iter().map(|event| event.payload.clone());
        assert!(payloads.eq(keys.map(|key| json!({ key: 1 }))), "{events:?}");
    });
}

struct FailsHalfWay;

impl Serialize for FailsHalfWay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = ["one", "two"].iter().map(|part| match *part {
            "one" => Ok(Value::from("x".repeat(10_000))),
            _ => Err("no more"),
        });
        let parts: Vec<_> = parts.collect();
        let Some(Err(why)) = parts.last() else { unreachable!() };
        serializer.serialize_newtype_struct("half", &parts[0].as_ref().ok())?;
        Err(S::Error::custom(why))
    }
}

struct Panics;

impl Serialize for Panics {
    fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("on purpose")
    }
}

#[test]
fn serialize_that_fails_or_panics_harms_no_other_event() {
    watched(|| {
        let events = arrived(Script::new(), |sink| {
            for n in 0..3 {
                sink.emit("test.good", json!({ "n": n }))?;
                let failed = sink.event("test.bad").emit(&FailsHalfWay);
                assert!(matches!(failed, Err(Error::Json(_))), "{failed:?}");
                let panicked = catch_unwind(|| sink.event("test.bad").emit(&Panics));
                assert!(panicked.is_err());
            }
            Ok(())
        });
        let numbers: Vec<_> = events.iter().map(|e| e.payload["n"].clone()).collect();
        assert_eq!(numbers, [0, 1, 2]);
    });
}

/// Emits on the same sink from inside `serialize`.
struct Emits<'a>(&'a EventSink, u32);

impl Serialize for Emits<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.1 > 0 {
            let inner = Emits(self.0, self.1 - 1);
            self.0.event("test.inner").emit(&inner).map_err(S::Error::custom)?;
        }
        serializer.collect_str(&format_args!("level {}", self.1))
    }
}

#[test]
fn serialize_may_emit_on_the_same_sink() {
    watched(|| {
        let events = arrived(Script::new(), |sink| sink.event("test").emit(&Emits(sink, 3)));
        let levels: Vec<_> = events.iter().map(|e| e.payload.clone()).collect();
        assert_eq!(levels, ["level 0", "level 1", "level 2", "level 3"]);
    });
}

#[test]
fn serialize_may_emit_with_a_capacity_of_one() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent).channel_capacity(1), |sink, _| {
            (0..100).try_for_each(|_| sink.event("test").emit(&Emits(sink, 3)))
        });
        result.unwrap();
        assert_counters(&report.stats, 400, 0);
        assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
    });
}

#[test]
fn sink_refuses_after_its_session() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut kept = None;
        runner(&agent)
            .run_with(metadata(), |sink, _| {
                kept = Some(sink.clone());
                Ok(())
            })
            .unwrap();
        let sink = kept.unwrap();
        assert!(matches!(sink.emit("test", json!({})), Err(Error::Shutdown)));
        assert!(matches!(sink.event("test").try_emit(&()), Err(Error::Shutdown)));
        sink.flush(LIMIT).expect("there was nothing to send");
    });
}
