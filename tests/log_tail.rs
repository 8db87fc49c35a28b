//! The example `log_tail`, as a process, follows a file that another process writes and rotates. The other
//! process is this test binary, started again.

mod common;
#[path = "log_tail/ends.rs"]
mod ends;
#[cfg(unix)]
#[path = "log_tail/files.rs"]
mod files;
#[path = "log_tail/lines.rs"]
mod lines;
#[cfg(target_os = "linux")]
#[path = "log_tail/logrotate.rs"]
mod logrotate;
#[cfg(target_os = "linux")]
#[path = "log_tail/mounts.rs"]
mod mounts;
#[path = "log_tail/position.rs"]
mod position;
#[path = "log_tail/processes.rs"]
mod processes;
#[path = "log_tail/rotation.rs"]
mod rotation;
#[path = "log_tail/scene.rs"]
mod scene;
#[path = "log_tail/story.rs"]
mod story;
#[path = "../examples/log_tail/timestamp.rs"]
mod timestamp;
#[cfg(unix)]
#[path = "log_tail/wrapped.rs"]
mod wrapped;
#[path = "log_tail/writer.rs"]
mod writer;

fn main() -> std::process::ExitCode {
    match std::env::var_os(writer::FILE) {
        Some(path) => writer::serve(path.into()),
        None => run(),
    }
}

fn run() -> std::process::ExitCode {
    let mut all = rotation::trials();
    all.extend(lines::trials());
    all.extend(ends::trials());
    all.extend(position::trials());
    #[cfg(unix)]
    all.extend(files::trials());
    #[cfg(target_os = "linux")]
    all.extend(mounts::trials());
    #[cfg(target_os = "linux")]
    all.extend(logrotate::trials());
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), all).exit_code()
}
