//! The smallest plugin: it sends one event a second until it is told to stop.
//!
//! Run it under the dev agent, which sets its id and its pipe:
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example tick
//! ```
//!
//! Settings: none.

use std::time::Duration;

use wedr_plugin_sdk::{Result, Runner, metadata};

fn main() -> Result<()> {
    let mut runner = Runner::new();
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    runner = std::env::var_os("WEDR_PIPE_PATH").into_iter().fold(runner, Runner::pipe_path);
    runner.run_with(metadata!("tick")?, |sink, ctx| {
        while !ctx.is_shutting_down() {
            sink.emit("acme.tick", serde_json::json!({ "alive": true }))?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}
