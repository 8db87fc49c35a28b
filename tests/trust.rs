//! Who may be at the other end of the pipe, and who may open it. What takes two users, root can
//! check: it starts this test binary again as nobody. Anybody else checks the same with one.
#![cfg(unix)]

mod common;
mod raw;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use common::{LIMIT, metadata, runner, watched};
use raw::RawAgent;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};
use wedr_plugin_sdk::{AgentTrust, Error, Result, Runner};

const NOBODY: u32 = 65534;
/// Set in a child: the socket that it is to listen on, or to connect to.
const SOCKET: &str = "WEDR_TEST_SOCKET";

fn own_uid() -> u32 {
    // That of whatever this process makes.
    tempfile::tempfile().unwrap().metadata().unwrap().uid()
}

/// Another user than this process' own, if it may become one.
fn other_uid() -> u32 {
    if own_uid() == 0 { NOBODY } else { own_uid() }
}

/// A folder that anybody may enter and write to, as long as it is there.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    allow(folder.path(), 0o777);
    folder
}

fn allow(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts this test binary as `uid`, to run the test `name` alone with [`SOCKET`] set. It speaks
/// through pipes.
fn start_child(name: &str, uid: u32, socket: &Path, folder: &TempDir) -> Child {
    // A program that is being written cannot be started, and a child that starts meanwhile may
    // hold it open a little longer.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _turn = ONE_AT_A_TIME.lock().unwrap();
    // The binary's own folder may be closed to others.
    let program = folder.path().join("test-binary");
    fs::copy(env::current_exe().unwrap(), &program).unwrap();
    allow(&program, 0o755);
    let mut command = Command::new(program);
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

/// Waits for the child's end; it must have run the one test, and passed it.
fn assert_passes(child: Child) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(out.contains("1 passed"), "{}\n{out}\n{err}", output.status);
}

fn run(socket: impl Into<PathBuf>, trust: AgentTrust) -> Result<()> {
    Runner::new()
        .pipe_path(socket)
        .install_signal_handler(false)
        .trusted_agent(trust)
        .run_with(metadata(), |_, _| Ok(()))
}

/// What an error says of an agent that is not trusted.
fn untrusted(result: Result<()>) -> String {
    match result {
        Err(error @ Error::UntrustedAgent(_)) => {
            assert!(error.is_permanent());
            error.to_string()
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_agent_of_another_user_than_was_named_gets_nothing() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (own, other) = (own_uid(), own_uid() + 1);
        let runner = runner(&agent)
            .trusted_agent(AgentTrust::Uid(other))
            .on_close(|report| panic!("on_close was called: {report:?}"));
        let message = untrusted(runner.run_with(metadata(), |_, _| panic!("the body ran")));
        assert!(message.contains(&format!("runs as user {own},")), "{message}");
        assert!(message.contains(&format!("only user {other} ")), "{message}");
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.hello, None);
        assert_eq!(session.end, Some(SessionEnd::Disconnected { mid_frame: false }));
    });
}

#[test]
fn an_agent_of_the_own_user_is_trusted_unless_another_was_named() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        for trust in [AgentTrust::OwnerOrRoot, AgentTrust::Uid(own_uid()), AgentTrust::Any] {
            runner(&agent).trusted_agent(trust).run_with(metadata(), |_, _| Ok(())).unwrap();
        }
        runner(&agent).run_with(metadata(), |_, _| Ok(())).unwrap();
        assert!(agent.wait_until(LIMIT, |all| {
            all.len() == 4 && all.iter().all(|one| one.end == Some(SessionEnd::Goodbye))
        }));
    });
}

/// An agent in a child that runs as another user; for root, as nobody.
struct ForeignAgent {
    child: Child,
    lines: io::Lines<BufReader<ChildStdout>>,
}

impl ForeignAgent {
    fn start(name: &str, socket: &Path, folder: &TempDir) -> Self {
        let mut child = start_child(name, other_uid(), socket, folder);
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut agent = Self { child, lines };
        assert_eq!(agent.says(), "listens");
        agent
    }

