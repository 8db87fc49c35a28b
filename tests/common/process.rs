//! Processes that a test starts, and an example as one of them. They do not outlive their test.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use wedr_plugin_sdk::testing::TestAgent;

use crate::common::example;

/// Less than the watchdog, so that a test that fails still kills its processes.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// Killed and reaped when it is dropped: it does not outlive its test.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("a process"))
    }

    /// Returns once it is dead.
    pub fn kill(&mut self) {
        // Both fail only if it has ended and was waited for.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Returns once it stands still.
    #[cfg(unix)]
    pub fn stop(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        self.send(nix::sys::signal::SIGSTOP);
        let status = waitpid(self.id(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    #[cfg(unix)]
    pub fn go_on(&self) {
        self.send(nix::sys::signal::SIGCONT);
    }

    #[cfg(unix)]
    pub fn send(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(self.id(), signal).expect("a process that was not waited for");
    }

    #[cfg(unix)]
    fn id(&self) -> nix::unistd::Pid {
        nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).expect("a process' id"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A plugin's process.
pub struct Plugin {
    process: Process,
    /// The lines of its standard error that are yet to be looked at.
    lines: Receiver<String>,
    said: String,
}

impl Plugin {
    pub fn start<A: AsRef<OsStr>>(
        name: &str,
        agent: &TestAgent,
        arguments: impl IntoIterator<Item = A>,
    ) -> Self {
        Self::spawn(Self::command(name, agent).args(arguments))
    }

    pub fn command(name: &str, agent: &TestAgent) -> Command {
        let mut command = Command::new(example(name));
        command.env("WEDR_PIPE_PATH", agent.path()).env("WEDR_PLUGIN_ID", "example-test");
        command
    }

    pub fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = Process::start(command);
        let stderr = BufReader::new(process.0.stderr.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|line| send.send(line))
        });
        Self { process, lines, said: String::new() }
    }

    /// Waits until it says a line with this in it on its standard error, and returns the line.
    pub fn says(&mut self, wanted: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("it did not say {wanted:?}, but:\n{}", self.said);
            });
            self.keep(&line);
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Does this again and again until it says a line with `wanted` in it.
    pub fn says_during(&mut self, wanted: &str, mut action: impl FnMut()) {
        let began = Instant::now();
        while !self.said.contains(wanted) {
            assert!(began.elapsed() < PATIENCE, "it did not say {wanted:?}, but:\n{}", self.said);
            action();
            while let Ok(line) = self.lines.try_recv() {
                self.keep(&line);
            }
        }
    }

    /// Waits until it has ended by itself, and nobody else can write to its standard error; returns
    /// also what was said there.
    pub fn ended(mut self) -> (ExitStatus, String) {
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => self.keep(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end; it said:\n{}", self.said)
                }
            }
        }
        (self.process.0.wait().unwrap(), std::mem::take(&mut self.said))
    }

    fn keep(&mut self, line: &str) {
        self.said.push_str(line);
        self.said.push('\n');
    }

    #[cfg(unix)]
    pub fn terminate(&self) {
        self.process.send(nix::sys::signal::SIGTERM);
    }

    /// Returns once it stands still.
    #[cfg(unix)]
    pub fn stop(&self) {
        self.process.stop();
    }

    #[cfg(unix)]
    pub fn resume(&self) {
        self.process.go_on();
    }
}
