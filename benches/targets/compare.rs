//! Floods of several designs that take turns.

use std::time::Duration;

use serde::Serialize;

use crate::support::agent::Agent;
use crate::support::flood::{Design, Flood, flood_for};
use crate::table::{at_least, figure, median, thousands};

/// The designs in a table.
pub(crate) const DESIGNS: [Design; 4] =
    [Design::Sdk, Design::Mutex, Design::Appender, Design::Serialise];

/// The floods of each design, one per round.
pub(crate) struct Floods(Vec<(Design, Vec<Flood>)>);

impl Floods {
    /// The columns of [`cells`](Self::cells).
    pub(crate) const COLUMNS: [&str; 11] = [
        "sdk, k/s",
        "mutex, k/s",
        "appender, k/s",
        "serialise, k/s",
        "× mutex",
        "target (bound)",
        "",
        "× appender",
        "cpu ns: sdk",
        "mutex",
        "serialise",
    ];

    pub(crate) fn measure<T: Serialize>(
        agent: &Agent,
        designs: &[Design],
        rounds: usize,
        producers: u32,
        span: Duration,
        payload: impl Fn(u32) -> T + Sync,
    ) -> Self {
        let mut all: Vec<_> = designs.iter().map(|design| (*design, Vec::new())).collect();
        for _ in 0..rounds {
            for (design, floods) in &mut all {
                floods.push(flood_for(*design, agent, producers, span, &payload));
            }
        }
        Self(all)
    }

    /// The figures of a table's row. `target` and `bound` are multiples of the mutex design's rate.
    pub(crate) fn cells(&self, (target, bound): (f64, f64)) -> [String; 11] {
        let times = self.times(Design::Mutex);
        [
            thousands(self.rate(Design::Sdk)),
            thousands(self.rate(Design::Mutex)),
            thousands(self.rate(Design::Appender)),
            thousands(self.rate(Design::Serialise)),
            figure(times),
            format!("{target} ({bound})"),
            times.map_or("", |times| at_least(times, target, bound)).into(),
            figure(self.times(Design::Appender)),
            figure(self.cpu_ns(Design::Sdk)),
            figure(self.cpu_ns(Design::Mutex)),
            figure(self.cpu_ns(Design::Serialise)),
        ]
    }

    fn of(&self, design: Design) -> Option<&[Flood]> {
        self.0.iter().find(|(one, _)| *one == design).map(|(_, floods)| floods.as_slice())
    }

    /// The median of events delivered per second.
    pub(crate) fn rate(&self, design: Design) -> Option<f64> {
        Some(median(self.of(design)?.iter().map(Flood::rate).collect()))
    }

    /// The median of the processor time per event in nanoseconds.
    pub(crate) fn cpu_ns(&self, design: Design) -> Option<f64> {
        Some(median(self.of(design)?.iter().map(Flood::cpu_ns).collect()))
    }

    /// The median over the rounds of this crate's rate divided by the rival's.
    pub(crate) fn times(&self, rival: Design) -> Option<f64> {
        self.ratio(rival, Flood::rate)
    }

    /// The median over the rounds of this crate's processor time divided by the rival's.
    pub(crate) fn cpu_ratio(&self, rival: Design) -> Option<f64> {
        self.ratio(rival, Flood::cpu_ns)
    }

    fn ratio(&self, rival: Design, figure: impl Fn(&Flood) -> f64) -> Option<f64> {
        let rounds = self.of(Design::Sdk)?.iter().zip(self.of(rival)?);
        Some(median(rounds.map(|(sdk, rival)| figure(sdk) / figure(rival)).collect()))
    }
}
