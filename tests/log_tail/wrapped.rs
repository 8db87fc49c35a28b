//! Commands that start the plugin as another user, in another namespace, or with other limits.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use wedr_plugin_sdk::testing::TestAgent;

/// Starts `command` through a shell. The shell writes its process id, which the plugin keeps, to `pid`, and
/// runs `script` first.
pub(crate) fn through_shell(command: &Command, pid: &Path, script: &str) -> Command {
    let script = format!("echo $$ >'{}' && {script} exec \"$@\"", pid.display());
    wrapped(command, &["sh", "-c", &script, "sh"])
}

/// Passes `command` as arguments to another command.
pub(crate) fn wrapped(command: &Command, wrapper: &[&str]) -> Command {
    let mut outer = Command::new(wrapper[0]);
    outer.args(&wrapper[1..]).arg(command.get_program()).args(command.get_args());
    outer.envs(variables(command));
    outer
}

fn variables(command: &Command) -> impl Iterator<Item = (&OsStr, &OsStr)> {
    command.get_envs().filter_map(|(name, value)| Some((name, value?)))
}

pub(crate) fn pid(file: &Path) -> String {
    fs::read_to_string(file).unwrap().trim().to_owned()
}

/// Runs a command to its end.
#[track_caller]
pub(crate) fn run(command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).output();
    let output = output.unwrap_or_else(|e| panic!("{}: {e}: install it", command[0]));
    assert!(output.status.success(), "{command:?}: {output:?}");
}

/// A command to which the modes of files apply. Root runs it as the user `nobody`, who can reach the agent,
/// the log's folder and a copy of the binary there. Other users run it unchanged.
pub(crate) fn without_privileges(command: Command, agent: &TestAgent, folder: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return command;
    }
    let socket = agent.path();
    for (path, mode) in [(folder, 0o755), (socket.parent().unwrap(), 0o711), (socket, 0o777)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let binary = folder.join("log_tail");
    // Another process copies the file. While this process has a file open for writing, a process that another
    // test forks has it open too, and then the file cannot be executed.
    run(&["cp", command.get_program().to_str().unwrap(), binary.to_str().unwrap()]);
    let mut unprivileged = Command::new(binary);
    unprivileged.args(command.get_args()).envs(variables(&command));
    unprivileged.uid(65534).gid(65534);
    unprivileged
}
