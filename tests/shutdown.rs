//! A session ends in order and in bounded time, from wherever and whenever it is asked to.

mod common;
mod raw;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, fill, metadata, runner, session, stalled_agent, watched};
use raw::RawAgent;
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{
    CloseCause, Error, EventSink, Result, Runner, SessionContext, SessionReport, ShutdownHandle,
};

/// Nothing that a shutdown wakes takes this long.
const AT_ONCE: Duration = Duration::from_secs(1);
/// How much later than its deadline `run` may return.
const SLACK: Duration = Duration::from_millis(250);
/// Gives another thread the time to get to where it waits, which nothing shows. One that is late
/// keeps the same promises: the test proves less then, and does not fail.
const TO_GET_THERE: Duration = Duration::from_millis(50);

/// Has `runner` send its report here.
fn reporting(runner: Runner) -> (Runner, Receiver<SessionReport>) {
    let (send, reports) = mpsc::channel();
    let runner = runner.on_close(move |report| send.send(report.clone()).unwrap());
    (runner, reports)
}

/// Runs a session whose body panics with `payload`; returns the panic that leaves `run`.
fn session_that_panics(runner: Runner, payload: &'static str) -> &'static str {
    let run = || runner.run_with(metadata(), |_, _| panic_any(payload));
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("the panic goes on");
    *panic.downcast().expect("the payload is intact")
}

/// Asks for the shutdown while this thread is in `wait`; returns how long that outlasted it.
fn outlasts_shutdown(handle: ShutdownHandle, wait: impl FnOnce()) -> Duration {
    let asking = thread::spawn(move || {
        thread::sleep(TO_GET_THERE);
        let asked = Instant::now();
        handle.shutdown();
        asked
    });
    wait();
    let woke = Instant::now();
    woke.saturating_duration_since(asking.join().unwrap())
}

/// Asks `runner` to shut down once `reached` returns, before there is a session; returns how long
/// `run` outlasted that.
fn outlasts_shutdown_without_a_session(runner: Runner, reached: impl FnOnce() + Send) -> Duration {
    let handle = runner.shutdown_handle();
    thread::scope(|scope| {
        let asking = scope.spawn(move || {
            reached();
            let asked = Instant::now();
            handle.shutdown();
            asked
        });
        let result = runner.run_with(metadata(), |_, _| unreachable!("the body must not run"));
        let returned = Instant::now();
        result.unwrap();
        returned.saturating_duration_since(asking.join().unwrap())
    })
}

#[test]
fn a_shutdown_before_the_session_opens_nothing() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let asked = runner(&agent);
        asked.shutdown_handle().shutdown();
        asked.run_with(metadata(), |_, _| unreachable!("the body must not run")).unwrap();
        // Connections are accepted in order: had there been one before, it would be known now.
        runner(&agent).run_with(metadata(), |_, _| Ok(())).unwrap();
        assert_eq!(agent.sessions().len(), 1);
    });
}

#[test]
fn a_shutdown_while_the_agent_does_not_answer_ends_the_handshake() {
    watched(|| {
        let agent = TestAgent::with(Script::new().never_answer()).unwrap();
        let runner = runner(&agent).handshake_timeout(LIMIT);
        let said_hello = || {
            assert!(agent.wait_until(LIMIT, |all| all.iter().any(|s| s.hello.is_some())));
        };
        let outlasted = outlasts_shutdown_without_a_session(runner, said_hello);
        assert!(outlasted < AT_ONCE, "{outlasted:?}");
    });
}

// Elsewhere a full backlog refuses connections at once.
#[cfg(target_os = "linux")]
#[test]
fn a_shutdown_while_the_backlog_is_full_ends_the_connecting() {
    use nix::errno::Errno;
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, UnixAddr, connect, listen, socket,
    };
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixListener;

    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("busy.sock");
        let busy = UnixListener::bind(&path).unwrap();
        listen(&busy, Backlog::new(1).unwrap()).unwrap();
        let address = UnixAddr::new(&path).unwrap();
        let mut crowd = Vec::new();
        loop {
            let flags = SockFlag::SOCK_NONBLOCK;
            let one = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            match connect(one.as_raw_fd(), &address) {
                Ok(()) => crowd.push(one),
                Err(full) => break assert_eq!(full, Errno::EAGAIN),
            }
        }
        let runner =
            Runner::new().pipe_path(&path).install_signal_handler(false).connect_timeout(LIMIT);
        let outlasted = outlasts_shutdown_without_a_session(runner, || thread::sleep(TO_GET_THERE));
        assert!(outlasted < AT_ONCE, "{outlasted:?}");
    });
}

