//! The writer of an idle session sleeps. The only test of its process, since it tells the writer's
//! thread by its name.
#![cfg(target_os = "linux")]

mod common;

use std::fs;
use std::time::Duration;

use common::{LIMIT, metadata, runner, watched};
use wedr_plugin_sdk::testing::TestAgent;

/// How often the writer has gone to sleep so far.
fn rests() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let writer = tasks
        .filter(|task| fs::read(task.join("comm")).is_ok_and(|name| name == b"wedr-writer\n"))
        .last()
        .expect("a thread of that name");
    let status = fs::read_to_string(writer.join("status")).unwrap();
    let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    count.expect("it is counted").trim().parse().unwrap()
}

#[test]
fn only_heartbeats_and_the_look_for_the_agent_wake_an_idle_writer() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        runner(&agent)
            .heartbeat(Duration::from_millis(500))
            .run_with(metadata(), |sink, ctx| {
                // The thread gives itself its name, some time after the body has begun.
                assert!(agent.wait_until(LIMIT, |all| all[0].heartbeats().count() > 0));
                let state = || (rests(), sink.stats().heartbeats);
                let (rests, beats) = state();
                ctx.sleep(Duration::from_secs(3));
                let (rests, beats) = (state().0 - rests, state().1 - beats);
                assert!(beats >= 3, "{beats} heartbeats");
                // It looks for the agent twice a second; one more of each at the edges.
                let most = beats + 6 + 2;
                assert!((beats..=most).contains(&rests), "{rests} rests, at most {most}");
                Ok(())
            })
            .unwrap();
    });
}
