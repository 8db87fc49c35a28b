//! From the shutdown to the end of the pipe: what is queued is sent, in bounded time.

mod common;
mod raw;

use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, SLACK, TO_GET_THERE, fill, runner, session, stalled_agent, watched};
use serde_json::json;
use wedr_plugin_sdk::Error;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};

#[test]
fn the_drain_does_not_wait_for_the_body() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut returned = None;
        let (result, report) = session(runner(&agent), |sink, ctx| {
            sink.emit("test.last", json!({}))?;
            ctx.shutdown_handle().shutdown();
            let session = agent.ended_session(LIMIT).unwrap();
            assert_eq!(session.end, Some(SessionEnd::Goodbye));
            assert_eq!(session.events().count(), 1);
            returned = Some(Instant::now());
            Ok(())
        });
        let outlasted = returned.unwrap().elapsed();
        assert!(outlasted < SLACK, "{outlasted:?}");
        result.unwrap();
        assert!(report.confirmed);
    });
}

#[test]
fn a_resting_writer_hears_of_the_shutdown_at_once() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut returned = None;
        let (result, report) = session(runner(&agent), |_, ctx| {
            ctx.sleep(TO_GET_THERE);
            returned = Some(Instant::now());
            Ok(())
        });
        let outlasted = returned.unwrap().elapsed();
        assert!(outlasted < SLACK, "{outlasted:?}");
        result.unwrap();
        assert!(report.drained_in <= outlasted);
    });
}

#[test]
fn a_hung_agent_holds_run_up_for_the_drain_timeout_and_no_longer() {
    watched(|| {
        for drain_timeout in [Duration::ZERO, Duration::from_millis(300)] {
            let agent = stalled_agent();
            let runner = runner(&agent).channel_capacity(8).drain_timeout(drain_timeout);
            let (mut accepted, mut returned) = (0, None);
            let (result, report) = session(runner, |sink, _| {
                accepted = fill(sink);
                returned = Some(Instant::now());
                Ok(())
            });
            let outlasted = returned.unwrap().elapsed();
            assert!((drain_timeout..drain_timeout + SLACK).contains(&outlasted), "{outlasted:?}");
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
fn a_drain_without_time_sends_what_the_pipe_takes_at_once() {
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
fn a_drain_without_limit_waits_until_the_agent_goes_on() {
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
                    thread::sleep(TO_GET_THERE);
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
fn an_agent_that_closes_after_goodbye_confirms() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |sink, _| sink.emit("test", json!({})));
        result.unwrap();
        assert!(report.confirmed);
        assert_eq!(report.session_id, "test-session");
    });
}

#[test]
fn an_agent_that_stays_after_goodbye_holds_run_up_for_a_second_at_most() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stay_after_goodbye()).unwrap();
        for (drain_timeout, at_most) in [
            (LIMIT, Duration::from_secs(1)),
            (Duration::from_millis(100), Duration::from_millis(100)),
        ] {
            let mut returned = None;
            let (result, report) = session(runner(&agent).drain_timeout(drain_timeout), |_, _| {
                returned = Some(Instant::now());
                Ok(())
            });
            let outlasted = returned.unwrap().elapsed();
            assert!(outlasted < at_most + SLACK, "{outlasted:?}");
            result.unwrap();
            assert!(!report.confirmed);
        }
    });
}
