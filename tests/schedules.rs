//! Random sessions: a seed decides what happens in a session, and then the test checks all its counts.
//!
//! * `WEDR_SCHEDULES_FOR=3600s` runs schedules with new seeds for that long.
//! * `WEDR_SCHEDULE=<seed>` runs the schedule of this seed, which a failure prints. With `WEDR_SCHEDULES_FOR`
//!   it runs the schedule repeatedly, because the seed does not decide how the threads interleave.

#[path = "schedules/agent.rs"]
mod agent;
#[path = "schedules/checks.rs"]
mod checks;
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
