//! A process that a test starts.

use std::process::{Child, Command};

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
