//! Tests with a host that is no Rust program: `foreign.rs`, which is compiled for them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

use crate::common::rustc::compile;
use crate::common::trials::trials;
use crate::process::{Host, PATIENCE};
use crate::raw::RawAgent;

pub(crate) fn all() -> Vec<Trial> {
    trials![
        a_host_with_sigpipe_at_its_default_outlives_its_agent,
        what_a_host_without_standard_streams_prints_does_not_reach_the_agent,
        a_fork_in_mid_session_has_no_writer_and_leaves_its_parents_session_alone,
    ]
}

/// The program, in a folder that stays as long as tests run.
fn program() -> PathBuf {
    static FOLDER: OnceLock<TempDir> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let (_, output) = compile(include_str!("foreign.rs"), "1.0.0", folder.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        folder
    });
    folder.path().join("main")
}

fn start(role: &str, agent: &Path) -> Host {
    Host::spawn(&mut Command::new(program()), role, agent)
}

fn a_host_with_sigpipe_at_its_default_outlives_its_agent() {
    let agent = RawAgent::start();
    let mut host = start("writes_to_an_agent_that_is_gone", agent.path());
    let mut pipe = agent.accept();
    pipe.shake_hands();
    drop(pipe);
    host.closes_stdin();
    let (status, _) = host.ended();
    assert!(status.success(), "{status}; {} would be {}", Signal::SIGPIPE, Signal::SIGPIPE as i32);
}

fn what_a_host_without_standard_streams_prints_does_not_reach_the_agent() {
    for (closed, redirections) in
        [("0", "<&-"), ("1", ">&-"), ("2", "2>&-"), ("0 1 2", "<&- >&- 2>&-")]
    {
        let agent = TestAgent::start().unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(r#"exec "$0" {redirections}"#)).arg(program());
        shell.env("CLOSED", closed).stderr(Stdio::null());
        Host::spawn(&mut shell, "prints", agent.path()).succeeds();
        let session = agent.ended_session(PATIENCE).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Goodbye), "without {closed}");
        assert_eq!((session.events().count(), session.missing_seqs()), (100, 0));
    }
}

fn a_fork_in_mid_session_has_no_writer_and_leaves_its_parents_session_alone() {
    let agent = TestAgent::start().unwrap();
    start("forks", agent.path()).succeeds();
    let session = agent.ended_session(PATIENCE).unwrap();
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    assert!(session.events().all(|event| event.kind == "test.parent"));
    assert_eq!((session.events().count(), session.missing_seqs()), (10, 0));
}
