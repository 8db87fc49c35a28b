//! The tests: each starts a plugin process, sends it signals, and looks at how it ended.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use libtest_mimic::Arguments;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};

use crate::common::process::Process;
use crate::common::trials::trials;
use crate::plugin::{AGENT, ROLE};
use crate::process::{INTERRUPT, Signal, TERMINATE, died_of, end, program, send};

/// How long to wait for a plugin: less than the watchdog does, which cannot end the process.
const PATIENCE: Duration = Duration::from_secs(20);
/// What a process ended by a further signal returns.
const INTERRUPTED: i32 = 130;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // They mostly wait.
    arguments.test_threads.get_or_insert(8);
    let trials = trials![
        an_interrupt_ends_a_plugin_in_order,
        a_signal_during_the_handshake_ends_it,
        a_signal_reaches_every_session_of_the_process,
        a_runner_that_starts_after_the_signal_sees_it_too,
        two_signals_at_once_do_not_cut_the_drain_short,
        a_further_signal_cuts_the_drain_short,
        a_further_signal_ends_a_process_whose_body_does_not_return,
        a_further_signal_ends_a_process_whose_on_close_does_not_return,
        a_further_signal_ends_a_process_without_a_session,
        a_host_with_a_handler_of_its_own_is_told_what_to_do,
        a_signal_that_nobody_handles_kills,
        #[cfg(unix)]
        sigterm_ends_a_plugin_in_order,
        #[cfg(unix)]
        sighup_ends_a_plugin_in_order,
        #[cfg(unix)]
        signals_ignored_on_entry_end_a_plugin_in_order,
        #[cfg(unix)]
        a_host_that_waits_for_signals_itself_gets_them,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A plugin process. It does not outlive its test.
struct Plugin {
    process: Process,
    lines: Receiver<String>,
}

impl Plugin {
    fn start(role: &str, agent: &TestAgent) -> Self {
        Self::spawn(program(), role, agent)
    }

    /// As `nohup` and a shell's `&` start it.
    #[cfg(unix)]
    fn start_with_signals_ignored(role: &str, agent: &TestAgent) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", r#"trap "" HUP INT; exec "$0""#]).arg(std::env::current_exe().unwrap());
        Self::spawn(shell, role, agent)
    }

    fn spawn(mut command: Command, role: &str, agent: &TestAgent) -> Self {
        command.env(ROLE, role).env(AGENT, agent.path()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            output.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { process, lines }
    }

    fn send(&mut self, signal: Signal) {
        send(&mut self.process.0, signal);
    }

    /// The next line that it prints.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line")
    }

    /// The time to do the wrong thing in.
    fn says_nothing(&self) {
        let said = self.lines.recv_timeout(Duration::from_millis(500));
        assert_eq!(said, Err(RecvTimeoutError::Timeout));
    }

    fn count(&self) -> usize {
        self.line().parse().expect("a count")
    }

    fn exit_status(&mut self) -> ExitStatus {
        let over = self.lines.recv_timeout(PATIENCE);
        // The end of its output is its own.
        assert_eq!(over, Err(RecvTimeoutError::Disconnected));
        self.process.0.wait().unwrap()
    }

    fn succeeds(&mut self) {
        assert!(self.exit_status().success());
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        end(&mut self.process.0);
    }
}

/// Starts a plugin that streams, in `sessions` sessions at once, and lets it.
fn streaming(role: &str, agent: &TestAgent, sessions: usize) -> Plugin {
    let plugin = Plugin::start(role, agent);
    assert_streaming(agent, sessions);
    plugin
}

fn assert_streaming(agent: &TestAgent, sessions: usize) {
    assert!(agent.wait_until(PATIENCE, |all| {
        all.iter().filter(|s| s.events().count() >= 10).count() == sessions
    }));
}

/// The agent's sessions, all of which ended with goodbye and have lost no event.
fn ended_in_order(agent: &TestAgent) -> Vec<RecordedSession> {
    assert!(agent.wait_until(PATIENCE, |all| all.iter().all(|s| s.end.is_some())));
    let sessions = agent.sessions();
    for session in &sessions {
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!(session.missing_seqs(), 0);
    }
    sessions
}

/// Asserts that everything was delivered that plugins `accepted` while they streamed.
fn assert_delivered<const N: usize>(agent: &TestAgent, mut accepted: [usize; N]) {
    let sessions = ended_in_order(agent);
    let mut delivered: Vec<_> = sessions.iter().map(|s| s.events().count()).collect();
    accepted.sort_unstable();
    delivered.sort_unstable();
    assert_eq!(delivered.len(), N);
    for (delivered, accepted) in delivered.into_iter().zip(accepted) {
        // An event refused at the instant of the shutdown may have reached the agent all the same.
        let promised = accepted..=accepted + 1;
        assert!(promised.contains(&delivered), "{delivered} of {accepted}");
    }
}

