//! A plugin as the agent launches it when the agent is a Windows service: without a console or a
//! terminal, and with its output discarded.

#[cfg(unix)]
pub(super) use unix::{become_plugin, spawn};
#[cfg(windows)]
pub(super) use windows::spawn;

#[cfg(windows)]
mod windows {
    use std::io;
    use std::os::windows::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    /// `DETACHED_PROCESS`
    const WITHOUT_CONSOLE: u32 = 8;

    /// Starts `command` without a console.
    pub(in super::super) fn spawn(command: &mut Command) -> io::Result<Child> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.creation_flags(WITHOUT_CONSOLE).spawn()
    }
}

#[cfg(unix)]
mod unix {
    use std::ffi::OsString;
    use std::fs::File;
    use std::io::{self, Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, ExitCode, Stdio};

    /// Starts `command` in a new session (`setsid`), which has no terminal. Only a process itself can
    /// create its session. So this program starts itself again, and the new process creates the session and
    /// becomes the plugin.
    pub(in super::super) fn spawn(command: &mut Command) -> io::Result<Child> {
        let mut own = Command::new(std::env::current_exe()?);
        own.arg("become-plugin").arg("--").arg(command.get_program()).args(command.get_args());
        own.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        own.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = own.spawn()?;
        // The pipe is closed when the process becomes the plugin. If the process cannot become the plugin,
        // it writes its error to the pipe before it ends.
        let mut failure = String::new();
        process.stderr.take().expect("it is piped").read_to_string(&mut failure)?;
        if failure.is_empty() {
            return Ok(process);
        }
        process.wait()?;
        Err(io::Error::other(failure))
    }

    /// Becomes the plugin. Returns only if that fails.
    pub(in super::super) fn become_plugin(command: &[OsString]) -> ExitCode {
        let (program, arguments) = command.split_first().expect("the command is not empty");
        let mut plugin = Command::new(program);
        plugin.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A copy, because `exec` replaces standard error even if it fails.
        let mut stderr = File::from(io::stderr().as_fd().try_clone_to_owned().expect("it is open"));
        let failure = match nix::unistd::setsid() {
            Ok(_) => plugin.exec(),
            Err(e) => e.into(),
        };
        // The error cannot be reported anywhere else.
        let _ = write!(stderr, "{failure}");
        ExitCode::FAILURE
    }
}
