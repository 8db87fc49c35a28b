//! The agent stops for a second, and the queue is long enough for it.

use std::time::Duration;

use wedr_plugin_sdk::Runner;

use crate::paced::{Run, paced, sdk};
use crate::support::agent::Agent;
use crate::support::payload::typed;
use crate::support::rivals::{MutexSink, serialise_alone};
use crate::table::{at_most, head, row};

const RATE: u32 = 100_000;
const ROUNDS: usize = 5;
const SPAN: Duration = Duration::from_secs(2);

pub(crate) fn measure(agent: &Agent) {
    head(
        "The longest `emit` in ms while the agent stops for 1 s, at 100 000/s: at most 1",
        &["round", "serialise", "sdk", "", "mutex"],
    );
    for round in 1..=ROUNDS {
        let longest = |run: &dyn Fn() -> Run| {
            std::thread::scope(|scope| {
                scope.spawn(|| stall(agent));
                run().calls.max() as f64 / 1e6
            })
        };
        let alone = longest(&|| paced(RATE, 1, SPAN, |n| serialise_alone(&typed(n))));
        let ours = longest(&|| sdk(agent, Runner::new().channel_capacity(1 << 18), RATE, 1, SPAN));
        let mutex = longest(&|| {
            let sink = MutexSink::connect(agent.path());
            let run = paced(RATE, 1, SPAN, |n| sink.emit(&typed(n)));
            sink.finish();
            run
        });
        row(&[
            round.to_string(),
            format!("{alone:.2}"),
            format!("{ours:.2}"),
            at_most(ours, 1.0).into(),
            format!("{mutex:.0}"),
        ]);
    }
}

/// Stops the agent's process for a second, half a second from now.
fn stall(agent: &Agent) {
    std::thread::sleep(Duration::from_millis(500));
    let stopped = agent.stop();
    std::thread::sleep(Duration::from_secs(1));
    drop(stopped);
}
