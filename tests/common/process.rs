//! Processes that a test starts, such as an example. They are killed when the test ends.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use wedr_plugin_sdk::testing::TestAgent;

use crate::common::example;

/// How long a test waits for a process: less than the watchdog, which cannot kill the process.
pub const PROCESS_LIMIT: Duration = Duration::from_secs(40);

/// A process that is killed and reaped when this is dropped.
pub struct Process(pub Child);

impl Process {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("a process"))
    }

    /// Kills the process, and returns when it has ended.
    pub fn kill(&mut self) {
        // Both fail only if the process was reaped before.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Stops the process (SIGSTOP), and returns when it has stopped.
    #[cfg(unix)]
    pub fn stop(&self) {
        use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
        self.send(nix::sys::signal::SIGSTOP);
        let status = waitpid(self.id(), Some(WaitPidFlag::WUNTRACED)).unwrap();
        assert!(matches!(status, WaitStatus::Stopped(..)), "{status:?}");
    }

    #[cfg(unix)]
    pub fn resume(&self) {
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
    /// The lines of its standard error that the test has not read yet.
    lines: Receiver<String>,
    printed: String,
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
        Self { process, lines, printed: String::new() }
    }

    /// Waits for a line on its standard error that contains `wanted`, and returns the line.
    pub fn says(&mut self, wanted: &str) -> String {
        loop {
            let line = self.lines.recv_timeout(PROCESS_LIMIT).unwrap_or_else(|_| {
                panic!("it did not print {wanted:?}, but:\n{}", self.printed);
            });
            self.keep(&line);
            if line.contains(wanted) {
                return line;
            }
        }
    }

    #[cfg(unix)]
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits until the process has ended by itself, and until no process has its standard error open any
    /// more. Also returns the remaining text of its standard error.
    pub fn ended(mut self) -> (ExitStatus, String) {
        loop {
            match self.lines.recv_timeout(PROCESS_LIMIT) {
                Ok(line) => self.keep(&line),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("it does not end; it printed:\n{}", self.printed)
                }
            }
        }
        (self.process.0.wait().unwrap(), std::mem::take(&mut self.printed))
    }

    fn keep(&mut self, line: &str) {
        self.printed.push_str(line);
        self.printed.push('\n');
    }

    #[cfg(unix)]
    pub fn terminate(&self) {
        self.process.send(nix::sys::signal::SIGTERM);
    }

    /// Stops the process (SIGSTOP), and returns when it has stopped.
    #[cfg(unix)]
    pub fn stop(&self) {
        self.process.stop();
    }

    #[cfg(unix)]
    pub fn resume(&self) {
        self.process.resume();
    }
}
