//! The agent's process, from the side of the test.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use wedr_plugin_sdk::Runner;
use wedr_plugin_sdk::testing::{Event, PluginMessage};

use crate::agent::ROLE;
use crate::common::process::Process;

/// An agent in a process of its own, which is killed when the test ends.
pub(crate) struct Agent {
    process: Process,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    path: PathBuf,
}

/// What the agent saw of its session.
pub(crate) struct Seen {
    pub(crate) messages: Vec<PluginMessage>,
    pub(crate) missing_seqs: u64,
    pub(crate) end: String,
}

impl Agent {
    pub(crate) fn start(role: &str) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env(ROLE, role).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let commands = process.0.stdin.take().unwrap();
        let mut answers = BufReader::new(process.0.stdout.take().unwrap()).lines();
        let path = answers.next().expect("the agent prints its path").unwrap().into();
        Self { process, commands, answers, path }
    }

    /// An agent that reads until the test stops its process. Windows cannot stop a process: there the agent
    /// stops reading by itself.
    pub(crate) fn start_to_be_stopped() -> Self {
        Self::start(if cfg!(unix) { "reads" } else { "reads_5000_events" })
    }

    /// Returns when the process has stopped.
    #[cfg_attr(windows, allow(clippy::unused_self))]
    pub(crate) fn stop(&self) {
        #[cfg(unix)]
        self.process.stop();
    }

    pub(crate) fn resume(&mut self) {
        #[cfg(unix)]
        self.process.resume();
        #[cfg(windows)]
        assert!(self.does("resume").is_empty());
    }

    /// Returns when the process has ended.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    pub(crate) fn runner(&self) -> Runner {
        Runner::new().pipe_path(&self.path).install_signal_handler(false)
    }

    pub(crate) fn waits_for_hello(&mut self) {
        assert!(self.does("wait for hello").is_empty());
    }

    /// Waits for the end of the session and returns what the agent received.
    pub(crate) fn session(&mut self) -> Seen {
        let mut lines = self.does("print the session");
        let end = lines.pop().expect("the session's end");
        let missing_seqs = lines.pop().expect("the missing numbers").parse().unwrap();
        let messages = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        Seen { messages, missing_seqs, end }
    }

    /// Sends a command, and returns what the agent prints about it.
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
            // A killed agent cannot remove its socket and its folder.
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
}
