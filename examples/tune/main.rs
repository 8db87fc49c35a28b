//! A tool that computes the queue capacity that a load needs, and measures how the settings of a
//! [`Runner`](wedr_plugin_sdk::Runner) affect this load. It needs no agent.
//!
//! ```sh
//! cargo run --release --example tune -- --rate 20000 --burst 5000 --stall 500ms
//! cargo run --release --example tune -- --from recording.ndjson --stall 500ms
//! ```
//!
//! Settings: `--help` lists them.
//!
//! Four threads emit events at a steady rate. After half of `--lasting`, the agent stops reading for `--stall`,
//! and at the same moment the threads emit `--burst` more events. With `--from`, the threads emit events as in a
//! recording of `wedr-dev-agent --format ndjson`, and the agent stops reading when the recording has the most
//! events. Each setting gets its own session, with a test agent in this process. The program prints two tables,
//! and draws them as `capacity.svg` and `linger.svg` in the folder of `--out`.

#![allow(clippy::cast_precision_loss, reason = "the numbers are printed with three digits")]

mod arrivals;
mod chart;
mod load;
mod plot;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use wedr_plugin_sdk::{Overflow, Runner};

use arrivals::{Arrivals, Need};
use load::{Load, Outcome, Stall};

/// The defaults of `Runner`.
const DEFAULT_CAPACITY: usize = 8192;
const DEFAULT_BYTES: usize = 64 << 20;
const CAPACITIES: [usize; 6] = [64, 256, 1024, 4096, 16_384, 65_536];
const LINGERS_US: [u64; 7] = [0, 100, 300, 1000, 3000, 10_000, 30_000];
/// `max_queued_bytes` limits the memory of longer payloads, plus about as many bytes for the rest of
/// the frame.
const INLINE: usize = 200;

/// Computes the queue capacity for a load, and measures settings of the SDK.
#[derive(Parser)]
struct Arguments {
    /// Events per second, of all threads together
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// More events at the moment when the agent stops reading
    #[arg(long, default_value_t = 5000)]
    burst: u32,
    /// Bytes per payload
    #[arg(long, default_value_t = 120, value_parser = RangedU64ValueParser::<usize>::new().range(50..=1_000_000))]
    bytes: usize,
    /// Emit events as in this recording of wedr-dev-agent --format ndjson
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "burst", "bytes"])]
    from: Option<PathBuf>,
    /// How long the agent stops reading, such as 500ms or 2s
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    stall: Duration,
    /// How long the load lasts for each setting, without the stall
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    lasting: Duration,
    /// Capacities to measure, in addition to the computed one and the default
    #[arg(long, value_name = "EVENTS", value_delimiter = ',', value_parser = RangedU64ValueParser::<usize>::new().range(1..=4_194_304))]
    capacity: Vec<usize>,
    /// The folder for the charts
    #[arg(long, default_value = "target/tune", value_name = "FOLDER")]
    out: PathBuf,
}

