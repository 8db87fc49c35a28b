//! Sessions that follow one another leave nothing behind. The only test of its process, since it
//! looks at what the whole process holds.
//!
//! `WEDR_TEST_SESSIONS=10000 cargo test --test leaks` has that many sessions instead of 1000.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
#[cfg(target_os = "linux")]
use std::{thread, time::Instant};

use common::{LIMIT, runner, session, watched};
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, TestAgent};
use wedr_plugin_sdk::{CloseCause, EventSink, Runner};

/// Sessions that one test agent serves before another takes its place: it remembers them all.
const PER_AGENT: usize = 100;
/// The threads when nothing runs: the test's own and the one that waits for it.
#[cfg(target_os = "linux")]
const AT_REST: usize = 2;
/// How much more the allocator may hold without a leak. Of 10 000 sessions, 105 bytes each would be
/// seen.
#[cfg(target_os = "linux")]
const SLACK_KIB: usize = 1024;

/// What a process holds.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
struct Held {
    threads: usize,
    descriptors: usize,
    resident_kib: usize,
}

#[cfg(target_os = "linux")]
impl Held {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            threads: number("Threads:"),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            resident_kib: number("VmRSS:"),
        }
    }

    /// What is held once the threads that have been waited for are gone from the count, too.
    fn settled() -> Self {
        let start = Instant::now();
        while Self::now().threads > AT_REST && start.elapsed() < LIMIT {
            thread::yield_now();
        }
        Self::now()
    }
}

/// A session that ends in one of the ways that there are, without anybody to see it.
fn pass(agent: &TestAgent, n: usize) {
    let emits = |sink: &EventSink| sink.emit("test.n", json!({ "n": n }));
    let endless = |sink: &EventSink| while emits(sink).is_ok() {};
    let run = |runner: Runner| {
        session(runner, |sink, ctx| {
            emits(sink)?;
            match n % 4 {
                0 => return Ok(()),
                1 => ctx.shutdown_handle().shutdown(),
                2 => agent.disconnect(),
                // Does not call the panic hook.
                _ => resume_unwind(Box::new("the body's own")),
            }
            endless(sink);
            Ok(())
        })
    };
    let ended = catch_unwind(AssertUnwindSafe(|| run(runner(agent))));
    match (n % 4, ended) {
        (3, ended) => assert!(ended.is_err()),
        (2, ended) => {
            let (result, report) = ended.unwrap();
            assert!(result.unwrap_err().is_disconnected());
            assert_eq!(report.cause, CloseCause::PipeLost);
        }
        (_, ended) => ended.unwrap().0.unwrap(),
    }
}

#[test]
fn sessions_that_follow_one_another_leave_nothing_behind() {
    let sessions = std::env::var("WEDR_TEST_SESSIONS").map_or(1000, |n| n.parse().unwrap());
    let pass_all = |chunks: usize| {
        for _ in 0..chunks {
            watched(|| {
                let agent = TestAgent::start().unwrap();
                (0..PER_AGENT).for_each(|n| pass(&agent, n));
                let all_ended = |all: &[RecordedSession]| all.iter().all(|s| s.end.is_some());
                assert!(agent.wait_until(LIMIT, all_ended));
                assert_eq!(agent.sessions().len(), PER_AGENT);
            });
        }
    };
    // What is there once and stays: buffers of threads and the allocator's own.
    pass_all(2);
    #[cfg(target_os = "linux")]
    let before = Held::settled();
    pass_all(sessions / PER_AGENT);
    #[cfg(target_os = "linux")]
    {
        let after = Held::settled();
        let what = format!("before: {before:?}, {sessions} sessions later: {after:?}");
        println!("{what}");
        assert_eq!(after.threads, before.threads, "{what}");
        assert_eq!(after.descriptors, before.descriptors, "{what}");
        assert!(after.resident_kib < before.resident_kib + SLACK_KIB, "{what}");
    }
}
