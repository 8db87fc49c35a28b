//! The tests: each starts a plugin process, sends signals to it, and checks how it ended.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use libtest_mimic::Arguments;
use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Process};
use crate::common::trials::trials;
use crate::plugin::{AGENT, ROLE};
use crate::process::{INTERRUPT, Signal, TERMINATE, died_of, end, program, send};

/// The exit status of a process that a further signal ended.
const INTERRUPTED: i32 = 130;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Most of the time these tests wait.
    arguments.test_threads.get_or_insert(8);
    let trials = trials![
        interrupt_ends_a_plugin_in_order,
        signal_during_the_handshake_ends_the_handshake,
        signal_reaches_every_session_of_the_process,
        signal_reaches_later_runners,
        two_signals_at_once_do_not_cut_the_drain_short,
        further_signal_cuts_the_drain_short,
        further_signal_ends_a_process_with_a_hanging_body,
        further_signal_ends_a_process_with_a_hanging_on_close,
        further_signal_ends_a_process_without_a_session,
        further_signal_in_the_drain_ends_a_hanging_on_close,
        first_signal_without_a_session_does_not_end_the_process,
        existing_ctrlc_handler_is_an_error_with_a_remedy,
        signal_without_a_handler_kills,
        #[cfg(unix)]
        sigterm_ends_a_plugin_in_order,
        #[cfg(unix)]
        sighup_ends_a_plugin_in_order,
        #[cfg(unix)]
        signals_ignored_on_entry_end_a_plugin_in_order,
        #[cfg(unix)]
        host_that_waits_for_signals_itself_gets_them,
        #[cfg(unix)]
        signals_blocked_on_entry_end_a_plugin_in_order,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A plugin process, which is killed when the test ends.
struct Plugin {
    process: Process,
    lines: Receiver<String>,
}

impl Plugin {
    fn start(role: &str, agent: &TestAgent) -> Self {
        Self::spawn(program(), role, agent)
    }

    /// Starts it as `nohup` and a shell's `&` do.
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

    /// The next line that the plugin prints.
    fn line(&self) -> String {
        self.lines.recv_timeout(PROCESS_LIMIT).expect("a line")
    }

    /// Checks that the plugin prints nothing and does not end, for a time in which a plugin with a defect would
    /// end.
    fn says_nothing(&self) {
        let said = self.lines.recv_timeout(Duration::from_millis(500));
        assert_eq!(said, Err(RecvTimeoutError::Timeout));
    }

    fn count(&self) -> usize {
        self.line().parse().expect("a count")
    }

    fn exit_status(&mut self) -> ExitStatus {
        let over = self.lines.recv_timeout(PROCESS_LIMIT);
        // Its standard output ends when it ends.
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

/// Starts a plugin that emits, in `sessions` sessions at the same time, and waits until it has emitted.
fn streaming(role: &str, agent: &TestAgent, sessions: usize) -> Plugin {
    let plugin = Plugin::start(role, agent);
    assert_streaming(agent, sessions);
    plugin
}

fn assert_streaming(agent: &TestAgent, sessions: usize) {
    assert!(agent.wait_until(PROCESS_LIMIT, |all| {
        all.iter().filter(|s| s.events().count() >= 10).count() == sessions
    }));
}

/// The agent's sessions. Checks that all ended with goodbye and without a lost event.
fn ended_in_order(agent: &TestAgent) -> Vec<RecordedSession> {
    assert!(agent.wait_until(PROCESS_LIMIT, |all| all.iter().all(|s| s.end.is_some())));
    let sessions = agent.sessions();
    for session in &sessions {
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        assert_eq!(session.missing_seqs(), 0);
    }
    sessions
}

/// Asserts that the agent received all events that the sessions `accepted`.
fn assert_delivered<const N: usize>(agent: &TestAgent, mut accepted: [usize; N]) {
    let sessions = ended_in_order(agent);
    let mut delivered: Vec<_> = sessions.iter().map(|s| s.events().count()).collect();
    accepted.sort_unstable();
    delivered.sort_unstable();
    assert_eq!(delivered.len(), N);
    for (delivered, accepted) in delivered.into_iter().zip(accepted) {
        // An event whose `emit` failed at the moment of the shutdown may have reached the agent.
        let promised = accepted..=accepted + 1;
        assert!(promised.contains(&delivered), "{delivered} of {accepted}");
    }
}

/// The plugin has got the first signal. Waits for the second after which another signal is a further one.
fn wait_until_a_signal_is_further() {
    // A fixed time: the test is about this second.
    thread::sleep(Duration::from_secs(1));
}

fn ends_in_order(mut plugin: Plugin, agent: &TestAgent, signal: Signal) {
    assert_streaming(agent, 1);
    plugin.send(signal);
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(agent, [accepted]);
}

fn interrupt_ends_a_plugin_in_order() {
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

fn signal_during_the_handshake_ends_the_handshake() {
    let agent = TestAgent::with(Script::new().never_answer()).unwrap();
    let mut plugin = Plugin::start("has_no_session", &agent);
    assert!(agent.wait_until(PROCESS_LIMIT, |all| all.iter().any(|s| s.hello.is_some())));
    plugin.send(TERMINATE);
    plugin.succeeds();
}

fn signal_reaches_every_session_of_the_process() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("has_two_sessions_at_once", &agent, 2);
    plugin.send(INTERRUPT);
    let accepted = [plugin.count(), plugin.count()];
    plugin.succeeds();
    assert_delivered(&agent, accepted);
}

fn signal_reaches_later_runners() {
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
    // Unix may merge two signals of the same kind.
    plugin.send(INTERRUPT);
    plugin.send(TERMINATE);
    assert_eq!(plugin.line(), "shutting down");
    plugin.says_nothing();
    agent.resume();
    plugin.succeeds();
    assert_eq!(ended_in_order(&agent)[0].events().count(), accepted);
}

fn further_signal_cuts_the_drain_short() {
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
    let session = agent.ended_session(PROCESS_LIMIT).unwrap();
    assert!(matches!(session.end, Some(SessionEnd::Disconnected { .. })));
    assert!(session.events().count() < accepted);
}

fn further_signal_ends_a_process_with_a_hanging_body() {
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

fn further_signal_ends_a_process_with_a_hanging_on_close() {
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

fn further_signal_ends_a_process_without_a_session() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("outlives_its_session", &agent, 1);
    plugin.send(TERMINATE);
    plugin.count();
    assert_eq!(plugin.line(), "session over");
    wait_until_a_signal_is_further();
    plugin.send(TERMINATE);
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
}

fn further_signal_in_the_drain_ends_a_hanging_on_close() {
    let agent = TestAgent::with(Script::new().stop_reading_after(0)).unwrap();
    let mut plugin = Plugin::start("hangs_in_on_close_after_the_drain", &agent);
    assert_eq!(plugin.line(), "full");
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "shutting down");
    wait_until_a_signal_is_further();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "closed");
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
}

fn first_signal_without_a_session_does_not_end_the_process() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = Plugin::start("waits_after_its_session", &agent);
    assert_eq!(plugin.line(), "session over");
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "signalled");
    plugin.says_nothing();
    wait_until_a_signal_is_further();
    plugin.send(INTERRUPT);
    assert_eq!(plugin.exit_status().code(), Some(INTERRUPTED));
}

