//! Many sessions and many sinks at the same time. `tests/leaks.rs` has sessions one after another.

mod common;

use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Barrier;
use std::thread;

use common::{LIMIT, assert_counters, assert_delivered, runner, session, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, TestAgent};
use wedr_plugin_sdk::{Error, EventBuilder, EventSink, SessionContext, ShutdownHandle};

#[test]
fn public_types_are_send_and_sync() {
    fn is_shared<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    is_shared::<EventSink>();
    is_shared::<EventBuilder<'_>>();
    is_shared::<SessionContext>();
    is_shared::<ShutdownHandle>();
}

fn ended_sessions(agent: &TestAgent) -> Vec<RecordedSession> {
    let all_ended = |all: &[RecordedSession]| all.iter().all(|session| session.end.is_some());
    assert!(agent.wait_until(LIMIT, all_ended));
    agent.sessions()
}

#[test]
fn events_of_64_sessions_at_once_are_not_mixed() {
    const SESSIONS: usize = 64;
    const EVENTS: usize = 100;
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let all_connected = Barrier::new(SESSIONS);
        thread::scope(|scope| {
            for own in 0..SESSIONS {
                let (agent, all_connected) = (&agent, &all_connected);
                scope.spawn(move || {
                    let runner = runner(agent).connect_timeout(LIMIT);
                    let (result, report) = session(runner, |sink, _| {
                        all_connected.wait();
                        (0..EVENTS).try_for_each(|n| sink.emit("test.n", json!([own, n])))
                    });
                    result.unwrap();
                    assert_counters(&report.stats, EVENTS as u64, 0);
                });
            }
        });
        let mut owners = Vec::new();
        for seen in ended_sessions(&agent) {
            let owner = seen.events().next().unwrap().payload[0].clone();
            let events = seen.events().map(|event| event.payload.clone());
            assert!(events.eq((0..EVENTS).map(|n| json!([owner, n]))));
            assert_eq!(seen.missing_seqs(), 0);
            owners.push(owner.as_u64().unwrap());
        }
        owners.sort_unstable();
        assert!(owners.into_iter().eq(0..SESSIONS as u64));
    });
}

#[test]
fn sinks_are_cloned_and_dropped_in_thousands() {
    const THREADS: u64 = 8;
    const EACH: u64 = 10_000;
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut kept = Vec::new();
        let (result, report) = session(runner(&agent), |sink, _| {
            thread::scope(|scope| {
                for _ in 0..THREADS {
                    // Cloned on this thread, used and dropped on others.
                    let clones = vec![sink.clone(); EACH as usize];
                    scope.spawn(move || {
                        for sink in clones {
                            sink.clone().event("test.clone").emit(&1).unwrap();
                        }
                    });
                }
            });
            kept = vec![sink.clone(); EACH as usize];
            sink.event("test.original").emit(&2)
        });
        result.unwrap();
        assert_counters(&report.stats, THREADS * EACH + 1, 0);
        assert_delivered(&agent.ended_session(LIMIT).unwrap(), &report.stats);
        for sink in kept {
            assert_eq!(sink.stats(), report.stats);
            assert!(matches!(sink.event("test.late").emit(&3), Err(Error::Shutdown)));
        }
    });
}
