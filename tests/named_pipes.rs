//! Properties that only named pipes have: instances, which may all be busy, and names that must be local.
#![cfg(windows)]

mod common;
mod raw;

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::thread;
use std::time::{Duration, Instant};

use common::{LIMIT, metadata, runner, watched};
use raw::RawAgent;
use wedr_plugin_sdk::testing::{RecordedSession, SessionEnd, TestAgent};
use wedr_plugin_sdk::{AgentTrust, Error, Runner};

/// The number of instances of the agent's pipe.
const INSTANCES: usize = 64;

/// Takes every instance of the agent's pipe.
fn occupy(agent: &TestAgent) -> Vec<File> {
    let taken = (0..INSTANCES).map(|n| {
        assert!(agent.wait_until(LIMIT, |sessions| sessions.len() >= n));
        loop {
            match OpenOptions::new().read(true).write(true).open(agent.path()) {
                Ok(pipe) => return pipe,
                // The next instance is created when the last one has its client.
                Err(e) => assert_eq!(e.raw_os_error(), Some(231), "{e}"),
            }
        }
    });
    let taken = taken.collect();
    assert!(agent.wait_until(LIMIT, |sessions| sessions.len() == INSTANCES));
    taken
}

fn run(runner: Runner) -> wedr_plugin_sdk::Result<()> {
    runner.run_with(metadata(), |sink, _| sink.emit("test", serde_json::json!({})))
}

#[test]
fn busy_instances_are_waited_for_until_the_timeout() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let _taken = occupy(&agent);
        let (timeout, started) = (Duration::from_millis(300), Instant::now());
        let result = run(runner(&agent).connect_timeout(timeout));
        let Err(Error::Connect { path, source }) = result else { panic!("{result:?}") };
        assert_eq!((path.as_path(), source.kind()), (agent.path(), ErrorKind::TimedOut));
        assert!(started.elapsed() >= timeout);
    });
}

#[test]
fn freed_pipe_instance_is_used() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut taken = occupy(&agent);
        thread::scope(|scope| {
            let running = scope.spawn(|| run(runner(&agent).connect_timeout(LIMIT)));
            taken.pop();
            running.join().unwrap().unwrap();
        });
        let ended = |sessions: &[RecordedSession]| sessions.last().is_some_and(|s| s.end.is_some());
        assert!(agent.wait_until(LIMIT, ended));
        let last = agent.sessions().pop().unwrap();
        assert_eq!((last.events().count(), last.end), (1, Some(SessionEnd::Goodbye)));
    });
}

#[test]
fn shutdown_while_every_instance_is_busy_is_no_error() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let _taken = occupy(&agent);
        let runner = runner(&agent).connect_timeout(Duration::MAX);
        let handle = runner.shutdown_handle();
        thread::scope(|scope| {
            let running = scope.spawn(|| run(runner));
            handle.shutdown();
            running.join().unwrap().unwrap();
        });
    });
}

#[test]
fn missing_pipe_is_not_found() {
    watched(|| {
        let missing = Runner::new()
            .pipe_path(r"\\.\pipe\wedr-no-agent-is-here")
            .install_signal_handler(false);
        let result = run(missing);
        let Err(Error::Connect { source, .. }) = result else { panic!("{result:?}") };
        assert_eq!(source.kind(), ErrorKind::NotFound);
    });
}

#[test]
fn name_that_could_lead_to_another_machine_opens_nothing() {
    let long = format!(r"\\.\pipe\{}", "x".repeat(300));
    for path in [
        r"\\server\pipe\WazabiEDR_plugin",
        r"\\.\pipe\a\b",
        r"\\.\pipe\..\..\server\share",
        r"\\.\pipe\",
        r"C:\WazabiEDR_plugin",
        "",
        &long,
    ] {
        let result = run(Runner::new().pipe_path(path).install_signal_handler(false));
        let Err(Error::InvalidConfig(what)) = result else { panic!("{path}: {result:?}") };
        assert!(path.is_empty() || what.contains(path), "{what}");
    }
}

#[test]
fn pipe_of_the_own_user_is_trusted() {
    watched(|| {
        // Under Wine 8 a pipe has an owner only if it is set. The test agent sets it.
        for trust in [AgentTrust::OwnerOrRoot, AgentTrust::Any] {
            let agent = TestAgent::start().unwrap();
            run(runner(&agent).trusted_agent(trust)).unwrap();
        }
    });
}

#[test]
fn pipe_of_another_owner_gets_nothing() {
    watched(|| {
        // SYSTEM, the Administrators, the Guests, all users.
        for (owner, trusted) in [("SY", true), ("BA", true), ("BG", false), ("WD", false)] {
            // On Windows a process can set only some owners, on Wine any.
            let Ok(agent) = RawAgent::owned_by(owner) else { continue };
            let run = || run(agent.runner().trusted_agent(AgentTrust::OwnerOrRoot));
            thread::scope(|scope| {
                let agents = scope.spawn(|| {
                    let mut pipe = agent.accept();
                    if trusted { pipe.serve().concat() } else { pipe.rest() }
                });
                if trusted {
                    run().unwrap();
                    assert!(!agents.join().unwrap().is_empty());
                    return;
                }
                // The agent does not see a plugin that has closed before the agent accepts.
                while !agents.is_finished() {
                    let error = run().unwrap_err();
                    // The agent accepts one connection. After that the instance stays busy.
                    let too_late = matches!(error, Error::Connect { .. }) && agents.is_finished();
                    assert!(
                        too_late || matches!(error, Error::UntrustedAgent(_)),
                        "{owner}: {error:?}"
                    );
                }
                assert_eq!(agents.join().unwrap(), b"", "{owner}");
            });
        }
    });
}

#[test]
fn stall_in_mid_frame_ends_without_a_goodbye() {
    watched(|| {
        use wedr_plugin_sdk::testing::Script;
        let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
        let mut accepted = 0;
        let result = runner(&agent).drain_timeout(Duration::from_millis(100)).run_with(
            metadata(),
            |sink, _| {
                let large = serde_json::json!("x".repeat(500_000));
                while sink.event("test").try_emit(&large).is_ok() {
                    accepted += 1;
                }
                Ok(())
            },
        );
        let Err(Error::Undelivered { count }) = result else { panic!("{result:?}") };
        assert!(count > 0 && count <= accepted);
        agent.resume();
        let session = agent.ended_session(LIMIT).unwrap();
        assert_ne!(session.end, Some(SessionEnd::Goodbye));
    });
}
