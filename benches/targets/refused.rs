//! The cost of an `emit` that is refused because the queue is full while the agent stalls.

use std::time::{Duration, Instant};

use wedr_plugin_sdk::{Error, EventSink, Overflow, Runner};

use crate::chart::Chart;
use crate::options::{Options, draw_chart};
use crate::support::agent::Agent;
use crate::support::flood::{for_span, session};
use crate::support::payload::{Filler, KIND};
use crate::support::processor_time;
use crate::support::rivals::{AppenderSink, serialise_alone};
use crate::table::{at_most, figure, head, median, row};

const THREADS: [u32; 3] = [1, 8, 16];
const SIZES: [usize; 3] = [100, 600, 5000];
/// Nanoseconds of processor time.
const TARGET: f64 = 40.0;

pub(crate) fn measure(agent: &Agent, options: &Options) {
    let columns = [
        "bytes",
        "threads",
        "`emit`, `Refuse`",
        "",
        "`try_emit`",
        "",
        "appender, lossy",
        "serialise",
        "queued meanwhile",
    ];
    head(
        &format!(
            "Processor time in ns of an emit that finds the queue full: at most {TARGET}. (The mutex \
             design and the lossless appender block instead.)"
        ),
        &columns,
    );
    let sizes = options.sizes(&SIZES);
    let threads = options.producers(&THREADS);
    let mut lines: Vec<_> = threads.iter().map(|n| (name(*n), Vec::new())).collect();
    lines.push(("serialise alone".into(), Vec::new()));
    for bytes in &sizes {
        let bytes = *bytes;
        let filler = Filler::new(bytes);
        for (n, threads) in threads.iter().enumerate() {
            let mut costs = Vec::new();
            for _ in 0..options.rounds(3) {
                costs.push(Costs::measure(agent, &filler, bytes, *threads, options.span(0.2)));
            }
            let costs = Costs::median(&costs);
            row(&[
                bytes.to_string(),
                threads.to_string(),
                figure(costs.emit),
                at_most(costs.emit, TARGET).into(),
                figure(costs.try_emit),
                at_most(costs.try_emit, TARGET).into(),
                figure(costs.appender),
                figure(costs.serialise),
                figure(costs.accepted),
            ]);
            lines[n].1.push((bytes as f64, costs.emit));
            if n == 0 {
                lines.last_mut().expect("it was added").1.push((bytes as f64, costs.serialise));
            }
        }
    }
    if let Some(path) = options.svg() {
        let chart = Chart {
            title: "Processor time of an emit that is refused while the agent stalls",
            x: "payload, bytes",
            ticks: sizes.iter().map(|bytes| (*bytes as f64, bytes.to_string())).collect(),
            y: "ns of processor time",
            y_logarithmic: true,
            lines,
            level: Some((TARGET, "target")),
            ..Chart::default()
        };
        draw_chart(&path, &chart);
    }
}

fn name(threads: u32) -> String {
    if threads == 1 { "refused, 1 thread".into() } else { format!("refused, {threads} threads") }
}

/// Nanoseconds of processor time per call.
struct Costs {
    emit: f64,
    try_emit: f64,
    appender: f64,
    serialise: f64,
    /// Events that the queue took although it was full.
    accepted: f64,
}

impl Costs {
    fn measure(agent: &Agent, filler: &Filler, bytes: usize, threads: u32, span: Duration) -> Self {
        let (mut emit, mut try_emit, mut accepted) = (0.0, 0.0, 0.0);
        session(agent, Runner::new().overflow(Overflow::Refuse), |sink| {
            let stopped = agent.stop();
            fill(sink, filler);
            let queued = sink.stats().queued;
            emit = per_call(threads, span, &|n| {
                let _ = sink.event(KIND).emit(&filler.payload(n));
            });
            try_emit = per_call(threads, span, &|n| {
                let _ = sink.event(KIND).try_emit(&filler.payload(n));
            });
            accepted = sink.stats().queued as f64 - queued as f64;
            drop(stopped);
        });
        let sink = AppenderSink::lossy(agent.path(), bytes);
        let stopped = agent.stop();
        // The queue is full if it drops a hundred of a hundred events, several times in a row.
        let mut full = 0;
        while full < 5 {
            let dropped = sink.dropped();
            (0..100).for_each(|n| sink.emit(&filler.payload(n)));
            full = if sink.dropped() == dropped + 100 { full + 1 } else { 0 };
            std::thread::sleep(Duration::from_millis(1));
        }
        let appender = per_call(threads, span, &|n| sink.emit(&filler.payload(n)));
        drop(stopped);
        sink.finish();
        let serialise = per_call(threads, span, &|n| serialise_alone(&filler.payload(n)));
        Self { emit, try_emit, appender, serialise, accepted }
    }

    fn median(all: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| median(all.iter().map(figure).collect());
        Self {
            emit: of(|costs| costs.emit),
            try_emit: of(|costs| costs.try_emit),
            appender: of(|costs| costs.appender),
            serialise: of(|costs| costs.serialise),
            accepted: of(|costs| costs.accepted),
        }
    }
}

/// Emits until the queue has been full for some time. By then the writer's last `write` blocks.
fn fill(sink: &EventSink, filler: &Filler) {
    const QUIET: Duration = Duration::from_millis(50);
    let mut last_room = Instant::now();
    while last_room.elapsed() < QUIET {
        match sink.event(KIND).try_emit(&filler.payload(0)) {
            Ok(()) => last_room = Instant::now(),
            Err(Error::QueueFull) => std::thread::sleep(Duration::from_micros(100)),
            Err(other) => panic!("{other}"),
        }
    }
}

fn per_call(threads: u32, span: Duration, call: &(dyn Fn(u32) + Sync)) -> f64 {
    let before = processor_time();
    let calls = for_span(threads, span, call);
    processor_time().saturating_sub(before).as_nanos() as f64 / calls as f64
}
