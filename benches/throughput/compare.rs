//! The three ways to send, at one to 64 producers.

use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use serde::Serialize;
use wedr_plugin_sdk::{Metadata, Runner};

use crate::support::agent::{self, Agent};
use crate::support::rivals::{AppenderSink, MutexSink};
use crate::support::{KIND, typed, value};

const PRODUCERS: [u32; 5] = [1, 2, 4, 8, 64];

pub(crate) fn run() {
    agent::serve_if_asked();
    let agent = Agent::start();
    let mut criterion = Criterion::default().configure_from_args();
    compare(&mut criterion, &agent, "typed", typed);
    compare(&mut criterion, &agent, "value", value);
    criterion.final_summary();
}

fn compare<T: Serialize>(
    criterion: &mut Criterion,
    agent: &Agent,
    name: &str,
    payload: impl Fn(u32) -> T + Sync + Copy,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(10);
    for producers in PRODUCERS {
        bench(&mut group, "sdk", producers, |events| sdk(agent, producers, events, payload));
        bench(&mut group, "mutex", producers, |events| {
            let sink = MutexSink::connect(agent.path());
            let started = Instant::now();
            spread(producers, events, |n| sink.emit(&payload(n)));
            sink.finish();
            started.elapsed()
        });
        bench(&mut group, "tracing-appender", producers, |events| {
            let sink = AppenderSink::connect(agent.path());
            let started = Instant::now();
            spread(producers, events, |n| sink.emit(&payload(n)));
            sink.finish();
            started.elapsed()
        });
    }
    group.finish();
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    producers: u32,
    run: impl Fn(u64) -> Duration,
) {
    group.bench_function(BenchmarkId::new(name, producers), |bencher| {
        bencher.iter_custom(&run);
    });
}

/// A whole session from the first event until the agent has read the last.
fn sdk<T: Serialize>(
    agent: &Agent,
    producers: u32,
    events: u64,
    payload: impl Fn(u32) -> T + Sync,
) -> Duration {
    let mut started = Instant::now();
    Runner::new()
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .drain_timeout(Duration::MAX)
        .on_close(|report| assert!(report.confirmed))
        .run_with(Metadata::new("bench", "1", "bench"), |sink, _| {
            started = Instant::now();
            spread(producers, events, |n| {
                sink.event(KIND).emit(&payload(n)).expect("the session stands");
            });
            Ok(())
        })
        .expect("nothing is lost");
    started.elapsed()
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
