//! The three designs, at one to 64 producers.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput};
use serde::Serialize;

use crate::support::PRODUCERS;
use crate::support::agent::{self, Agent};
use crate::support::flood::{Design, flood};
use crate::support::payload::{Filler, typed, value};

pub(crate) fn run() {
    agent::serve_if_asked();
    let agent = Agent::start();
    let mut criterion = Criterion::default().configure_from_args();
    compare(&mut criterion, &agent, "typed", typed);
    compare(&mut criterion, &agent, "value", value);
    let filler = Filler::new(600);
    compare(&mut criterion, &agent, "600_bytes", |n| filler.payload(n));
    criterion.final_summary();
}

fn compare<T: Serialize>(
    criterion: &mut Criterion,
    agent: &Agent,
    name: &str,
    payload: impl Fn(u32) -> T + Sync + Copy,
) {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(1));
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.sample_size(10);
    for producers in PRODUCERS {
        for design in Design::ALL {
            group.bench_function(BenchmarkId::new(design.name(), producers), |bencher| {
                bencher.iter_custom(|events| flood(design, agent, producers, events, payload));
            });
        }
    }
    group.finish();
}