#[cfg(unix)]
fn signals_blocked_on_entry_end_a_plugin_in_order() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("starts_with_signals_blocked", &agent);
        ends_in_order(plugin, &agent, signal);
    }
}

#[cfg(unix)]
fn host_that_waits_for_signals_itself_gets_them() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("waits_for_signals_itself", &agent, 1);
    plugin.send(TERMINATE);
    assert_eq!(plugin.line(), "the host got SIGTERM");
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(&agent, [accepted]);
}

fn existing_ctrlc_handler_is_an_error_with_a_remedy() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("has_a_handler_of_its_own", &agent, 1);
    plugin.send(INTERRUPT);
    assert_eq!(plugin.line(), "the host's handler ran");
    let accepted = plugin.count();
    plugin.succeeds();
    assert_delivered(&agent, [accepted]);
}

fn signal_without_a_handler_kills() {
    let agent = TestAgent::start().unwrap();
    let mut plugin = streaming("leaves_signals_alone", &agent, 1);
    plugin.send(TERMINATE);
    let status = plugin.exit_status();
    assert!(died_of(status, TERMINATE), "{status}");
    let session = agent.ended_session(PROCESS_LIMIT).unwrap();
    assert!(matches!(session.end, Some(SessionEnd::Disconnected { .. })));
}
