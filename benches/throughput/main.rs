//! Events delivered per second in a flood, beside a mutex around the pipe and `tracing-appender`.
//!
//! `cargo bench --bench throughput`; leaves Criterion's report in target/criterion/report. Unix
//! only.

#[cfg(unix)]
mod compare;
#[cfg(unix)]
#[path = "../support/mod.rs"]
mod support;

fn main() {
    #[cfg(unix)]
    compare::run();
}
