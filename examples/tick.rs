//! The smallest plugin: one event a second, until it is told to stop.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example tick`, with an agent on the default pipe, or on the
//! one named in `WEDR_PIPE_PATH`.

use std::time::Duration;

use wedr_plugin_sdk::{Result, Runner, metadata};

fn main() -> Result<()> {
    let mut runner = Runner::new();
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    runner = std::env::var_os("WEDR_PIPE_PATH").into_iter().fold(runner, Runner::pipe_path);
    runner.run_with(metadata!("tick")?, |sink, ctx| {
        while !ctx.is_shutting_down() {
            sink.emit("acme.tick", serde_json::json!({ "alive": true }))?;
            ctx.sleep(Duration::from_secs(1));
        }
        Ok(())
    })
}
