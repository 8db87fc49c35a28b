//! The tests: each starts a host, and checks how it ended and what the agent received.

use std::fs;
use std::process::{Command, ExitCode};

use libtest_mimic::Arguments;
use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};

use crate::common::process::PROCESS_LIMIT;
use crate::common::stalled_agent;
use crate::common::trials::trials;
use crate::process::Host;
use crate::roles::IN_MID_SESSION;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time these tests wait.
    arguments.test_threads.get_or_insert(8);
    #[cfg_attr(not(target_os = "linux"), allow(unused_mut, reason = "only Linux adds to them"))]
    let mut trials = trials![
        thread_that_does_not_start_is_an_error,
        exit_in_mid_session_loses_queued_events,
        return_of_main_ends_the_process_with_a_blocked_emit,
        return_of_run_releases_a_blocked_emit,
        #[cfg(unix)]
        unix::session_continues_without_free_descriptors,
        #[cfg(unix)]
        unix::session_continues_with_a_descriptor_limit_of_zero,
        #[cfg(target_os = "linux")]
        linux::closed_descriptor_is_a_lost_pipe_within_a_second,
        #[cfg(target_os = "linux")]
        linux::shortage_of_memory_shortens_writes_and_loses_nothing,
        #[cfg(target_os = "linux")]
        linux::shortage_of_memory_until_the_end_is_no_lost_pipe,
        #[cfg(unix)]
        unix::late_heartbeats_do_not_come_in_a_burst,
        #[cfg(unix)]
        unix::child_process_does_not_hold_the_session_open,
    ];
    #[cfg(target_os = "linux")]
    trials.append(&mut crate::foreign_trials::all());
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The first session of a host that ended during its session, and how many events its queue accepted.
fn cut_off(agent: &TestAgent, host: Host) -> (RecordedSession, usize) {
    let (status, said) = host.ended();
    assert_eq!(status.code(), Some(IN_MID_SESSION.into()));
    agent.resume();
    (agent.ended_session(PROCESS_LIMIT).unwrap(), said.trim().parse().unwrap())
}

fn assert_without_goodbye(session: &RecordedSession) {
    let end = session.end.as_ref().unwrap();
    assert!(matches!(end, SessionEnd::Disconnected { .. }), "{end:?}");
}

fn thread_that_does_not_start_is_an_error() {
    let agent = TestAgent::start().unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    // More than any address space.
    command.env("RUST_MIN_STACK", (1_u64 << 60).to_string());
    let folder = tempfile::tempdir().unwrap();
    command.env("TMPDIR", folder.path());
    Host::spawn(&mut command, "cannot_start_threads", agent.path()).succeeds();
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 0, "what could not start left something behind");
    let session = agent.ended_session(PROCESS_LIMIT).unwrap();
    assert_without_goodbye(&session);
    assert!(session.received.is_empty());
}

fn exit_in_mid_session_loses_queued_events() {
    let agent = stalled_agent();
    let host = Host::start("exits_in_mid_session", agent.path());
    let (session, accepted) = cut_off(&agent, host);
    assert_without_goodbye(&session);
    let arrived = session.events().count();
    assert!((1..accepted).contains(&arrived), "{arrived} of {accepted}");
    // For the agent it looks like a plugin that was killed: all frames that arrived are complete.
    assert_eq!(session.missing_seqs(), 0);
}

fn return_of_main_ends_the_process_with_a_blocked_emit() {
    let agent = stalled_agent();
    let host = Host::start("returns_from_main_in_mid_session", agent.path());
    let (session, accepted) = cut_off(&agent, host);
    assert_without_goodbye(&session);
    assert!(session.events().count() < accepted);
}

