//! Shows what the settings of a [`Runner`](wedr_plugin_sdk::Runner) do to a load like yours.
//!
//! `cargo run --release --example tune -- --rate 20000 --burst 5000 --stall 500ms`
//!
//! Events come from four threads at a steady rate; after half of `--lasting` the agent stops reading
//! for as long as `--stall` says, and at the same moment `--burst` events come at once. Each setting
//! gets a session of its own, against an agent inside this process. Prints two tables, and draws
//! them as `capacity.svg` and `linger.svg` into the folder that `--out` names.

#![allow(clippy::cast_precision_loss, reason = "figures are shown with three digits")]

mod load;
mod plot;

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use wedr_plugin_sdk::{Overflow, Runner};

use load::{Load, Outcome};

const CAPACITIES: [usize; 7] = [64, 256, 1024, 4096, 8192, 16_384, 65_536];
const LINGERS_US: [u64; 7] = [0, 100, 300, 1000, 3000, 10_000, 30_000];

/// Tries settings of the SDK on a load of your choice.
#[derive(Parser)]
struct Arguments {
    /// Events per second, of all threads together
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: u32,
    /// Events that come at once when the agent stalls
    #[arg(long, default_value_t = 5000)]
    burst: u32,
    /// How long the agent stalls, such as 500ms or 2s
    #[arg(long, default_value = "500ms", value_parser = humantime::parse_duration)]
    stall: Duration,
    /// How long events come with each setting, besides the stall
    #[arg(long, default_value = "1s", value_parser = humantime::parse_duration)]
    lasting: Duration,
    /// The folder for the plots
    #[arg(long, default_value = "target/tune")]
    out: PathBuf,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { rate, burst, stall, lasting, out } = Arguments::parse();
    fs::create_dir_all(&out)
        .map_err(|e| format!("cannot make the folder {}: {e}", out.display()))?;

    let load = Load { lasting, rate, burst, stall: Some(stall) };
    println!("{rate} events/s, {burst} more at once when the agent stalls for {stall:?}\n");
    let by_capacity = capacities(&load)?;
    let path = out.join("capacity.svg");
    plot::capacities(&path, &by_capacity)?;
    println!("\ndrawn as {}\n", path.display());

    let load = Load { lasting, rate, burst: 0, stall: None };
    println!("{rate} events/s, no burst, no stall\n");
    let by_linger = lingers(&load)?;
    let path = out.join("linger.svg");
    plot::lingers(&path, &by_linger)?;
    println!("\ndrawn as {}", path.display());
    Ok(())
}

/// A capacity, and what became of the load under either policy.
struct ByCapacity {
    capacity: usize,
    block: Outcome,
    refuse: Outcome,
}

fn capacities(load: &Load) -> wedr_plugin_sdk::Result<Vec<ByCapacity>> {
    row(["capacity", "overflow", "high water", "waits", "longest wait", "refused", "emit 99.9 %"]);
    row(["---:", "---", "---:", "---:", "---:", "---:", "---:"]);
    let mut all = Vec::new();
    for capacity in CAPACITIES {
        let run = |overflow| -> wedr_plugin_sdk::Result<_> {
            let outcome = load.run(Runner::new().channel_capacity(capacity).overflow(overflow))?;
            row([
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

/// A linger, and what became of the load.
struct ByLinger {
    linger: Duration,
    outcome: Outcome,
}

fn lingers(load: &Load) -> wedr_plugin_sdk::Result<Vec<ByLinger>> {
    row(["linger", "events a write", "emit 99.9 %", "to the agent: median", "99.9 %"]);
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
