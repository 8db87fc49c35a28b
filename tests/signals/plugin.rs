//! The plugin processes, and what each does in its role. They print lines on standard output for the test
//! that started them.

use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

#[cfg(unix)]
use nix::sys::signal::{SigSet, Signal};
use serde_json::json;
use wedr_plugin_sdk::{
    CloseCause, Error, EventSink, Result, Runner, SessionContext, SessionReport,
};

use crate::common::{LIMIT, fill, metadata, watched};

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";
/// The environment variable with the agent's path.
pub(crate) const AGENT: &str = "WEDR_TEST_AGENT";

/// The `main` of the plugin's process.
pub(crate) fn play(role: &str) -> ExitCode {
    let session = match role {
        "streams" => streams,
        "has_no_session" => has_no_session,
        "fills_the_queue" => fills_the_queue,
        "does_not_return" => does_not_return,
        "does_not_return_from_on_close" => does_not_return_from_on_close,
        "hangs_in_on_close_after_the_drain" => hangs_in_on_close_after_the_drain,
        "waits_after_its_session" => waits_after_its_session,
        #[cfg(unix)]
        "starts_with_signals_blocked" => {
            // Before any other thread starts, because threads inherit the mask.
            SigSet::all().thread_block().unwrap();
            streams
        }
        "has_two_sessions_at_once" => has_two_sessions_at_once,
        "has_one_session_after_another" => has_one_session_after_another,
        "outlives_its_session" => outlives_its_session,
        "leaves_signals_alone" => leaves_signals_alone,
        #[cfg(unix)]
        "waits_for_signals_itself" => {
            // Before any other thread starts, because threads inherit the mask.
            SigSet::all().thread_block().unwrap();
            waits_for_signals_itself
        }
        "has_a_handler_of_its_own" => has_a_handler_of_its_own,
        unknown => panic!("no such role: {unknown}"),
    };
    match watched(session) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Undelivered { .. }) => {
            println!("undelivered");
            ExitCode::FAILURE
        }
        Err(other) => panic!("{other}"),
    }
}

fn runner() -> Runner {
    Runner::new().pipe_path(PathBuf::from(std::env::var_os(AGENT).unwrap()))
}

/// Emits until the session is closed, and prints how many events the session accepted.
fn stream(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    for accepted in 0.. {
        if let Err(refused) = sink.emit("test.stream", json!(accepted)) {
            println!("{accepted}");
            return Err(refused);
        }
        ctx.sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn streams() -> Result<()> {
    runner()
        .on_close(|report| assert_eq!(report.cause, CloseCause::ShutdownRequested))
        .run_with(metadata(), stream)
}

/// Needs an agent that does not answer.
fn has_no_session() -> Result<()> {
    runner()
        .handshake_timeout(2 * LIMIT)
        .run_with(metadata(), |_, _| unreachable!("the body must not run"))
}

/// Needs a stalled agent.
fn fills_the_queue() -> Result<()> {
    runner().channel_capacity(8).drain_timeout(2 * LIMIT).run_with(metadata(), |sink, ctx| {
        println!("{}", fill(sink));
        ctx.wait_for_shutdown();
        println!("shutting down");
        Ok(())
    })
}

fn does_not_return() -> Result<()> {
    runner().run_with(metadata(), |_, ctx| {
        println!("in session");
        ctx.wait_for_shutdown();
        println!("shutting down");
        loop {
            thread::park();
        }
    })
}

fn does_not_return_from_on_close() -> Result<()> {
    let hang = |_: &SessionReport| {
        println!("closed");
        loop {
            thread::park();
        }
    };
    runner().on_close(hang).run_with(metadata(), |_, ctx| {
        println!("in session");
        ctx.wait_for_shutdown();
        Ok(())
    })
}

/// Needs a stalled agent.
fn hangs_in_on_close_after_the_drain() -> Result<()> {
    let hang = |_: &SessionReport| {
        println!("closed");
        loop {
            thread::park();
        }
    };
    let runner = runner().channel_capacity(8).drain_timeout(2 * LIMIT).on_close(hang);
    runner.run_with(metadata(), |sink, ctx| {
        fill(sink);
        println!("full");
        ctx.wait_for_shutdown();
        println!("shutting down");
        Ok(())
    })
}

/// The session ends by itself, and the handlers stay installed.
fn waits_after_its_session() -> Result<()> {
    runner().run_with(metadata(), |_, _| Ok(()))?;
    println!("session over");
    // After a signal, `run` returns `Ok` without a session. Until then this is an error, because no agent
    // listens there.
    let nowhere = format!("{}-none", std::env::var(AGENT).unwrap());
    while runner().pipe_path(&nowhere).run_with(metadata(), |_, _| unreachable!()).is_err() {
        thread::sleep(Duration::from_millis(20));
    }
    println!("signalled");
    loop {
        thread::park();
    }
}

fn has_two_sessions_at_once() -> Result<()> {
    let other = runner().install_signal_handler(false);
    let other = thread::spawn(|| other.run_with(metadata(), stream));
    runner().run_with(metadata(), stream)?;
    other.join().unwrap()
}

fn has_one_session_after_another() -> Result<()> {
    runner().run_with(metadata(), stream)?;
    runner().run_with(metadata(), |_, _| unreachable!("the body must not run"))
}

fn outlives_its_session() -> Result<()> {
    let runner = runner();
    let _handle = runner.shutdown_handle();
    runner.run_with(metadata(), stream)?;
    println!("session over");
    loop {
        thread::park();
    }
}

fn leaves_signals_alone() -> Result<()> {
    runner().install_signal_handler(false).run_with(metadata(), stream)
}

#[cfg(unix)]
fn waits_for_signals_itself() -> Result<()> {
    let runner = runner().install_signal_handler(false);
    let handle = runner.shutdown_handle();
    thread::spawn(move || {
        let mut awaited = SigSet::empty();
        awaited.add(Signal::SIGTERM);
        let signal = awaited.wait().unwrap();
        println!("the host got {signal}");
        handle.shutdown();
    });
    runner.run_with(metadata(), stream)
}

fn has_a_handler_of_its_own() -> Result<()> {
    let follows_the_advice = runner().install_signal_handler(false);
    let handle = follows_the_advice.shutdown_handle();
    ctrlc::set_handler(move || {
        println!("the host's handler ran");
        handle.shutdown();
    })
    .unwrap();
    let refused =
        runner().run_with(metadata(), |_, _| unreachable!("the body must not run")).unwrap_err();
    assert!(matches!(refused, Error::SignalHandler(_)), "{refused:?}");
    let advice = refused.to_string();
    assert!(advice.contains("install_signal_handler(false)"), "{advice}");
    assert!(advice.contains("ShutdownHandle"), "{advice}");
    follows_the_advice.run_with(metadata(), stream)
}
