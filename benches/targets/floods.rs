//! Events delivered per second, as ratios, and bytes per `write`.

use std::time::{Duration, Instant};

use serde::Serialize;
use wedr_plugin_sdk::{Runner, Stats};

use crate::support::PRODUCERS;
use crate::support::agent::Agent;
use crate::support::flood::{Design, emit, flood, session, spread};
use crate::support::payload::{typed, value};
use crate::table::{at_least, head, median, row};

const ROUNDS: usize = 7;

pub(crate) fn measure(agent: &Agent) {
    compare(agent, "typed payloads", typed, 7.0, 5.0);
    compare(agent, "`serde_json::Value`, built in the loop", value, 4.0, 3.5);
}

fn compare<T: Serialize>(
    agent: &Agent,
    what: &str,
    payload: impl Fn(u32) -> T + Sync + Copy,
    target: f64,
    bound: f64,
) {
    let title = format!(
        "Delivered per second, {what}: at least {target} × mutex (never below {bound}), \
         6 × tracing-appender (never below 4.5)"
    );
    let columns = [
        "producers",
        "sdk, M/s",
        "× mutex",
        "",
        "× tracing-appender",
        "",
        "KiB a `write` (≥ 32)",
        "waits",
    ];
    head(&title, &columns);
    for producers in PRODUCERS {
        let (mut ours, mut mutex, mut appender) = (vec![], vec![], vec![]);
        let (mut kib, mut waits) = (vec![], vec![]);
        for _ in 0..ROUNDS {
            let (time, stats) = sdk(agent, producers, 800_000, payload);
            let rate = 800_000.0 / time.as_secs_f64();
            ours.push(rate / 1e6);
            kib.push(stats.bytes_sent as f64 / 1024.0 / stats.writes as f64);
            waits.push(stats.waits as f64);
            let rival = |design| {
                let time = flood(design, agent, producers, 150_000, payload);
                rate / (150_000.0 / time.as_secs_f64())
            };
            mutex.push(rival(Design::Mutex));
            appender.push(rival(Design::Appender));
        }
        let (mutex, appender) = (median(mutex), median(appender));
        row(&[
            producers.to_string(),
            format!("{:.2}", median(ours)),
            format!("{mutex:.1}"),
            at_least(mutex, target, bound).into(),
            format!("{appender:.1}"),
            at_least(appender, 6.0, 4.5).into(),
            format!("{:.0}", median(kib)),
            format!("{:.0}", median(waits)),
        ]);
    }
}

/// A session of this crate that delivers `events` events: its time, and its counters.
fn sdk<T: Serialize>(
    agent: &Agent,
    producers: u32,
    events: u64,
    payload: impl Fn(u32) -> T + Sync,
) -> (Duration, Stats) {
    let mut started = Instant::now();
    let stats = session(agent, Runner::new(), |sink| {
        started = Instant::now();
        spread(producers, events, &|n| emit(sink, &payload(n)));
    });
    (started.elapsed(), stats)
}
