//! Which schedules are run, and what is printed about them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use parking_lot::Mutex;
use wedr_plugin_sdk::{CloseCause, Error};

use crate::common::watched;
use crate::plan::Plan;
use crate::session::Outcome;
use crate::{checks, session};

const RUN_FOR: &str = "WEDR_SCHEDULES_FOR";
const ONE_SEED: &str = "WEDR_SCHEDULE";
/// How many sessions run at a time.
const AT_ONCE: usize = 2;
/// How many schedules each trial runs.
const COUNT: u64 = 150;
/// After so many schedules the trial prints its progress.
const PRINT_EVERY: u64 = 1000;

pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::from_args();
    let one: Option<u64> = std::env::var(ONE_SEED).ok().map(|seed| seed.parse().expect("a seed"));
    let time = std::env::var(RUN_FOR).ok().map(|time| {
        let time: jiff::SignedDuration = time.parse().expect("a time such as 10m");
        time.unsigned_abs()
    });
    let trial = |name: &str, seeds: Seeds| Trial::test(name, move || schedules(seeds));
    let trials = match (one, time) {
        (None, None) => vec![
            trial("counts_are_exact_with_fixed_seeds", Seeds::count(0)),
            trial("counts_are_exact_with_new_seeds", Seeds::count(new_base())),
        ],
        (None, Some(time)) => {
            vec![trial("counts_are_exact_for_a_given_time", Seeds::of_time(new_base(), time))]
        }
        (Some(seed), time) => {
            let again = Seeds { same: true, ..Seeds::of_time(seed, time.unwrap_or_default()) };
            vec![trial("counts_are_exact_in_one_schedule", again)]
        }
    };
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The first seed of this run. Each run has another, and all seeds of a run follow from it.
fn new_base() -> u64 {
    fastrand::u64(..1 << 48) << 16
}

/// Which seeds, and how many.
#[derive(Debug, Clone, Copy)]
struct Seeds {
    base: u64,
    same: bool,
    count: u64,
    time: Duration,
}

impl Seeds {
    fn count(base: u64) -> Self {
        Self { base, same: false, count: COUNT, time: Duration::MAX }
    }

    /// At least one.
    fn of_time(base: u64, time: Duration) -> Self {
        Self { base, same: false, count: u64::MAX, time }
    }

    fn get(self, index: u64, start: Instant) -> Option<u64> {
        let more = index < self.count && (index == 0 || start.elapsed() < self.time);
        more.then(|| if self.same { self.base } else { self.base + index })
    }
}

fn schedules(seeds: Seeds) -> Result<(), Failed> {
    println!("seeds from {}", seeds.base);
    let start = Instant::now();
    let next = AtomicU64::new(0);
    let tally = Mutex::new(Sums::default());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed), start) {
                    let held = schedule(seed);
                    let mut tally = tally.lock();
                    match &held {
                        Some((outcome, late)) => tally.enter(outcome, *late),
                        None => tally.violated = true,
                    }
                    if tally.violated {
                        break;
                    }
                    if tally.schedules.is_multiple_of(PRINT_EVERY) {
                        println!("{tally:?} after {:.0?}", start.elapsed());
                    }
                }
            });
        }
    });
    let tally = tally.into_inner();
    println!("{tally:?} in {:.0?}", start.elapsed());
    if tally.violated { Err("the checks of a schedule failed".into()) } else { Ok(()) }
}

/// Runs and checks a schedule; `None` if a check fails.
fn schedule(seed: u64) -> Option<(Outcome, Duration)> {
    let plan = Plan::draw(seed);
    let drawn = plan.clone();
    let check = move || {
        let outcome = session::run(&plan);
        let late = checks::check(&plan, &outcome);
        (outcome, late)
    };
    let held = catch_unwind(AssertUnwindSafe(|| watched(check)));
    if held.is_err() {
        println!("VIOLATION. {ONE_SEED}={seed} runs this schedule again:\n{drawn:#?}");
    }
    held.ok()
}

/// The sums of all schedules.
#[derive(Debug, Default)]
struct Sums {
    schedules: u64,
    without_session: u64,
    confirmed: u64,
    lost: u64,
    killed: u64,
    out_of_time: u64,
    panicked: u64,
    accepted: u64,
    sent: u64,
    undelivered: u64,
    refused: u64,
    lost_events: u64,
    not_queued: u64,
    flushes: u64,
    heartbeats: u64,
    /// The largest delay of `run` after its drain deadline.
    latest: Duration,
    violated: bool,
}

impl Sums {
    fn enter(&mut self, outcome: &Outcome, late: Duration) {
        self.schedules += 1;
        self.latest = self.latest.max(late);
        self.killed += u64::from(outcome.times.agent_killed.is_some());
        self.panicked += u64::from(outcome.result.is_err());
        self.out_of_time += u64::from(matches!(outcome.result, Ok(Err(Error::Undelivered { .. }))));
        for results in &outcome.results {
            self.accepted += results.accepted.len() as u64;
            self.not_queued += results.not_queued;
            self.flushes += results.flushes;
        }
        let Some(report) = &outcome.report else {
            self.without_session += 1;
            return;
        };
        self.confirmed += u64::from(report.confirmed);
        self.lost += u64::from(report.cause == CloseCause::PipeLost);
        self.sent += report.stats.sent;
        self.undelivered += report.stats.undelivered;
        self.refused += report.stats.refused;
        self.lost_events += report.stats.lost;
        self.heartbeats += report.stats.heartbeats;
    }
}
