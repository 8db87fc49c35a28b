//! A host's process, from the side of the test.

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use crate::common::process::{PROCESS_LIMIT, Process};

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";
/// The environment variable with the agent's path.
pub(crate) const AGENT: &str = "WEDR_TEST_AGENT";

/// A host's process.
pub(crate) struct Host {
    process: Process,
    /// What the host wrote to its standard output, after it has ended.
    said: Receiver<String>,
}

impl Host {
    /// Starts this binary in a role.
    pub(crate) fn start(role: &str, agent: &Path) -> Self {
        Self::spawn(&mut Command::new(std::env::current_exe().unwrap()), role, agent)
    }

    pub(crate) fn spawn(command: &mut Command, role: &str, agent: &Path) -> Self {
        command.env(ROLE, role).env(AGENT, agent).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(command);
        let mut output = process.0.stdout.take().unwrap();
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            let mut all = String::new();
            output.read_to_string(&mut all).unwrap();
            // An error means that the test has failed.
            let _ = send.send(all);
        });
        Self { process, said }
    }

    #[cfg(unix)]
    pub(crate) fn send(&self, signal: nix::sys::signal::Signal) {
        self.process.send(signal);
    }

    #[cfg(unix)]
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.process.0.id()).unwrap())
    }

    /// Closes the host's standard input. Some hosts wait for that.
    #[cfg(unix)]
    pub(crate) fn closes_stdin(&mut self) {
        drop(self.process.0.stdin.take());
    }

    /// Waits until the host has ended by itself. Also returns what it printed.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let said = self.said.recv_timeout(PROCESS_LIMIT).expect("it ends");
        (self.process.0.wait().unwrap(), said)
    }

    pub(crate) fn succeeds(self) {
        let (status, _) = self.ended();
        assert!(status.success(), "{status}");
    }
}
