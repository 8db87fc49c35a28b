//! The agent's process. It does what it is told on standard input, a line each, and says a line
//! when that is done.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use wedr_plugin_sdk::testing::{RecordedSession, Script, TestAgent};

use crate::common::LIMIT;

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";

/// The agent process' `main`. It says its path first, and ends with its standard input.
pub(crate) fn play(role: &str) -> ExitCode {
    // A test that hangs stops nobody, and this process may be stopped when it should end.
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
            "tell the session" => tell(&agent.ended_session(LIMIT).expect("it ends")),
            unknown => panic!("no such command: {unknown}"),
        }
        println!("done");
    }
    ExitCode::SUCCESS
}

/// Every message a line, then how it ended.
fn tell(session: &RecordedSession) {
    let mut lines = Vec::new();
    for received in &session.received {
        serde_json::to_writer(&mut lines, &received.message).unwrap();
        lines.push(b'\n');
    }
    writeln!(lines, "{:?}", session.end.as_ref().unwrap()).unwrap();
    std::io::stdout().write_all(&lines).unwrap();
}
