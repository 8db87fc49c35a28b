//! A full queue: which calls block, which events are refused, and how the agent sees that.

mod common;
mod raw;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{LIMIT, TAKEN_BY_THE_WRITER, fill, metadata, runner, session, stalled_agent, watched};
use raw::RawAgent;
use serde_json::json;
use wedr_plugin_sdk::testing::{PluginMessage, RecordedSession, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, Overflow, Runner};

const CAPACITY: usize = 16;

fn small_queue(agent: &TestAgent, overflow: Overflow) -> Runner {
    runner(agent).channel_capacity(CAPACITY).overflow(overflow)
}

fn ended(agent: &TestAgent) -> RecordedSession {
    let session = agent.ended_session(LIMIT).expect("the session ends");
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    session
}

#[test]
fn refusals_are_counted_and_show_as_a_gap() {
    watched(|| {
        let agent = stalled_agent();
        let mut accepted = 0;
        let (result, report) = session(small_queue(&agent, Overflow::Refuse), |sink, _| {
            accepted = fill(sink);
            for _ in 0..5 {
                let refused = sink.emit("test.refused", json!({}));
                assert!(matches!(refused, Err(Error::QueueFull)), "{refused:?}");
            }
            assert_eq!(sink.stats().refused, 5);
            agent.resume();
            sink.flush(LIMIT)?;
            sink.emit("test.after", json!({}))?;
            accepted += 1;
            Ok(())
        });
        result.unwrap();
        let session = ended(&agent);
        assert_eq!(session.events().count() as u64, accepted);
        assert_eq!(session.missing_seqs(), 5);
        assert_eq!(session.events().last().unwrap().seq, accepted - 1 + 5);
        let stats = report.stats;
        assert_eq!((stats.sent, stats.refused, stats.undelivered), (accepted, 5, 0));
    });
}

#[test]
fn gap_at_the_very_end_is_shown_by_a_heartbeat() {
    watched(|| {
        let agent = stalled_agent();
        let mut accepted = 0;
        small_queue(&agent, Overflow::Refuse)
            .heartbeat(None)
            .run_with(metadata(), |sink, _| {
                accepted = fill(sink);
                for _ in 0..3 {
                    sink.emit("test.refused", json!({})).unwrap_err();
                }
                agent.resume();
                Ok(())
            })
            .unwrap();
        let session = ended(&agent);
        assert_eq!(session.missing_seqs(), 3);
        // The events were refused before the last events were taken, or after: the number shows which.
        let numbered = session.received.iter().rev().find_map(|r| match &r.message {
            PluginMessage::Event(event) => Some(event.seq),
            PluginMessage::Heartbeat { seq } => Some(*seq),
            _ => None,
        });
        let heartbeats = session.heartbeats().count() as u64;
        assert_eq!(numbered, Some(accepted + 3 + heartbeats - 1));
    });
}

#[test]
fn emit_that_may_try_again_is_no_refusal() {
    watched(|| {
        let agent = stalled_agent();
        let (result, report) = session(small_queue(&agent, Overflow::Refuse), |sink, _| {
            fill(sink);
            let tried = sink.event("test.try").try_emit(&json!({}));
            assert!(matches!(tried, Err(Error::QueueFull)), "{tried:?}");
            let short = Duration::from_millis(1);
            let waited = sink.event("test.try").emit_timeout(&json!({}), short);
            assert!(matches!(waited, Err(Error::QueueFull)), "{waited:?}");
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended(&agent).missing_seqs(), 0);
        assert_eq!(report.stats.refused, 0);
    });
}

#[test]
fn blocked_emit_continues_with_the_agent() {
    watched(|| {
        let agent = stalled_agent();
        let (result, report) = session(small_queue(&agent, Overflow::Block), |sink, _| {
            let before = fill(sink);
            let waits = sink.stats().waits;
            thread::scope(|scope| {
                let blocked = scope.spawn(|| sink.emit("test.blocked", json!({})));
                while sink.stats().waits == waits {
                    thread::yield_now();
                }
                assert!(!blocked.is_finished());
                agent.resume();
                blocked.join().unwrap()
            })?;
            assert!(agent.wait_for_events(before as usize + 1, LIMIT));
            Ok(())
        });
        result.unwrap();
        assert_eq!(ended(&agent).missing_seqs(), 0);
        assert!(report.stats.waits >= 1);
    });
}

#[test]
fn no_producer_blocks_on_free_slots_after_a_second_stall() {
    // More than the writer wakes at a time.
    const WAITERS: usize = 12;
    watched(|| {
        let agent = RawAgent::start();
        let runner = agent.runner().channel_capacity(CAPACITY);
        let (proceed, told) = mpsc::channel();
        let serving = thread::spawn(move || {
            let mut pipe = agent.accept();
            pipe.shake_hands();
            told.recv().unwrap();
            pipe.next_frame();
            told.recv().unwrap();
            pipe.rest_of_session().len()
        });
        runner
            .run_with(metadata(), |sink, _| {
                // More than fits into any pipe: the writer is blocked while it writes this event.
                let long = json!("x".repeat(900 << 10));
                sink.emit("test.long", long.clone())?;
                while sink.stats().writes == 0 {
                    thread::yield_now();
                }
                for _ in 1..CAPACITY {
                    sink.event("test.short").try_emit(&())?;
                }
                sink.event("test.long").try_emit(&long)?;
                thread::scope(|scope| {
                    let emit = || sink.emit("test.short", json!({}));
                    let waiting: Vec<_> = (0..WAITERS).map(|_| scope.spawn(emit)).collect();
                    while sink.stats().waits < WAITERS as u64 {
                        thread::yield_now();
                    }
                    // The writer takes all queued events, and is blocked while it writes them.
                    proceed.send(()).unwrap();
                    waiting.into_iter().try_for_each(|emit| emit.join().unwrap())
                })?;
                proceed.send(()).unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(serving.join().unwrap(), CAPACITY + WAITERS + 1);
    });
}

#[test]
fn high_water_mark_reaches_the_capacity() {
    watched(|| {
        let agent = stalled_agent();
        let mut queued = 0;
        let (result, report) = session(small_queue(&agent, Overflow::Refuse), |sink, _| {
            fill(sink);
            queued = sink.stats().queued;
            agent.resume();
            Ok(())
        });
        result.unwrap();
        assert!(queued >= CAPACITY, "{queued} queued");
        let stats = report.stats;
        assert_eq!(stats.queued, 0);
        let most = CAPACITY + TAKEN_BY_THE_WRITER;
        assert!((queued..=most).contains(&stats.queue_high_water), "{queued}, {most}: {stats:?}");
    });
}

#[test]
fn events_larger_than_the_byte_budget_pass_one_by_one() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        // More producers than slots: those that came later must not take the slot of the first.
        runner(&agent)
            .max_queued_bytes(1)
            .channel_capacity(2)
            .run_with(metadata(), |sink, _| {
                thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| {
                            for _ in 0..25 {
                                sink.emit("test.long", json!("x".repeat(5000))).unwrap();
                            }
                        });
                    }
                });
                Ok(())
            })
            .unwrap();
        assert_eq!(ended(&agent).events().count(), 200);
    });
}