/// The first signal has been seen: lets pass the second after which another one is further.
fn wait_until_a_signal_is_further() {
    // This second is what is tested, and nothing shows its end.
    thread::sleep(Duration::from_secs(1));
}

fn ends_in_order(mut plugin: Plugin, agent: &TestAgent, signal: Signal) {
    assert_streaming(agent, 1);
    plugin.send(signal);
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(agent, [accepted]);
}

fn an_interrupt_ends_a_plugin_in_order() {
    let agent = TestAgent::start().unwrap();
    ends_in_order(Plugin::start("streams", &agent), &agent, INTERRUPT);
}

#[cfg(unix)]
fn sigterm_ends_a_plugin_in_order() {
    let agent = TestAgent::start().unwrap();
    ends_in_order(Plugin::start("streams", &agent), &agent, Signal::SIGTERM);
}

#[cfg(unix)]
fn sighup_ends_a_plugin_in_order() {
    let agent = TestAgent::start().unwrap();
    ends_in_order(Plugin::start("streams", &agent), &agent, Signal::SIGHUP);
}

#[cfg(unix)]
fn signals_ignored_on_entry_end_a_plugin_in_order() {
    for signal in [Signal::SIGHUP, Signal::SIGINT] {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start_with_signals_ignored("streams", &agent);
        ends_in_order(plugin, &agent, signal);
    }
}

fn a_signal_during_the_handshake_ends_it() {
    let agent = TestAgent::with(Script::new().never_answer()).unwrap();
    let mut plugin = Plugin::start("has_no_session", &agent);
    assert!(agent.wait_until(PATIENCE, |all| all.iter().any(|s| s.hello.is_some())));
    plugin.send(TERMINATE);
    plugin.succeeds();
}

fn a_signal_reaches_every_session_of_the_process() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("has_two_sessions_at_once", &agent, 2);
    plugin.send(INTERRUPT);
    let accepted = [plugin.count(), plugin.count()];
    plugin.succeeds();
    assert_delivered(&agent, accepted);
}

fn a_runner_that_starts_after_the_signal_sees_it_too() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("has_one_session_after_another", &agent, 1);
    plugin.send(INTERRUPT);
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(&agent, [accepted]);
}

fn two_signals_at_once_do_not_cut_the_drain_short() {
    let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
    let mut plugin = Plugin::start("fills_the_queue", &agent);
    let accepted = plugin.count();
    // Of two of the same kind Unix may make one.
    plugin.send(INTERRUPT);
    plugin.send(TERMINATE);
    assert_eq!(plugin.line(), "shutting down");
    plugin.says_nothing();
    agent.resume();
    plugin.succeeds();
    assert_eq!(ended_in_order(&agent)[0].events().count(), accepted);
}

fn a_further_signal_cuts_the_drain_short() {
    let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
    let mut plugin = Plugin::start("fills_the_queue", &agent);
    let accepted = plugin.count();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "shutting down");
    wait_until_a_signal_is_further();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "undelivered");
    assert_eq!(plugin.exit_status().code(), Some(1));
    agent.resume();
    let session = agent.ended_session(PATIENCE).unwrap();
    assert!(matches!(session.end, Some(SessionEnd::Disconnected { .. })));
    assert!(session.events().count() < accepted);
}

fn a_further_signal_ends_a_process_whose_body_does_not_return() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = Plugin::start("does_not_return", &agent);
    assert_eq!(plugin.line(), "in session");
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "shutting down");
    wait_until_a_signal_is_further();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
    ended_in_order(&agent);
}

fn a_further_signal_ends_a_process_whose_on_close_does_not_return() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = Plugin::start("does_not_return_from_on_close", &agent);
    assert_eq!(plugin.line(), "in session");
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "closed");
    wait_until_a_signal_is_further();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
    ended_in_order(&agent);
}

fn a_further_signal_ends_a_process_without_a_session() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("outlives_its_session", &agent, 1);
    plugin.send(TERMINATE);
    plugin.count();
    assert_eq!(plugin.line(), "session over");
    wait_until_a_signal_is_further();
    plugin.send(TERMINATE);
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
}

#[cfg(unix)]
fn a_host_that_waits_for_signals_itself_gets_them() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("waits_for_signals_itself", &agent, 1);
    plugin.send(TERMINATE);
    assert_eq!(plugin.line(), "the host got SIGTERM");
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(&agent, [accepted]);
}

fn a_host_with_a_handler_of_its_own_is_told_what_to_do() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("has_a_handler_of_its_own", &agent, 1);
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "the host's handler ran");
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(&agent, [accepted]);
}

fn a_signal_that_nobody_handles_kills() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("leaves_signals_alone", &agent, 1);
    plugin.send(TERMINATE);
    let status = plugin.exit_status();
    assert!(died_of(status, TERMINATE), "{status}");
    let session = agent.ended_session(PATIENCE).unwrap();
    assert!(matches!(session.end, Some(SessionEnd::Disconnected { .. })));
}
