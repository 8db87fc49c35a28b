//! Unusual host processes: without free threads or descriptors, stopped, forked, without standard streams, or
//! ended in the middle of their session. Each host is this binary, started again in a role, or a program that
//! the test compiles.

mod common;
#[cfg(target_os = "linux")]
#[path = "host_process/foreign_trials.rs"]
mod foreign_trials;
#[path = "host_process/process.rs"]
mod process;
#[cfg(unix)]
mod raw;
#[path = "host_process/roles.rs"]
mod roles;
#[path = "host_process/trials.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    match std::env::var(process::ROLE) {
        Ok(role) => roles::play(&role),
        Err(_) => trials::run(),
    }
}
