//! Fault injection: each kind of fault, and what a real plugin sees of it.

use std::sync::mpsc;
use std::time::Duration;

use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, RejectReason, Result};

use crate::agent::DevAgent;
use crate::common::{LIMIT, metadata, watched};

/// More than a pipe holds.
fn emit_much(sink: &EventSink) -> Result<()> {
    let payload = json!("x".repeat(64 << 10));
    (0..64).try_for_each(|_| sink.emit("acme.much", payload.clone()))
}

#[test]
fn rejected_plugin_is_told_the_reason() {
    watched(|| {
        let mut agent = DevAgent::start(&["--reject", "revoked"]);
        let result = agent.runner().run_with(metadata(), |_, _| Ok(()));
        assert!(
            matches!(result, Err(Error::Rejected { reason: RejectReason::Revoked })),
            "{result:?}"
        );
        agent.note("#1 the agent rejected the plugin: revoked (--reject)");
        let (_, notes) = agent.stop();
        assert!(!notes.iter().any(|line| line.contains("not a reason that")), "{notes:#?}");
    });
}

#[test]
fn misspelt_reason_is_noted() {
    watched(|| {
        let agent = DevAgent::start(&["--reject", "hashmismatch"]);
        agent.note("--reject hashmismatch is not a reason that --help lists");
    });
}

#[test]
fn too_many_sessions_is_sent_before_hello_is_read() {
    watched(|| {
        let agent = DevAgent::start(&["--reject", "too_many_sessions"]);
        match agent.runner().run_with(metadata(), |_, _| Ok(())) {
            Err(Error::Rejected { reason: RejectReason::TooManySessions }) => {}
            // A named pipe discards what was not read when the agent closed it.
            Err(Error::HandshakeClosed) if cfg!(windows) => {}
            other => panic!("{other:?}"),
        }
        agent.note("#1 the agent rejected the plugin: too_many_sessions (--reject); 0 events, 0 heartbeats, 0 B");
    });
}

#[test]
fn plugin_whose_pipe_is_closed_loses_its_session() {
    watched(|| {
        let mut agent = DevAgent::start(&["--close-after", "2"]);
        let result = agent.runner().run_with(metadata(), |sink, ctx| {
            emit_much(sink)?;
            ctx.wait_for_shutdown();
            Ok(())
        });
        assert!(result.unwrap_err().is_disconnected());
        agent.note("#1 the agent closed the session (--close-after); 2 events, ");
        let (events, _) = agent.stop();
        assert_eq!(events.len(), 2);
    });
}

#[test]
fn agent_that_stalls_for_good_reads_no_more() {
    watched(|| {
        let agent = DevAgent::start(&["--stall-after", "3"]);
        let runner = agent.runner().drain_timeout(Duration::ZERO);
        let result = runner.run_with(metadata(), |sink, _| {
            emit_much(sink)?;
            assert!((0..3).all(|_| agent.event().contains(" acme.much ")));
            let flushed = sink.flush(Duration::from_millis(200));
            assert!(matches!(flushed, Err(Error::FlushTimeout(_))), "{flushed:?}");
            Ok(())
        });
        assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
        agent.note("#1 the agent stops reading for good, after 3 events (--stall-after)");
    });
}

#[test]
fn agent_that_stalls_for_seconds_then_reads_again() {
    watched(|| {
        let agent = DevAgent::start(&["--stall-after", "3:1"]);
        agent
            .runner()
            .run_with(metadata(), |sink, _| {
                emit_much(sink)?;
                sink.flush(LIMIT)
            })
            .unwrap();
        agent.note("#1 the agent stops reading for 1s, after 3 events (--stall-after)");
        agent.note("#1 the agent continues to read");
        agent.note("#1 the plugin sent goodbye; 64 events, ");
    });
}

#[test]
fn faults_after_events_are_announced_and_their_absence_reported() {
    watched(|| {
        let agent = DevAgent::start(&["--stall-after", "5", "--close-after", "9"]);
        let emit_twice =
            |sink: &EventSink| (0..2).try_for_each(|n| sink.emit("acme.x", json!({ "n": n })));
        agent.runner().run_with(metadata(), |sink, _| emit_twice(sink)).unwrap();
        agent.note("#1 the agent stops reading after 5 events (--stall-after)");
        agent.note("#1 the agent closes the pipe after 9 events (--close-after)");
        agent.note("#1 the plugin sent only 2 events: --stall-after 5 had no effect");
        agent.note("#1 the plugin sent only 2 events: --close-after 9 had no effect");
    });
}

#[test]
fn plugin_is_killed_after_some_events() {
    watched(|| {
        let mut agent = DevAgent::launch(&["--kill-after", "2"], crate::common::example("tick"));
        agent.note("#1 the agent kills the plugin after 2 events (--kill-after)");
        agent.note("#1 the agent killed the plugin after 2 events (--kill-after)");
        agent.note("#1 the plugin closed the pipe without goodbye; 2 events, ");
        let status = agent.ended().0;
        assert_eq!(status.code(), Some(if cfg!(unix) { 128 + 9 } else { 1 }));
    });
}

#[test]
fn slow_agent_is_still_reading_when_the_plugin_has_gone() {
    watched(|| {
        let agent = DevAgent::start(&["--slow", "20000"]);
        let (report, reported) = mpsc::channel();
        agent
            .runner()
            .on_close(move |r| report.send(r.confirmed).unwrap())
            .run_with(metadata(), |sink, _| sink.emit("acme.slow", json!("x".repeat(100_000))))
            .unwrap();
        // Reading takes the agent five seconds, and the plugin waits for one second.
        assert_eq!(reported.recv(), Ok(false));
        agent.note("#1 the plugin sent goodbye; 1 event, ");
    });
}

#[test]
fn plugin_uses_the_limits_of_the_acknowledgement() {
    watched(|| {
        let agent = DevAgent::start(&["--ack-max", "500", "--heartbeat", "1"]);
        agent
            .runner()
            .run_with(metadata(), |sink, ctx| {
                assert_eq!((ctx.session_id(), ctx.max_payload_bytes()), ("dev-1", 500));
                let refused = sink.emit("acme.x", json!("x".repeat(500)));
                assert!(
                    matches!(refused, Err(Error::PayloadTooLarge { max: 500, .. })),
                    "{refused:?}"
                );
                // With the default interval of 30 s this would take a minute.
                while sink.stats().heartbeats < 2 {
                    ctx.sleep(Duration::from_millis(10));
                }
                Ok(())
            })
            .unwrap();
        let end = agent.note("#1 the plugin sent goodbye; 0 events, ");
        assert!(!end.contains(" 0 heartbeats") && !end.contains(" 1 heartbeat"), "{end}");
    });
}
