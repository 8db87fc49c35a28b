//! An answer that opens a session, and what the session takes from it.

mod common;
mod raw;

use std::time::Duration;

use common::{LIMIT, runner, watched};
use raw::frame;
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Result, Runner, SessionContext, SessionReport};

const MIB: usize = 1 << 20;

/// Runs a session that must succeed. Returns its report.
fn session(
    runner: Runner,
    body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>,
) -> SessionReport {
    let (result, report) = common::session(runner, body);
    result.unwrap();
    report
}

fn one_event(sink: &EventSink, _: &SessionContext) -> Result<()> {
    sink.emit("test.event", json!({ "n": 1 }))
}

fn ack(session_id: &str) -> Vec<u8> {
    frame(json!({ "type": "hello_ack", "session_id": session_id }).to_string())
}

#[test]
fn answer_may_come_byte_by_byte() {
    watched(|| {
        let script = Script::new().answer_slowly(Duration::from_millis(1));
        let agent = TestAgent::with(script.session_id("slow")).unwrap();
        let report = session(runner(&agent).handshake_timeout(LIMIT), one_event);
        assert!(report.confirmed, "{report:?}");
        assert_eq!(report.session_id, "slow");
    });
}

#[test]
fn answer_after_an_ack_is_ignored() {
    watched(|| {
        let reject = frame(r#"{"type":"reject","reason":"revoked"}"#);
        let acked = [ack("first"), reject].concat();
        let agent = TestAgent::with(Script::new().answer_with(acked)).unwrap();
        let report = session(runner(&agent), one_event);
        assert_eq!(report.session_id, "first");
        assert!(report.confirmed, "{report:?}");
    });
}

#[test]
fn bytes_after_the_ack_are_ignored() {
    let after = [vec![0; 4], vec![0xff; 3], frame("null"), ack("another"), vec![0xa5; 60_000]];
    watched(|| {
        for bytes in after {
            // In the same write, and in a second write.
            let together = Script::new().answer_with([ack("s"), bytes.clone()].concat());
            let apart = Script::new().send_after_ack(bytes);
            for script in [together, apart] {
                let agent = TestAgent::with(script).unwrap();
                let report = session(runner(&agent), one_event);
                assert!(report.confirmed, "{report:?}");
                let session = agent.ended_session(LIMIT).unwrap();
                assert_eq!(session.end, Some(SessionEnd::Goodbye));
                assert_eq!(session.events().count(), 1);
            }
        }
    });
}

#[test]
fn limit_that_no_event_fits_does_not_end_the_session() {
    watched(|| {
        for limit in [0, 10] {
            let agent = TestAgent::with(Script::new().max_payload_bytes(limit as u64)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                assert_eq!(ctx.max_payload_bytes(), limit);
                let refused = sink.emit("", json!(null));
                assert!(
                    matches!(refused, Err(Error::PayloadTooLarge { max, .. }) if max == limit),
                    "{refused:?}"
                );
                Ok(())
            });
            assert!(report.confirmed && report.stats.sent == 0, "{report:?}");
        }
    });
}

#[test]
fn limit_above_1_mib_is_1_mib() {
    watched(|| {
        for limit in [MIB as u64, 1 << 32, u64::MAX] {
            let agent = TestAgent::with(Script::new().max_payload_bytes(limit)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                assert_eq!(ctx.max_payload_bytes(), MIB);
                let refused = sink.emit("test.large", "x".repeat(MIB).into());
                assert!(matches!(refused, Err(Error::PayloadTooLarge { max: MIB, .. })));
                sink.emit("test.large", "x".repeat(MIB - 200).into())
            });
            assert!(report.confirmed && report.stats.sent == 1, "{report:?}");
        }
    });
}

#[test]
fn heartbeat_sec_of_zero_or_of_years_sends_no_heartbeat_now() {
    watched(|| {
        for seconds in [0, u64::from(u32::MAX), u64::MAX] {
            let agent = TestAgent::with(Script::new().heartbeat_sec(seconds)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                one_event(sink, ctx)?;
                sink.flush(LIMIT)?;
                one_event(sink, ctx)
            });
            assert!(report.confirmed && report.stats.heartbeats == 0, "{report:?}");
        }
    });
}
