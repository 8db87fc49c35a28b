//! A plugin under systemd: it sends one event a second. Its exit status tells its unit,
//! [`acme-tick.service`](acme-tick.service), whether systemd must restart it.
//!
//! ```sh
//! cargo build --release --example systemd
//! sudo install target/release/examples/systemd /usr/local/bin/acme-tick
//! sudo install -m 644 examples/systemd/acme-tick.service /etc/systemd/system/
//! sudo systemctl daemon-reload
//! sudo systemctl enable --now acme-tick
//! ```
//!
//! Settings: the plugin's id, `WEDR_PLUGIN_ID` in the unit.
//!
//! The plugin prints errors to its standard error, and systemd writes them to the journal. To try it without
//! systemd: `wedr-dev-agent -- cargo run --example systemd`.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use wedr_plugin_sdk::{Result, Runner, metadata};

/// A restart cannot succeed: the unit's `RestartPreventExitStatus`.
const PERMANENT: u8 = 2;
/// A restart may succeed: the agent does not run yet, it has ended, or an administrator must act first.
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
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    runner.run_with(metadata!("acme-tick")?, |sink, ctx| {
        while !ctx.is_shutting_down() {
            sink.emit("acme_tick", json!({ "alive": true }))?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}
