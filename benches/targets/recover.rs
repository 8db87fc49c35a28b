//! The agent stops for a second. Rate and cost from one second after it continues, compared with those before.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use wedr_plugin_sdk::{Error, EventSink, Runner};

use crate::options::Options;
use crate::paced::sleep_until;
use crate::support::agent::Agent;
use crate::support::flood::{Design, emit, session};
use crate::support::payload::{Filler, KIND, Sized};
use crate::support::processor_time;
use crate::support::rivals::{AppenderSink, MutexSink};
use crate::table::{at_least, at_most, at_most_bound, figure, head, median, row};

const THREADS: [u32; 2] = [8, 64];
const SIZES: [usize; 2] = [150, 2000];
const SECOND: Duration = Duration::from_secs(1);

/// Events per second that two cores deliver in any design with half their processor time or less.
fn offered(bytes: usize) -> u32 {
    if bytes < 1000 { 50_000 } else { 20_000 }
}

pub(crate) fn measure(agent: &Agent, options: &Options) {
    let columns = [
        "bytes",
        "threads",
        "offered/s",
        "call",
        "delivered/s before",
        "after",
        "after / before",
        "≥ 0.98",
        "cpu ns before",
        "after",
        "after / before",
        "≤ 1.1 (1.25)",
        "`try_emit` failed after",
    ];
    head(
        "The agent stops for 1 s: the second before, and the second that begins 1 s after",
        &columns,
    );
    let designs = options.designs(&Design::ALL);
    let calls = Call::ALL.into_iter().filter(|call| designs.contains(&call.design()));
    let calls: Vec<_> = calls.collect();
    for bytes in options.sizes(&SIZES) {
        let filler = Filler::new(bytes);
        for threads in options.producers(&THREADS) {
            let rate = options.rate.unwrap_or(offered(bytes));
            let load = Load { agent, threads, rate, bytes, filler: &filler };
            for call in &calls {
                let rounds = (0..options.rounds(1)).map(|_| load.measure(*call));
                print(&load, *call, &rounds.collect::<Vec<_>>());
            }
        }
    }
}

/// How the threads hand over their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// `emit`, while one more thread calls `try_emit` a thousand times a second.
    Emit,
    TryEmit,
    Mutex,
    Appender,
}

impl Call {
    const ALL: [Self; 4] = [Self::Emit, Self::TryEmit, Self::Mutex, Self::Appender];

    fn name(self) -> &'static str {
        match self {
            Self::Emit => "`emit`",
            Self::TryEmit => "`try_emit`",
            Self::Mutex => "mutex",
            Self::Appender => "appender",
        }
    }

    fn design(self) -> Design {
        match self {
            Self::Emit | Self::TryEmit => Design::Sdk,
            Self::Mutex => Design::Mutex,
            Self::Appender => Design::Appender,
        }
    }
}

fn print(load: &Load<'_>, call: Call, rounds: &[Outcome]) {
    let of = |figure: &dyn Fn(&Outcome) -> f64| median(rounds.iter().map(figure).collect());
    let delivered = of(&|round| round.after.rate / round.before.rate);
    let cpu = of(&|round| round.after.cpu_ns / round.before.cpu_ns);
    let judged = call.design() == Design::Sdk;
    row(&[
        load.bytes.to_string(),
        load.threads.to_string(),
        load.rate.to_string(),
        call.name().into(),
        format!("{:.0}", of(&|round| round.before.rate)),
        format!("{:.0}", of(&|round| round.after.rate)),
        figure(delivered),
        if judged { at_least(delivered, 0.98, 0.98) } else { "" }.into(),
        figure(of(&|round| round.before.cpu_ns)),
        figure(of(&|round| round.after.cpu_ns)),
        figure(cpu),
        if judged { at_most_bound(cpu, 1.1, 1.25) } else { "" }.into(),
        if judged {
            let tried = of(&|round| round.after.tried);
            let failed = of(&|round| round.after.failed);
            format!("{failed:.0} of {tried:.0}: {}", at_most(failed, 0.0))
        } else {
            String::new()
        },
    ]);
}

/// Events at a steady rate from several threads.
struct Load<'a> {
    agent: &'a Agent,
    threads: u32,
    /// Per second, of all threads together.
    rate: u32,
    bytes: usize,
    filler: &'a Filler,
}

/// One second of a load.
struct Window {
    /// Events delivered per second.
    rate: f64,
    /// Processor time per event.
    cpu_ns: f64,
    /// Calls of `try_emit`.
    tried: f64,
    /// Calls of `try_emit` that found no room.
    failed: f64,
}

