//! A host's process, as the test sees it.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";
/// The environment variable with the agent's path.
pub(crate) const AGENT: &str = "WEDR_TEST_AGENT";

/// How long to wait for a process: less than the watchdog does, which cannot end it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A host. It does not outlive its test.
pub(crate) struct Host {
    process: Child,
    /// What it wrote to its standard output, once it has ended.
    said: Receiver<String>,
}

impl Host {
    /// Starts this binary in a role.
    pub(crate) fn start(role: &str, agent: &Path) -> Self {
        Self::spawn(&mut Command::new(std::env::current_exe().unwrap()), role, agent)
    }

    pub(crate) fn spawn(command: &mut Command, role: &str, agent: &Path) -> Self {
        let mut process = command
            .env(ROLE, role)
            .env(AGENT, agent)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = process.stdout.take().unwrap();
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            let mut all = String::new();
            output.read_to_string(&mut all).unwrap();
            // Err if the test has failed.
            let _ = send.send(all);
        });
        Self { process, said }
    }

    #[cfg(unix)]
    pub(crate) fn send(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.pid(), signal).unwrap();
    }

    #[cfg(unix)]
    pub(crate) fn pid(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// Closes its standard input, which it may wait for.
    #[cfg(unix)]
    pub(crate) fn closes_stdin(&mut self) {
        drop(self.process.stdin.take());
    }

    /// Waits until it has ended by itself; returns also what it said.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let said = self.said.recv_timeout(PATIENCE).expect("it ends");
        (self.process.wait().unwrap(), said)
    }

    pub(crate) fn succeeds(self) {
        let (status, _) = self.ended();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Does nothing to one that has been waited for.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
