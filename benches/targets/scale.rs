//! Floods by number of producers, and steady rates by number of threads.

use std::thread::available_parallelism;
use std::time::Duration;

use wedr_plugin_sdk::Runner;

use crate::chart::Chart;
use crate::compare::{DESIGNS, Floods};
use crate::options::{Options, draw_chart};
use crate::paced::{Run, paced, percentile, sdk};
use crate::support::agent::Agent;
use crate::support::flood::Design;
use crate::support::payload::typed;
use crate::support::rivals::{AppenderSink, MutexSink, serialise_alone};
use crate::table::{at_most, at_most_bound, figure, head, median, row};

/// Events per second of one thread at a steady rate.
const RATE: u32 = 100_000;

pub(crate) fn measure(agent: &Agent, options: &Options) {
    let cores = available_parallelism().map_or(1, |n| n.get() as u32);
    floods(agent, options, cores);
    steady(agent, options, cores);
}

/// 1, 2, 4 … and `last`.
fn doubling(last: u32) -> Vec<u32> {
    let mut all: Vec<_> =
        std::iter::successors(Some(1), |n| Some(n * 2)).take_while(|n| *n < last).collect();
    all.push(last);
    all
}

/// The target and the bound of the rate, as multiples of the rate of the mutex design. There are targets for 2
/// cores and for 16.
fn target(cores: u32, producers: u32) -> (f64, f64) {
    match (cores, producers) {
        (..8, _) | (_, ..4) => (7.0, 5.0),
        (_, ..8) => (15.0, 12.0),
        (_, ..16) => (22.0, 12.0),
        (_, ..32) => (22.0, 9.0),
        _ => (15.0, 7.0),
    }
}

fn floods(agent: &Agent, options: &Options, cores: u32) {
    let columns = [&["producers"], &Floods::COLUMNS[..], &["cpu / mutex", ""]].concat();
    head(&format!("Floods of 220-byte frames on {cores} cores"), &columns);
    let designs = options.designs(&DESIGNS);
    let mut lines: Vec<_> = designs
        .iter()
        .filter(|design| **design != Design::Serialise)
        .map(|design| (design.name().to_owned(), Vec::new()))
        .collect();
    let all = options.producers(&doubling(4 * cores));
    for producers in &all {
        let producers = *producers;
        let span = options.span(0.5);
        let floods = Floods::measure(agent, &designs, options.rounds(5), producers, span, typed);
        for (design, (_, line)) in designs.iter().zip(&mut lines) {
            line.extend(floods.rate(*design).map(|rate| (f64::from(producers), rate / 1e6)));
        }
        let cpu = floods.cpu_ratio(Design::Mutex);
        let verdict = match cpu {
            // On 16 cores, with 16 producers: at most a third, never above 0.7.
            Some(cpu) if cores >= 8 && producers >= cores => at_most_bound(cpu, 0.33, 0.7),
            _ => "",
        };
        let mut cells = vec![producers.to_string()];
        cells.extend(floods.cells(target(cores, producers)));
        cells.extend([figure(cpu), verdict.into()]);
        row(&cells);
    }
    if let Some(path) = options.svg() {
        let chart = Chart {
            title: &format!("Events delivered per second, 220-byte frames, {cores} cores"),
            x: "producers (threads that emit)",
            ticks: all.iter().map(|n| (f64::from(*n), n.to_string())).collect(),
            y: "million events/s",
            lines,
            ..Chart::default()
        };
        draw_chart(&path, &chart);
    }
}

fn steady(agent: &Agent, options: &Options, cores: u32) {
    let columns = [
        "threads",
        "design",
        "events/s",
        "× offered",
        "emit median, ns",
        "99 %, µs",
        "99.9 %, µs",
        "target",
        "",
        "cpu ns an event",
        "/ mutex (≤ 1)",
        "",
    ];
    head(&format!("Steady rates of {RATE} events/s a thread on {cores} cores"), &columns);
    let designs = options.designs(&DESIGNS);
    let threads = options.producers(&doubling(cores));
    for threads in threads.into_iter().filter(|threads| *threads <= cores) {
        let mut runs: Vec<_> = designs.iter().map(|design| (*design, Vec::new())).collect();
        for _ in 0..options.rounds(5) {
            for (design, runs) in &mut runs {
                runs.push(run(*design, agent, threads, options.span(1.0)));
            }
        }
        let mutex_cpu = runs.iter().find(|(design, _)| *design == Design::Mutex).map(|r| cpu(&r.1));
        for (design, runs) in &runs {
            print_steady(cores, threads, *design, runs, mutex_cpu);
        }
    }
}

fn run(design: Design, agent: &Agent, threads: u32, span: Duration) -> Run {
    let rate = RATE * threads;
    match design {
        Design::Sdk => sdk(agent, Runner::new(), rate, threads, span),
        Design::Mutex => {
            let sink = MutexSink::connect(agent.path());
            let run = paced(rate, threads, span, |n| sink.emit(&typed(n)));
            sink.finish();
            run
        }
        Design::Appender => {
            let sink = AppenderSink::connect(agent.path(), 200);
            let run = paced(rate, threads, span, |n| sink.emit(&typed(n)));
            sink.finish();
            run
        }
        Design::Serialise => paced(rate, threads, span, |n| serialise_alone(&typed(n))),
    }
}

fn cpu(runs: &[Run]) -> f64 {
    median(runs.iter().map(|run| run.cpu_ns).collect())
}

fn print_steady(cores: u32, threads: u32, design: Design, runs: &[Run], mutex_cpu: Option<f64>) {
    let rate = median(runs.iter().map(|run| run.rate).collect());
    let tail = percentile(runs, 99.9) / 1000.0;
    let target = if cores >= 8 && threads >= 8 { 8.0 } else { 5.0 };
    let ratio = mutex_cpu.map(|mutex| cpu(runs) / mutex);
    let judged = design == Design::Sdk;
    row(&[
        threads.to_string(),
        design.name().into(),
        format!("{rate:.0}"),
        figure(rate / f64::from(RATE * threads)),
        figure(percentile(runs, 50.0)),
        figure(percentile(runs, 99.0) / 1000.0),
        figure(tail),
        if judged { format!("≤ {target}") } else { String::new() },
        if judged { at_most(tail, target).into() } else { String::new() },
        figure(cpu(runs)),
        figure(ratio),
        match ratio {
            Some(ratio) if judged => at_most(ratio, 1.0).into(),
            _ => String::new(),
        },
    ]);
}
