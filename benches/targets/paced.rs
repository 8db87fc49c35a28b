//! What `emit` costs its caller, and the process, at a steady rate of events.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use wedr_plugin_sdk::{Metadata, Runner};

use crate::support::agent::Agent;
use crate::support::payload::{KIND, typed};
use crate::support::processor_time;
use crate::support::rivals::{MutexSink, serialise_alone};
use crate::table::{at_least, at_most, head, median, row};

const ROUNDS: usize = 5;
const RATES: [u32; 3] = [10_000, 50_000, 200_000];
const THREADS: [u32; 2] = [1, 4];
const SPAN: Duration = Duration::from_secs(1);

/// How long calls took in nanoseconds, and the processor time of the process per event.
pub(crate) struct Run {
    pub(crate) calls: Histogram<u64>,
    pub(crate) cpu_ns: f64,
    /// Calls per second of all threads.
    pub(crate) rate: f64,
}

pub(crate) fn measure(agent: &Agent) {
    let mut lines = Vec::new();
    let columns = ["events/s", "threads", "serialise", "sdk", "mutex", "sdk over serialise", ""];
    head("`emit`, median in ns: at most 60 over serialising (150 at 10 000/s)", &columns);
    for rate in RATES {
        for threads in THREADS {
            let line = Line::measure(agent, rate, threads);
            line.print_median();
            lines.push(line);
        }
    }
    let columns = [
        "events/s",
        "threads",
        "serialise",
        "sdk",
        "",
        "mutex",
        "× quicker",
        "",
        "sdk 99 %",
        "mutex 99 %",
        "serialise max",
        "sdk max",
        "mutex max",
    ];
    head("`emit`, 99.9th percentile in µs: at most 5, and 10 × quicker than mutex", &columns);
    lines.iter().for_each(Line::print_tail);
    let columns =
        ["events/s", "threads", "serialise", "sdk", "mutex", "sdk / mutex", "", "share", ""];
    head(
        "Processor time of the process in ns an event: never above mutex from 50 000/s; share above \
         serialising at most half of mutex's at 200 000/s",
        &columns,
    );
    lines.iter().for_each(Line::print_cpu);
}

struct Line {
    rate: u32,
    threads: u32,
    serialise: Vec<Run>,
    sdk: Vec<Run>,
    mutex: Vec<Run>,
}

impl Line {
    fn measure(agent: &Agent, rate: u32, threads: u32) -> Self {
        let mut line = Self { rate, threads, serialise: vec![], sdk: vec![], mutex: vec![] };
        for _ in 0..ROUNDS {
            line.serialise.push(paced(rate, threads, SPAN, |n| serialise_alone(&typed(n))));
            let sink = MutexSink::connect(agent.path());
            line.mutex.push(paced(rate, threads, SPAN, |n| sink.emit(&typed(n))));
            sink.finish();
            line.sdk.push(sdk(agent, Runner::new(), rate, threads, SPAN));
        }
        line
    }

    fn print_median(&self) {
        let at = |runs: &[Run]| percentile(runs, 50.0);
        let (serialise, sdk, mutex) = (at(&self.serialise), at(&self.sdk), at(&self.mutex));
        let over = sdk - serialise;
        row(&[
            self.rate.to_string(),
            self.threads.to_string(),
            format!("{serialise:.0}"),
            format!("{sdk:.0}"),
            format!("{mutex:.0}"),
            format!("{over:.0}"),
            at_most(over, if self.rate == 10_000 { 150.0 } else { 60.0 }).into(),
        ]);
    }

