//! What a run returns and reports, whatever its body and its agent do.

mod common;
mod raw;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, SLACK, fill, metadata, reporting, runner, session, stalled_agent, watched};
use raw::RawAgent;
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{CloseCause, Error, EventSink, Result, Runner};

/// Runs a session whose body panics with `payload`; returns the panic that leaves `run`.
fn session_that_panics(runner: Runner, payload: &'static str) -> &'static str {
    let run = || runner.run_with(metadata(), |_, _| panic_any(payload));
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the panic goes on");
    *panic.downcast().expect("the payload is intact")
}

#[test]
fn a_body_that_says_shutdown_has_not_failed() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |sink, ctx| {
            ctx.shutdown_handle().shutdown();
            sink.emit("test.late", json!({}))
        });
        result.unwrap();
        assert_eq!(report.stats.sent, 0);
    });
}

#[test]
fn what_the_sdk_said_means_the_same_when_the_body_wraps_it_as_its_own() {
    type Boxed = Box<dyn std::error::Error + Send + Sync>;
    fn emits(sink: &EventSink) -> Result<(), Boxed> {
        Ok(sink.emit("test.late", json!({}))?)
    }
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, _) = session(runner(&agent), |sink, ctx| {
            ctx.shutdown_handle().shutdown();
            emits(sink).map_err(Error::plugin)
        });
        result.unwrap();

        let (result, _) = session(runner(&agent), |sink, ctx| {
            agent.disconnect();
            ctx.wait_for_shutdown();
            emits(sink).map_err(Error::plugin)
        });
        assert!(result.unwrap_err().is_disconnected());
    });
}

#[test]
fn the_bodys_own_error_wins() {
    let own = || Error::plugin("the body's own");
    let is_own = |result| matches!(result, Err(Error::Plugin(_)));
    watched(move || {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |_, _| Err(own()));
        assert!(is_own(result));
        assert_eq!(report.cause, CloseCause::BodyReturned);

        let (result, report) = session(runner(&agent), |_, ctx| {
            agent.disconnect();
            ctx.wait_for_shutdown();
            Err(own())
        });
        assert!(is_own(result), "over a lost pipe");
        assert_eq!(report.cause, CloseCause::PipeLost);

        let agent = stalled_agent();
        let runner = runner(&agent).channel_capacity(8).drain_timeout(Duration::ZERO);
        let (result, report) = session(runner, |sink, _| {
            fill(sink);
            Err(own())
        });
        assert!(is_own(result), "over undelivered events");
        assert!(report.stats.undelivered > 0);
    });
}

#[test]
fn a_body_that_panics_is_reported_and_says_goodbye_and_the_panic_goes_on() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (runner, reports) = reporting(runner(&agent));
        let run = || {
            runner.run_with(metadata(), |sink, _| {
                sink.emit("test.last_words", json!({}))?;
                panic_any("the body's own")
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"the body's own"));
        let report = reports.try_recv().unwrap();
        assert_eq!(report.cause, CloseCause::Panicked);
        assert_eq!((report.stats.sent, report.confirmed), (1, true));
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!(session.events().count(), 1);
    });
}

#[test]
fn an_emit_of_an_unwinding_body_does_not_wait_for_the_agent() {
    struct Farewell<'a>(&'a EventSink);
    impl Drop for Farewell<'_> {
        fn drop(&mut self) {
            let refused = self.0.emit("test.farewell", json!({}));
            assert!(matches!(refused, Err(Error::QueueFull)), "{refused:?}");
        }
    }
    watched(|| {
        let agent = stalled_agent();
        let (runner, reports) =
            reporting(runner(&agent).channel_capacity(1).drain_timeout(Duration::ZERO));
        let run = || {
            runner.run_with(metadata(), |sink, _| {
                let _farewell = Farewell(sink);
                fill(sink);
                panic_any("with a full queue")
            })
        };
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"with a full queue"));
        assert_eq!(reports.try_recv().unwrap().stats.refused, 1);
    });
}

#[test]
fn an_on_close_that_panics_does_so_after_the_goodbye_and_hides_no_panic_of_the_body() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let runner = || runner(&agent).on_close(|_| panic_any("on_close's"));
        let run = || runner().run_with(metadata(), |_, _| Ok(()));
        let panic = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        assert_eq!(panic.downcast_ref(), Some(&"on_close's"));
        let end = agent.ended_session(LIMIT).unwrap().end;
        assert_eq!(end, Some(SessionEnd::Goodbye));

        assert_eq!(session_that_panics(runner(), "the body's"), "the body's");
    });
}

#[test]
fn a_lost_pipe_is_an_error_whatever_the_body_says() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let verdicts: [fn() -> Result<()>; 2] = [|| Ok(()), || Err(Error::Shutdown)];
        for verdict in verdicts {
            let (result, report) = session(runner(&agent), |_, ctx| {
                agent.disconnect();
                ctx.wait_for_shutdown();
                verdict()
            });
            let error = result.unwrap_err();
            assert!(error.is_disconnected(), "{error}");
            assert_eq!(report.cause, CloseCause::PipeLost);
            assert!(!report.confirmed);
        }
    });
}

#[test]
fn the_loss_of_an_idle_agent_is_noticed_within_a_second() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, _) = session(runner(&agent).heartbeat(None), |_, ctx| {
            let start = Instant::now();
            agent.disconnect();
            ctx.wait_for_shutdown();
            let noticed = start.elapsed();
            assert!(noticed < Duration::from_secs(1) + SLACK, "{noticed:?}");
            Ok(())
        });
        assert!(result.unwrap_err().is_disconnected());
    });
}

#[test]
fn emits_after_the_loss_say_so_and_those_before_are_accounted_for() {
    watched(|| {
        let agent = TestAgent::with(Script::new().close_after(10)).unwrap();
        let (mut accepted, mut kept) = (0, None);
        let (result, report) = session(runner(&agent), |sink, ctx| {
            kept = Some(sink.clone());
            loop {
                if let Err(refused) = sink.emit("test.n", json!(accepted)) {
                    assert!(refused.is_disconnected(), "{refused}");
                    assert!(ctx.is_shutting_down());
                    return Err(refused);
                }
                accepted += 1;
            }
        });
        assert!(result.unwrap_err().is_disconnected());
        assert_eq!(report.cause, CloseCause::PipeLost);
        let accounted_for = report.stats.sent + report.stats.undelivered;
        // An event refused at the instant of the loss may have been queued all the same.
        assert!((accepted..=accepted + 1).contains(&accounted_for));
        let late = kept.unwrap().emit("test.late", json!({})).unwrap_err();
        assert!(late.is_disconnected(), "{late}");
    });
}

#[test]
fn an_agent_that_closes_after_the_shutdown_does_not_make_the_handshake_fail() {
    watched(|| {
        for _ in 0..20 {
            let agent = RawAgent::start();
            let runner = agent.runner();
            let handle = runner.shutdown_handle();
            let run = || runner.run_with(metadata(), |_, _| unreachable!("the body must not run"));
            thread::scope(|scope| {
                let running = scope.spawn(run);
                let mut connection = agent.accept();
                connection.next_frame().expect("hello");
                handle.shutdown();
                drop(connection);
                running.join().unwrap().unwrap();
            });
        }
    });
}
