//! The agent's process, as the test sees it.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use wedr_plugin_sdk::Runner;
use wedr_plugin_sdk::testing::{Event, PluginMessage};

use crate::agent::ROLE;
use crate::common::process::Process;

/// An agent in a process of its own. It does not outlive its test.
pub(crate) struct Agent {
    process: Process,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    path: PathBuf,
}

/// What the agent saw of its session.
pub(crate) struct Seen {
    pub(crate) messages: Vec<PluginMessage>,
    pub(crate) end: String,
}

impl Agent {
    pub(crate) fn start(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let commands = process.0.stdin.take().unwrap();
        let mut answers = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let path = answers.next().expect("it says its path").unwrap().into();
        Self { process, commands, answers, path }
    }

    /// One that reads, and stops when the test says so. Windows stops no process: there it stops
    /// reading by itself.
    pub(crate) fn start_to_be_stopped() -> Self {
        Self::start(if cfg!(unix) { "reads" } else { "reads_5000_events" })
    }

    /// Returns once it stands still.
    #[cfg_attr(windows, allow(clippy::unused_self))]
    pub(crate) fn stop(&self) {
        #[cfg(unix)]
        self.process.stop();
    }

    pub(crate) fn go_on(&mut self) {
        #[cfg(unix)]
        self.process.go_on();
        #[cfg(windows)]
        assert!(self.does("resume").is_empty());
    }

    /// Returns once it is dead.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn runner(&self) -> Runner {
        Runner::new().pipe_path(&self.path).install_signal_handler(false)
    }

    pub(crate) fn waits_for_hello(&mut self) {
        assert!(self.does("wait for hello").is_empty());
    }

    /// The session, once it has ended.
    pub(crate) fn session(&mut self) -> Seen {
        let mut told = self.does("tell the session");
        let end = told.pop().expect("the session's end");
        let messages = told.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        Seen { messages, end }
    }

    /// Has it do this; returns what it says of it.
    fn does(&mut self, command: &str) -> Vec<String> {
        writeln!(self.commands, "{command}").unwrap();
        let answers = self.answers.by_ref().map(|line| line.expect("an answer"));
        answers.take_while(|line| line != "done").collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.process.kill();
        if cfg!(unix) {
            // It may have had no time to remove them.
            let _ = std::fs::remove_file(&self.path);
            let _ = self.path.parent().map(std::fs::remove_dir);
        }
    }
}

impl Seen {
    pub(crate) fn events(&self) -> impl Iterator<Item = &Event> {
        self.messages.iter().filter_map(|message| match message {
            PluginMessage::Event(event) => Some(event),
            _ => None,
        })
    }

    /// How many numbers `seq` has skipped. Asserts that it rises.
    pub(crate) fn missing_seqs(&self) -> u64 {
        let (mut next, mut missing) = (0, 0);
        for message in &self.messages {
            let seq = match message {
                PluginMessage::Event(event) => event.seq,
                PluginMessage::Heartbeat { seq } => *seq,
                _ => continue,
            };
            assert!(seq >= next, "{seq} after {next}");
            missing += seq - next;
            next = seq + 1;
        }
        missing
    }
}