#[test]
fn any_number_of_threads_may_ask_at_once_and_again_afterwards() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent);
        let handle = runner.shutdown_handle();
        let (result, report) = session(runner, |_, ctx| {
            assert!(!handle.is_shutting_down() && !ctx.is_shutting_down());
            thread::scope(|scope| {
                for handle in [handle.clone(), handle.clone(), ctx.shutdown_handle()] {
                    scope.spawn(move || (handle.shutdown(), handle.shutdown()));
                }
                ctx.wait_for_shutdown();
            });
            assert!(handle.is_shutting_down() && ctx.is_shutting_down());
            Ok(())
        });
        result.unwrap();
        assert_eq!(report.cause, CloseCause::ShutdownRequested);
        handle.shutdown();
        assert!(handle.is_shutting_down());
        let end = agent.ended_session(LIMIT).unwrap().end;
        assert_eq!(end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn a_drop_may_ask_also_while_its_thread_unwinds() {
    struct StopsOnDrop(ShutdownHandle);
    impl Drop for StopsOnDrop {
        fn drop(&mut self) {
            self.0.shutdown();
        }
    }
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, report) = session(runner(&agent), |_, ctx| {
            let guard = StopsOnDrop(ctx.shutdown_handle());
            let worker = thread::spawn(move || {
                let _guard = guard;
                panic!("a worker that the plugin cannot do without");
            });
            ctx.wait_for_shutdown();
            assert!(worker.join().is_err());
            Ok(())
        });
        result.unwrap();
        assert_eq!(report.cause, CloseCause::ShutdownRequested);
    });
}

#[test]
fn a_parked_body_wakes_at_once() {
    let waits: [fn(&SessionContext); 3] = [
        SessionContext::wait_for_shutdown,
        |ctx| ctx.sleep(Duration::MAX),
        |ctx| ctx.sleep(Duration::from_secs(3600)),
    ];
    watched(move || {
        let agent = TestAgent::start().unwrap();
        for wait in waits {
            let (result, _) = session(runner(&agent), |_, ctx| {
                let outlasted = outlasts_shutdown(ctx.shutdown_handle(), || {
                    wait(ctx);
                    assert!(ctx.is_shutting_down(), "it woke of itself");
                });
                assert!(outlasted < AT_ONCE, "{outlasted:?}");
                Ok(())
            });
            result.unwrap();
        }
    });
}

#[test]
fn a_sleep_ends_by_itself() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, _) = session(runner(&agent), |_, ctx| {
            let start = Instant::now();
            ctx.sleep(TO_GET_THERE);
            assert!(start.elapsed() >= TO_GET_THERE);
            assert!(!ctx.is_shutting_down());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn emits_that_wait_for_room_are_released_at_once() {
    watched(|| {
        let agent = stalled_agent();
        let runner = runner(&agent).channel_capacity(1).drain_timeout(LIMIT);
        let (result, report) = session(runner, |sink, ctx| {
            fill(sink);
            let blocked = || {
                let refused = (0..).find_map(|n| sink.emit("test.blocked", json!(n)).err());
                assert!(matches!(refused, Some(Error::Shutdown)), "{refused:?}");
            };
            let outlasted = outlasts_shutdown(ctx.shutdown_handle(), || {
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(blocked);
                    }
                });
            });
            assert!(outlasted < AT_ONCE, "{outlasted:?}");
            // Not before: the end of the drain would release them too.
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert_eq!(report.cause, CloseCause::ShutdownRequested);
    });
}

#[test]
fn a_session_that_ends_does_not_stop_another() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let fickle = TestAgent::with(Script::new().close_after(0)).unwrap();
        let (result, report) = session(runner(&agent), |sink, ctx| {
            let returns = session(runner(&agent), |_, _| Ok(()));
            let is_asked_to = session(runner(&agent), |_, ctx| {
                ctx.shutdown_handle().shutdown();
                Ok(())
            });
            let loses_its_agent = session(runner(&fickle), |_, ctx| {
                ctx.wait_for_shutdown();
                Ok(())
            });
            session_that_panics(runner(&agent), "another's");
            let causes = [returns, is_asked_to, loses_its_agent].map(|(_, report)| report.cause);
            assert_eq!(
                causes,
                [CloseCause::BodyReturned, CloseCause::ShutdownRequested, CloseCause::PipeLost]
            );
            assert!(!ctx.is_shutting_down());
            sink.emit("test.alive", json!({}))?;
            sink.flush(LIMIT)
        });
        result.unwrap();
        assert_eq!(report.cause, CloseCause::BodyReturned);
        assert_eq!(agent.ended_session(LIMIT).unwrap().events().count(), 1);
    });
}

#[test]
fn sessions_follow_one_another() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        for n in 0..3 {
            let (result, report) = session(runner(&agent), |sink, ctx| {
                assert!(!ctx.is_shutting_down());
                sink.emit("test.round", json!(n))
            });
            result.unwrap();
            assert_eq!(report.stats.sent, 1);
        }
        let all_ended = |all: &[RecordedSession]| all.iter().all(|session| session.end.is_some());
        assert!(agent.wait_until(LIMIT, all_ended));
        assert_eq!(agent.sessions().len(), 3);
        for (n, session) in agent.sessions().iter().enumerate() {
            let events: Vec<_> = session.events().map(|e| (e.seq, &e.payload)).collect();
            assert_eq!(events, [(0, &json!(n))]);
            assert_eq!(session.end, Some(SessionEnd::Goodbye));
        }
    });
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
