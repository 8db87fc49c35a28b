//! An agent that misbehaves after the handshake. Whatever it does, every accepted event is sent or counted as
//! undelivered.

mod common;
mod raw;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::time::Moment;
use common::{
    LIMIT, NOTICED, SLACK, assert_counters, assert_lost, is_flushed, runner, session, watched,
};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Result, SessionContext, SessionReport};

/// A heartbeat interval that is shorter than that of the peer checks, so that a test can wait for several
/// checks.
const BEAT: Duration = Duration::from_millis(200);

/// An event of about 300 bytes: some thousands fill all buffers of queue and pipe.
fn emit(sink: &EventSink, n: u64) -> Result<()> {
    sink.emit("test.numbered", json!({ "n": n, "pad": "x".repeat(200) }))
}

/// Fills the queue until no more events are sent. Returns how many events the queue accepted.
fn emit_until_stalled(sink: &EventSink) -> u64 {
    let payload = |n: u64| json!({ "n": n, "pad": "x".repeat(200) });
    let mut n = 0;
    loop {
        match sink.event("test.numbered").try_emit(&payload(n)) {
            Ok(()) => n += 1,
            Err(Error::QueueFull) if is_flushed(sink) => {}
            Err(Error::QueueFull) => return n,
            Err(other) => panic!("{other:?}"),
        }
    }
}

fn assert_all_arrived(session: &RecordedSession, count: u64) {
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    assert_eq!(session.missing_seqs(), 0);
    let got = session.events().map(|event| event.payload["n"].as_u64());
    assert!(got.eq((0..count).map(Some)), "not all, or not in order");
    let seqs = session.events().map(|event| event.seq);
    assert!(seqs.eq(0..count), "not numbered one after another");
}

#[test]
fn agent_that_resumes_reading_gets_all_events() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(100)).unwrap();
        let runner = runner(&agent).channel_capacity(256).heartbeat(None);
        let mut count = 0;
        let (result, report) = session(runner, |sink, _| {
            let stalled = emit_until_stalled(sink);
            assert!(agent.sessions()[0].events().count() < stalled as usize);
            count = stalled + 5000;
            thread::scope(|scope| {
                let emitting = scope.spawn(|| (stalled..count).try_for_each(|n| emit(sink, n)));
                agent.resume();
                emitting.join().unwrap()
            })
        });
        result.unwrap();
        assert_eq!(report.stats.sent, count);
        assert_all_arrived(&agent.ended_session(LIMIT).unwrap(), count);
    });
}

#[test]
fn agent_that_reads_slowly_slows_emission() {
    watched(|| {
        let agent = TestAgent::with(Script::new().read_slowly(2 << 20)).unwrap();
        let runner = runner(&agent).channel_capacity(64).heartbeat(None);
        let (result, report) = session(runner, |sink, _| (0..8000).try_for_each(|n| emit(sink, n)));
        result.unwrap();
        assert!(report.stats.waits > 0, "{report:?}");
        assert_all_arrived(&agent.ended_session(LIMIT).unwrap(), 8000);
    });
}

/// Emits from several threads to an agent that closes after so many events. Returns how many events were
/// accepted, the report, and what the agent received.
fn session_cut_off(close_after: usize, producers: u64) -> (u64, SessionReport, RecordedSession) {
    let agent = TestAgent::with(Script::new().close_after(close_after)).unwrap();
    let mut accepted = 0;
    let (result, report) = session(runner(&agent).channel_capacity(64), |sink, ctx| {
        let until_lost = || {
            for n in 0.. {
                if let Err(error) = emit(sink, n) {
                    assert!(error.is_disconnected(), "{error:?}");
                    return n;
                }
            }
            unreachable!("the agent closes")
        };
        thread::scope(|scope| {
            let running: Vec<_> = (0..producers).map(|_| scope.spawn(until_lost)).collect();
            accepted = running.into_iter().map(|producer| producer.join().unwrap()).sum();
        });
        assert!(ctx.is_shutting_down());
        // `run` reports the loss, whatever the body returns.
        Ok(())
    });
    assert_lost(&result, &report);
    (accepted, report, agent.ended_session(LIMIT).unwrap())
}

#[test]
fn counts_are_exact_after_the_agent_closes() {
    watched(|| {
        for close_after in [0, 1, 1000] {
            for producers in [1, 4] {
                let (accepted, report, session) = session_cut_off(close_after, producers);
                let stats = report.stats;
                assert_counters(&stats, accepted, producers);
                assert_eq!(stats.refused, 0, "{stats:?}");
                assert_eq!(session.end, Some(SessionEnd::ByAgent));
                assert_eq!(session.events().count(), close_after);
                assert!(stats.sent >= close_after as u64, "{stats:?}");
            }
        }
    });
}

#[test]
fn nothing_is_queued_when_the_session_is_over() {
    for _ in 0..300 {
        let (_, report, _) = watched(|| session_cut_off(1, 8));
        assert_eq!(report.stats.queued, 0, "{:?}", report.stats);
    }
}

