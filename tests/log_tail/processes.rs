//! The process that writes the log, from outside. It is killed when its test fails.

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
    // Dropped last: without commands it ends by itself.
    _process: Process,
}

impl Writer {
    /// Starts it; the file is there once it has done something.
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

    /// Has it do these, and returns when they are done.
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
