//! Lost events are visible: in the counters, as gaps in `seq`, and in events that report them.

mod common;
mod raw;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::time::Moment;
use common::{AT_ONCE, LIMIT, fill, metadata, reporting, runner, session, stalled_agent, watched};
use raw::{RawAgent, message};
use serde_json::{Value, json};
use wedr_plugin_sdk::testing::{
    Event, PluginMessage, Received, RecordedSession, Script, TestAgent,
};
use wedr_plugin_sdk::{Error, EventSink, Overflow, Result, Runner, SessionContext, SessionReport};

const KIND: &str = "acme_lost";
const INTERVAL: Duration = Duration::from_secs(1);

fn reports(session: &RecordedSession) -> impl Iterator<Item = &Event> {
    session.events().filter(|event| event.kind == KIND)
}

fn payload(refused: u64, lost: u64, refused_total: u64, lost_total: u64) -> Value {
    json!({
        "refused": refused,
        "lost": lost,
        "refused_total": refused_total,
        "lost_total": lost_total,
    })
}

/// How many numbers the session skipped. A heartbeat has the number of the next event, and does not use it.
fn skipped(seen: &RecordedSession) -> u64 {
    let (mut next, mut skipped) = (0, 0);
    for received in &seen.received {
        let (number, used_up) = match &received.message {
            PluginMessage::Event(event) => (event.seq, 1),
            PluginMessage::Heartbeat { seq } => (*seq, 0),
            _ => continue,
        };
        skipped += number - next;
        next = number + used_up;
    }
    skipped
}

/// Asserts that the gaps in `seq`, and the reports if there are any, show the counted losses, and that the
/// agent received only the events that were sent.
fn assert_losses_shown(seen: &RecordedSession, report: &SessionReport, reports_on: bool) {
    let stats = &report.stats;
    assert_eq!(skipped(seen), stats.refused + stats.lost, "{stats:?}");
    assert_eq!((seen.events().count() - reports(seen).count()) as u64, stats.sent, "{stats:?}");
    let (mut refused, mut lost) = (0, 0);
    for report in reports(seen) {
        let field = |name: &str| report.payload[name].as_u64().unwrap();
        assert!(field("refused") + field("lost") > 0, "a report of nothing: {report:?}");
        refused += field("refused");
        lost += field("lost");
        let exactly = payload(field("refused"), field("lost"), refused, lost);
        assert_eq!(report.payload, exactly);
    }
    if reports_on {
        assert_eq!((refused, lost), (stats.refused, stats.lost), "{stats:?}");
    } else {
        assert_eq!(reports(seen).count(), 0);
    }
    // At most one report per second, except the last one before goodbye.
    let times: Vec<_> = reports(seen).map(|report| report.ts_unix_ns).collect();
    let intervals = times.windows(2).map(|pair| Duration::from_nanos(pair[1] - pair[0]));
    let before_the_last = times.len().saturating_sub(2);
    for interval in intervals.take(before_the_last) {
        // The system may adjust the wall clock meanwhile.
        assert!(interval >= INTERVAL.mul_f64(0.9), "{interval:?} between two reports");
    }
}

fn run(
    agent: &TestAgent,
    runner: Runner,
    body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>,
) -> (RecordedSession, SessionReport) {
    let (result, report) = session(runner, body);
    result.unwrap();
    (agent.ended_session(LIMIT).expect("the session ends"), report)
}

#[test]
fn heartbeat_has_the_next_events_number_and_uses_none() {
    watched(|| {
        let agent = RawAgent::start();
        let runner = agent.runner().heartbeat(Duration::from_millis(10)).linger(Duration::ZERO);
        let serving = thread::spawn(move || agent.accept().serve());
        let heartbeats = |sink: &EventSink, more: u64| {
            let wanted = sink.stats().heartbeats + more;
            while sink.stats().heartbeats < wanted {
                thread::yield_now();
            }
        };
        runner
            .run_with(metadata(), |sink, _| {
                heartbeats(sink, 2);
                for n in 0..5 {
                    sink.emit("test.n", json!(n))?;
                    heartbeats(sink, n % 3);
                }
                sink.report_lost(3);
                heartbeats(sink, 2);
                sink.emit("test.n", json!(8))?;
                heartbeats(sink, 1);
                Ok(())
            })
            .unwrap();
        let frames = serving.join().unwrap();
        let (mut next, mut beats) = (0, 0);
        for frame in &frames {
            let message = message(frame);
            match message["type"].as_str().unwrap() {
                "event" => {
                    assert_eq!(message["seq"], message["payload"]);
                    next = message["seq"].as_u64().unwrap() + 1;
                }
                "heartbeat" => {
                    let seq = message["seq"].as_u64().unwrap();
                    // This heartbeat may be the frame that shows the loss.
                    assert!(seq == next || (next == 5 && seq == 8), "{seq}, and {next} is due");
                    beats += 1;
                }
                _ => {}
            }
        }
        assert!(next == 9 && beats >= 8, "{next}, {beats} heartbeats");
    });
}

