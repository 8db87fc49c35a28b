//! Agents that are killed or stopped. Each agent is a process: this test binary, started again.

#[path = "agents/agent.rs"]
mod agent;
mod common;
#[path = "agents/process.rs"]
mod process;
#[path = "agents/trials.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    match std::env::var(agent::ROLE) {
        Ok(role) => agent::play(&role),
        Err(_) => trials::run(),
    }
}
