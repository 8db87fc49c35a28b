//! Emits as many events as possible, with the same loop for every design.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use wedr_plugin_sdk::{EventSink, Metadata, Runner, Stats};

use super::agent::Agent;
use super::payload::KIND;
use super::processor_time;
use super::rivals::{AppenderSink, MutexSink, serialise_alone};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Design {
    Sdk,
    Mutex,
    Appender,
    /// Serialises each event and delivers none.
    Serialise,
}

impl Design {
    /// The designs that deliver events.
    pub const ALL: [Self; 3] = [Self::Sdk, Self::Mutex, Self::Appender];

    pub fn name(self) -> &'static str {
        match self {
            Self::Sdk => "sdk",
            Self::Mutex => "mutex",
            Self::Appender => "tracing-appender",
            Self::Serialise => "serialise",
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
    timed(design, agent, &payload, |emit| spread(producers, events, emit)).elapsed
}

/// The result of a flood.
#[derive(Debug, Clone, Copy)]
pub struct Flood {
    pub events: u64,
    /// From the first event until the agent has read the last.
    pub elapsed: Duration,
    /// The processor time of this process.
    pub cpu: Duration,
}

impl Flood {
    /// Events delivered per second.
    pub fn rate(&self) -> f64 {
        self.events as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time per event in nanoseconds.
    pub fn cpu_ns(&self) -> f64 {
        self.cpu.as_nanos() as f64 / self.events as f64
    }
}

/// Emits for `span` from `producers` threads.
pub fn flood_for<T: Serialize>(
    design: Design,
    agent: &Agent,
    producers: u32,
    span: Duration,
    payload: impl Fn(u32) -> T + Sync,
) -> Flood {
    timed(design, agent, &payload, |emit| for_span(producers, span, emit))
}

/// Runs `load` with the design's `emit` on a connection of its own.
fn timed<T: Serialize>(
    design: Design,
    agent: &Agent,
    payload: &(impl Fn(u32) -> T + Sync),
    load: impl Fn(&(dyn Fn(u32) + Sync)) -> u64,
) -> Flood {
    let (mut cpu, mut started, mut events) = (Duration::ZERO, Instant::now(), 0);
    let mut run = |emit: &(dyn Fn(u32) + Sync)| {
        (cpu, started) = (processor_time(), Instant::now());
        events = load(emit);
    };
    match design {
        Design::Sdk => {
            session(agent, Runner::new(), |sink| run(&|n| emit(sink, &payload(n))));
        }
        Design::Mutex => {
            let sink = MutexSink::connect(agent.path());
            run(&|n| sink.emit(&payload(n)));
            sink.finish();
        }
        Design::Appender => {
            let largest = serde_json::to_vec(&payload(0)).expect("a payload").len();
            let sink = AppenderSink::connect(agent.path(), largest);
            run(&|n| sink.emit(&payload(n)));
            sink.finish();
        }
        Design::Serialise => run(&|n| serialise_alone(&payload(n))),
    }
    Flood { events, elapsed: started.elapsed(), cpu: processor_time().saturating_sub(cpu) }
}

pub fn emit<T: Serialize>(sink: &EventSink, payload: &T) {
    sink.event(KIND).emit(payload).expect("the session is open");
}

/// Runs a session of this crate. Returns its counters when the agent has read everything.
pub fn session(agent: &Agent, runner: Runner, body: impl FnOnce(&EventSink)) -> Stats {
    let (report, stats) = std::sync::mpsc::channel();
    runner
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .drain_timeout(Duration::MAX)
        .on_close(move |closed| {
            assert!(closed.confirmed && closed.stats.undelivered == 0);
            report.send(closed.stats.clone()).expect("it is received below");
        })
        .run_with(Metadata::new("bench", "1", "bench"), |sink, _| {
            body(sink);
            Ok(())
        })
        .expect("nothing is lost");
    stats.recv().expect("the report")
}

/// Calls `emit` from `producers` threads, `events` times in total. Returns `events`.
pub fn spread(producers: u32, events: u64, emit: &(dyn Fn(u32) + Sync)) -> u64 {
    thread::scope(|scope| {
        for producer in 0..u64::from(producers) {
            let share = events * (producer + 1) / u64::from(producers)
                - events * producer / u64::from(producers);
            scope.spawn(move || (0..share).for_each(|n| emit(n as u32)));
        }
    });
    events
}

/// Calls `emit` from `producers` threads for `span`. Returns the number of calls.
pub fn for_span(producers: u32, span: Duration, emit: &(dyn Fn(u32) + Sync)) -> u64 {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..producers)
            .map(|_| {
                scope.spawn(|| {
                    let mut calls = 0;
                    while !over.load(Relaxed) {
                        emit(calls as u32);
                        calls += 1;
                    }
                    calls
                })
            })
            .collect();
        thread::sleep(span);
        over.store(true, Relaxed);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    })
}