#[test]
fn reported_losses_are_counted_and_skip_numbers() {
    watched(|| {
        for heartbeat in [None, Some(Duration::from_millis(5))] {
            let agent = TestAgent::start().unwrap();
            let (seen, report) = run(&agent, runner(&agent).heartbeat(heartbeat), |sink, _| {
                sink.report_lost(2);
                sink.emit("test.a", json!({}))?;
                sink.report_lost(0);
                sink.flush(LIMIT)?;
                sink.report_lost(3);
                assert_eq!(sink.stats().lost, 5);
                sink.emit("test.b", json!({}))?;
                sink.flush(LIMIT)?;
                // The heartbeat before goodbye shows this loss.
                sink.report_lost(4);
                Ok(())
            });
            let numbers: Vec<_> = seen.events().map(|event| event.seq).collect();
            // The writer may see the second loss before its pass with the first event ends.
            assert_eq!((numbers[0], numbers[1]), (2, 6));
            assert_eq!((report.stats.lost, report.stats.refused), (9, 0));
            assert_losses_shown(&seen, &report, false);
        }
    });
}

#[test]
fn idle_session_reports_a_loss_at_once() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent).loss_reports(KIND).heartbeat(None);
        let (seen, report) = run(&agent, runner, |sink, _| {
            // The writer is idle.
            thread::sleep(common::TIME_TO_BLOCK);
            let start = Moment::now();
            sink.report_lost(7);
            assert!(agent.wait_for_events(1, LIMIT));
            // The report waits neither for a heartbeat nor for a peer check.
            start.elapsed_within(AT_ONCE);
            // The next report comes a second later.
            sink.report_lost(1);
            sink.report_lost(1);
            assert!(agent.wait_for_events(2, LIMIT));
            assert!(start.at.elapsed() >= INTERVAL, "{:?}", start.at.elapsed());
            sink.report_lost(1);
            Ok(())
        });
        let payloads: Vec<_> = reports(&seen).map(|event| event.payload.clone()).collect();
        assert_eq!(payloads, [payload(0, 7, 0, 7), payload(0, 2, 0, 9), payload(0, 1, 0, 10)]);
        assert_eq!(report.stats.sent, 0, "a report is no event of the plugin");
        assert_losses_shown(&seen, &report, true);
    });
}

#[test]
fn nothing_is_reported_if_nothing_was_lost() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (seen, report) = run(&agent, runner(&agent).loss_reports(KIND), |sink, _| {
            sink.report_lost(0);
            (0..100).try_for_each(|n| sink.emit("test.n", json!(n)))
        });
        assert_eq!((reports(&seen).count(), skipped(&seen)), (0, 0));
        assert_losses_shown(&seen, &report, true);
    });
}

fn is_report(received: &Received) -> bool {
    matches!(&received.message, PluginMessage::Event(event) if event.kind == KIND)
}

#[test]
fn full_queue_does_not_stop_a_report() {
    watched(|| {
        for policy in [Overflow::Block, Overflow::Refuse] {
            let agent = TestAgent::with(Script::new().read_slowly(2 << 20)).unwrap();
            let runner = runner(&agent)
                .loss_reports(KIND)
                .overflow(policy)
                .channel_capacity(256)
                .heartbeat(None);
            let (seen, report) = run(&agent, runner, |sink, _| {
                let is_over = &AtomicBool::new(false);
                thread::scope(|scope| {
                    for _ in 0..4 {
                        scope.spawn(move || {
                            let text = "x".repeat(500);
                            while !is_over.load(Ordering::Relaxed) {
                                match sink.event("test.flood").emit(&text) {
                                    Err(Error::QueueFull) => thread::sleep(INTERVAL / 1000),
                                    told => told.unwrap(),
                                }
                            }
                        });
                    }
                    let start = Moment::now();
                    let (mut read, mut count) = (0, 0);
                    let mut has_three_reports = |all: &[RecordedSession]| {
                        let received = &all[0].received;
                        count += received[read..].iter().filter(|r| is_report(r)).count();
                        read = received.len();
                        count >= 3
                    };
                    while !agent.wait_until(INTERVAL / 100, &mut has_three_reports) {
                        sink.report_lost(1);
                    }
                    is_over.store(true, Ordering::Relaxed);
                    start.elapsed_within(3 * INTERVAL + AT_ONCE);
                });
                Ok(())
            });
            // There are not too many reports.
            assert_losses_shown(&seen, &report, true);
            assert_eq!(report.stats.refused > 0, policy == Overflow::Refuse);
        }
    });
}

