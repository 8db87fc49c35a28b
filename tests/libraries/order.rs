//! The order of events whose calls of `emit` do not overlap, from threads, and from tasks that move between
//! threads.

#[path = "../common/mod.rs"]
mod common;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{LIMIT, metadata, runner, watched};
use wedr_plugin_sdk::testing::{RecordedSession, TestAgent};
use wedr_plugin_sdk::{EventSink, Result};

const CAPACITIES: [usize; 3] = [64, 8192, 65_536];
const TOKENS: u64 = 4000;
const TASKS: u64 = 4;
const FLOODS: u64 = 3;
/// The most events of each flood, because the test agent keeps all of them.
const MOST_OF_A_FLOOD: u64 = 10_000;

/// Emits the event with this number: short or long, with or without its own timestamp.
fn emit_numbered(sink: &EventSink, who: &str, n: u64) -> Result<()> {
    let mut event = sink.event(who);
    if fastrand::bool() {
        event = event.ts_unix_ns(fastrand::u64(..));
    }
    let length = if fastrand::u8(..4) == 0 { fastrand::usize(300..3000) } else { 20 };
    event.emit(&(n, "x".repeat(length)))
}

/// Asserts that the events of this kind arrived in order, and returns how many there are.
fn assert_in_order(session: &RecordedSession, kind: &str) -> u64 {
    let numbers = session.events().filter(|event| event.kind == kind);
    let mut next = 0;
    for event in numbers {
        assert_eq!(event.payload[0], next, "{kind}");
        next += 1;
    }
    next
}

fn flood_kind(flood: u64) -> String {
    format!("test.flood{flood}")
}

/// Runs a session with this body, with or without other threads that flood. Returns what the agent recorded.
fn session_with_floods(
    capacity: usize,
    floods: u64,
    body: impl FnOnce(&EventSink) -> Result<()>,
) -> RecordedSession {
    let agent = TestAgent::start().unwrap();
    let runner = runner(&agent).channel_capacity(capacity);
    runner
        .run_with(metadata(), |sink, _| {
            let is_over = &AtomicBool::new(false);
            thread::scope(|scope| {
                for flood in 0..floods {
                    scope.spawn(move || {
                        let kind = flood_kind(flood);
                        for n in 0..MOST_OF_A_FLOOD {
                            if is_over.load(Ordering::Relaxed) {
                                break;
                            }
                            emit_numbered(sink, &kind, n).unwrap();
                        }
                    });
                }
                let result = body(sink);
                is_over.store(true, Ordering::Relaxed);
                result
            })
        })
        .unwrap();
    let session = agent.ended_session(LIMIT).expect("the session ends");
    assert_eq!(session.missing_seqs(), 0);
    for flood in 0..floods {
        assert_in_order(&session, &flood_kind(flood));
    }
    session
}

#[test]
fn token_passed_between_threads_keeps_its_order() {
    watched(|| {
        for capacity in CAPACITIES {
            for floods in [0, FLOODS] {
                let session = session_with_floods(capacity, floods, |sink| {
                    let token = &Mutex::new(0);
                    thread::scope(|scope| {
                        for _ in 0..4 {
                            scope.spawn(move || {
                                loop {
                                    let mut token = token.lock().unwrap();
                                    if *token == TOKENS {
                                        return;
                                    }
                                    emit_numbered(sink, "test.token", *token).unwrap();
                                    *token += 1;
                                    drop(token);
                                    if fastrand::bool() {
                                        thread::yield_now();
                                    }
                                }
                            });
                        }
                    });
                    Ok(())
                });
                assert_eq!(assert_in_order(&session, "test.token"), TOKENS);
            }
        }
    });
}

#[test]
fn task_that_moves_between_threads_keeps_its_order() {
    watched(|| {
        let moves = &*Box::leak(Box::new(AtomicUsize::new(0)));
        for capacity in CAPACITIES {
            for floods in [0, FLOODS] {
                let session = session_with_floods(capacity, floods, |sink| {
                    let mut runtime = tokio::runtime::Builder::new_multi_thread();
                    let runtime = runtime.worker_threads(4).build().unwrap();
                    runtime.block_on(async {
                        let task = |task| {
                            let (sink, kind) = (sink.clone(), format!("test.task{task}"));
                            runtime.spawn(async move {
                                let mut last = thread::current().id();
                                for n in 0..TOKENS {
                                    emit_numbered(&sink, &kind, n).unwrap();
                                    tokio::task::yield_now().await;
                                    let now = thread::current().id();
                                    moves.fetch_add(usize::from(now != last), Ordering::Relaxed);
                                    last = now;
                                }
                            })
                        };
                        let tasks: Vec<_> = (0..TASKS).map(task).collect();
                        for task in tasks {
                            task.await.unwrap();
                        }
                    });
                    Ok(())
                });
                for task in 0..TASKS {
                    assert_eq!(assert_in_order(&session, &format!("test.task{task}")), TOKENS);
                }
            }
        }
        // Without any move this would test the order of one thread. Under Wine tasks move least often.
        assert!(moves.load(Ordering::Relaxed) > 10, "{moves:?} moves");
    });
}
