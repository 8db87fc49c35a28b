//! Puts a load on a session and measures the results.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use wedr_plugin_sdk::testing::{PluginMessage, Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, Stats};

use crate::arrivals::Arrivals;

const THREADS: usize = 4;

pub(crate) struct Load {
    pub(crate) arrivals: Arrivals,
    pub(crate) stall: Option<Stall>,
}

/// A time in which the agent does not read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    /// How many events the agent reads before the stall.
    pub(crate) after: usize,
    pub(crate) time: Duration,
}

/// The results of a load.
pub(crate) struct Outcome {
    pub(crate) stats: Stats,
    /// How long `emit` took, in nanoseconds.
    emits: Histogram<u64>,
    /// From the call of `emit` until the agent had the event, in nanoseconds.
    arrivals: Histogram<u64>,
}

#[derive(Serialize)]
struct Opened<'a> {
    /// Nanoseconds since the load began.
    at: u64,
    process: usize,
    path: &'a str,
}

/// The bytes of a payload without its path. The numbers vary by a few digits.
const BARE: usize = 50;

impl Load {
    /// Runs the load in its own session.
    pub(crate) fn run(&self, runner: Runner) -> Result<Outcome> {
        let agent = &match self.stall {
            Some(stall) => TestAgent::with(Script::new().stop_reading_after(stall.after))?,
            None => TestAgent::start()?,
        };
        let began = Instant::now();
        let mut emits = histogram();
        let (report, stats) = mpsc::channel();
        runner
            .pipe_path(agent.path())
            .drain_timeout(Duration::MAX)
            .on_close(move |closed| {
                // If the session failed, no code receives this.
                let _ = report.send(closed.stats.clone());
            })
            .run_with(Metadata::new("tune", "1", "Tune"), |sink, _| {
                emits = thread::scope(|scope| -> Result<_> {
                    if let Some(stall) = self.stall {
                        scope.spawn(move || {
                            // If the agent reads too slowly to reach this number, it stalls at the end of
                            // the load.
                            let _ = agent.wait_for_events(stall.after, self.lasting());
                            thread::sleep(stall.time);
                            agent.resume();
                        });
                    }
                    let threads: Vec<_> = (0..THREADS)
                        .map(|n| scope.spawn(move || self.emit_share(sink, began, n)))
                        .collect();
                    let mut all = histogram();
                    for one in threads {
                        all += one.join().expect("the thread does not panic")?;
                    }
                    Ok(all)
                })?;
                Ok(())
            })?;
        let stats = stats.recv().expect("the session has closed");
        Ok(Outcome { stats, emits, arrivals: arrivals(agent, began) })
    }

    fn lasting(&self) -> Duration {
        self.arrivals.0.last().map_or(Duration::ZERO, |last| last.at)
    }

    /// Emits one thread's share of the events, each at its time.
    fn emit_share(
        &self,
        sink: &EventSink,
        began: Instant,
        thread: usize,
    ) -> Result<Histogram<u64>> {
        let start = Instant::now();
        let path = "/usr/lib/x86_64-linux-gnu/".repeat(self.arrivals.largest() / 26 + 1);
        let mut emits = histogram();
        for (n, arrival) in self.arrivals.0.iter().enumerate().skip(thread).step_by(THREADS) {
            thread::sleep((start + arrival.at).saturating_duration_since(Instant::now()));
            let called = Instant::now();
            let at = nanoseconds(called - began);
            let path = &path[..arrival.bytes.saturating_sub(BARE)];
            match sink.event("tune.open").emit(&Opened { at, process: n, path }) {
                Ok(()) | Err(Error::QueueFull) => {}
                Err(other) => return Err(other),
            }
            emits.record(nanoseconds(called.elapsed())).expect("the histogram grows");
        }
        Ok(emits)
    }
}

impl Outcome {
    pub(crate) fn emit_999(&self) -> Duration {
        Duration::from_nanos(self.emits.value_at_percentile(99.9))
    }

    pub(crate) fn arrival(&self, percentile: f64) -> Duration {
        Duration::from_nanos(self.arrivals.value_at_percentile(percentile))
    }

    pub(crate) fn events_per_write(&self) -> f64 {
        self.stats.sent as f64 / self.stats.writes as f64
    }

    /// In percent of all events.
    pub(crate) fn refused(&self) -> f64 {
        100.0 * self.stats.refused as f64 / self.emits.len() as f64
    }
}

fn arrivals(agent: &TestAgent, began: Instant) -> Histogram<u64> {
    let mut arrivals = histogram();
    for session in agent.sessions() {
        for received in session.received {
            if let PluginMessage::Event(event) = received.message {
                let at = event.payload["at"].as_u64().expect("the payload has it");
                let took = nanoseconds(received.at - began).saturating_sub(at);
                arrivals.record(took).expect("the histogram grows");
            }
        }
    }
    arrivals
}

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are possible")
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
