//! Tests with hosts that they compile: `foreign.rs`, which is not a Rust program, and `aborting.rs`, whose
//! panics abort.

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use libtest_mimic::Trial;
use nix::sys::signal::Signal;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

use crate::common::process::PROCESS_LIMIT;
use crate::common::rustc::{compile, compile_with};
use crate::common::trials::trials;
use crate::process::Host;
use crate::raw::RawAgent;

pub(crate) fn all() -> Vec<Trial> {
    trials![
        host_with_default_sigpipe_outlives_its_agent,
        output_without_standard_streams_does_not_reach_the_agent,
        fork_in_mid_session_leaves_the_parents_session_alone,
        fork_between_sessions_is_a_signal_handler_error,
        panic_that_aborts_loses_queued_events_unless_a_hook_flushes,
    ]
}

/// The program, in a folder that exists as long as the tests run.
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

fn host_with_default_sigpipe_outlives_its_agent() {
    let agent = RawAgent::start();
    let mut host = start("writes_to_an_agent_that_is_gone", agent.path());
    let mut pipe = agent.accept();
    pipe.shake_hands();
    drop(pipe);
    host.closes_stdin();
    let (status, _) = host.ended();
    assert!(status.success(), "{status}; {} would be {}", Signal::SIGPIPE, Signal::SIGPIPE as i32);
}

fn output_without_standard_streams_does_not_reach_the_agent() {
    for (closed, redirections) in
        [("0", "<&-"), ("1", ">&-"), ("2", "2>&-"), ("0 1 2", "<&- >&- 2>&-")]
    {
        let agent = TestAgent::start().unwrap();
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!(r#"exec "$0" {redirections}"#)).arg(program());
        shell.env("CLOSED", closed).stderr(Stdio::null());
        Host::spawn(&mut shell, "prints", agent.path()).succeeds();
        let session = agent.ended_session(PROCESS_LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Goodbye), "without {closed}");
        assert_eq!((session.events().count(), session.missing_seqs()), (100, 0));
    }
}

fn fork_in_mid_session_leaves_the_parents_session_alone() {
    let agent = TestAgent::start().unwrap();
    start("forks", agent.path()).succeeds();
    let session = agent.ended_session(PROCESS_LIMIT).unwrap();
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    assert!(session.events().all(|event| event.kind == "test.parent"));
    assert_eq!((session.events().count(), session.missing_seqs()), (10, 0));
}

fn fork_between_sessions_is_a_signal_handler_error() {
    let agent = TestAgent::start().unwrap();
    start("forks_between_sessions", agent.path()).succeeds();
    assert!(agent.wait_until(PROCESS_LIMIT, |all| all.iter().all(|s| s.end.is_some())));
    let kinds: Vec<_> = agent
        .sessions()
        .iter()
        .flat_map(|session| session.events().map(|e| e.kind.clone()).collect::<Vec<_>>())
        .collect();
    assert_eq!(kinds, ["test.parent", "test.child", "test.parent"]);
}

fn panic_that_aborts_loses_queued_events_unless_a_hook_flushes() {
    let folder = tempfile::tempdir().unwrap();
    let source = include_str!("aborting.rs");
    let (program, output) = compile_with(&["-C", "panic=abort"], source, "1.0.0", folder.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (role, arrive) in [("flushes_in_its_panic_hook", 10), ("has_no_panic_hook", 1)] {
        let agent = TestAgent::start().unwrap();
        let mut command = Command::new(&program);
        // A backtrace may take so long that a peer check ends the linger and the events are sent.
        command.env("RUST_BACKTRACE", "0").stderr(Stdio::null());
        let (status, _) = Host::spawn(&mut command, role, agent.path()).ended();
        assert_eq!(status.signal(), Some(Signal::SIGABRT as i32), "{role}");
        let session = agent.ended_session(PROCESS_LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Disconnected { mid_frame: false }), "{role}");
        assert_eq!(session.events().count(), arrive, "{role}");
    }
}
