//! Heartbeats: when they are sent, and when not. They are timed where they are sent, not where they
//! arrive: behind whatever is in the pipe.

mod common;

use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, metadata, runner, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{EventSink, SessionContext};

const INTERVAL: Duration = Duration::from_secs(1);
/// By how much a heartbeat may be late: a fifth of the interval.
const TOLERANCE: Duration = Duration::from_millis(200);

/// When the writer had sent each of the heartbeats from `first` on, `count` of them. Does
/// `meanwhile` every millisecond.
fn beats(
    first: u64,
    count: u64,
    (sink, ctx): (&EventSink, &SessionContext),
    mut meanwhile: impl FnMut(),
) -> Vec<Instant> {
    let mut beats = Vec::new();
    while (beats.len() as u64) < count {
        ctx.sleep(Duration::from_millis(1));
        assert!(!ctx.is_shutting_down(), "{:?}", sink.stats());
        meanwhile();
        for _ in first + beats.len() as u64..sink.stats().heartbeats {
            beats.push(Instant::now());
        }
    }
    beats
}

/// Checks that of `beats` the first was due within `due`, and each other an interval after the one
/// before. None is early: an interval counts from when the one before was sent.
fn assert_on_time(beats: &[Instant], due: RangeInclusive<Instant>) {
    let since_due: Vec<_> = beats.iter().map(|at| at.duration_since(*due.start())).collect();
    for (n, beat) in (0..).zip(beats) {
        // Each may be as late again after the one before.
        let late = (n + 1) * TOLERANCE;
        let on_time = *due.start() + n * INTERVAL..=*due.end() + n * INTERVAL + late;
        assert!(on_time.contains(beat), "early, or later than a fifth: {since_due:?}");
    }
}

/// When the first heartbeat is due in a session that began between `before` and now.
fn first_due(before: Instant) -> RangeInclusive<Instant> {
    before + INTERVAL..=Instant::now() + INTERVAL
}

#[test]
fn they_come_on_time_in_a_flood() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let before = Instant::now();
        runner(&agent)
            .heartbeat(INTERVAL)
            .run_with(metadata(), |sink, ctx| {
                let due = first_due(before);
                let beats = thread::scope(|scope| {
                    for _ in 0..8 {
                        scope.spawn(|| while sink.emit("test.flood", json!({})).is_ok() {});
                    }
                    let beats = beats(0, 4, (sink, ctx), || ());
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
fn they_come_on_time_when_nothing_else_does() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let before = Instant::now();
        runner(&agent)
            .heartbeat(INTERVAL)
            .run_with(metadata(), |sink, ctx| {
                let due = first_due(before);
                assert_on_time(&beats(0, 3, (sink, ctx), || ()), due);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn they_come_on_time_however_long_the_linger() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let before = Instant::now();
        runner(&agent)
            .heartbeat(INTERVAL)
            .linger(LIMIT)
            .run_with(metadata(), |sink, ctx| {
                let due = first_due(before);
                // After each of them the writer lingers again.
                let trickle = || sink.emit("test.trickle", json!({})).unwrap();
                assert_on_time(&beats(0, 3, (sink, ctx), trickle), due);
                // It did linger: else every event were a write.
                let stats = sink.stats();
                assert!(stats.writes < 20, "{stats:?}");
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn after_a_stall_they_come_on_time_and_not_in_a_burst() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        runner(&agent)
            .heartbeat(INTERVAL)
            .channel_capacity(64)
            .run_with(metadata(), |sink, ctx| {
                // The pipe is full, and the writer held up for several intervals.
                let filler = json!("x".repeat(1000));
                while sink.event("test").emit_timeout(&filler, 3 * INTERVAL).is_ok() {}
                let first = sink.stats().heartbeats;
                let resumed = Instant::now();
                agent.resume();
                // One is due at once, for all that were missed.
                assert_on_time(&beats(first, 3, (sink, ctx), || ()), resumed..=resumed);
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn none_are_sent_if_so_configured() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        runner(&agent)
            .heartbeat(None)
            .run_with(metadata(), |_, ctx| {
                // Longer than what the agent suggests: there is nothing else to wait for.
                ctx.sleep(INTERVAL + 2 * TOLERANCE);
                Ok(())
            })
            .unwrap();
        assert_eq!(agent.ended_session(LIMIT).unwrap().heartbeats().count(), 0);
    });
}

#[test]
fn they_come_as_often_as_the_agent_suggests() {
    watched(|| {
        let agent = TestAgent::with(Script::new().heartbeat_sec(1)).unwrap();
        let before = Instant::now();
        runner(&agent)
            .run_with(metadata(), |sink, ctx| {
                let due = first_due(before);
                assert_on_time(&beats(0, 2, (sink, ctx), || ()), due);
                Ok(())
            })
            .unwrap();
        assert_eq!(agent.ended_session(LIMIT).unwrap().heartbeats().count(), 2);
    });
}
