//! A plugin that is built with `panic = "abort"`, and panics while events are queued. It has a panic hook
//! that flushes, so the events arrive. The tests compile it.

use std::time::Duration;

use wedr_plugin_sdk::{EventSink, Metadata, Result, Runner, SessionContext};

const LIMIT: Duration = Duration::from_secs(20);

/// Flushes the queued events before any other hook runs: the process aborts after the last hook.
fn flush_on_panic(sink: &EventSink) {
    let sink = sink.clone();
    let next = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let _ = sink.flush(LIMIT);
        next(panic);
    }));
}

fn body(sink: &EventSink, _: &SessionContext) -> Result<()> {
    if std::env::var("WEDR_TEST_ROLE").unwrap() == "flushes_in_its_panic_hook" {
        flush_on_panic(sink);
    }
    sink.event("test.n").emit(&0)?;
    sink.flush(LIMIT)?;
    // The writer lingers now, so these events stay in the queue.
    for n in 1..10 {
        sink.event("test.n").emit(&n)?;
    }
    panic!("on purpose");
}

fn main() -> Result<()> {
    let agent = std::env::var_os("WEDR_TEST_AGENT").unwrap();
    let runner = Runner::new().pipe_path(agent).linger(Duration::MAX).heartbeat(None);
    runner.run_with(Metadata::new("aborting", "1", "Aborting"), body)
}
