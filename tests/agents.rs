//! Agents that are killed or stopped, as processes: this binary, started again as the agent.

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
