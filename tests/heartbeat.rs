//! Heartbeats: when they come, and when they do not.

mod common;

use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, metadata, runner, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, Script, TestAgent};

const INTERVAL: Duration = Duration::from_millis(100);

/// The pauses before each heartbeat.
fn pauses(session: &RecordedSession, from: Instant) -> Vec<Duration> {
    let mut last = from;
    let pause = |at: Instant| {
        let pause = at.duration_since(last);
        last = at;
        pause
    };
    session.heartbeats().map(pause).collect()
}

fn until_heartbeats(agent: &TestAgent, count: usize) {
    assert!(agent.wait_until(LIMIT, |sessions| sessions[0].heartbeats().count() >= count));
}

#[test]
fn they_come_on_time_in_a_flood() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .heartbeat(INTERVAL)
            .run_with(metadata(), |sink, ctx| {
                let started = Instant::now();
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| while sink.emit("test.flood", json!({})).is_ok() {});
                    }
                    until_heartbeats(&agent, 5);
                    ctx.shutdown_handle().shutdown();
                });
                // Late by what was in the pipe before them; never early, never in a burst.
                for pause in pauses(&agent.sessions()[0], started) {
                    assert!(pause > INTERVAL / 2, "{pause:?}");
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn they_come_when_nothing_else_does_and_in_spite_of_a_long_linger() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .heartbeat(INTERVAL)
            .linger(LIMIT)
            .run_with(metadata(), |sink, _| {
                sink.emit("test.once", json!({}))?;
                until_heartbeats(&agent, 3);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn after_a_stall_there_is_no_burst() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        runner(&agent)
            .heartbeat(INTERVAL)
            .run_with(metadata(), |sink, _| {
                // The pipe is full, and the writer held up for many intervals.
                let filler = json!("x".repeat(1000));
                while sink.event("test").emit_timeout(&filler, 3 * INTERVAL).is_ok() {}
                let resumed = Instant::now();
                agent.resume();
                sink.flush(LIMIT)?;
                until_heartbeats(&agent, agent.sessions()[0].heartbeats().count() + 4);
                let after: Vec<_> =
                    agent.sessions()[0].heartbeats().filter(|at| *at > resumed).collect();
                let burst = after.windows(3).any(|at| at[2].duration_since(at[0]) < INTERVAL / 2);
                assert!(!burst, "{after:?}");
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn none_are_sent_if_so_configured() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        runner(&agent)
            .heartbeat(None)
            .run_with(metadata(), |_, ctx| {
                // Longer than what the agent suggests: there is nothing else to wait for.
                ctx.sleep(Duration::from_millis(1300));
                Ok(())
            })
            .unwrap();
        assert_eq!(agent.ended_session(LIMIT).unwrap().heartbeats().count(), 0);
    });
}

#[test]
fn the_agents_suggestion_is_followed() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        runner(&agent)
            .run_with(metadata(), |_, _| {
                let started = Instant::now();
                until_heartbeats(&agent, 1);
                assert!(started.elapsed() >= Duration::from_millis(900));
                Ok(())
            })
            .unwrap();
    });
}
