//! Sessions, one after another, leave nothing behind. This is the only test of its process, because it counts
//! the resources of the whole process.
//!
//! `WEDR_TEST_SESSIONS=10000 cargo test --test leaks` runs that many sessions instead of 1000.

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;
use std::time::Instant;

use common::{LIMIT, runner, session, watched};
use peak_alloc::PeakAlloc;
use serde_json::json;
use wedr_plugin_sdk::testing::{RecordedSession, TestAgent};
use wedr_plugin_sdk::{CloseCause, EventSink, Runner};

/// How many sessions one test agent serves. Then the test starts another, because a test agent keeps all its
/// sessions in memory.
const PER_AGENT: usize = 100;
/// How many bytes the heap may grow: 8 for each of 1000 sessions, less than any leak.
const SLACK: usize = 8 << 10;

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

/// The resources of the process.
#[derive(Debug, Clone, Copy)]
struct Resources {
    heap: usize,
    #[cfg(target_os = "linux")]
    threads: usize,
    #[cfg(target_os = "linux")]
    descriptors: usize,
    /// Not checked: the allocator decides how much freed memory it keeps.
    #[cfg(target_os = "linux")]
    #[expect(dead_code, reason = "shown")]
    resident_kib: usize,
}

impl Resources {
    #[cfg(not(target_os = "linux"))]
    fn now() -> Self {
        Self { heap: HEAP.current_usage() }
    }

    #[cfg(target_os = "linux")]
    fn now() -> Self {
        let heap = HEAP.current_usage();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        Self {
            heap,
            threads: number("Threads:"),
            descriptors: std::fs::read_dir("/proc/self/fd").unwrap().count(),
            resident_kib: number("VmRSS:"),
        }
    }

    fn exceeds(self, before: Self) -> bool {
        #[cfg(target_os = "linux")]
        if self.threads > before.threads || self.descriptors > before.descriptors {
            return true;
        }
        self.heap > before.heap + SLACK
    }
}

/// A session that ends in one of several ways, with an agent that does not read.
fn run_session(agent: &TestAgent, n: usize) {
    let emits = |sink: &EventSink| sink.emit("test.n", json!({ "n": n }));
    let endless = |sink: &EventSink| while emits(sink).is_ok() {};
    let run = |runner: Runner| {
        session(runner, |sink, ctx| {
            emits(sink)?;
            match n % 4 {
                0 => return Ok(()),
                1 => ctx.shutdown_handle().shutdown(),
                2 => agent.disconnect(),
                // This does not call the panic hook.
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
    let run_sessions = |chunks: usize| {
        for _ in 0..chunks {
            watched(|| {
                let agent = TestAgent::start().unwrap();
                (0..PER_AGENT).for_each(|n| run_session(&agent, n));
                let all_ended = |all: &[RecordedSession]| all.iter().all(|s| s.end.is_some());
                assert!(agent.wait_until(LIMIT, all_ended));
                assert_eq!(agent.sessions().len(), PER_AGENT);
            });
        }
    };
    // These sessions allocate what is allocated once and stays, such as the buffers of this thread.
    run_sessions(2);
    let before = Resources::now();
    run_sessions(sessions / PER_AGENT);
    // A thread that was joined may still be listed for a moment.
    let start = Instant::now();
    while Resources::now().exceeds(before) && start.elapsed() < LIMIT {
        thread::yield_now();
    }
    let after = Resources::now();
    println!("before: {before:?}, {sessions} sessions later: {after:?}");
    assert!(!after.exceeds(before), "before: {before:?}, {sessions} sessions later: {after:?}");
}