#[test]
fn death_of_a_stalled_agent_releases_blocked_producers() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        let mut accepted = 0;
        let runner = runner(&agent).channel_capacity(16).heartbeat(None);
        let (result, report) = session(runner, |sink, _| {
            let stalled = emit_until_stalled(sink);
            thread::scope(|scope| {
                let (waiting, wait_until_waiting) = mpsc::channel();
                let emitting = scope.spawn(move || {
                    waiting.send(()).unwrap();
                    let emitted = (0..u64::MAX).take_while(|n| emit(sink, *n).is_ok()).count();
                    assert!(emit(sink, 0).unwrap_err().is_disconnected());
                    emitted as u64
                });
                wait_until_waiting.recv().unwrap();
                agent.disconnect();
                accepted = stalled + emitting.join().unwrap();
            });
            Err(Error::Shutdown)
        });
        assert_lost(&result, &report);
        let stats = report.stats;
        assert_counters(&stats, accepted, 1);
        assert!(stats.undelivered >= 16, "{stats:?}");
    });
}

#[test]
fn agent_that_sends_before_it_reads_gets_all_events() {
    watched(|| {
        let script = Script::new().send_after_ack(vec![0xa5; 1 << 20]);
        let agent = TestAgent::with(script).unwrap();
        let (result, report) = session(runner(&agent).channel_capacity(64), |sink, _| {
            (0..5000).try_for_each(|n| emit(sink, n))
        });
        result.unwrap();
        assert!(report.confirmed, "{report:?}");
        assert_all_arrived(&agent.ended_session(LIMIT).unwrap(), 5000);
    });
}

#[test]
fn loss_of_an_idle_agent_is_detected() {
    watched(|| {
        for drop_it in [false, true] {
            let mut agent = Some(TestAgent::start().unwrap());
            let runner = runner(agent.as_ref().unwrap()).heartbeat(None);
            let (result, report) = session(runner, |sink, ctx| {
                emit(sink, 0)?;
                assert!(agent.as_ref().unwrap().wait_for_events(1, LIMIT));
                let start = Moment::now();
                if drop_it {
                    agent = None;
                } else {
                    agent.as_ref().unwrap().disconnect();
                }
                ctx.wait_for_shutdown();
                start.elapsed_within(NOTICED + SLACK);
                assert!(emit(sink, 1).unwrap_err().is_disconnected());
                assert!(sink.flush(LIMIT).unwrap_err().is_disconnected());
                Ok(())
            });
            assert_lost(&result, &report);
            assert_eq!((report.stats.sent, report.stats.undelivered), (1, 0));
        }
    });
}

/// Misbehaviour that only an agent on the level of bytes can show.
mod bytes {
    use super::raw::{ACK, RawAgent, RawPipe, frame, message};
    use super::*;
    #[cfg(unix)]
    use std::net::Shutdown;

    /// Runs a session with an agent that calls `misbehave` after it has acknowledged hello. The body starts
    /// when `misbehave` says so, or has returned.
    fn session_with<T: Send>(
        misbehave: impl FnOnce(&mut RawPipe, mpsc::Sender<()>) -> T + Send,
        heartbeat: Option<Duration>,
        body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>,
    ) -> (Result<()>, SessionReport, T) {
        let agent = RawAgent::start();
        thread::scope(|scope| {
            let (ready, wait_until_ready) = mpsc::channel();
            let listening = &agent;
            let agents = scope.spawn(move || {
                let mut pipe = listening.accept();
                pipe.shake_hands();
                misbehave(&mut pipe, ready)
            });
            let (result, report) = session(agent.runner().heartbeat(heartbeat), |sink, ctx| {
                // An error means that `misbehave` has returned.
                let _ = wait_until_ready.recv();
                body(sink, ctx)
            });
            (result, report, agents.join().unwrap())
        })
    }

    /// Waits for so many heartbeats that several peer checks happen between them.
    fn wait_for_several_peer_checks(pipe: &mut RawPipe, mut after_each: impl FnMut(&mut RawPipe)) {
        for _ in 0..7 {
            let beat = message(&pipe.next_frame().expect("the session continues"));
            assert_eq!(beat["type"], "heartbeat");
            after_each(pipe);
        }
    }

    fn count_events(frames: &[Vec<u8>]) -> usize {
        frames.iter().filter(|frame| message(frame)["type"] == "event").count()
    }

    fn ends_with_goodbye(frames: &[Vec<u8>]) -> bool {
        frames.last().is_some_and(|frame| message(frame)["type"] == "goodbye")
    }