    /// What the child says next.
    fn says(&mut self) -> String {
        loop {
            let line = self.lines.next().expect("the child goes on").unwrap();
            // The test harness may have begun the line.
            if let Some((_, said)) = line.split_once("agent: ") {
                return said.to_owned();
            }
        }
    }

    /// What such a child does: serves whoever comes, and says what they sent first.
    fn be(socket: &OsStr) {
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
        // Until the parent is gone, or wants no more.
        io::stdin().read_line(&mut String::new()).unwrap();
    }
}

impl Drop for ForeignAgent {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

#[test]
fn an_agent_that_is_neither_root_nor_the_own_user_is_not_trusted() {
    if let Some(socket) = env::var_os(SOCKET) {
        return ForeignAgent::be(&socket);
    }
    watched(|| {
        let folder = open_folder();
        let socket = folder.path().join("plugin.sock");
        let name = "an_agent_that_is_neither_root_nor_the_own_user_is_not_trusted";
        let mut agent = ForeignAgent::start(name, &socket, &folder);
        let other = other_uid();
        if other == own_uid() {
            run(&socket, AgentTrust::OwnerOrRoot).unwrap();
            assert_eq!(agent.says(), "got hello");
        } else {
            let message = untrusted(run(&socket, AgentTrust::OwnerOrRoot));
            assert!(message.contains(&format!("user {other},")), "{message}");
            assert!(message.contains("neither root nor the plugin's own"), "{message}");
            assert_eq!(agent.says(), "got nothing");
            untrusted(run(&socket, AgentTrust::Uid(own_uid())));
            assert_eq!(agent.says(), "got nothing");
        }
        for trust in [AgentTrust::Uid(other), AgentTrust::Any] {
            run(&socket, trust).unwrap();
            assert_eq!(agent.says(), "got hello");
        }
    });
}

#[test]
fn an_agent_that_runs_as_root_is_trusted_by_any_user() {
    if let Some(socket) = env::var_os(SOCKET) {
        run(&socket, AgentTrust::OwnerOrRoot).unwrap();
        run(&socket, AgentTrust::Any).unwrap();
        if own_uid() == NOBODY {
            let message = untrusted(run(&socket, AgentTrust::Uid(NOBODY)));
            assert!(message.contains("runs as user 0,"), "{message}");
        }
        return;
    }
    watched(|| {
        let folder = open_folder();
        let agent = RawAgent::at(folder.path().join("plugin.sock"));
        allow(agent.path(), 0o777);
        let name = "an_agent_that_runs_as_root_is_trusted_by_any_user";
        std::thread::scope(|scope| {
            scope.spawn(|| {
                agent.accept().serve();
                agent.accept().serve();
            });
            assert_passes(start_child(name, other_uid(), agent.path(), &folder));
        });
    });
}

#[test]
fn a_pipe_that_may_not_be_opened_is_a_connect_error() {
    let denied = |socket: &OsStr| match run(socket, AgentTrust::default()) {
        Err(error @ Error::Connect { .. }) => {
            let message = error.to_string();
            assert!(message.contains("mend its permissions"), "{message}");
            assert!(!error.is_permanent());
        }
        other => panic!("{other:?}"),
    };
    if let Some(socket) = env::var_os(SOCKET) {
        return denied(&socket);
    }
    watched(move || {
        let folder = open_folder();
        let agent = RawAgent::at(folder.path().join("plugin.sock"));
        allow(agent.path(), 0o600);
        if other_uid() == own_uid() {
            allow(agent.path(), 0);
            denied(agent.path().as_os_str());
        } else {
            let name = "a_pipe_that_may_not_be_opened_is_a_connect_error";
            assert_passes(start_child(name, other_uid(), agent.path(), &folder));
        }
        assert!(!agent.was_connected_to());
    });
}
