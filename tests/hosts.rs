//! Hosts that are odd as processes: short of threads or descriptors, stopped, forked, without
//! standard streams, or gone before their session. Each is a process of its own: this binary,
//! started again in a role, or a program that is compiled here.

mod common;
#[cfg(target_os = "linux")]
#[path = "hosts/foreign_trials.rs"]
mod foreign_trials;
#[path = "hosts/process.rs"]
mod process;
#[cfg(unix)]
mod raw;
#[path = "hosts/roles.rs"]
mod roles;
#[path = "hosts/trials.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    match std::env::var(process::ROLE) {
        Ok(role) => roles::play(&role),
        Err(_) => trials::run(),
    }
}
