//! Signals, sent to real plugin processes: this binary, started again in a role.

#[cfg(unix)]
mod common;
#[cfg(unix)]
#[path = "signals/plugin.rs"]
mod plugin;
#[cfg(unix)]
#[path = "signals/trials.rs"]
mod trials;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    match std::env::var(plugin::ROLE) {
        Ok(role) => plugin::play(&role),
        Err(_) => trials::run(),
    }
}

/// There are no signals to send.
#[cfg(not(unix))]
fn main() {
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), Vec::new()).exit();
}
