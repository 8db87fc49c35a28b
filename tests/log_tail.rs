//! The example `log_tail`, as a process, follows a file that another process writes and rotates:
//! this binary, started again as the writer.

mod common;
#[path = "log_tail/processes.rs"]
mod processes;
#[path = "../examples/log_tail/timestamp.rs"]
mod timestamp;
#[path = "log_tail/trials.rs"]
mod trials;
#[path = "log_tail/writer.rs"]
mod writer;

fn main() -> std::process::ExitCode {
    match std::env::var_os(writer::FILE) {
        Some(path) => writer::serve(path.into()),
        None => trials::run(),
    }
}
