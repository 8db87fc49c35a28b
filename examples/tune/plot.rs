//! Draws the tables as charts.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::chart::{Chart, draw};
use crate::{ByCapacity, ByLinger, DEFAULT_CAPACITY};

const SIZE: (u32, u32) = (560, 380);

/// Draws the longest wait under `Block`, and the refused events under `Refuse`.
pub(crate) fn capacities(
    path: &Path,
    all: &[ByCapacity],
    computed: usize,
) -> Result<(), Box<dyn Error>> {
    let ticks = || all.iter().map(|one| (one.capacity as f64, one.capacity.to_string())).collect();
    let line = |y: fn(&ByCapacity) -> f64| {
        let points = all.iter().map(|one| (one.capacity as f64, y(one)));
        vec![(String::new(), points.collect::<Vec<_>>())]
    };
    let marks = || {
        if computed == DEFAULT_CAPACITY {
            return vec![(computed as f64, "default, computed")];
        }
        vec![(DEFAULT_CAPACITY as f64, "default"), (computed as f64, "computed")]
    };
    let waits = Chart {
        title: "Overflow::Block",
        x: "channel_capacity, events",
        ticks: ticks(),
        y: "longest wait of an emit, ms",
        lines: line(|one| milliseconds(one.block.stats.longest_wait)),
        marks: marks(),
        ..Chart::default()
    };
    let refused = Chart {
        title: "Overflow::Refuse",
        x: "channel_capacity, events",
        ticks: ticks(),
        y: "events refused, %",
        lines: line(|one| one.refuse.refused()),
        marks: marks(),
        ..Chart::default()
    };
    draw(path, SIZE, &[waits, refused])
}

/// Draws the events per write and the delay, by linger.
pub(crate) fn lingers(path: &Path, all: &[ByLinger]) -> Result<(), Box<dyn Error>> {
    // A logarithmic axis has no zero.
    let x = |one: &ByLinger| milliseconds(one.linger).max(0.03);
    let label = |one: &ByLinger| match milliseconds(one.linger) {
        0.0 => "none".into(),
        other => other.to_string(),
    };
    let ticks = || all.iter().map(|one| (x(one), label(one))).collect();
    let line = |name: &str, y: fn(&ByLinger) -> f64| {
        (name.to_owned(), all.iter().map(|one| (x(one), y(one))).collect::<Vec<_>>())
    };
    let writes = Chart {
        title: "Events per write by linger",
        x: "linger, ms",
        ticks: ticks(),
        y: "events per write",
        lines: vec![line("", |one| one.outcome.events_per_write())],
        marks: vec![(1.0, "default")],
        ..Chart::default()
    };
    let delays = Chart {
        title: "Delay by linger",
        x: "linger, ms",
        ticks: ticks(),
        y: "from emit to the agent, ms",
        lines: vec![
            line("99.9th percentile", |one| milliseconds(one.outcome.arrival(99.9))),
            line("median", |one| milliseconds(one.outcome.arrival(50.0))),
        ],
        marks: vec![(1.0, "default")],
        ..Chart::default()
    };
    draw(path, SIZE, &[writes, delays])
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
