//! The agent's process. It reads commands from standard input, one per line, and prints `done` after each.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use wedr_plugin_sdk::testing::{RecordedSession, Script, TestAgent};

use crate::common::LIMIT;

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";

/// The `main` of the agent's process. It first prints its path. It ends when its standard input ends.
pub(crate) fn play(role: &str) -> ExitCode {
    // The watchdog of a test that hangs does not kill this process, which may also be stopped (SIGSTOP).
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::SIGKILL).unwrap();
    let agent = TestAgent::with(match role {
        "reads" => Script::new(),
        "reads_nothing" => Script::new().stop_reading_after(0),
        "reads_5000_events" => Script::new().stop_reading_after(5000),
        "answers_slowly" => Script::new().answer_slowly(Duration::from_secs(1)),
        unknown => panic!("no such role: {unknown}"),
    });
    let agent = agent.unwrap();
    println!("{}", agent.path().display());
    for command in std::io::stdin().lines() {
        match command.unwrap().as_str() {
            "wait for hello" => {
                let has_hello = |all: &[RecordedSession]| all.iter().any(|s| s.hello.is_some());
                assert!(agent.wait_until(LIMIT, has_hello));
            }
            "resume" => agent.resume(),
            "print the session" => print(&agent.ended_session(LIMIT).expect("the session ends")),
            unknown => panic!("no such command: {unknown}"),
        }
        println!("done");
    }
    ExitCode::SUCCESS
}

/// Prints each message on a line of its own, then how many numbers `seq` skipped, then how the session ended.
fn print(session: &RecordedSession) {
    let mut lines = Vec::new();
    for received in &session.received {
        serde_json::to_writer(&mut lines, &received.message).unwrap();
        lines.push(b'\n');
    }
    writeln!(lines, "{}", session.missing_seqs()).unwrap();
    writeln!(lines, "{:?}", session.end.as_ref().unwrap()).unwrap();
    std::io::stdout().write_all(&lines).unwrap();
}
