//! `emit` accepts exactly the payloads that the agent's parser accepts.

#[path = "../common/mod.rs"]
mod common;
#[path = "properties/payload.rs"]
mod payload;

use common::{LIMIT, metadata, runner, watched};
use payload::{Tree, trees};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseResult, TestRunner};
use wedr_plugin_sdk::testing::{Event, PluginMessage, Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink};

/// Low, so that many payloads exceed it, and higher than what fits into scratch memory.
pub(crate) const MAX_CONTENT: u64 = 50_000;

/// The content as `serde_json` writes it, with the longest `seq`.
fn content(kind: &str, ts_unix_ns: u64, payload: &Tree) -> serde_json::Result<String> {
    let (seq, kind) = (u64::MAX, serde_json::to_string(kind)?);
    let payload = serde_json::to_string(payload)?;
    Ok(format!(
        r#"{{"type":"event","seq":{seq},"ts_unix_ns":{ts_unix_ns},"kind":{kind},"payload":{payload}}}"#
    ))
}

/// The event as the agent reads it; `None` if the agent's parser refuses it.
fn as_the_agent_reads(content: &str) -> Option<Event> {
    match serde_json::from_str(content).ok()? {
        PluginMessage::Event(event) => Some(event),
        other => panic!("an event was read as {other:?}"),
    }
}

/// The agent's event with this `seq`.
fn arrived(agent: &TestAgent, seq: u64) -> Event {
    let mut event = None;
    let came = agent.wait_until(LIMIT, |sessions| {
        let received = sessions[0].received.get(seq as usize).map(|r| &r.message);
        if let Some(PluginMessage::Event(e)) = received {
            event = Some(e.clone());
        }
        event.is_some() || sessions[0].end.is_some()
    });
    assert!(came, "event {seq} was accepted, and did not arrive");
    event.expect("the agent has dropped the session")
}

/// Emits one event, which gets the number `seq`. Compares the result with what the agent would do.
fn emit_agrees_with_the_agent(
    (sink, agent, seq): (&EventSink, &TestAgent, &mut u64),
    kind: &str,
    ts_unix_ns: u64,
    payload: &Tree,
) -> TestCaseResult {
    let emitted = sink.event(kind).ts_unix_ns(ts_unix_ns).emit(payload);
    let Ok(content) = content(kind, ts_unix_ns, payload) else {
        // A payload that `serde_json` cannot write may exceed the depth before that.
        let refused = matches!(emitted, Err(Error::Json(_) | Error::PayloadTooDeep { .. }));
        prop_assert!(refused, "{emitted:?}");
        return Ok(());
    };
    let read = as_the_agent_reads(&content);
    match emitted {
        Ok(()) => {
            prop_assert!(
                content.len() as u64 <= MAX_CONTENT,
                "{} bytes were accepted",
                content.len()
            );
            let expected = read.map(|event| (event.ts_unix_ns, event.kind, event.payload));
            let came = arrived(agent, *seq);
            *seq += 1;
            prop_assert_eq!(Some((came.ts_unix_ns, came.kind, came.payload)), expected);
        }
        Err(Error::PayloadTooLarge { size, max }) => {
            prop_assert_eq!((size, max as u64), (content.len(), MAX_CONTENT));
            prop_assert!(size > max, "{} bytes are within {}", size, max);
        }
        Err(Error::PayloadTooDeep { .. } | Error::Json(_)) => {
            prop_assert_eq!(read, None, "refused, and the agent would take it");
        }
        Err(other) => prop_assert!(false, "{other}"),
    }
    Ok(())
}

#[test]
fn emit_accepts_exactly_what_the_agent_accepts() {
    watched(|| {
        let defaults = Config::default();
        // All in one session, because a session for each would take long.
        let cases = defaults.cases.saturating_mul(8);
        let mut cases = TestRunner::new(Config { cases, failure_persistence: None, ..defaults });
        let strategy = (".*", any::<u64>(), trees());
        let agent = TestAgent::with(Script::new().max_payload_bytes(MAX_CONTENT)).unwrap();
        let mut held = Ok(());
        let mut accepted = 0;
        runner(&agent)
            .heartbeat(None)
            .run_with(metadata(), |sink, _| {
                let next = std::cell::Cell::new(0);
                held = cases.run(&strategy, |(kind, ts, payload)| {
                    let mut seq = next.get();
                    let agrees =
                        emit_agrees_with_the_agent((sink, &agent, &mut seq), &kind, ts, &payload);
                    next.set(seq);
                    agrees
                });
                accepted = next.get();
                Ok(())
            })
            .unwrap();
        held.unwrap();
        println!("{accepted} events were accepted");
        assert!(accepted > 0);
    });
}
