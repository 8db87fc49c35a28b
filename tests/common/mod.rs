//! What the integration tests share.
#![allow(dead_code, unreachable_pub, reason = "every test binary uses a part of it")]

use std::env::consts::EXE_EXTENSION;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use wedr_plugin_sdk::testing::{RecordedSession, Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{
    CloseCause, Error, EventSink, Metadata, Result, Runner, SessionContext, SessionReport, Stats,
};

pub mod process;
#[cfg(unix)]
pub mod rustc;
pub mod time;
pub mod trials;

/// A limit for waits that end early if the code is right, also on the slowest machine.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Longer than a thread takes to wake after a shutdown.
pub const AT_ONCE: Duration = Duration::from_secs(1);
/// How much later than its deadline `run` may return.
pub const SLACK: Duration = Duration::from_millis(250);
/// The time in which the SDK detects the loss of the pipe in an idle session.
pub const NOTICED: Duration = Duration::from_secs(1);
/// Gives another thread the time to begin a wait that the test cannot observe. If the thread begins later, the
/// test proves less, but it does not fail.
pub const TIME_TO_BLOCK: Duration = Duration::from_millis(50);

/// The watchdog: runs `test` on a thread of its own, and fails instead of hanging.
pub fn watched<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    watched_for(LIMIT, test)
}

/// The watchdog for a test that needs much processor time, with a limit of its own.
pub fn watched_for<T: Send + 'static>(
    limit: Duration,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = mpsc::channel::<()>();
    let running = thread::Builder::new()
        .name(thread::current().name().unwrap_or("test").to_owned())
        .spawn(move || {
            // Dropped when the test ends, also by a panic.
            let _done = done;
            test()
        })
        .expect("a thread for the test");
    match finished.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still running after {limit:?}: it hangs"),
        _ => running.join().unwrap_or_else(|panic| resume_unwind(panic)),
    }
}

/// The plugin's identity in the tests.
pub fn metadata() -> Metadata {
    Metadata::new("test-plugin", "1.2.3", "Test plugin")
}

/// A runner for `agent` that installs no signal handlers. On a loaded machine its drain may take long.
pub fn runner(agent: &TestAgent) -> Runner {
    Runner::new().pipe_path(agent.path()).install_signal_handler(false).drain_timeout(LIMIT)
}

/// Runs a session. Returns the result of `run` and the report.
pub fn session(
    runner: Runner,
    body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>,
) -> (Result<()>, SessionReport) {
    let (send, report) = mpsc::channel();
    let keep = move |report: &SessionReport| send.send(report.clone()).unwrap();
    let result = runner.on_close(keep).run_with(metadata(), body);
    (result, report.try_recv().expect("on_close was called"))
}