struct Outcome {
    before: Window,
    after: Window,
}

/// The calls of `try_emit`.
#[derive(Default)]
struct Tries {
    made: AtomicU64,
    failed: AtomicU64,
}

impl Tries {
    fn try_emit(&self, sink: &EventSink, payload: &Sized<'_>) {
        self.made.fetch_add(1, Relaxed);
        match sink.event(KIND).try_emit(payload) {
            Ok(()) => {}
            Err(Error::QueueFull) => drop(self.failed.fetch_add(1, Relaxed)),
            Err(other) => panic!("{other}"),
        }
    }
}

impl Load<'_> {
    fn measure(&self, call: Call) -> Outcome {
        match call {
            Call::Emit => self.session(|sink, tries| {
                let probe = |n| tries.try_emit(sink, &self.filler.payload(n));
                let call = |n| emit(sink, &self.filler.payload(n));
                self.run(&call, Some(&probe), &|| sink.stats().sent, tries)
            }),
            Call::TryEmit => self.session(|sink, tries| {
                let call = |n| tries.try_emit(sink, &self.filler.payload(n));
                self.run(&call, None, &|| sink.stats().sent, tries)
            }),
            Call::Mutex => {
                let sink = MutexSink::connect(self.agent.path());
                let outcome = self.rival(|n| sink.emit(&self.filler.payload(n)));
                sink.finish();
                outcome
            }
            Call::Appender => {
                let sink = AppenderSink::connect(self.agent.path(), self.bytes);
                let outcome = self.rival(|n| sink.emit(&self.filler.payload(n)));
                sink.finish();
                outcome
            }
        }
    }

    fn session(&self, body: impl FnOnce(&EventSink, &Tries) -> Outcome) -> Outcome {
        let mut outcome = None;
        session(self.agent, Runner::new(), |sink| outcome = Some(body(sink, &Tries::default())));
        outcome.expect("the body ran")
    }

    /// The rivals do not count delivered events. The number of accepted events is nearly the same.
    fn rival(&self, emit: impl Fn(u32) + Sync) -> Outcome {
        let accepted = AtomicU64::new(0);
        let call = |n| {
            emit(n);
            accepted.fetch_add(1, Relaxed);
        };
        self.run(&call, None, &|| accepted.load(Relaxed), &Tries::default())
    }

    /// Makes calls of `call` at the load's rate, and of `probe` a thousand times a second.
    fn run(
        &self,
        call: &(dyn Fn(u32) + Sync),
        probe: Option<&(dyn Fn(u32) + Sync)>,
        delivered: &dyn Fn() -> u64,
        tries: &Tries,
    ) -> Outcome {
        let over = &AtomicBool::new(false);
        let interval = SECOND * self.threads / self.rate;
        thread::scope(|scope| {
            for thread in 0..self.threads {
                let first = Instant::now() + interval * thread / self.threads;
                scope.spawn(move || steadily(first, interval, over, call));
            }
            if let Some(probe) = probe {
                scope.spawn(move || steadily(Instant::now(), SECOND / 1000, over, probe));
            }
            let window = || {
                let (began, cpu, sent) = (Instant::now(), processor_time(), delivered());
                let (made, failed) = (tries.made.load(Relaxed), tries.failed.load(Relaxed));
                thread::sleep(SECOND);
                let events = (delivered() - sent) as f64;
                let cpu = processor_time().saturating_sub(cpu).as_nanos() as f64;
                Window {
                    rate: events / began.elapsed().as_secs_f64(),
                    cpu_ns: cpu / events,
                    tried: (tries.made.load(Relaxed) - made) as f64,
                    failed: (tries.failed.load(Relaxed) - failed) as f64,
                }
            };
            thread::sleep(SECOND / 2);
            let before = window();
            let stopped = self.agent.stop();
            thread::sleep(SECOND);
            drop(stopped);
            thread::sleep(SECOND);
            let after = window();
            over.store(true, Relaxed);
            Outcome { before, after }
        })
    }
}

/// Calls `call` once per interval. After a call that blocked, the calls that became due follow one after
/// another, as in a source that has stored its events.
fn steadily(first: Instant, interval: Duration, over: &AtomicBool, call: &(dyn Fn(u32) + Sync)) {
    for n in 0.. {
        sleep_until(first + interval * n);
        if over.load(Relaxed) {
            break;
        }
        call(n);
    }
}
