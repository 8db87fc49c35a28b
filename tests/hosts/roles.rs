//! What each host does in its role. It checks what it can see itself, and fails if it is wrong.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use serde_json::json;
use wedr_plugin_sdk::testing::TestAgent;
use wedr_plugin_sdk::{Error, EventSink, Runner};

use crate::common::{fill, metadata, watched};
use crate::process::AGENT;

/// What a host ends with that ends in mid-session.
pub(crate) const IN_MID_SESSION: u8 = 3;

/// The host's `main`.
pub(crate) fn play(role: &str) -> ExitCode {
    match role {
        // Not under the watchdog, which is a thread.
        "cannot_start_threads" => cannot_start_threads(),
        "exits_in_mid_session" => watched(exits_in_mid_session),
        "returns_from_main_in_mid_session" => return watched(returns_from_main_in_mid_session),
        "returns_while_a_thread_waits" => watched(returns_while_a_thread_waits),
        #[cfg(unix)]
        "runs_out_of_descriptors" => watched(unix::runs_out_of_descriptors),
        #[cfg(unix)]
        "beats" => watched(unix::beats),
        #[cfg(unix)]
        "leaves_a_process_behind" => watched(unix::leaves_a_process_behind),
        unknown => panic!("no such role: {unknown}"),
    }
    ExitCode::SUCCESS
}

fn runner() -> Runner {
    Runner::new().pipe_path(PathBuf::from(std::env::var_os(AGENT).unwrap()))
}

/// Needs an environment in which no thread can have its stack.
fn cannot_start_threads() {
    thread::Builder::new().spawn(|| ()).expect_err("the environment has a stack too large");
    let refused = |runner: Runner| {
        let runner = runner.on_close(|_| unreachable!("there is no session"));
        let body = |_: &EventSink, _: &_| unreachable!("the body must not run");
        runner.run_with(metadata(), body).expect_err("it needs a thread")
    };
    let error = refused(runner().install_signal_handler(false));
    assert!(matches!(error, Error::Io(_)), "{error:?}");
    assert!(!error.is_disconnected(), "{error:?}");
    assert!(error.to_string().contains("thread"), "{error}");

    let error = TestAgent::start().expect_err("it needs a thread");
    assert!(error.to_string().starts_with("cannot start a test agent at "), "{error}");

    let error = refused(runner().install_signal_handler(true));
    // On Windows a signal's thread is the system's own.
    assert!(matches!(error, Error::SignalHandler(_)) || cfg!(windows), "{error:?}");
}

/// Needs an agent that is stalled. Fills pipe and queue, and has a thread wait for room; says how
/// many events were accepted.
fn fill_and_leave_a_thread_waiting(sink: &EventSink) {
    let accepted = fill(sink);
    let waits = sink.stats().waits;
    let sink_of_thread = sink.clone();
    thread::spawn(move || sink_of_thread.emit("test.waits", json!({})));
    while sink.stats().waits == waits {
        thread::yield_now();
    }
    println!("{accepted}");
}

fn exits_in_mid_session() {
    let session = runner().channel_capacity(8).run_with(metadata(), |sink, _| {
        fill_and_leave_a_thread_waiting(sink);
        std::process::exit(IN_MID_SESSION.into())
    });
    unreachable!("it has ended the process: {session:?}");
}

fn returns_from_main_in_mid_session() -> ExitCode {
    let (send, waiting) = std::sync::mpsc::channel();
    thread::spawn(move || {
        runner().channel_capacity(8).run_with(metadata(), |sink, ctx| {
            fill_and_leave_a_thread_waiting(sink);
            send.send(()).unwrap();
            ctx.wait_for_shutdown();
            Ok(())
        })
    });
    waiting.recv().unwrap();
    ExitCode::from(IN_MID_SESSION)
}

fn returns_while_a_thread_waits() {
    let runner = runner().channel_capacity(8).drain_timeout(Duration::from_millis(100));
    let result = runner.run_with(metadata(), |sink, _| {
        fill_and_leave_a_thread_waiting(sink);
        Ok(())
    });
    assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::process::{Command, Stdio};

    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    use serde_json::json;
    use wedr_plugin_sdk::{Error, EventSink, Result, SessionContext};

    use super::{IN_MID_SESSION, runner};
    use crate::common::{LIMIT, metadata};
    use crate::trials::BEAT;

    pub(super) fn runs_out_of_descriptors() {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let leave_none = || {
            // The standard ones are open.
            setrlimit(Resource::RLIMIT_NOFILE, 3, hard).unwrap();
            File::open("/dev/null").expect_err("no descriptor is left");
        };
        let leave_enough = || setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        let emits = |n: u32| move |sink: &EventSink, _: &_| sink.emit("test.n", json!(n));
        let in_need = |sink: &EventSink| -> Result<()> {
            // A session that stands needs no more.
            sink.emit("test.n", json!(1))?;
            sink.flush(LIMIT)?;
            // Another one does, and says so.
            let refused = runner().run_with(metadata(), emits(0)).unwrap_err();
            let Error::Connect { source, .. } = &refused else { panic!("{refused:?}") };
            assert_eq!(source.raw_os_error(), Some(nix::errno::Errno::EMFILE as i32));
            assert!(refused.to_string().contains("descriptor"), "{refused}");
            sink.emit("test.n", json!(2))
        };
        runner()
            .run_with(metadata(), |sink, _| {
                leave_none();
                let result = in_need(sink);
                leave_enough();
                result
            })
            .unwrap();
        runner().run_with(metadata(), emits(3)).unwrap();
    }

    pub(super) fn beats() {
        let runner = runner().heartbeat(BEAT);
        let body = |_: &EventSink, ctx: &SessionContext| {
            ctx.wait_for_shutdown();
            Ok(())
        };
        runner.run_with(metadata(), body).unwrap();
    }

    /// Ends without a goodbye, and leaves a process behind whose id it says.
    pub(super) fn leaves_a_process_behind() {
        let session = runner().run_with(metadata(), |sink, _| {
            sink.emit("test.n", json!(1))?;
            sink.flush(LIMIT)?;
            let mut lasting = Command::new("sleep");
            lasting.arg("600").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            println!("{}", lasting.spawn()?.id());
            std::process::exit(IN_MID_SESSION.into())
        });
        unreachable!("it has ended the process: {session:?}");
    }
}
