//! Signals to real plugin processes. Each is this binary, started again in a role. On Windows the tests press
//! Ctrl+C in the plugin's console.

mod common;
#[path = "signals/plugin.rs"]
mod plugin;
#[cfg_attr(windows, path = "signals/console.rs")]
#[cfg_attr(unix, path = "signals/process.rs")]
mod process;
#[path = "signals/trials.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    #[cfg(windows)]
    process::press_if_told_to();
    match std::env::var(plugin::ROLE) {
        Ok(role) => plugin::play(&role),
        Err(_) => trials::run(),
    }
}
