//! From the shutdown to the end of the session: queued events are sent, in bounded time.

mod common;
mod raw;

use std::thread;
use std::time::Duration;

use common::time::Moment;
use common::{LIMIT, SLACK, TIME_TO_BLOCK, fill, runner, session, stalled_agent, watched};
use serde_json::json;
use wedr_plugin_sdk::Error;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};

#[test]
fn drain_does_not_wait_for_the_body() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut returned = None;
        let (result, report) = session(runner(&agent), |sink, ctx| {
            sink.emit("test.last", json!({}))?;
            ctx.shutdown_handle().shutdown();
            let session = agent.ended_session(LIMIT).unwrap();
            assert_eq!(session.end, Some(SessionEnd::Goodbye));
            assert_eq!(session.events().count(), 1);
            returned = Some(Moment::now());
            Ok(())
        });
        returned.unwrap().elapsed_within(SLACK);
        result.unwrap();
        assert!(report.confirmed);
    });
}

#[test]
fn shutdown_wakes_an_idle_writer_at_once() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut returned = None;
        let (result, report) = session(runner(&agent), |_, ctx| {
            ctx.sleep(TIME_TO_BLOCK);
            returned = Some(Moment::now());
            Ok(())
        });
        let outlasted = returned.unwrap().elapsed_within(SLACK);
        result.unwrap();
        assert!(report.drained_in <= outlasted);
    });
}

#[test]
fn hung_agent_delays_run_by_the_drain_timeout() {
    watched(|| {
        for drain_timeout in [Duration::ZERO, Duration::from_millis(300)] {
            let agent = stalled_agent();
            let runner = runner(&agent).channel_capacity(8).drain_timeout(drain_timeout);
            let (mut accepted, mut returned) = (0, None);
            let (result, report) = session(runner, |sink, _| {
                accepted = fill(sink);
                returned = Some(Moment::now());
                Ok(())
            });
            let outlasted = returned.unwrap().elapsed_within(drain_timeout + SLACK);
            assert!(outlasted >= drain_timeout, "{outlasted:?}");
            let Err(Error::Undelivered { count }) = result else { panic!("{result:?}") };
            let stats = report.stats;
            assert_eq!((stats.undelivered, stats.queued), (count, 0));
            assert_eq!(stats.sent + stats.undelivered, accepted);
            assert!(!report.confirmed);

            agent.resume();
            let session = agent.ended_session(LIMIT).unwrap();
            assert_eq!(session.events().count() as u64, stats.sent);
            let end = session.end.unwrap();
            assert!(matches!(end, SessionEnd::Disconnected { .. }), "{end:?}");
        }
    });
}

#[test]
fn drain_without_time_sends_without_waiting() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent).drain_timeout(Duration::ZERO);
        let (result, report) =
            session(runner, |sink, _| (0..3).try_for_each(|n| sink.emit("test.n", json!(n))));
        result.unwrap();
        assert_eq!(report.stats.sent, 3);
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.events().count(), 3);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn drain_without_limit_waits_for_the_agent() {
    watched(|| {
        let agent = stalled_agent();
        let mut accepted = 0;
        let (result, report) = thread::scope(|scope| {
            let runner = runner(&agent).channel_capacity(8).drain_timeout(Duration::MAX);
            session(runner, |sink, ctx| {
                accepted = fill(sink);
                let (agent, ctx) = (&agent, ctx.clone());
                scope.spawn(move || {
                    ctx.wait_for_shutdown();
                    thread::sleep(TIME_TO_BLOCK);
                    agent.resume();
                });
                Ok(())
            })
        });
        result.unwrap();
        assert_eq!(report.stats.sent, accepted);
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.events().count() as u64, accepted);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn agent_that_closes_after_goodbye_confirms() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |sink, _| sink.emit("test", json!({})));
        result.unwrap();
        assert!(report.confirmed);
        assert_eq!(report.session_id, "test-session");
    });
}

#[test]
fn agent_that_stays_open_delays_run_by_1_s() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stay_after_goodbye()).unwrap();
        for (drain_timeout, at_most) in [
            (LIMIT, Duration::from_secs(1)),
            (Duration::from_millis(100), Duration::from_millis(100)),
        ] {
            let mut returned = None;
            let (result, report) = session(runner(&agent).drain_timeout(drain_timeout), |_, _| {
                returned = Some(Moment::now());
                Ok(())
            });
            returned.unwrap().elapsed_within(at_most + SLACK);
            result.unwrap();
            assert!(!report.confirmed);
        }
    });
}
