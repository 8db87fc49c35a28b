//! A program that continues when the agent goes away: it runs one session after another, with a pause between
//! two sessions. A signal ends a session and a pause.
//!
//! ```sh
//! wedr-dev-agent --close-after 10 -- cargo run --example host
//! ```
//!
//! Settings: none. The agent may start after the program, and may be restarted.
//!
//! If a session loses its agent, the events that it has accepted but not delivered are lost. `SessionReport`
//! counts them. Between two sessions no event is queued, and the source of this example does not run. A source
//! that continues to run must count the events that it drops.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wedr_plugin_sdk::{EventSink, Result, Runner, SessionContext, ShutdownHandle, metadata};

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The shutdown of the program. The signal handler, the pauses and the sessions share it.
#[derive(Default)]
struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    requested: bool,
    session: Option<ShutdownHandle>,
}

impl Stop {
    /// Requests the shutdown: ends the current session or pause.
    fn request(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.requested = true;
        state.session.iter().for_each(ShutdownHandle::shutdown);
        self.changed.notify_all();
    }

    /// Registers the next session, so that a shutdown ends it. After a request, ends it at once.
    fn register(&self, session: ShutdownHandle) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested {
            session.shutdown();
        }
        state.session = Some(session);
    }

    /// Waits for `pause`. If the shutdown is requested, returns true at once.
    fn requested_within(&self, pause: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, pause, |state| !state.requested);
        waited.unwrap_or_else(PoisonError::into_inner).0.requested
    }
}

fn main() -> Result<()> {
    let stop = Arc::new(Stop::default());
    let on_signal = Arc::clone(&stop);
    ctrlc::set_handler(move || on_signal.request()).map_err(wedr_plugin_sdk::Error::plugin)?;
    let mut pause = FIRST_PAUSE;
    loop {
        // The program's own handler ends sessions and pauses. The SDK's handler would end only sessions.
        let mut runner = Runner::new().install_signal_handler(false);
        runner = std::env::var_os("WEDR_PIPE_PATH").into_iter().fold(runner, Runner::pipe_path);
        stop.register(runner.shutdown_handle());
        let started = Instant::now();
        match runner.run_with(metadata!("host")?, body) {
            Ok(()) => return Ok(()),
            // No change on the agent's side can make a later session succeed.
            Err(error) if error.is_permanent() => return Err(error),
            Err(error) => eprintln!("Error: {error:?}\nthe next session starts in {pause:?}"),
        }
        if started.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE;
        }
        if stop.requested_within(pause) {
            return Ok(());
        }
        pause = (2 * pause).min(LONGEST_PAUSE);
    }
}

fn body(sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    while !ctx.is_shutting_down() {
        sink.emit("acme_tick", serde_json::json!({ "alive": true }))?;
        ctx.sleep(Duration::from_secs(1));
    }
    Ok(())
}
