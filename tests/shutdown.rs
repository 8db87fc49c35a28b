//! A session ends in order and in bounded time, from whatever thread and at whatever moment the shutdown is
//! requested.

mod common;
mod raw;

use std::thread;
use std::time::Duration;

use common::time::{Moment, assert_in_time};
use common::{
    AT_ONCE, LIMIT, TIME_TO_BLOCK, fill, metadata, runner, session, session_that_panics,
    stalled_agent, watched,
};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{CloseCause, Error, Runner, SessionContext, ShutdownHandle};

/// Requests the shutdown while this thread is in `wait`. Asserts that `wait` returns at once.
fn assert_shutdown_ends(handle: ShutdownHandle, wait: impl FnOnce()) {
    let asking = thread::spawn(move || {
        thread::sleep(TIME_TO_BLOCK);
        let asked = Moment::now();
        handle.shutdown();
        asked
    });
    wait();
    let woke = Moment::now();
    let asked = asking.join().unwrap();
    assert_in_time("the wait", asked.at + AT_ONCE, asked, woke);
}

/// Requests the shutdown when `reached` returns, before the session begins. Asserts that `run` returns at
/// once, without a session.
fn assert_shutdown_prevents_a_session(runner: Runner, reached: impl FnOnce() + Send) {
    let handle = runner.shutdown_handle();
    thread::scope(|scope| {
        let asking = scope.spawn(move || {
            reached();
            let asked = Moment::now();
            handle.shutdown();
            asked
        });
        let result = runner.run_with(metadata(), |_, _| unreachable!("the body must not run"));
        let returned = Moment::now();
        result.unwrap();
        let asked = asking.join().unwrap();
        assert_in_time("run", asked.at + AT_ONCE, asked, returned);
    });
}

#[test]
fn shutdown_before_the_session_opens_nothing() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let asked = runner(&agent);
        asked.shutdown_handle().shutdown();
        asked.run_with(metadata(), |_, _| unreachable!("the body must not run")).unwrap();
        // Connections are accepted in order, so an earlier connection would be known now.
        runner(&agent).run_with(metadata(), |_, _| Ok(())).unwrap();
        assert_eq!(agent.sessions().len(), 1);
    });
}

#[test]
fn shutdown_ends_the_handshake() {
    watched(|| {
        let agent = TestAgent::with(Script::new().never_answer()).unwrap();
        let runner = runner(&agent).handshake_timeout(LIMIT);
        let said_hello = || {
            assert!(agent.wait_until(LIMIT, |all| all.iter().any(|s| s.hello.is_some())));
        };
        assert_shutdown_prevents_a_session(runner, said_hello);
    });
}

// On other systems a full backlog refuses connections at once.
#[cfg(target_os = "linux")]
#[test]
fn shutdown_ends_the_wait_for_a_full_backlog() {
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
        assert_shutdown_prevents_a_session(runner, || thread::sleep(TIME_TO_BLOCK));
    });
}

#[test]
fn shutdown_may_be_requested_by_many_threads_and_again() {
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
fn context_works_in_drop_while_unwinding() {
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
                panic!("a worker that the plugin needs");
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
fn parked_body_wakes_at_once() {
    let waits: [fn(&SessionContext); 3] = [
        SessionContext::wait_for_shutdown,
        |ctx| ctx.sleep(Duration::MAX),
        |ctx| ctx.sleep(Duration::from_secs(3600)),
    ];
    watched(move || {
        let agent = TestAgent::start().unwrap();
        for wait in waits {
            let (result, _) = session(runner(&agent), |_, ctx| {
                assert_shutdown_ends(ctx.shutdown_handle(), || {
                    wait(ctx);
                    assert!(ctx.is_shutting_down(), "the wait ended without a shutdown");
                });
                Ok(())
            });
            result.unwrap();
        }
    });
}

#[test]
fn sleep_ends_by_itself() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (result, _) = session(runner(&agent), |_, ctx| {
            let start = std::time::Instant::now();
            ctx.sleep(TIME_TO_BLOCK);
            assert!(start.elapsed() >= TIME_TO_BLOCK);
            assert!(!ctx.is_shutting_down());
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn shutdown_releases_blocked_emits_at_once() {
    watched(|| {
        let agent = stalled_agent();
        let runner = runner(&agent).channel_capacity(1);
        let (result, report) = session(runner, |sink, ctx| {
            fill(sink);
            let blocked = || {
                let refused = (0..).find_map(|n| sink.emit("test.blocked", json!(n)).err());
                assert!(matches!(refused, Some(Error::Shutdown)), "{refused:?}");
            };
            assert_shutdown_ends(ctx.shutdown_handle(), || {
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(blocked);
                    }
                });
            });
            // Not earlier, because the end of the drain would also release them.
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert_eq!(report.cause, CloseCause::ShutdownRequested);
    });
}

#[test]
fn session_that_ends_does_not_stop_another() {
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
