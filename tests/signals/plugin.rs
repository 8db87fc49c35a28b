//! The plugin processes: what each does in its role. What they say on standard output, a line
//! each, is for the test that started them.

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

use crate::common::{LIMIT, metadata, watched};

/// The environment variable with the role's name.
pub(crate) const ROLE: &str = "WEDR_TEST_ROLE";
/// The environment variable with the agent's path.
pub(crate) const AGENT: &str = "WEDR_TEST_AGENT";

/// After which a full queue has come to rest: a writer that has something to do waits less for a
/// processor, also on a loaded machine.
const MOVES_NO_MORE: Duration = Duration::from_secs(1);

/// The plugin process' `main`.
pub(crate) fn play(role: &str) -> ExitCode {
    let session = match role {
        "streams" => streams,
        "has_no_session" => has_no_session,
        "fills_the_queue" => fills_the_queue,
        "does_not_return" => does_not_return,
        "does_not_return_from_on_close" => does_not_return_from_on_close,
        "has_two_sessions_at_once" => has_two_sessions_at_once,
        "has_one_session_after_another" => has_one_session_after_another,
        "outlives_its_session" => outlives_its_session,
        "leaves_signals_alone" => leaves_signals_alone,
        #[cfg(unix)]
        "waits_for_signals_itself" => {
            // Before there is any other thread: they inherit it.
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

/// Emits until the session takes no more, and says how many events it accepted.
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

/// Needs an agent that is stalled.
fn fills_the_queue() -> Result<()> {
    runner().channel_capacity(8).drain_timeout(2 * LIMIT).run_with(metadata(), |sink, ctx| {
        let payload = "x".repeat(4096);
        let mut accepted = 0;
        let full = loop {
            let event = sink.event("test.fill");
            match event.emit_timeout(&payload, MOVES_NO_MORE) {
                Ok(()) => accepted += 1,
                Err(full) => break full,
            }
        };
        assert!(matches!(full, Error::QueueFull), "{full}");
        println!("{accepted}");
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
