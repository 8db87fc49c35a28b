//! As many events as possible: the same loop for every design.

use std::time::{Duration, Instant};

use serde::Serialize;
use wedr_plugin_sdk::{Metadata, Runner, Stats};

use super::KIND;
use super::agent::Agent;
use super::rivals::{AppenderSink, MutexSink};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    Sdk,
    Mutex,
    Appender,
}

impl Design {
    pub const ALL: [Self; 3] = [Self::Sdk, Self::Mutex, Self::Appender];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Mutex => "mutex",
            Self::Appender => "tracing-appender",
        }
    }
}

/// The time from the first event until the agent has read the last.
pub fn flood<T: Serialize>(
    design: Design,
    agent: &Agent,
    producers: u32,
    events: u64,
    payload: impl Fn(u32) -> T + Sync,
) -> Duration {
    match design {
        Design::Sdk => sdk(agent, producers, events, payload).0,
        Design::Mutex => {
            let sink = MutexSink::connect(agent.path());
            let started = Instant::now();
            spread(producers, events, |n| sink.emit(&payload(n)));
            sink.finish();
            started.elapsed()
        }
        Design::Appender => {
            let sink = AppenderSink::connect(agent.path());
            let started = Instant::now();
            spread(producers, events, |n| sink.emit(&payload(n)));
            sink.finish();
            started.elapsed()
        }
    }
}

/// A whole session of this crate, and its accounts.
pub fn sdk<T: Serialize>(
    agent: &Agent,
    producers: u32,
    events: u64,
    payload: impl Fn(u32) -> T + Sync,
) -> (Duration, Stats) {
    let mut started = Instant::now();
    let (report, accounts) = std::sync::mpsc::channel();
    Runner::new()
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .drain_timeout(Duration::MAX)
        .on_close(move |closed| {
            assert!(closed.confirmed && closed.stats.sent == events);
            report.send(closed.stats.clone()).expect("it is received below");
        })
        .run_with(Metadata::new("bench", "1", "bench"), |sink, _| {
            started = Instant::now();
            spread(producers, events, |n| {
                sink.event(KIND).emit(&payload(n)).expect("the session stands");
            });
            Ok(())
        })
        .expect("nothing is lost");
    (started.elapsed(), accounts.recv().expect("the report"))
}

/// Calls `emit` that often from so many threads.
fn spread(producers: u32, events: u64, emit: impl Fn(u32) + Sync) {
    std::thread::scope(|scope| {
        for producer in 0..u64::from(producers) {
            let share = events * (producer + 1) / u64::from(producers)
                - events * producer / u64::from(producers);
            let emit = &emit;
            scope.spawn(move || (0..share).for_each(|n| emit(n as u32)));
        }
    });
}
