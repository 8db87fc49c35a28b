//! A steady load with a burst and a stall, and what became of it.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use wedr_plugin_sdk::testing::{PluginMessage, Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, Stats};

const THREADS: u32 = 4;

pub(crate) struct Load {
    /// How long events come, besides the stall, which is in the middle.
    pub(crate) lasting: Duration,
    /// Events per second.
    pub(crate) rate: u32,
    /// Events at once when the agent stalls.
    pub(crate) burst: u32,
    pub(crate) stall: Option<Duration>,
}

/// What became of a load.
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
    process: u32,
    path: &'a str,
}

impl Load {
    /// Puts it on a session of its own.
    pub(crate) fn run(&self, runner: Runner) -> Result<Outcome> {
        let before = self.in_time(self.lasting / 2);
        let agent = &match self.stall {
            Some(_) => TestAgent::with(Script::new().stop_reading_after(before as usize))?,
            None => TestAgent::start()?,
        };
        let began = Instant::now();
        let mut emits = histogram();
        let (report, stats) = mpsc::channel();
        runner
            .pipe_path(agent.path())
            .drain_timeout(Duration::MAX)
            .on_close(move |closed| {
                // Nobody listens if the session failed.
                let _ = report.send(closed.stats.clone());
            })
            .run_with(Metadata::new("tune", "1", "Tune"), |sink, _| {
                emits = thread::scope(|scope| -> Result<_> {
                    if let Some(stall) = self.stall {
                        scope.spawn(move || {
                            // If they have not come the agent is behind, and stalls later.
                            let _ = agent.wait_for_events(before as usize, self.lasting);
                            thread::sleep(stall);
                            agent.resume();
                        });
                    }
                    let callbacks: Vec<_> = (0..THREADS)
                        .map(|n| scope.spawn(move || self.callbacks(sink, began, n)))
                        .collect();
                    let mut all = histogram();
                    for one in callbacks {
                        all += one.join().expect("a callback does not panic")?;
                    }
                    Ok(all)
                })?;
                Ok(())
            })?;
        let stats = stats.recv().expect("the session has closed");
        Ok(Outcome { stats, emits, arrivals: arrivals(agent, began) })
    }

    /// Emits one thread's share of the events, each when it is due.
    fn callbacks(&self, sink: &EventSink, began: Instant, thread: u32) -> Result<Histogram<u64>> {
        let start = Instant::now();
        let steady = self.in_time(self.lasting + self.stall.unwrap_or_default());
        let burst_after = self.in_time(self.lasting / 2);
        let mut emits = histogram();
        for n in (thread..steady).step_by(THREADS as usize) {
            let due = start + Duration::from_secs(1) * n / self.rate;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            // The first thread has the burst besides.
            let at_once = if (burst_after..burst_after + THREADS).contains(&n) && thread == 0 {
                1 + self.burst
            } else {
                1
            };
            for _ in 0..at_once {
                let called = Instant::now();
                let at = nanoseconds(called - began);
                let event = Opened { at, process: n, path: "/usr/lib/x86_64-linux-gnu/libc.so.6" };
                match sink.event("tune.open").emit(&event) {
                    Ok(()) | Err(Error::QueueFull) => {}
                    Err(other) => return Err(other),
                }
                emits.record(nanoseconds(called.elapsed())).expect("the histogram grows");
            }
        }
        Ok(emits)
    }

    /// The steady events in so much time.
    fn in_time(&self, time: Duration) -> u32 {
        (time.as_millis() * u128::from(self.rate) / 1000) as u32
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
                let at = event.payload["at"].as_u64().expect("it was sent so");
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
