//! Sessions that go through whatever a seed says, and whose accounts are checked afterwards.
//!
//! * `WEDR_SCHEDULES_FOR=3600s` runs schedules of new seeds for that long.
//! * `WEDR_SCHEDULE=<seed>` runs that one schedule, as a failure told; with `WEDR_SCHEDULES_FOR`
//!   again and again, since the seed does not decide what the threads do.

#[path = "schedules/accounts.rs"]
mod accounts;
#[path = "schedules/agent.rs"]
mod agent;
mod common;
#[path = "schedules/plan.rs"]
mod plan;
#[path = "schedules/producer.rs"]
mod producer;
#[path = "schedules/session.rs"]
mod session;
#[path = "schedules/trials.rs"]
mod trials;

fn main() -> std::process::ExitCode {
    #[cfg(unix)]
    if let Ok(seed) = std::env::var(agent::child::SEED) {
        agent::child::play(&seed);
        return std::process::ExitCode::SUCCESS;
    }
    trials::run()
}
