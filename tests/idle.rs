//! The writer of a session that has nothing to send sleeps, and wakes only for heartbeats and peer checks.
//! One test at a time, since the tests find the writer's thread by its name.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, TIME_TO_BLOCK, metadata, runner, watched};
use wedr_plugin_sdk::testing::TestAgent;

static ALONE: Mutex<()> = Mutex::new(());

/// What the system knows about the writer's thread.
fn writer(field: &str) -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_writer =
        |task: &PathBuf| fs::read(task.join("comm")).is_ok_and(|name| name == b"wedr-writer\n");
    let writer = tasks.filter(is_writer).last().expect("a thread of that name");
    let status = fs::read_to_string(writer.join("status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.expect("there is such a field").trim().into()
}

/// How often the writer has begun to sleep so far.
fn sleeps() -> u64 {
    writer("voluntary_ctxt_switches:").parse().unwrap()
}

/// Waits until the writer sleeps.
fn until_the_writer_sleeps() {
    while !writer("State:").starts_with('S') {
        thread::yield_now();
    }
}

/// How many peer checks there may have been since `start`: the writer checks the peer twice a second.
fn peer_checks_since(start: Instant) -> u64 {
    start.elapsed().as_millis() as u64 / 500 + 1
}

#[test]
fn idle_writer_wakes_only_for_heartbeats_and_peer_checks() {
    let _alone = ALONE.lock();
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .heartbeat(Duration::from_millis(500))
            .run_with(metadata(), |sink, ctx| {
                // The thread sets its name itself, perhaps after the body has begun.
                assert!(agent.wait_until(LIMIT, |all| all[0].heartbeats().count() > 0));
                // The span begins and ends while the writer sleeps, so that each heartbeat in it is one
                // wake-up. This thread may be interrupted while it reads the counters, so it reads the
                // heartbeats before and after the wake-ups.
                let read = || {
                    let before = sink.stats().heartbeats;
                    until_the_writer_sleeps();
                    [before, sleeps(), sink.stats().heartbeats]
                };
                let start = Instant::now();
                let [early, sleeps_before, late] = read();
                while sink.stats().heartbeats < late + 6 {
                    ctx.sleep(Duration::from_millis(10));
                }
                let [least, sleeps, most] = read();
                let (least, most) = (least - late, most - early + peer_checks_since(start));
                let sleeps = sleeps - sleeps_before;
                assert!((least..=most).contains(&sleeps), "{sleeps} wake-ups, {least} to {most}");
                Ok(())
            })
            .unwrap();
    });
}

/// If the writer became idle after a large batch, the next event would cost a wake-up and a `write` of its own.
#[test]
fn events_after_a_large_batch_gather() {
    const ROUNDS: u64 = 10;
    let _alone = ALONE.lock();
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .linger(LIMIT)
            .run_with(metadata(), |sink, _| {
                let emit = || sink.emit("test.event", serde_json::json!("x".repeat(200)));
                // The writer sends the first event alone. The others gather while it lingers.
                emit()?;
                assert!(agent.wait_for_events(1, LIMIT));
                let start = Instant::now();
                let mut writes = 0;
                for _ in 0..ROUNDS {
                    (0..100).try_for_each(|_| emit())?;
                    sink.flush(LIMIT)?;
                    until_the_writer_sleeps();
                    let writes_before = sink.stats().writes;
                    emit()?;
                    // An idle writer would send the event in this time.
                    thread::sleep(TIME_TO_BLOCK);
                    emit()?;
                    sink.flush(LIMIT)?;
                    writes += sink.stats().writes - writes_before;
                }
                // A peer check also ends the linger.
                let most = ROUNDS + peer_checks_since(start);
                assert!((ROUNDS..=most).contains(&writes), "{writes} writes, at most {most}");
                Ok(())
            })
            .unwrap();
    });
}