    fn print_tail(&self) {
        let us = |runs: &[Run], percent| percentile(runs, percent) / 1000.0;
        let sdk = us(&self.sdk, 99.9);
        let mutex = us(&self.mutex, 99.9);
        row(&[
            self.rate.to_string(),
            self.threads.to_string(),
            format!("{:.1}", us(&self.serialise, 99.9)),
            format!("{sdk:.1}"),
            at_most(sdk, 5.0).into(),
            format!("{mutex:.1}"),
            format!("{:.1}", mutex / sdk),
            at_least(mutex / sdk, 10.0, 10.0).into(),
            format!("{:.1}", us(&self.sdk, 99.0)),
            format!("{:.1}", us(&self.mutex, 99.0)),
            format!("{:.0}", us(&self.serialise, 100.0)),
            format!("{:.0}", us(&self.sdk, 100.0)),
            format!("{:.0}", us(&self.mutex, 100.0)),
        ]);
    }

    fn print_cpu(&self) {
        let cpu = |runs: &[Run]| median(runs.iter().map(|run| run.cpu_ns).collect());
        let (serialise, sdk, mutex) = (cpu(&self.serialise), cpu(&self.sdk), cpu(&self.mutex));
        let share = (sdk - serialise) / (mutex - serialise);
        let judged = |says| if self.rate == 10_000 { "reported" } else { says };
        row(&[
            self.rate.to_string(),
            self.threads.to_string(),
            format!("{serialise:.0}"),
            format!("{sdk:.0}"),
            format!("{mutex:.0}"),
            format!("{:.2}", sdk / mutex),
            judged(at_most(sdk / mutex, 1.0)).into(),
            format!("{share:.2}"),
            if self.rate == 200_000 { at_most(share, 0.5).into() } else { String::new() },
        ]);
    }
}

/// The median over the rounds of each round's percentile.
pub(crate) fn percentile(runs: &[Run], percent: f64) -> f64 {
    median(runs.iter().map(|run| run.calls.value_at_percentile(percent) as f64).collect())
}

/// A paced session of this crate.
pub(crate) fn sdk(agent: &Agent, runner: Runner, rate: u32, threads: u32, span: Duration) -> Run {
    let mut run = None;
    runner
        .pipe_path(agent.path())
        .install_signal_handler(false)
        .drain_timeout(Duration::MAX)
        .run_with(Metadata::new("bench", "1", "bench"), |sink, _| {
            let emit = |n| sink.event(KIND).emit(&typed(n)).expect("the session is open");
            run = Some(paced(rate, threads, span, emit));
            Ok(())
        })
        .expect("nothing is lost");
    run.expect("the body ran")
}

/// Calls `emit` at `rate` a second from all threads together, for `span`. A thread that finds
/// several calls due makes them one after another.
pub(crate) fn paced(rate: u32, threads: u32, span: Duration, emit: impl Fn(u32) + Sync) -> Run {
    let interval = Duration::from_secs(1) * threads / rate;
    let count = (span.as_nanos() / interval.as_nanos()) as u32;
    let barrier = Barrier::new(threads as usize);
    let (before, started) = (processor_time(), Instant::now());
    let calls = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|thread| {
                let (emit, barrier) = (&emit, &barrier);
                scope.spawn(move || {
                    let mut calls = Histogram::new(3).expect("three digits are fine");
                    barrier.wait();
                    // The threads take turns.
                    let start = Instant::now() + interval * thread / threads;
                    for n in 0..count {
                        sleep_until(start + interval * n);
                        let called = Instant::now();
                        if called > start + span {
                            // The design cannot keep up with the rate.
                            break;
                        }
                        emit(n);
                        let took = called.elapsed().as_nanos() as u64;
                        calls.record(took).expect("the histogram grows");
                    }
                    calls
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).reduce(|mut all, one| {
            all.add(one).expect("the histogram grows");
            all
        })
    });
    let calls = calls.expect("a thread");
    let cpu_ns = processor_time().saturating_sub(before).as_nanos() as f64 / calls.len() as f64;
    Run { rate: calls.len() as f64 / started.elapsed().as_secs_f64(), cpu_ns, calls }
}

pub(crate) fn sleep_until(due: Instant) {
    let now = Instant::now();
    if due > now {
        thread::sleep(due - now);
    }
}