fn main() -> ExitCode {
    // A `main` that returns the error would print its Debug form, which is escaped.
    match tune(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tune: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tune(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    let Arguments { stall, ref out, .. } = arguments;
    let (arrivals, need) = arguments.arrivals()?;
    let computed = need.events.max(1);
    let (excerpt, after) =
        arrivals.around(need.first, arguments.lasting / 2, stall + arguments.lasting / 2);
    println!("for a stall of {stall:?} at the worst moment, the queue needs:");
    println!("  channel_capacity >= {computed} (default {DEFAULT_CAPACITY})");
    let bytes = queued_bytes(&excerpt, computed);
    if bytes > 0 {
        println!("  max_queued_bytes >= {bytes} (default {DEFAULT_BYTES})");
    }
    println!();

    let load = Load { arrivals: excerpt, stall: Some(Stall { after, time: stall }) };
    let by_capacity = capacities(&load, &arguments.capacity, computed)?;
    let tested = by_capacity.iter().find(|one| one.capacity == computed);
    if let Some(ByCapacity { block, refuse, .. }) = tested {
        let (waits, refused) = (block.stats.waits, refuse.stats.refused);
        println!(
            "\nmeasured with channel_capacity({computed}), the computed capacity: {waits} waits, \
             {refused} refused"
        );
    }
    let path = out.join("capacity.svg");
    plot::capacities(&path, &by_capacity, computed)?;
    println!("\nchart: {}\n", path.display());

    println!("the same load without stall and burst:\n");
    let load = Load { arrivals: arguments.without_burst(load.arrivals), stall: None };
    let by_linger = lingers(&load)?;
    let path = out.join("linger.svg");
    plot::lingers(&path, &by_linger)?;
    println!("\nchart: {}", path.display());
    Ok(())
}

impl Arguments {
    /// The events, and the queue that they need.
    fn arrivals(&self) -> Result<(Arrivals, Need), Box<dyn Error>> {
        let Self { rate, burst, bytes, stall, lasting, .. } = *self;
        let Some(path) = &self.from else {
            println!(
                "load: {rate} events/s with payloads of {bytes} bytes, and {burst} more events when the \
                 agent stops reading"
            );
            let arrivals = Arrivals::steady(rate, lasting + stall, bytes, (burst, lasting / 2));
            let need = arrivals.need(stall);
            return Ok((arrivals, need));
        };
        let sessions = Arrivals::recorded(path)?;
        println!("{} sessions in {}", sessions.len(), path.display());
        let needs = sessions.into_iter().map(|arrivals| {
            let need = arrivals.need(stall);
            (arrivals, need)
        });
        Ok(needs.max_by_key(|(_, need)| need.events).expect("a recording has a session"))
    }

    /// The events of a recording unchanged; otherwise only those of the steady rate.
    fn without_burst(&self, arrivals: Arrivals) -> Arrivals {
        match self.from {
            Some(_) => arrivals,
            None => Arrivals::steady(self.rate, self.lasting, self.bytes, (0, Duration::ZERO)),
        }
    }
}

/// The memory that `events` events of the largest size need, in addition to the queue's slots.
fn queued_bytes(arrivals: &Arrivals, events: usize) -> usize {
    let largest = arrivals.largest();
    // The SDK rounds the length of a buffer up, by at most a quarter.
    if largest <= INLINE { 0 } else { events.saturating_mul((largest + INLINE) * 5 / 4) }
}

/// A capacity, and the results under both overflow policies.
struct ByCapacity {
    capacity: usize,
    block: Outcome,
    refuse: Outcome,
}

/// The capacities to measure, in order, without those close to the computed capacity.
fn to_measure(given: &[usize], computed: usize) -> Vec<usize> {
    let close = |one: usize| one > computed / 4 * 3 && one < computed + computed / 4;
    let mut all = match given {
        [] => CAPACITIES.into_iter().filter(|one| !close(*one)).collect(),
        given => given.to_vec(),
    };
    all.extend([computed, DEFAULT_CAPACITY]);
    all.sort_unstable();
    all.dedup();
    all
}

fn capacities(
    load: &Load,
    given: &[usize],
    computed: usize,
) -> wedr_plugin_sdk::Result<Vec<ByCapacity>> {
    row([
        "",
        "capacity",
        "overflow",
        "high water",
        "waits",
        "longest wait",
        "refused",
        "emit 99.9 %",
    ]);
    row(["---", "---:", "---", "---:", "---:", "---:", "---:", "---:"]);
    let mut all = Vec::new();
    for capacity in to_measure(given, computed) {
        let run = |overflow| -> wedr_plugin_sdk::Result<_> {
            let bytes = queued_bytes(&load.arrivals, capacity).max(DEFAULT_BYTES);
            let runner = Runner::new().channel_capacity(capacity).max_queued_bytes(bytes);
            let outcome = load.run(runner.overflow(overflow))?;
            let mark = match capacity {
                both if both == computed && both == DEFAULT_CAPACITY => "default, computed",
                one if one == computed => "computed",
                DEFAULT_CAPACITY => "default",
                _ => "",
            };
            row([
                mark.to_string(),
                capacity.to_string(),
                format!("{overflow:?}"),
                outcome.stats.queue_high_water.to_string(),
                outcome.stats.waits.to_string(),
                format!("{:.1?}", outcome.stats.longest_wait),
                outcome.stats.refused.to_string(),
                format!("{:.1?}", outcome.emit_999()),
            ]);
            Ok(outcome)
        };
        let (block, refuse) = (run(Overflow::Block)?, run(Overflow::Refuse)?);
        all.push(ByCapacity { capacity, block, refuse });
    }
    Ok(all)
}

/// A linger, and the results.
struct ByLinger {
    linger: Duration,
    outcome: Outcome,
}

fn lingers(load: &Load) -> wedr_plugin_sdk::Result<Vec<ByLinger>> {
    row(["linger", "events per write", "emit 99.9 %", "to the agent: median", "99.9 %"]);
    row(["---:"; 5]);
    let mut all = Vec::new();
    for linger in LINGERS_US.map(Duration::from_micros) {
        let outcome = load.run(Runner::new().linger(linger))?;
        row([
            format!("{linger:?}"),
            format!("{:.1}", outcome.events_per_write()),
            format!("{:.1?}", outcome.emit_999()),
            format!("{:.2?}", outcome.arrival(50.0)),
            format!("{:.2?}", outcome.arrival(99.9)),
        ]);
        all.push(ByLinger { linger, outcome });
    }
    Ok(all)
}

fn row<const N: usize>(cells: [impl AsRef<str>; N]) {
    println!("| {} |", cells.map(|cell| format!("{:>12}", cell.as_ref())).join(" | "));
}
