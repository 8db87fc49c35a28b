//! What may be in an event, what is refused, and that a refusal touches nothing else.

mod common;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use common::{LIMIT, metadata, runner, watched};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use wedr_plugin_sdk::testing::{Event, Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Result};

/// Runs a body against an agent; returns the events that arrived.
fn arrived(script: Script, body: impl FnOnce(&EventSink) -> Result<()>) -> Vec<Event> {
    let agent = TestAgent::with(script).unwrap();
    runner(&agent).run_with(metadata(), |sink, _| body(sink)).unwrap();
    let session = agent.ended_session(LIMIT).unwrap();
    assert_eq!(session.missing_seqs(), 0);
    session.events().cloned().collect()
}

#[test]
fn values_arrive_as_they_were() {
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
fn an_event_without_a_time_happened_now() {
    watched(|| {
        let unix_ns = || std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos().try_into().unwrap();
        let before: u64 = unix_ns();
        let events = arrived(Script::new(), |sink| sink.emit("test", json!({})));
        assert!((before..=unix_ns()).contains(&events[0].ts_unix_ns));
    });
}

#[test]
fn the_session_limit_holds_to_the_byte() {
    watched(|| {
        let limit = 1000;
        let events = arrived(Script::new().max_payload_bytes(limit), |sink| {
            // With one digit of seq the body is 19 bytes shorter than it is counted.
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
        // The agent's own check would have ended the session.
        assert!(events.len() > 800);
    });
}

#[test]
fn the_largest_event_of_the_protocol_is_delivered() {
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
fn nesting_is_delivered_as_deep_as_the_agent_reads_and_refused_beyond() {
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
fn what_json_cannot_hold_is_null_or_refused() {
    watched(|| {
        let events = arrived(Script::new(), |sink| {
            sink.event("test").emit(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY])?;
            sink.event("test").emit(&BTreeMap::from([(7, true)]))?;
            sink.event("test").emit(&u128::MAX)?;
            let odd_keys = sink.event("test").emit(&BTreeMap::from([((1, 2), true)]));
            assert!(matches!(odd_keys, Err(Error::Json(_))), "{odd_keys:?}");
            Ok(())
        });
        assert_eq!(events[0].payload, json!([null, null, null]));
        assert_eq!(events[1].payload, json!({ "7": true }));
        assert_eq!(events.len(), 3);
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
fn a_serialize_that_fails_or_panics_harms_no_other_event() {
    watched(|| {
        let events = arrived(Script::new(), |sink| {
            for n in 0..3 {
                sink.emit("test.good", json!({ "n": n }))?;
                let failed = sink.event("test.bad").emit(&FailsHalfWay);
                assert!(matches!(failed, Err(Error::Json(_))), "{failed:?}");
                let panicked =
                    catch_unwind(AssertUnwindSafe(|| sink.event("test.bad").emit(&Panics)));
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
fn a_serialize_may_emit_on_the_same_sink() {
    watched(|| {
        let events = arrived(Script::new(), |sink| sink.event("test").emit(&Emits(sink, 3)));
        let levels: Vec<_> = events.iter().map(|e| e.payload.clone()).collect();
        assert_eq!(levels, ["level 0", "level 1", "level 2", "level 3"]);
    });
}

#[test]
fn a_sink_that_outlives_its_session_refuses() {
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
