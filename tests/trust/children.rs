//! Processes of other users: this test binary, started again to run one test.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use tempfile::TempDir;
use wedr_plugin_sdk::{AgentTrust, Error, Result, Runner};

use crate::common::metadata;
use crate::common::process::Process;
use crate::raw::{self, RawAgent};

/// A user that is not the overflow user, for which a user namespace has other rules.
pub const DAEMON: u32 = 1;
/// The overflow user, unless the system has another setting.
pub const OVERFLOW_USER: u32 = 65534;
/// Set in a child: the path of the socket at which it listens, or to which it connects.
pub const SOCKET: &str = "WEDR_TEST_SOCKET";

pub fn own_uid() -> u32 {
    // The owner of files that this process creates.
    tempfile::tempfile().unwrap().metadata().unwrap().uid()
}

/// Another user than that of this process, if this process may start processes of other users.
pub fn other_uid() -> u32 {
    if own_uid() == 0 { DAEMON } else { own_uid() }
}

/// A temporary folder that any user may enter and write to.
pub fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    allow(folder.path(), 0o777);
    folder
}

pub fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A program that is open for writing cannot be started. A child that starts meanwhile may keep it open for
/// a moment.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Starts this test binary as the user `uid`, to run only the test `name`, with [`SOCKET`] set. Its standard
/// streams are pipes.
pub fn start_child(name: &str, uid: u32, socket: &Path, folder: &TempDir) -> Child {
    start_child_by(&[], name, uid, socket, folder)
}

/// The same, through the program and arguments in `launcher`.
pub fn start_child_by(
    launcher: &[&str],
    name: &str,
    uid: u32,
    socket: &Path,
    folder: &TempDir,
) -> Child {
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    // Other users may have no access to the binary's own folder.
    let program = folder.path().join("test-binary");
    if !program.exists() {
        fs::copy(env::current_exe().unwrap(), &program).unwrap();
    }
    allow(&program, 0o755);
    let mut command = match launcher {
        [] => Command::new(program),
        [launcher, arguments @ ..] => {
            let mut command = Command::new(launcher);
            command.args(arguments).arg(program);
            command
        }
    };
    if uid != own_uid() {
        command.uid(uid);
    }
    command
        .args(["--exact", name, "--nocapture"])
        .env(SOCKET, socket)
        .env("TMPDIR", folder.path())
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits for the child's end. Checks that it has run the one test, and that the test passed.
pub fn assert_passes(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

pub fn run(socket: impl Into<PathBuf>, trust: AgentTrust) -> Result<()> {
    Runner::new()
        .pipe_path(socket)
        .install_signal_handler(false)
        .trusted_agent(trust)
        .run_with(metadata(), |_, _| Ok(()))
}

/// The text of the error about an agent that is not trusted.
pub fn untrusted(result: Result<()>) -> String {
    match result {
        Err(error @ Error::UntrustedAgent(_)) => {
            assert!(!error.is_permanent());
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

/// An agent in a child process of another user; if this process is root, of [`OVERFLOW_USER`].
pub struct ForeignAgent {
    child: Process,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl ForeignAgent {
    pub fn start(name: &str, socket: &Path, folder: &TempDir) -> Self {
        Self::of(start_child(name, other_uid(), socket, folder))
    }

    pub fn of(child: Child) -> Self {
        let mut child = Process(child);
        let lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
        let mut agent = Self { child, lines };
        assert_eq!(agent.says(), "listens");
        agent
    }

    /// The next line that the child prints.
    pub fn says(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the child still runs").unwrap();
            // The test harness may have printed the beginning of the line.
            if let Some((_, said)) = line.split_once("agent: ") {
                return said.to_owned();
            }
        }
    }

    /// The code of the child: serves every client, and prints whether the client has sent hello.
    pub fn serve(socket: &OsStr) {
        let agent = RawAgent::at(socket.into());
        println!("agent: listens");
        std::thread::spawn(move || {
            loop {
                let mut pipe = agent.accept();
                if pipe.next_frame().is_some() {
                    println!("agent: got hello");
                    pipe.send(&raw::frame(raw::ACK)).unwrap();
                    pipe.rest_of_session();
                } else {
                    println!("agent: got nothing");
                }
            }
        });
        // This returns when the parent closes its end, or has ended.
        io::stdin().read_line(&mut String::new()).unwrap();
    }
}

impl Drop for ForeignAgent {
    fn drop(&mut self) {
        // The child ends in order when its input ends.
        drop(self.child.0.stdin.take());
        let _ = self.child.0.wait();
    }
}
