//! The tests: each starts a host, and looks at how it ended and at what the agent saw of it.

use std::fs;
use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;
use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};

use crate::common::stalled_agent;
use crate::common::trials::trials;
use crate::process::{Host, PATIENCE};
use crate::roles::IN_MID_SESSION;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They mostly wait.
    arguments.test_threads.get_or_insert(8);
    #[cfg_attr(not(target_os = "linux"), allow(unused_mut, reason = "only Linux adds to them"))]
    let mut trials = trials![
        a_thread_that_cannot_be_started_is_an_error_that_says_so,
        a_process_that_exits_in_mid_session_loses_what_is_queued,
        a_main_that_returns_in_mid_session_ends_the_process_though_a_thread_waits_in_emit,
        a_run_that_returns_lets_the_process_end_though_a_thread_waited_in_emit,
        #[cfg(unix)]
        unix::without_a_descriptor_left_a_session_goes_on_and_another_is_refused,
        #[cfg(unix)]
        unix::heartbeats_that_are_late_by_many_intervals_do_not_come_in_a_burst,
        #[cfg(unix)]
        unix::a_process_that_a_plugin_leaves_behind_does_not_hold_its_session_open,
    ];
    #[cfg(target_os = "linux")]
    trials.append(&mut crate::foreign_trials::all());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The first session of a host that ended in mid-session, and how many events the host accepted.
fn cut_off(agent: &TestAgent, host: Host) -> (RecordedSession, usize) {
    let (status, said) = host.ended();
    assert_eq!(status.code(), Some(IN_MID_SESSION.into()));
    agent.resume();
    (agent.ended_session(PATIENCE).unwrap(), said.trim().parse().unwrap())
}

fn assert_without_goodbye(session: &RecordedSession) {
    let end = session.end.as_ref().unwrap();
    assert!(matches!(end, SessionEnd::Disconnected { .. }), "{end:?}");
}

fn a_thread_that_cannot_be_started_is_an_error_that_says_so() {
    let agent = TestAgent::start().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    // More than any address space has.
    command.env("RUST_MIN_STACK", (1_u64 << 60).to_string());
    let folder = tempfile::tempdir().unwrap();
    command.env("TMPDIR", folder.path());
    Host::spawn(&mut command, "cannot_start_threads", agent.path()).succeeds();
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "what could not start left something behind");
    let session = agent.ended_session(PATIENCE).unwrap();
    assert_without_goodbye(&session);
    assert!(session.received.is_empty());
}

fn a_process_that_exits_in_mid_session_loses_what_is_queued() {
    let agent = stalled_agent();
    let host = Host::start("exits_in_mid_session", agent.path());
    let (session, accepted) = cut_off(&agent, host);
    assert_without_goodbye(&session);
    let arrived = session.events().count();
    assert!((1..accepted).contains(&arrived), "{arrived} of {accepted}");
    // The agent cannot tell it from a plugin that was killed: what came is whole.
    assert_eq!(session.missing_seqs(), 0);
}

fn a_main_that_returns_in_mid_session_ends_the_process_though_a_thread_waits_in_emit() {
    let agent = stalled_agent();
    let host = Host::start("returns_from_main_in_mid_session", agent.path());
    let (session, accepted) = cut_off(&agent, host);
    assert_without_goodbye(&session);
    assert!(session.events().count() < accepted);
}

fn a_run_that_returns_lets_the_process_end_though_a_thread_waited_in_emit() {
    let agent = stalled_agent();
    Host::start("returns_while_a_thread_waits", agent.path()).succeeds();
}

#[cfg(unix)]
pub(crate) use unix::BEAT;

#[cfg(unix)]
mod unix {
    use std::thread;
    use std::time::{Duration, Instant};

    use nix::sys::signal::{Signal, kill};
    use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
    use nix::unistd::Pid;
    use serde_json::json;
    use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};

    use super::{Host, IN_MID_SESSION, PATIENCE, assert_without_goodbye};

    /// The interval of the host that beats.
    pub(crate) const BEAT: Duration = Duration::from_millis(20);
    /// How long it is stopped: for a heartbeat a second, that would be 100 s.
    const STOPPED: Duration = BEAT.saturating_mul(100);

    pub(super) fn without_a_descriptor_left_a_session_goes_on_and_another_is_refused() {
        let agent = TestAgent::start().unwrap();
        Host::start("runs_out_of_descriptors", agent.path()).succeeds();
        let ended = |all: &[RecordedSession]| all.iter().all(|s| s.end.is_some());
        assert!(agent.wait_until(PATIENCE, ended));
        let payloads: Vec<Vec<_>> = agent
            .sessions()
            .iter()
            .map(|s| {
                assert_eq!(s.end, Some(SessionEnd::Goodbye));
                s.events().map(|e| e.payload.clone()).collect()
            })
            .collect();
        assert_eq!(payloads, [vec![json!(1), json!(2)], vec![json!(3)]]);
    }

    pub(super) fn heartbeats_that_are_late_by_many_intervals_do_not_come_in_a_burst() {
        const MORE: usize = 20;
        let agent = TestAgent::start().unwrap();
        let host = Host::start("beats", agent.path());
        let until = |beats: usize| {
            let enough = |all: &[RecordedSession]| {
                all.first().is_some_and(|s| s.heartbeats().count() >= beats)
            };
            assert!(agent.wait_until(PATIENCE, enough));
        };
        until(3);
        host.send(Signal::SIGSTOP);
        let status = waitpid(host.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
        // What passes meanwhile is what is tested.
        thread::sleep(STOPPED);
        let before = agent.sessions()[0].heartbeats().count();
        let resumed = Instant::now();
        host.send(Signal::SIGCONT);
        until(before + MORE);
        host.send(Signal::SIGTERM);
        host.succeeds();
        let beats: Vec<_> = agent.sessions()[0].heartbeats().collect();
        // One comes at once, the others an interval after the one before; load makes it only more.
        let took = beats[before + MORE - 1].duration_since(resumed);
        assert!(took >= BEAT * (MORE as u32 - 1), "{MORE} came within {took:?}");
    }

    pub(super) fn a_process_that_a_plugin_leaves_behind_does_not_hold_its_session_open() {
        let agent = TestAgent::start().unwrap();
        let host = Host::start("leaves_a_process_behind", agent.path());
        let (status, said) = host.ended();
        assert_eq!(status.code(), Some(IN_MID_SESSION.into()));
        let left_behind = Pid::from_raw(said.trim().parse().unwrap());
        let session = agent.ended_session(PATIENCE);
        // Fails if it has not lasted until here.
        kill(left_behind, Signal::SIGKILL).unwrap();
        let session = session.expect("the pipe is closed, whoever is left");
        assert_without_goodbye(&session);
        assert_eq!(session.events().count(), 1);
    }
}
