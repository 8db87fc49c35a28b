//! Runs a small plugin with a test agent in the same process, and prints what this agent receives. No other agent
//! is needed.
//!
//! `cargo run -p quickstart`
//!
//! Settings: none. The program ends after five events, or on Ctrl+C.

use std::time::Duration;

use wedr_plugin_sdk::testing::{PluginMessage, TestAgent};
use wedr_plugin_sdk::{Metadata, Result, Runner};

fn main() -> Result<()> {
    let agent = TestAgent::start()?;
    println!("agent   listening on {}", agent.path().display());

    std::thread::scope(|scope| {
        let watching = scope.spawn(|| watch(&agent));
        let result = plugin(&agent);
        watching.join().expect("the watcher does not panic");
        result
    })
}

/// The plugin: five events, one every 200 ms.
fn plugin(agent: &TestAgent) -> Result<()> {
    let metadata = Metadata::new("quickstart", env!("CARGO_PKG_VERSION"), "Quickstart");
    Runner::new()
        .pipe_path(agent.path())
        .heartbeat(Duration::from_millis(500))
        .on_close(|report| println!("plugin  {report:#?}"))
        .run_with(metadata, |sink, ctx| {
            for tick in 1..=5 {
                if ctx.is_shutting_down() {
                    break;
                }
                sink.emit("acme.tick", serde_json::json!({ "alive": true, "tick": tick }))?;
                ctx.sleep(Duration::from_millis(200));
            }
            Ok(())
        })
}

/// Prints each message as it arrives, until the session has ended.
fn watch(agent: &TestAgent) {
    let mut printed = 0;
    let mut hello_printed = false;
    let ended = agent.wait_until(Duration::MAX, |sessions| {
        let Some(session) = sessions.first() else {
            return false;
        };
        if let (Some(hello), false) = (&session.hello, hello_printed) {
            println!("agent   hello from {} {}", hello.plugin_name, hello.plugin_version);
            hello_printed = true;
        }
        for received in &session.received[printed..] {
            match &received.message {
                PluginMessage::Event(event) => {
                    println!("agent   event {} {} {}", event.seq, event.kind, event.payload);
                }
                PluginMessage::Heartbeat { seq } => println!("agent   heartbeat {seq}"),
                other => println!("agent   {other:?}"),
            }
        }
        printed = session.received.len();
        session.end.is_some()
    });
    assert!(ended, "the wait has no timeout");
}
