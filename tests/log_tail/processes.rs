//! The process that writes the log, from the side of the test. It is killed if the test fails.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use crate::common::process::Process;
use crate::writer::{DONE, FILE};

/// The writer of the log.
pub(crate) struct Writer {
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    // Dropped last: the process ends when it gets no more commands.
    _process: Process,
}

impl Writer {
    /// Starts the process. It creates the file with its first command.
    pub(crate) fn start(file: &Path) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.env(FILE, file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        Self {
            commands: process.0.stdin.take().unwrap(),
            answers: BufReader::new(process.0.stdout.take().unwrap()),
            _process: process,
        }
    }

    /// Sends commands, and returns when the process has executed them.
    pub(crate) fn does(&mut self, commands: &[&str]) {
        for command in commands {
            writeln!(self.commands, "{command}").unwrap();
            let mut answer = String::new();
            self.answers.read_line(&mut answer).unwrap();
            assert_eq!(answer.trim_end(), DONE, "to {command:?}");
        }
    }

    pub(crate) fn writes(&mut self, bytes: impl AsRef<[u8]>) {
        let hex: Vec<_> = bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.does(&[&format!("hex {}", hex.concat())]);
    }
}
