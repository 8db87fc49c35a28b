//! The writer of a session that has nothing to send sleeps, and is not woken for nothing. One test at
//! a time, since the writer's thread is told by its name.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use common::{LIMIT, TO_GET_THERE, metadata, runner, watched};
use wedr_plugin_sdk::testing::TestAgent;

static ALONE: Mutex<()> = Mutex::new(());

/// What the system says of the writer's thread.
fn writer(field: &str) -> String {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let is_writer =
        |task: &PathBuf| fs::read(task.join("comm")).is_ok_and(|name| name == b"wedr-writer\n");
    let writer = tasks.filter(is_writer).last().expect("a thread of that name");
    let status = fs::read_to_string(writer.join("status")).unwrap();
    let value = status.lines().find_map(|line| line.strip_prefix(field));
    value.expect("there is such a field").trim().into()
}

/// How often the writer has gone to sleep so far.
fn rests() -> u64 {
    writer("voluntary_ctxt_switches:").parse().unwrap()
}

/// Waits until the writer sleeps.
fn until_it_rests() {
    while !writer("State:").starts_with('S') {
        thread::yield_now();
    }
}

#[test]
fn only_heartbeats_and_the_look_for_the_agent_wake_an_idle_writer() {
    let _alone = ALONE.lock();
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .heartbeat(Duration::from_millis(500))
            .run_with(metadata(), |sink, ctx| {
                // The thread gives itself its name, some time after the body has begun.
                assert!(agent.wait_until(LIMIT, |all| all[0].heartbeats().count() > 0));
                // Both ends of the span lie in a rest, so that each heartbeat within has its own.
                until_it_rests();
                let (rests_before, beats_before) = (rests(), sink.stats().heartbeats);
                ctx.sleep(Duration::from_secs(3));
                let beats = sink.stats().heartbeats - beats_before;
                until_it_rests();
                let rests = rests() - rests_before;
                assert!(beats >= 3, "{beats} heartbeats");
                // It looks for the agent twice a second; one more of each at the edges.
                let most = beats + 6 + 2;
                assert!((beats..=most).contains(&rests), "{rests} rests, at most {most}");
                Ok(())
            })
            .unwrap();
    });
}

#[test]
fn what_comes_just_after_a_large_batch_gathers() {
    let _alone = ALONE.lock();
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .linger(LIMIT)
            .run_with(metadata(), |sink, _| {
                let emit = || sink.emit("test.event", serde_json::json!("x".repeat(200)));
                // The first goes out alone, and the others gather while the writer lingers.
                emit()?;
                assert!(agent.wait_for_events(1, LIMIT));
                (0..100).try_for_each(|_| emit())?;
                sink.flush(LIMIT)?;
                // It has looked for more by then. To idle now would cost the next event a wake-up
                // of the writer, and a `write` of its own.
                until_it_rests();
                let writes = sink.stats().writes;
                emit()?;
                // Time for a writer that should not have it.
                thread::sleep(TO_GET_THERE);
                emit()?;
                sink.flush(LIMIT)?;
                assert_eq!(sink.stats().writes, writes + 1);
                Ok(())
            })
            .unwrap();
    });
}
