//! What `run` returns and reports, for each end of the body and of the agent.

mod common;
mod raw;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::thread;
use std::time::Duration;

use common::{
    LIMIT, fill, metadata, reporting, runner, session, session_that_panics, stalled_agent, watched,
};
use raw::RawAgent;
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{CloseCause, Error, EventSink, Result, SessionContext};

#[test]
fn shutdown_error_of_the_body_is_ok() {
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

/// Bodies that emit after the end of the session, and return the error inside an error of their own.
mod wrapping {
    use super::*;

    fn emit(sink: &EventSink) -> Result<()> {
        sink.emit("test_late", json!({}))
    }

    pub(super) fn in_a_box(sink: &EventSink) -> Result<()> {
        type Boxed = Box<dyn std::error::Error + Send + Sync>;
        fn boxed(sink: &EventSink) -> Result<(), Boxed> {
            Ok(emit(sink)?)
        }
        boxed(sink).map_err(Error::plugin)
    }

    pub(super) fn in_an_enum(sink: &EventSink) -> Result<()> {
        #[derive(Debug, thiserror::Error)]
        enum Own {
            #[error("cannot report the login")]
            Report(#[source] Error),
        }
        emit(sink).map_err(Own::Report).map_err(Error::plugin)
    }

    pub(super) fn in_a_boxed_source(sink: &EventSink) -> Result<()> {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot report the login")]
        struct Own(#[source] Box<Error>);
        emit(sink).map_err(Box::new).map_err(Own).map_err(Error::plugin)
    }

    pub(super) fn in_a_shared_source(sink: &EventSink) -> Result<()> {
        #[derive(Debug, Clone, thiserror::Error)]
        #[error("cannot report the login")]
        struct Own(#[source] std::sync::Arc<Error>);
        emit(sink).map_err(std::sync::Arc::new).map_err(Own).map_err(Error::plugin)
    }

    pub(super) fn in_an_io_error(sink: &EventSink) -> Result<()> {
        emit(sink).map_err(std::io::Error::other).map_err(Error::plugin)
    }

    pub(super) fn below_two_contexts_of_anyhow(sink: &EventSink) -> Result<()> {
        use anyhow::Context as _;
        let result = emit(sink).context("cannot report the login").context("cannot poll");
        result.map_err(Error::plugin)
    }

    pub(super) fn below_a_context_of_eyre(sink: &EventSink) -> Result<()> {
        use eyre::WrapErr as _;
        emit(sink).wrap_err("cannot report the login").map_err(Error::plugin)
    }

    fn without_context(sink: &EventSink) -> anyhow::Result<()> {
        Ok(emit(sink)?)
    }

    pub(super) fn taken_out_of_anyhow(sink: &EventSink) -> Result<()> {
        without_context(sink).map_err(|e| e.downcast().unwrap_or_else(Error::plugin))
    }

    /// The exception that is documented.
    pub(super) fn in_anyhow_without_context(sink: &EventSink) -> Result<()> {
        without_context(sink).map_err(Error::plugin)
    }
}

#[test]
fn wrapped_end_of_a_session_stays_the_end_of_a_session() {
    use wrapping::*;
    let bodies = [
        in_a_box,
        in_an_enum,
        in_a_boxed_source,
        in_a_shared_source,
        in_an_io_error,
        below_two_contexts_of_anyhow,
        below_a_context_of_eyre,
        taken_out_of_anyhow,
    ];
    watched(move || {
        for (n, emit) in bodies.into_iter().enumerate() {
            let agent = TestAgent::start().unwrap();
            let (result, _) = session(runner(&agent), |sink, ctx| {
                ctx.shutdown_handle().shutdown();
                emit(sink)
            });
            assert!(result.is_ok(), "{n}: {result:?}");

            let lost = |sink: &EventSink, ctx: &SessionContext| {
                agent.disconnect();
                ctx.wait_for_shutdown();
                let error = emit(sink).unwrap_err();
                assert!(error.is_disconnected(), "{n}: {error:?}");
                Err(error)
            };
            assert!(session(runner(&agent), lost).0.unwrap_err().is_disconnected(), "{n}");
        }
    });
}

#[test]
fn shutdown_in_anyhow_without_context_is_an_error_of_the_body() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, _) = session(runner(&agent), |sink, ctx| {
            ctx.shutdown_handle().shutdown();
            wrapping::in_anyhow_without_context(sink)
        });
        // The documentation of `Error::plugin` says so, and must change if this changes.
        assert!(matches!(result, Err(Error::Plugin(_))), "{result:?}");
    });
}

#[test]
fn error_of_the_body_takes_precedence() {
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
fn panic_of_the_body_is_reported_after_the_goodbye() {
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
fn emit_of_an_unwinding_body_does_not_wait_for_the_agent() {
    struct EmitsOnDrop<'a>(&'a EventSink);
    impl Drop for EmitsOnDrop<'_> {
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
                let _farewell = EmitsOnDrop(sink);
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
fn panic_of_on_close_comes_after_the_goodbye() {
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
fn lost_pipe_is_an_error_whatever_the_body_returns() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let results: [fn() -> Result<()>; 2] = [|| Ok(()), || Err(Error::Shutdown)];
        for result in results {
            let (result, report) = session(runner(&agent), |_, ctx| {
                agent.disconnect();
                ctx.wait_for_shutdown();
                result()
            });
            let error = result.unwrap_err();
            assert!(error.is_disconnected(), "{error}");
            assert_eq!(report.cause, CloseCause::PipeLost);
            assert!(!report.confirmed);
        }
    });
}

#[test]
fn emits_after_the_loss_fail_and_earlier_ones_are_counted() {
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
        let counted = report.stats.sent + report.stats.undelivered;
        // An event whose `emit` failed at the moment of the loss may have been queued.
        assert!((accepted..=accepted + 1).contains(&counted));
        let late = kept.unwrap().emit("test.late", json!({})).unwrap_err();
        assert!(late.is_disconnected(), "{late}");
    });
}

#[test]
fn close_after_the_shutdown_does_not_fail_the_handshake() {
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