/// Runs a session whose body panics with `payload`. Returns the panic that `run` resumes.
pub fn session_that_panics(runner: Runner, payload: &'static str) -> &'static str {
    let run = || runner.run_with(metadata(), |_, _| panic_any(payload));
    let panic = catch_unwind(AssertUnwindSafe(run)).expect_err("`run` resumes the panic");
    *panic.downcast().expect("the payload is intact")
}

/// Runs a session that must fail before it begins. Returns the error.
pub fn failure(runner: Runner, metadata: Metadata) -> Error {
    let result = runner
        .on_close(|report| panic!("on_close was called: {report:?}"))
        .run_with(metadata, |_, _| panic!("the body ran"));
    result.expect_err("there can be no session")
}

/// Checks that the error's texts contain no control characters, and no characters that hide or reorder the
/// rest of a line.
pub fn assert_harmless(error: &Error) {
    let debug = format!("{error:?}").replace("\n  caused by: ", "; ");
    for text in [error.to_string(), debug] {
        let harmful = |c: &char| {
            c.is_control()
                || matches!(c, '\u{ad}' | '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}')
                || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
                || matches!(c, '\u{e0000}'..='\u{e007f}')
        };
        assert_eq!(text.chars().find(harmful), None, "{text:?}");
    }
}

/// Checks that the session ended because the pipe was lost.
pub fn assert_lost(result: &Result<()>, report: &SessionReport) {
    let error = result.as_ref().expect_err("the agent is gone");
    assert!(error.is_disconnected(), "{error:?}");
    assert_eq!(report.cause, CloseCause::PipeLost);
    assert!(!report.confirmed, "{report:?}");
}

/// Sends the report of `runner` to the returned channel.
pub fn reporting(runner: Runner) -> (Runner, Receiver<SessionReport>) {
    let (send, reports) = mpsc::channel();
    let runner = runner.on_close(move |report| send.send(report.clone()).unwrap());
    (runner, reports)
}

/// An agent that acknowledges hello, and reads no event before the test resumes it.
pub fn stalled_agent() -> TestAgent {
    TestAgent::with(Script::new().stop_reading_after(0)).unwrap()
}

/// When the queue has been full for this time, the writer is blocked. A writer that can work gets a processor
/// sooner, also on a loaded machine.
pub const WRITER_IS_BLOCKED_AFTER: Duration = Duration::from_secs(1);
/// Tests wait for [`WRITER_IS_BLOCKED_AFTER`] or longer in slices of this length. If the whole process is stopped
/// meanwhile, only one slice is lost, and the writer can still work in the others.
const SLICE: Duration = Duration::from_millis(50);

fn slices(time: Duration) -> impl Iterator<Item = ()> {
    (0..time.as_millis() / SLICE.as_millis()).map(|_| ())
}

/// Whether the queue accepts this payload, now or within `time`.
pub fn is_accepted(sink: &EventSink, payload: &str, time: Duration) -> bool {
    slices(time).any(|()| match sink.event("test.fill").emit_timeout(payload, SLICE) {
        Ok(()) => true,
        Err(Error::QueueFull) => false,
        Err(other) => panic!("{other}"),
    })
}

/// The length of the payloads of [`fill`], in bytes.
const FILLER: usize = 4096;
/// The most events of [`fill`] that the writer has taken: those of one write of 64 KiB, and one of each of
/// four lanes.
pub const TAKEN_BY_THE_WRITER: usize = (64 << 10) / FILLER + 4;

/// Emits to a stalled agent until the pipe and the queue are full. Returns how many events were accepted.
pub fn fill(sink: &EventSink) -> u64 {
    let payload = "x".repeat(FILLER);
    let mut accepted = 0;
    while is_accepted(sink, &payload, WRITER_IS_BLOCKED_AFTER) {
        accepted += 1;
    }
    accepted
}

/// Whether all queued events are sent, now or within [`WRITER_IS_BLOCKED_AFTER`].
pub fn is_flushed(sink: &EventSink) -> bool {
    slices(WRITER_IS_BLOCKED_AFTER).any(|()| match sink.flush(SLICE) {
        Ok(()) => true,
        Err(Error::FlushTimeout(_)) => false,
        Err(other) => panic!("{other}"),
    })
}

/// Waits until this count has not changed for [`WRITER_IS_BLOCKED_AFTER`]. Returns it.
pub fn settled(count: impl Fn() -> u64) -> u64 {
    let (mut last, mut waited) = (count(), Duration::ZERO);
    while waited < WRITER_IS_BLOCKED_AFTER {
        thread::sleep(SLICE);
        waited += SLICE;
        let now = count();
        if now != last {
            (last, waited) = (now, Duration::ZERO);
        }
    }
    last
}

/// Emits an event that is sent with a write of its own.
pub fn emit_alone(sink: &EventSink, payload: &str) -> Result<()> {
    sink.event("test.alone").emit(payload)?;
    sink.flush(LIMIT)
}

/// How many of these events fit into the pipe to a stalled agent, each written with a call of its own. The pipe
/// of every session holds the same number.
#[cfg(unix)]
pub fn events_that_fit_alone(payload: &str) -> u64 {
    let agent = stalled_agent();
    let runner = runner(&agent).heartbeat(None).drain_timeout(Duration::ZERO);
    let mut sent = 0;
    let (result, _) = session(runner, |sink, _| {
        loop {
            sink.event("test.alone").emit(payload)?;
            if !is_flushed(sink) {
                return Ok(());
            }
            sent += 1;
        }
    });
    assert!(matches!(result, Err(Error::Undelivered { count: 1 })), "{result:?}");
    sent
}

/// Checks that every accepted event was sent or is counted as undelivered. One more event of each producer
/// may be counted: the event whose `emit` returned the error.
pub fn assert_counters(stats: &Stats, accepted: u64, producers: u64) {
    let counted = stats.sent + stats.undelivered;
    let right = accepted..=accepted + producers;
    assert!(right.contains(&counted), "{accepted} accepted: {stats:?}");
    assert_eq!(stats.queued, 0, "{stats:?}");
}

/// Checks that the agent received the events that the plugin counts as sent, and that `seq` skips one number
/// for each refused event and no other number.
pub fn assert_delivered(seen: &RecordedSession, stats: &Stats) {
    assert_eq!(seen.end, Some(SessionEnd::Goodbye));
    assert_eq!(seen.events().count() as u64, stats.sent, "{stats:?}");
    assert_eq!(seen.missing_seqs(), stats.refused, "{stats:?}");
    assert_eq!(stats.undelivered, 0, "{stats:?}");
}

/// An example's binary. `cargo test` builds it. `cargo test --test …` uses the existing binary, and builds it
/// only if there is none.
pub fn example(name: &str) -> PathBuf {
    // <target directory>/[<triple>/]<profile>/deps/<this>
    let this = std::env::current_exe().expect("the test's own path");
    let profile = this.ancestors().nth(2).expect("it is in a profile's folder");
    let example = profile.join("examples").join(name).with_extension(EXE_EXTENSION);
    if !example.exists() {
        let profile_name = match profile.file_name() {
            Some(name) if name == "debug" => "dev".as_ref(),
            other => other.expect("it is in a profile's folder"),
        };
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--example", name, "--profile"]).arg(profile_name);
        let target = profile.parent().expect("it is in a target folder");
        let ran = build.arg("--target-dir").arg(target).status();
        assert!(ran.is_ok_and(|status| status.success()), "cargo build --example {name} failed");
    }
    example
}
