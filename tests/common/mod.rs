//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

pub mod process;

use std::env::consts::EXE_EXTENSION;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use wedr_plugin_sdk::testing::TestAgent;
use wedr_plugin_sdk::{Metadata, Runner};

/// More than anything here takes, on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// The watchdog: runs `test` on a thread of its own, and fails instead of hanging.
pub fn watched<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, finished) = mpsc::channel::<()>();
    let running = thread::Builder::new()
        .name(thread::current().name().unwrap_or("test").to_owned())
        .spawn(move || {
            // Dropped when the test ends, also by a panic.
            let _done = done;
            test()
        })
        .expect("a thread for the test");
    match finished.recv_timeout(LIMIT) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {LIMIT:?}: it hangs"),
        _ => running.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// Who the tests say they are.
pub fn metadata() -> Metadata {
    Metadata::new("test-plugin", "1.2.3", "Test plugin")
}

/// A runner for `agent` that leaves the test process' signals alone.
pub fn runner(agent: &TestAgent) -> Runner {
    Runner::new().pipe_path(agent.path()).install_signal_handler(false)
}

/// An example's binary. `cargo test` builds it; `cargo test --test …` uses the one that is there,
/// and builds it only if there is none.
pub fn example(name: &str) -> PathBuf {
    // <target directory>/[<triple>/]<profile>/deps/<this>
    let this = std::env::current_exe().expect("the test's own path");
    let profile = this.ancestors().nth(2).expect("it is in a profile's folder");
    let example = profile.join("examples").join(name).with_extension(EXE_EXTENSION);
    if !example.exists() {
        let profile_name = match profile.file_name() {
            Some(name) if name == "debug" => "dev".as_ref(),
            other => other.expect("it is in a profile's folder"),
        };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--example", name, "--profile"]).arg(profile_name);
        let target = profile.parent().expect("it is in a target folder");
        let ran = build.arg("--target-dir").arg(target).status();
        assert!(ran.is_ok_and(|status| status.success()), "cargo build --example {name} failed");
    }
    example
}
