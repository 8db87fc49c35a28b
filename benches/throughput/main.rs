//! Events delivered per second in a flood, compared with a mutex around the pipe and with `tracing-appender`.
//!
//! `cargo bench --bench throughput` writes Criterion's report to target/criterion/report. Unix only.

#[cfg(unix)]
mod compare;
#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

fn main() {
    #[cfg(unix)]
    compare::run();
}
