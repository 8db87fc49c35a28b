//! Events delivered per second by payload size.

use crate::chart::Chart;
use crate::compare::{DESIGNS, Floods};
use crate::options::{Options, draw_chart};
use crate::support::agent::Agent;
use crate::support::flood::Design;
use crate::support::payload::Filler;
use crate::table::{at_least, at_most, figure, head, row};

const SIZES: [usize; 5] = [150, 600, 2000, 8000, 100_000];
const PRODUCERS: [u32; 4] = [1, 2, 8, 64];

/// The target and the bound of the rate, as multiples of the rate of the mutex design. For short events, `scale`
/// has targets by number of cores.
fn target(bytes: usize) -> (f64, f64) {
    match bytes {
        ..300 => (7.0, 5.0),
        300..1200 => (4.0, 2.5),
        1200..4000 => (3.0, 2.0),
        4000..30_000 => (2.0, 1.2),
        _ => (1.0, 1.0),
    }
}

pub(crate) fn measure(agent: &Agent, options: &Options) {
    let columns = [&["bytes", "producers"], &Floods::COLUMNS[..], &["remarks"]].concat();
    head("Events delivered per second, and processor time per event, by payload size", &columns);
    let designs = options.designs(&DESIGNS);
    let producers = options.producers(&PRODUCERS);
    let mut lines: Vec<_> = producers.iter().map(|n| (name(*n), Vec::new())).collect();
    let sizes = options.sizes(&SIZES);
    for bytes in &sizes {
        let bytes = *bytes;
        let filler = Filler::new(bytes);
        let mut with_eight = None;
        for (producers, (_, line)) in producers.iter().copied().zip(&mut lines) {
            let floods = Floods::measure(
                agent,
                &designs,
                options.rounds(3),
                producers,
                options.span(0.5),
                |n| filler.payload(n),
            );
            let rate = floods.rate(Design::Sdk);
            if producers == 8 {
                with_eight = rate;
            }
            if let Some(times) = floods.times(Design::Mutex) {
                line.push((bytes as f64, times));
            }
            print(bytes, producers, &floods, with_eight);
        }
    }
    if let Some(path) = options.svg() {
        let chart = Chart {
            title: "Events delivered per second, as a multiple of the mutex design",
            x: "payload, bytes",
            ticks: sizes.iter().map(|bytes| (*bytes as f64, bytes.to_string())).collect(),
            y: "× mutex",
            lines,
            level: Some((1.0, "mutex design")),
            ..Chart::default()
        };
        draw_chart(&path, &chart);
    }
}

fn name(producers: u32) -> String {
    if producers == 1 { "1 producer".into() } else { format!("{producers} producers") }
}

fn print(bytes: usize, producers: u32, floods: &Floods, with_eight: Option<f64>) {
    let mut remarks = Vec::new();
    if let (64, Some(rate), Some(eight)) = (producers, floods.rate(Design::Sdk), with_eight) {
        let share = rate / eight;
        remarks.push(format!("{} × 8 producers (≥ 0.8): {}", figure(share), {
            at_least(share, 0.8, 0.8)
        }));
    }
    if let (1, 100_000, Some(ratio)) = (producers, bytes, floods.cpu_ratio(Design::Mutex)) {
        let verdict = at_most(ratio, 1.0);
        remarks.push(format!("cpu {} × mutex (≤ 1): {verdict}", figure(ratio)));
    }
    let mut cells = vec![bytes.to_string(), producers.to_string()];
    cells.extend(floods.cells(target(bytes)));
    cells.push(remarks.join("; "));
    row(&cells);
}
