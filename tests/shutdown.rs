//! A session ends in order and in bounded time, from wherever and whenever it is asked to.

mod common;
mod raw;

use std::panic::{AssertUnwindSafe, catch_unwind, panic_any};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    AT_ONCE, LIMIT, TO_GET_THERE, fill, metadata, runner, session, stalled_agent, watched,
};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{CloseCause, Error, Runner, SessionContext, ShutdownHandle};

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
