//! The program `wedr-dev-agent`, an agent for plugin development: see docs/dev-agent.md.

mod check;
mod cli;
mod ending;
mod events;
mod examiner;
mod fold;
mod launch;
mod listen;
mod notes;
mod pipe;
mod process;
mod recording;
mod schema;
mod screen;
mod service;
mod session;
mod show;
mod status;
mod tally;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;

use cli::{Cli, Task};

/// The whole program.
pub fn main() -> ExitCode {
    match Cli::parse_arguments() {
        Ok(Cli { task: None, live }) => listen::main(live),
        Ok(Cli { task: Some(task), .. }) => run(task),
        // clap also returns help and the version as errors.
        Err(e) => match (e.print(), u8::try_from(e.exit_code())) {
            (Ok(()), Ok(code)) => ExitCode::from(code),
            _ => ExitCode::FAILURE,
        },
    }
}

/// Returns a plugin id that no other plugin has: a random UUID.
fn new_id() -> String {
    // Each `RandomState` has its own random keys, and the hash depends on them.
    let random = || RandomState::new().build_hasher().finish();
    let (high, low) = (random(), random());
    // Version 4, variant 1.
    let high = high & !0xf000 | 0x4000;
    let low = low & !(0b11 << 62) | 0b10 << 62;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xffff,
        high & 0xffff,
        low >> 48,
        low & 0xffff_ffff_ffff
    )
}

/// Runs a subcommand.
fn run(task: Task) -> ExitCode {
    match task {
        Task::Check(arguments) => check::main(&arguments),
        Task::Schema(arguments) => schema::main(&arguments),
        Task::Events(arguments) => events::main(&arguments),
        #[cfg(unix)]
        Task::BecomePlugin { command } => service::become_plugin(&command),
    }
}