fn return_of_run_releases_a_blocked_emit() {
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
    use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};

    use super::{Host, IN_MID_SESSION, PROCESS_LIMIT, assert_without_goodbye};

    /// The heartbeat interval of the host.
    pub(crate) const BEAT: Duration = Duration::from_millis(20);
    /// How long the host is stopped. With one heartbeat per second this would be 100 s.
    const STOPPED: Duration = BEAT.saturating_mul(100);

    pub(super) fn session_continues_without_free_descriptors() {
        let agent = TestAgent::start().unwrap();
        Host::start("runs_out_of_descriptors", agent.path()).succeeds();
        let ended = |all: &[RecordedSession]| all.iter().all(|s| s.end.is_some());
        assert!(agent.wait_until(PROCESS_LIMIT, ended));
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

    pub(super) fn session_continues_with_a_descriptor_limit_of_zero() {
        let agent = TestAgent::with(Script::new().read_slowly(2_000_000)).unwrap();
        Host::start("has_a_descriptor_limit_of_zero", agent.path()).succeeds();
        let session = agent.ended_session(PROCESS_LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!((session.events().count(), session.missing_seqs()), (300, 0));
    }

    pub(super) fn late_heartbeats_do_not_come_in_a_burst() {
        const MORE: usize = 20;
        let agent = TestAgent::start().unwrap();
        let host = Host::start("beats", agent.path());
        let until = |beats: usize| {
            let enough = |all: &[RecordedSession]| {
                all.first().is_some_and(|s| s.heartbeats().count() >= beats)
            };
            assert!(agent.wait_until(PROCESS_LIMIT, enough));
        };
        until(3);
        host.send(Signal::SIGSTOP);
        let status = waitpid(host.pid(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
        // A fixed time: the test is about the time that passes while the process is stopped.
        thread::sleep(STOPPED);
        let before = agent.sessions()[0].heartbeats().count();
        let resumed = Instant::now();
        host.send(Signal::SIGCONT);
        until(before + MORE);
        host.send(Signal::SIGTERM);
        host.succeeds();
        let beats: Vec<_> = agent.sessions()[0].heartbeats().collect();
        // One heartbeat is sent at once, each further one an interval later. On a loaded machine it is later.
        let took = beats[before + MORE - 1].duration_since(resumed);
        assert!(took >= BEAT * (MORE as u32 - 1), "{MORE} came within {took:?}");
    }

    pub(super) fn child_process_does_not_hold_the_session_open() {
        let agent = TestAgent::start().unwrap();
        let host = Host::start("leaves_a_process_behind", agent.path());
        let (status, said) = host.ended();
        assert_eq!(status.code(), Some(IN_MID_SESSION.into()));
        let left_behind = Pid::from_raw(said.trim().parse().unwrap());
        let session = agent.ended_session(PROCESS_LIMIT);
        // Fails if the process has ended before.
        kill(left_behind, Signal::SIGKILL).unwrap();
        let session = session.expect("the pipe is closed, whatever processes are left");
        assert_without_goodbye(&session);
        assert_eq!(session.events().count(), 1);
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

    use super::{Host, PROCESS_LIMIT, assert_without_goodbye};

    pub(super) fn closed_descriptor_is_a_lost_pipe_within_a_second() {
        let agent = TestAgent::start().unwrap();
        Host::start("closes_the_pipes_descriptor", agent.path()).succeeds();
        assert_without_goodbye(&agent.ended_session(PROCESS_LIMIT).unwrap());
    }

    pub(super) fn shortage_of_memory_shortens_writes_and_loses_nothing() {
        let agent = TestAgent::start().unwrap();
        Host::start("sends_short_pieces_only", agent.path()).succeeds();
        let session = agent.ended_session(PROCESS_LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!((session.events().count(), session.missing_seqs()), (10, 0));
    }

    pub(super) fn shortage_of_memory_until_the_end_is_no_lost_pipe() {
        let agent = TestAgent::start().unwrap();
        Host::start("sends_nothing_for_want_of_memory", agent.path()).succeeds();
        assert_without_goodbye(&agent.ended_session(PROCESS_LIMIT).unwrap());
    }
}