    // Under Wine 8 each byte needs a call to its server, and 900 000 calls take longer than the drain.
    #[cfg(unix)]
    #[test]
    fn agent_that_reads_byte_by_byte_gets_all_events() {
        watched(|| {
            // More than fits into the socket.
            let count = 3000;
            let (all_read, wait_until_all_read) = mpsc::channel();
            let read = move |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                pipe.read_at_a_time(1);
                drop(ready);
                let events: Vec<_> = (0..count).map(|_| pipe.next_frame().unwrap()).collect();
                all_read.send(()).unwrap();
                (events, pipe.rest_of_session())
            };
            let (result, report, (events, rest)) = session_with(read, None, |sink, _| {
                (0..count).try_for_each(|n| emit(sink, n))?;
                // The agent may need more time for the bytes in the pipe than it has to confirm.
                wait_until_all_read.recv().unwrap();
                Ok(())
            });
            result.unwrap();
            assert_eq!((report.stats.sent, report.confirmed), (count, true), "{report:?}");
            assert!(rest.len() == 1 && ends_with_goodbye(&rest));
            let events = events.iter().map(|frame| message(frame));
            let events: Vec<_> =
                events.map(|e| [e["seq"].as_u64(), e["payload"]["n"].as_u64()]).collect();
            assert!(events.into_iter().eq((0..count).map(|n| [Some(n), Some(n)])));
        });
    }

    #[test]
    fn bytes_after_the_ack_are_discarded_all_the_time() {
        let chatter = [
            frame(r#"{"type":"reject","reason":"revoked"}"#),
            frame(r#"{"type":"goodbye"}"#),
            frame(ACK),
            vec![0xff; 5000],
            vec![0; 4],
        ];
        watched(move || {
            let talk = |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                pipe.send(&vec![0xa5; 50_000]).unwrap();
                wait_for_several_peer_checks(pipe, |pipe| pipe.send(&chatter.concat()).unwrap());
                drop(ready);
                pipe.rest_of_session()
            };
            let (result, report, frames) = session_with(talk, Some(BEAT), |sink, ctx| {
                assert!(!ctx.is_shutting_down());
                emit(sink, 0)
            });
            result.unwrap();
            assert!(report.confirmed, "{report:?}");
            assert!(count_events(&frames) == 1 && ends_with_goodbye(&frames));
        });
    }

    #[test]
    fn death_of_a_sending_agent_is_detected() {
        watched(|| {
            let talk = |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                // More than one peer check reads and discards.
                pipe.send(&vec![0xa5; 100_000]).unwrap();
                ready.send(()).unwrap();
            };
            let (result, report, ()) = session_with(talk, None, |_, ctx| {
                let start = Moment::now();
                ctx.wait_for_shutdown();
                start.elapsed_within(NOTICED + SLACK);
                Ok(())
            });
            assert_lost(&result, &report);
        });
    }

    #[cfg(unix)]
    #[test]
    fn agent_that_shuts_its_sending_side_still_reads() {
        watched(|| {
            let fall_silent = |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                pipe.shut_down(Shutdown::Write);
                wait_for_several_peer_checks(pipe, |_| ());
                drop(ready);
                pipe.rest_of_session()
            };
            let (result, report, frames) = session_with(fall_silent, Some(BEAT), |sink, ctx| {
                assert!(!ctx.is_shutting_down());
                emit(sink, 0)
            });
            result.unwrap();
            assert!(report.confirmed, "{report:?}");
            assert!(count_events(&frames) == 1 && ends_with_goodbye(&frames));
        });
    }

    #[cfg(unix)]
    #[test]
    fn agent_that_shuts_its_sending_side_has_not_confirmed() {
        watched(|| {
            let stay = |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                pipe.shut_down(Shutdown::Write);
                drop(ready);
                let frames = pipe.rest_of_session();
                // The connection stays until the plugin closes it.
                assert_eq!(pipe.rest(), b"");
                frames
            };
            let (result, report, frames) = session_with(stay, None, |sink, _| emit(sink, 0));
            result.unwrap();
            assert!(!report.confirmed, "{report:?}");
            assert!(count_events(&frames) == 1 && ends_with_goodbye(&frames));
        });
    }

    #[cfg(unix)]
    #[test]
    fn agent_that_stops_reading_for_good_is_lost_at_the_next_write() {
        watched(|| {
            for (heartbeat, events) in [(None, 1), (Some(BEAT), 0)] {
                let (over, wait_until_over) = mpsc::channel::<()>();
                let go_deaf = move |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                    pipe.shut_down(Shutdown::Read);
                    ready.send(()).unwrap();
                    // The connection stays until the session is over.
                    let _ = wait_until_over.recv();
                };
                let (result, report, ()) = session_with(go_deaf, heartbeat, |sink, ctx| {
                    let _over = over;
                    for n in 0..events {
                        emit(sink, n)?;
                    }
                    ctx.wait_for_shutdown();
                    Ok(())
                });
                assert_lost(&result, &report);
                assert_eq!((report.stats.sent, report.stats.undelivered), (0, events));
            }
        });
    }

    #[cfg(unix)]
    #[test]
    fn agent_that_shuts_both_directions_is_lost() {
        watched(|| {
            let (over, wait_until_over) = mpsc::channel::<()>();
            let shut = move |pipe: &mut RawPipe, ready: mpsc::Sender<()>| {
                pipe.shut_down(Shutdown::Both);
                ready.send(()).unwrap();
                let _ = wait_until_over.recv();
            };
            let (result, report, ()) = session_with(shut, None, |_, ctx| {
                let _over = over;
                let start = Moment::now();
                ctx.wait_for_shutdown();
                start.elapsed_within(NOTICED + SLACK);
                Ok(())
            });
            assert_lost(&result, &report);
        });
    }
}