#[test]
fn last_report_comes_before_goodbye() {
    watched(|| {
        for policy in [Overflow::Block, Overflow::Refuse] {
            let agent = stalled_agent();
            let runner = runner(&agent)
                .loss_reports(KIND)
                .overflow(policy)
                .channel_capacity(16)
                .heartbeat(None);
            let (seen, report) = run(&agent, runner, |sink, _| {
                fill(sink);
                sink.report_lost(5);
                if policy == Overflow::Refuse {
                    for _ in 0..3 {
                        sink.emit("test.refused", json!({})).unwrap_err();
                    }
                }
                agent.resume();
                Ok(())
            });
            assert_eq!(report.stats.lost, 5);
            assert_eq!(report.stats.refused, if policy == Overflow::Refuse { 3 } else { 0 });
            assert!(reports(&seen).count() >= 1);
            assert_losses_shown(&seen, &report, true);
        }
    });
}

#[test]
fn refusals_for_bytes_are_losses_too() {
    watched(|| {
        for reports_on in [false, true] {
            let agent = stalled_agent();
            let runner = runner(&agent).overflow(Overflow::Refuse).max_queued_bytes(1 << 20);
            let runner = if reports_on { runner.loss_reports(KIND) } else { runner };
            let mut refused = 0;
            let (seen, report) = run(&agent, runner, |sink, _| {
                let text = "x".repeat(100_000);
                for _ in 0..100 {
                    refused += u64::from(sink.event("test.long").emit(&text).is_err());
                }
                // Slots are free.
                sink.event("test.short").emit(&1)?;
                agent.resume();
                Ok(())
            });
            assert!(refused > 50, "{refused} refused");
            assert_eq!(report.stats.refused, refused);
            assert_losses_shown(&seen, &report, reports_on);
        }
    });
}

#[test]
fn losses_of_many_threads_are_shown_exactly() {
    watched(|| {
        for reports_on in [false, true] {
            let agent = TestAgent::with(Script::new().read_slowly(4 << 20)).unwrap();
            let runner = runner(&agent)
                .overflow(Overflow::Refuse)
                .channel_capacity(64)
                .heartbeat(Duration::from_millis(20));
            let runner = if reports_on { runner.loss_reports(KIND) } else { runner };
            let (accepted, refused, lost) = Default::default();
            let (accepted, refused, lost): (&AtomicU64, &AtomicU64, &AtomicU64) =
                (&accepted, &refused, &lost);
            let add = |count: &AtomicU64, n| count.fetch_add(n, Ordering::Relaxed);
            let (seen, report) = run(&agent, runner, |sink, _| {
                thread::scope(|scope| {
                    for thread in 0..8 {
                        scope.spawn(move || {
                            let text = "x".repeat(if thread % 2 == 0 { 50 } else { 600 });
                            for n in 0..3000_u64 {
                                match sink.event("test.flood").emit(&text) {
                                    Ok(()) => add(accepted, 1),
                                    Err(Error::QueueFull) => add(refused, 1),
                                    Err(other) => panic!("{other}"),
                                };
                                if n.is_multiple_of(100) {
                                    sink.report_lost(n % 7);
                                    add(lost, n % 7);
                                    thread::sleep(Duration::from_millis(5));
                                }
                            }
                        });
                    }
                });
                Ok(())
            });
            let stats = &report.stats;
            let counted = [accepted, refused, lost].map(|count| count.load(Ordering::Relaxed));
            assert_eq!([stats.sent, stats.refused, stats.lost], counted);
            assert!(counted.iter().all(|count| *count > 0), "{counted:?}");
            assert_losses_shown(&seen, &report, reports_on);
        }
    });
}

#[test]
fn losses_after_the_session_are_not_counted() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (runner, report) = reporting(runner(&agent).loss_reports(KIND));
        let mut kept = None;
        runner
            .run_with(metadata(), |sink, _| {
                sink.report_lost(1);
                kept = Some(sink.clone());
                Ok(())
            })
            .unwrap();
        let sink = kept.unwrap();
        sink.report_lost(10);
        assert_eq!((sink.stats().lost, report.recv().unwrap().stats.lost), (1, 1));
        assert!(matches!(sink.event("test.late").emit(&1), Err(Error::Shutdown)));
    });
}
