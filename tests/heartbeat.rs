//! Heartbeats: when the writer sends them, and when not. The tests measure the time of sending. The time of
//! arrival depends on what is in the pipe.

mod common;

use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use common::time::{Moment, assert_in_time};
use common::{LIMIT, is_accepted, metadata, runner, session, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{EventSink, Runner, SessionContext, Stats};

const INTERVAL: Duration = Duration::from_secs(1);
/// How late a heartbeat may be: a fifth of the interval.
const TOLERANCE: Duration = Duration::from_millis(200);

/// The times when the writer sent `count` heartbeats, beginning with the heartbeat `first`. Calls `meanwhile`
/// every millisecond.
fn beats(
    first: u64,
    count: u64,
    (sink, ctx): (&EventSink, &SessionContext),
    mut meanwhile: impl FnMut(&EventSink),
) -> Vec<Moment> {
    let mut beats = Vec::new();
    while (beats.len() as u64) < count {
        ctx.sleep(Duration::from_millis(1));
        assert!(!ctx.is_shutting_down(), "{:?}", sink.stats());
        meanwhile(sink);
        for _ in first + beats.len() as u64..sink.stats().heartbeats {
            beats.push(Moment::now());
        }
    }
    beats
}

/// When the first heartbeat is due. `since` is a moment before that.
struct Due {
    since: Moment,
    first: RangeInclusive<Instant>,
}

impl Due {
    /// The session began between `before` and now.
    fn in_session_since(before: Moment) -> Self {
        Self { since: before, first: before.at + INTERVAL..=Instant::now() + INTERVAL }
    }
}

/// Checks that the first of `beats` was sent when it was due, and each further one an interval after the one
/// before. None may be early: an interval begins when the heartbeat before was sent.
fn assert_on_time(beats: &[Moment], due: Due) {
    for (n, beat) in (0..).zip(beats) {
        let early = (*due.first.start() + n * INTERVAL).saturating_duration_since(beat.at);
        assert_eq!(early, Duration::ZERO, "heartbeat {n} was early");
        // The delays of several heartbeats add up.
        let last = *due.first.end() + n * INTERVAL + (n + 1) * TOLERANCE;
        assert_in_time(&format!("heartbeat {n}"), last, due.since, *beat);
    }
}

/// Runs a session, and checks that its first `count` heartbeats are on time. Calls `meanwhile` every
/// millisecond. Returns the counters of the session.
fn assert_session_on_time(runner: Runner, count: u64, meanwhile: impl FnMut(&EventSink)) -> Stats {
    let before = Moment::now();
    let (result, report) = session(runner, |sink, ctx| {
        let due = Due::in_session_since(before);
        assert_on_time(&beats(0, count, (sink, ctx), meanwhile), due);
        Ok(())
    });
    result.unwrap();
    report.stats
}

#[test]
fn heartbeats_are_on_time_in_a_flood() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let before = Moment::now();
        runner(&agent)
            .heartbeat(INTERVAL)
            .run_with(metadata(), |sink, ctx| {
                let due = Due::in_session_since(before);
                let beats = thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| while sink.emit("test.flood", json!({})).is_ok() {});
                    }
                    let beats = beats(0, 4, (sink, ctx), |_| ());
                    ctx.shutdown_handle().shutdown();
                    beats
                });
                assert_on_time(&beats, due);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn heartbeats_are_on_time_in_an_idle_session() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        assert_session_on_time(runner(&agent).heartbeat(INTERVAL), 3, |_| ());
    });
}

#[test]
fn heartbeats_are_on_time_with_a_long_linger() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent).heartbeat(INTERVAL).linger(LIMIT);
        // The writer lingers again after each event.
        let trickle = |sink: &EventSink| sink.emit("test.trickle", json!({})).unwrap();
        let start = Instant::now();
        let stats = assert_session_on_time(runner, 3, trickle);
        // The writer has lingered: otherwise each event would have been a write. Heartbeats end a linger, and
        // so do peer checks, twice a second. After a large write the writer does not linger.
        let checks = start.elapsed().as_millis() as u64 / 500 + 1;
        let most = 2 * stats.heartbeats + checks + stats.bytes_sent / (16 << 10) + 3;
        assert!(stats.writes <= most, "at most {most} writes: {stats:?}");
    });
}

#[test]
fn heartbeats_after_a_stall_are_on_time() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        runner(&agent)
            .heartbeat(INTERVAL)
            .channel_capacity(64)
            .run_with(metadata(), |sink, ctx| {
                // The pipe is full, and the writer is blocked for several intervals.
                let filler = "x".repeat(1000);
                while is_accepted(sink, &filler, 3 * INTERVAL) {}
                let first = sink.stats().heartbeats;
                let resumed = Moment::now();
                agent.resume();
                // One heartbeat is due at once, instead of all that were missed.
                let due = Due { since: resumed, first: resumed.at..=resumed.at };
                assert_on_time(&beats(first, 3, (sink, ctx), |_| ()), due);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn no_heartbeats_are_sent_if_so_configured() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        runner(&agent)
            .heartbeat(None)
            .run_with(metadata(), |_, ctx| {
                // Longer than the interval that the agent suggests. No event of the test ends this wait.
                ctx.sleep(INTERVAL + 2 * TOLERANCE);
                Ok(())
            })
            .unwrap();
        assert_eq!(agent.ended_session(LIMIT).unwrap().heartbeats().count(), 0);
    });
}

#[test]
fn heartbeats_follow_the_agents_suggestion() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        let stats = assert_session_on_time(runner(&agent), 2, |_| ());
        // On a loaded machine there may be more than two, because the session ends later.
        let arrived = agent.ended_session(LIMIT).unwrap().heartbeats().count();
        assert_eq!(arrived as u64, stats.heartbeats);
    });
}
