//! If `emit` returned `Ok`, the event is sent, also if the shutdown begins at that moment.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use common::{LIMIT, metadata, runner, watched};
use serde::Serialize;
use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, SessionReport};

#[derive(Serialize)]
struct Numbered {
    producer: usize,
    n: u64,
}

/// Emits until the session is closed. Returns how many events the session accepted.
fn emit_all(sink: &EventSink, producer: usize, emitted: &AtomicU64) -> u64 {
    for n in 0.. {
        match sink.event("test.numbered").emit(&Numbered { producer, n }) {
            Ok(()) => emitted.fetch_add(1, Ordering::Relaxed),
            Err(Error::Shutdown) => return n,
            Err(other) => panic!("{other}"),
        };
    }
    unreachable!("the counter does not end")
}

/// Runs one session that is shut down while `producers` threads emit. Returns how many events the session
/// accepted from each, what the agent received, and the report.
fn session(capacity: usize, producers: usize) -> (Vec<u64>, RecordedSession, SessionReport) {
    let agent = TestAgent::start().unwrap();
    let emitted = AtomicU64::new(0);
    let (send_report, report) = std::sync::mpsc::channel();
    let mut accepted = Vec::new();
    thread::scope(|scope| {
        let emitted = &emitted;
        let mut running = Vec::new();
        runner(&agent)
            .channel_capacity(capacity)
            .on_close(move |report| send_report.send(report.clone()).unwrap())
            .run_with(metadata(), |sink, _| {
                for producer in 0..producers {
                    let sink = sink.clone();
                    running.push(scope.spawn(move || emit_all(&sink, producer, emitted)));
                }
                // The queue has been full at least once by then.
                while emitted.load(Ordering::Relaxed) <= capacity as u64 {
                    thread::yield_now();
                }
                Ok(())
            })
            .unwrap();
        accepted.extend(running.into_iter().map(|producer| producer.join().unwrap()));
    });
    (accepted, agent.ended_session(LIMIT).unwrap(), report.recv().unwrap())
}

/// How many events the agent received from each producer. Their numbers must count from 0 without a gap.
fn delivered(session: &RecordedSession, producers: usize) -> Vec<u64> {
    let mut next = vec![0; producers];
    for event in session.events() {
        let producer = event.payload["producer"].as_u64().unwrap() as usize;
        assert_eq!(event.payload["n"], next[producer], "out of order, or lost on the way");
        next[producer] += 1;
    }
    next
}

#[test]
fn accepted_events_are_sent_when_sessions_end_in_mid_emit() {
    let (mut sessions, mut total) = (0_u64, 0_u64);
    for round in 0..12 {
        for capacity in [1, 2, 7, 64, 1024, 8192] {
            for producers in [1, 2, 8, 64] {
                total += watched(move || {
                    let (accepted, seen, report) = session(capacity, producers);
                    let what = format!("round {round}, {capacity} slots, {producers} producers");
                    let delivered = delivered(&seen, producers);
                    for (accepted, delivered) in accepted.iter().zip(&delivered) {
                        // The agent may have received one more event, whose `emit` returned an error.
                        assert!(
                            (*accepted..=accepted + 1).contains(delivered),
                            "{what}: accepted {accepted}, delivered {delivered}"
                        );
                    }
                    assert_eq!(seen.end, Some(SessionEnd::Goodbye), "{what}");
                    assert_eq!(seen.missing_seqs(), 0, "{what}");
                    assert_eq!(report.stats.undelivered, 0, "{what}");
                    assert_eq!(report.stats.sent, delivered.iter().sum::<u64>(), "{what}");
                    assert!(report.confirmed, "{what}");
                    accepted.iter().sum::<u64>()
                });
                sessions += 1;
            }
        }
    }
    println!("{sessions} sessions, {total} events");
}
