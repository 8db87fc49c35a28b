//! `flush`: what it waits for, and the errors if that does not happen.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{LIMIT, metadata, runner, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Overflow};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn flush_ends_a_long_linger() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .linger(10 * LIMIT)
            .run_with(metadata(), |sink, _| {
                sink.flush(LIMIT)?;
                for n in 1..=100 {
                    sink.emit("test.n", json!({ "n": n }))?;
                    sink.flush(LIMIT)?;
                    let stats = sink.stats();
                    assert_eq!((stats.sent, stats.queued), (n, 0));
                }
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn flush_from_eight_threads_covers_their_own_events() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .channel_capacity(64)
            .run_with(metadata(), |sink, _| {
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            for n in 1..=200 {
                                sink.emit("test.n", json!({ "n": n })).unwrap();
                                if n % 20 == 0 {
                                    sink.flush(LIMIT).unwrap();
                                    assert!(sink.stats().sent >= n);
                                }
                            }
                        });
                    }
                });
                sink.flush(LIMIT)?;
                assert_eq!(sink.stats().sent, 1600);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn flush_returns_in_an_endless_flood() {
    watched(|| {
        // The agent is slower than the producers: the pipe is full, the queue is never empty, and the queue
        // has more events than the writer takes in one pass.
        let script = Script::new().stop_reading_after(0).read_slowly(1 << 20);
        let agent = TestAgent::with(script).unwrap();
        let runner = runner(&agent).channel_capacity(2048);
        let accepted = AtomicU64::new(0);
        let enough = AtomicBool::new(false);
        let emit = |sink: &EventSink| {
            while !enough.load(Ordering::Relaxed) {
                sink.emit("test.flood", json!({})).unwrap();
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        };
        runner
            .run_with(metadata(), |sink, _| {
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| emit(sink));
                    }
                    while sink.flush(SHORT).is_ok() {}
                    agent.resume();
                    let wrong = (0..5).find_map(|_| {
                        let before = accepted.load(Ordering::Relaxed);
                        let flushed = sink.flush(LIMIT / 2);
                        let sent = sink.stats().sent;
                        (flushed.is_err() || sent < before).then_some((flushed, sent, before))
                    });
                    enough.store(true, Ordering::Relaxed);
                    assert!(wrong.is_none(), "{wrong:?}");
                });
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn flush_times_out_and_the_events_still_arrive() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
        let mut accepted = 0;
        runner(&agent)
            .overflow(Overflow::Refuse)
            .run_with(metadata(), |sink, _| {
                while sink.event("test.n").try_emit(&json!("x".repeat(200))).is_ok() {
                    accepted += 1;
                }
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            let flushed = sink.flush(SHORT);
                            let timed_out = matches!(flushed, Err(Error::FlushTimeout(SHORT)));
                            assert!(timed_out, "{flushed:?}");
                        });
                    }
                });
                agent.resume();
                sink.flush(LIMIT)
            })
            .unwrap();
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.events().count(), accepted);
        assert_eq!(session.missing_seqs(), 0);
    });
}

#[test]
fn flush_after_the_loss_of_the_pipe_is_an_error() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let result = runner(&agent).run_with(metadata(), |sink, ctx| {
            agent.disconnect();
            ctx.wait_for_shutdown();
            assert!(sink.flush(LIMIT).unwrap_err().is_disconnected());
            Ok(())
        });
        assert!(result.unwrap_err().is_disconnected());
    });
}

#[test]
fn flush_after_the_shutdown_waits_for_the_drain() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .run_with(metadata(), |sink, ctx| {
                for _ in 0..1000 {
                    sink.emit("test.n", json!({}))?;
                }
                ctx.shutdown_handle().shutdown();
                sink.flush(LIMIT)?;
                assert_eq!(sink.stats().sent, 1000);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn flush_after_an_expired_drain_counts_the_lost_events() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
        let result = runner(&agent).drain_timeout(SHORT).overflow(Overflow::Refuse).run_with(
            metadata(),
            |sink, ctx| {
                while sink.event("test.n").try_emit(&json!("x".repeat(200))).is_ok() {}
                ctx.shutdown_handle().shutdown();
                let flushed = sink.flush(LIMIT);
                let lost = sink.stats().undelivered;
                assert!(matches!(flushed, Err(Error::Undelivered { count }) if count == lost));
                Ok(())
            },
        );
        assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
    });
}
