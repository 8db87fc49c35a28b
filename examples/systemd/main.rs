//! A plugin under systemd: one event a second, and an exit status that tells its unit,
//! [`acme-tick.service`](acme-tick.service), whether to start it again.
//!
//! ```sh
//! cargo build --release --example systemd
//! sudo install target/release/examples/systemd /usr/local/bin/acme-tick
//! sudo install -m 644 examples/systemd/acme-tick.service /etc/systemd/system/
//! sudo systemctl daemon-reload
//! sudo systemctl enable --now acme-tick
//! ```
//!
//! What it has to say goes to its standard error, and so to the journal. By hand it runs on the
//! pipe named in `WEDR_PIPE_PATH`, if that is set.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use wedr_plugin_sdk::{Result, Runner, metadata};

/// Somebody has to mend something before it can run: the unit's `RestartPreventExitStatus`.
const PERMANENT: u8 = 2;
/// It may help to start it again: the agent is not there yet, or has gone.
const FAILURE: u8 = 1;

fn main() -> ExitCode {
    match plugin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:?}");
            ExitCode::from(if error.is_permanent() { PERMANENT } else { FAILURE })
        }
    }
}

fn plugin() -> Result<()> {
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner.run_with(metadata!("acme-tick")?, |sink, ctx| {
        while !ctx.is_shutting_down() {
            sink.emit("acme.tick", json!({ "alive": true }))?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}
