//! A full queue: who waits, who is refused, and how the agent learns of it.

mod common;
mod raw;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{LIMIT, fill, metadata, reporting, runner, stalled_agent, watched};
use raw::RawAgent;
use serde_json::json;
use wedr_plugin_sdk::testing::{PluginMessage, RecordedSession, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, Overflow, Runner};

const CAPACITY: usize = 16;

fn small_queue(agent: &TestAgent, overflow: Overflow) -> Runner {
    runner(agent).channel_capacity(CAPACITY).overflow(overflow).drain_timeout(LIMIT)
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
        let (runner, report) = reporting(small_queue(&agent, Overflow::Refuse));
        let mut accepted = 0;
        runner
            .run_with(metadata(), |sink, _| {
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
            })
            .unwrap();
        let session = ended(&agent);
        assert_eq!(session.events().count() as u64, accepted);
        assert_eq!(session.missing_seqs(), 5);
        assert_eq!(session.events().last().unwrap().seq, accepted - 1 + 5);
        let stats = report.recv().unwrap().stats;
        assert_eq!((stats.sent, stats.refused, stats.undelivered), (accepted, 5, 0));
    });
}

#[test]
fn a_gap_at_the_very_end_is_shown_by_a_heartbeat() {
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
        // The refusals came before the last events were taken, or after: the number tells.
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
fn an_emit_that_may_try_again_is_no_refusal() {
    watched(|| {
        let agent = stalled_agent();
        let (runner, report) = reporting(small_queue(&agent, Overflow::Refuse));
        runner
            .run_with(metadata(), |sink, _| {
                fill(sink);
                let tried = sink.event("test.try").try_emit(&json!({}));
                assert!(matches!(tried, Err(Error::QueueFull)), "{tried:?}");
                let short = Duration::from_millis(1);
                let waited = sink.event("test.try").emit_timeout(&json!({}), short);
                assert!(matches!(waited, Err(Error::QueueFull)), "{waited:?}");
                agent.resume();
                Ok(())
            })
            .unwrap();
        assert_eq!(ended(&agent).missing_seqs(), 0);
        assert_eq!(report.recv().unwrap().stats.refused, 0);
    });
}

#[test]
fn a_blocked_emit_loses_nothing_and_goes_on_when_the_agent_does() {
    watched(|| {
        let agent = stalled_agent();
        let (runner, report) = reporting(small_queue(&agent, Overflow::Block));
        runner
            .run_with(metadata(), |sink, _| {
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
            })
            .unwrap();
        assert_eq!(ended(&agent).missing_seqs(), 0);
        assert!(report.recv().unwrap().stats.waits >= 1);
    });
}

#[test]
fn nobody_waits_beside_free_slots_while_the_agent_stalls_again() {
    // More than are woken at a time.
    const WAITERS: usize = 12;
    watched(|| {
        let agent = RawAgent::start();
        let runner = agent.runner().channel_capacity(CAPACITY).drain_timeout(LIMIT);
        let (go_on, told) = mpsc::channel();
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
                // More than any pipe holds: the writer waits with it in hand.
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
                    // It takes all that is queued, and waits with that.
                    go_on.send(()).unwrap();
                    waiting.into_iter().try_for_each(|emit| emit.join().unwrap())
                })?;
                go_on.send(()).unwrap();
                Ok(())
            })
            .unwrap();
        assert_eq!(serving.join().unwrap(), CAPACITY + WAITERS + 1);
    });
}

#[test]
fn the_queue_holds_what_it_says_and_the_high_water_mark_shows_it() {
    watched(|| {
        let agent = stalled_agent();
        let (runner, report) = reporting(small_queue(&agent, Overflow::Refuse));
        runner
            .run_with(metadata(), |sink, _| {
                fill(sink);
                assert!(sink.stats().queued >= CAPACITY);
                agent.resume();
                Ok(())
            })
            .unwrap();
        let stats = report.recv().unwrap().stats;
        assert_eq!((stats.queue_high_water, stats.queued), (CAPACITY, 0));
    });
}

#[test]
fn events_larger_than_the_byte_budget_pass_one_by_one() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        // More producers than slots: those further back in line must not keep the first from one.
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
