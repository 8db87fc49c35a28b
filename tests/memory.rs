//! The memory of the process after a burst. The only test of its process, since it looks at what the
//! whole process holds.
#![cfg(target_os = "linux")]

mod common;
mod raw;

use std::fs;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, metadata, watched};
use raw::RawAgent;

const MIB: u64 = 1 << 20;
const BUDGET: u64 = 64 * MIB;

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib = line.trim().strip_suffix(" kB").unwrap();
    kib.parse::<u64>().unwrap() << 10
}

#[test]
fn memory_of_a_burst_is_given_back() {
    watched(|| {
        let agent = RawAgent::start();
        let runner = agent.runner().channel_capacity(1 << 16).max_queued_bytes(BUDGET as usize);
        let (resume, resumed) = mpsc::channel();
        let serving = thread::spawn(move || {
            let mut pipe = agent.accept();
            pipe.shake_hands();
            resumed.recv().unwrap();
            while pipe.next_frame().is_some_and(|frame| !frame.ends_with(b"goodbye\"}")) {}
        });
        runner
            .run_with(metadata(), |sink, ctx| {
                let before = resident();
                thread::scope(|scope| {
                    for producer in 0..4 {
                        scope.spawn(move || {
                            let text = "x".repeat([600, 2000, 8000, 30_000][producer]);
                            while sink.event("test.burst").try_emit(&text).is_ok() {}
                        });
                    }
                });
                let full = resident();
                assert!(full > before + BUDGET / 2, "{before} bytes, then {full}");
                resume.send(()).unwrap();
                sink.flush(LIMIT)?;
                // The session is idle: the writer frees what it does not need any more.
                let end = Instant::now() + LIMIT / 2;
                while resident() > before + BUDGET / 8 {
                    let now = resident();
                    assert!(Instant::now() < end, "{before} bytes, then {full}, then {now}");
                    ctx.sleep(Duration::from_millis(50));
                }
                println!("{before} bytes, then {full}, then {}", resident());
                Ok(())
            })
            .unwrap();
        serving.join().unwrap();
    });
}
