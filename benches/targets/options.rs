//! The command line.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Parser, ValueEnum};

use crate::chart::{Chart, draw};
use crate::support::flood::Design;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// The cost of each part of an event alone
    Limits,
    /// Events delivered per second, 220 bytes
    Floods,
    /// Events delivered per second by payload size
    Sizes,
    /// Events delivered per second and the cost of an emit by number of producers
    Scale,
    /// The cost of an emit at a steady rate
    Paced,
    /// The longest emit while the agent stops for a second
    Stalled,
    /// The cost of an emit that finds the queue full
    Refused,
    /// Rate and cost after the agent stopped for a second
    Recover,
    /// Memory at 100 000 events/s for ten minutes; runs only if named
    Soak,
}

/// Measures every figure that has a target.
#[derive(Debug, Parser)]
#[command(after_help = "Without a part, all parts but `soak` run.")]
pub(crate) struct Options {
    /// What to measure
    pub(crate) parts: Vec<Part>,
    /// Bytes of a payload (for `sizes`, `refused`, `recover`)
    #[arg(long, value_delimiter = ',', value_name = "BYTES")]
    pub(crate) size: Vec<usize>,
    /// Threads that emit (for `sizes`, `scale`, `refused`, `recover`)
    #[arg(long, value_delimiter = ',', value_name = "THREADS", alias = "threads")]
    pub(crate) producers: Vec<u32>,
    /// How long one run takes (for `sizes`, `scale`, `refused`)
    #[arg(long)]
    seconds: Option<f64>,
    /// Runs of each design per row (for `sizes`, `scale`, `refused`, `recover`)
    #[arg(long)]
    rounds: Option<usize>,
    /// Events per second of all threads together (for `recover`)
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// The designs to compare (for `sizes`, `scale`, `recover`)
    #[arg(long, value_delimiter = ',')]
    design: Vec<DesignName>,
    /// Draw the results as a chart into this file (for one of `sizes`, `scale`, `refused`)
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DesignName {
    Sdk,
    Mutex,
    Appender,
    Serialise,
}

impl Options {
    pub(crate) fn wants(&self, part: Part) -> bool {
        match part {
            Part::Soak => self.parts.contains(&part),
            part => self.parts.is_empty() || self.parts.contains(&part),
        }
    }

    /// The path of the chart. Cargo starts a bench in the folder of its package, but a relative path is
    /// relative to the folder of the workspace, where the user gave the command.
    pub(crate) fn svg(&self) -> Option<PathBuf> {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let workspace = package.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
        self.svg.as_ref().map(|path| workspace.join(path))
    }

    pub(crate) fn sizes(&self, default: &[usize]) -> Vec<usize> {
        if self.size.is_empty() { default.to_vec() } else { self.size.clone() }
    }

    pub(crate) fn producers(&self, default: &[u32]) -> Vec<u32> {
        if self.producers.is_empty() { default.to_vec() } else { self.producers.clone() }
    }

    pub(crate) fn span(&self, default: f64) -> Duration {
        Duration::from_secs_f64(self.seconds.unwrap_or(default))
    }

    pub(crate) fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(default).max(1)
    }

    /// The designs in `all` that the user wants.
    pub(crate) fn designs(&self, all: &[Design]) -> Vec<Design> {
        let wanted = |design: &Design| {
            let name = match design {
                Design::Sdk => DesignName::Sdk,
                Design::Mutex => DesignName::Mutex,
                Design::Appender => DesignName::Appender,
                Design::Serialise => DesignName::Serialise,
            };
            self.design.is_empty() || self.design.contains(&name)
        };
        all.iter().copied().filter(wanted).collect()
    }
}

pub(crate) fn draw_chart(path: &Path, chart: &Chart<'_>) {
    draw(path, (800, 420), std::slice::from_ref(chart)).expect("the chart is drawn");
    println!("\nchart: {}", path.display());
}
