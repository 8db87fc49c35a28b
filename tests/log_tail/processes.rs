//! The two processes that a test starts. Both are killed when it fails.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use wedr_plugin_sdk::testing::TestAgent;

use crate::common::process::Process;
use crate::writer::{DONE, FILE};

/// The example.
pub(crate) struct Plugin(Process);

impl Plugin {
    pub(crate) fn start(agent: &TestAgent, arguments: &[&str], file: &Path) -> Self {
        Self::spawn(Self::command(agent).args(arguments).arg(file))
    }

    pub(crate) fn command(agent: &TestAgent) -> Command {
        let mut command = Command::new(example());
        command.env("WEDR_PIPE_PATH", agent.path()).env("WEDR_PLUGIN_ID", "log-tail-test");
        command
    }

    pub(crate) fn spawn(command: &mut Command) -> Self {
        let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(Process::start(command))
    }

    /// Waits until it has ended by itself; returns also what it said on its standard error.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        self.0.0.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (self.0.0.wait().unwrap(), said)
    }

    #[cfg(unix)]
    pub(crate) fn terminate(&self) {
        self.0.send(nix::sys::signal::SIGTERM);
    }

    /// Returns once it stands still.
    #[cfg(unix)]
    pub(crate) fn stop(&self) {
        self.0.stop();
    }

    #[cfg(unix)]
    pub(crate) fn resume(&self) {
        self.0.go_on();
    }
}

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

/// The example's binary. `cargo test` builds it; `cargo test --test log_tail` uses the one that
/// is there, and builds it only if there is none.
fn example() -> &'static Path {
    static EXAMPLE: OnceLock<PathBuf> = OnceLock::new();
    EXAMPLE.get_or_init(|| {
        // <target directory>/[<triple>/]<profile>/deps/<this>
        let this = env::current_exe().unwrap();
        let profile = this.ancestors().nth(2).unwrap();
        let example =
            profile.join("examples").join("log_tail").with_extension(env::consts::EXE_EXTENSION);
        if !example.exists() {
            let name = match profile.file_name().unwrap() {
                debug if debug == "debug" => "dev".as_ref(),
                other => other,
            };
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--example", "log_tail", "--profile"]).arg(name);
            build.arg("--target-dir").arg(profile.parent().unwrap());
            assert!(build.status().unwrap().success(), "{build:?} failed");
        }
        assert!(
            example.exists(),
            "no {}: build it with `cargo build --example log_tail`",
            example.display()
        );
        example
    })
}
