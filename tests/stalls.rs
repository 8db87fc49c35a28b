//! Agents that stall, for a time or for good: what is counted, how long `run` takes, and how many heartbeats
//! follow.

mod common;

use std::thread;
use std::time::Duration;
#[cfg(unix)]
use std::time::Instant;

use common::time::Moment;
use common::{
    LIMIT, SLACK, TAKEN_BY_THE_WRITER, fill, runner, session, stalled_agent, watched, watched_for,
};
use wedr_plugin_sdk::Error;

#[test]
fn high_water_is_exact_in_a_stall() {
    watched(|| {
        for capacity in [8, 8192] {
            let agent = stalled_agent();
            let runner = runner(&agent).channel_capacity(capacity).drain_timeout(Duration::ZERO);
            let mut queued = 0;
            let (result, report) = session(runner, |sink, _| {
                fill(sink);
                queued = sink.stats().queued;
                Ok(())
            });
            assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
            assert!(queued >= capacity, "{queued} queued");
            let high_water = report.stats.queue_high_water;
            let most = capacity + TAKEN_BY_THE_WRITER;
            assert!((queued..=most).contains(&high_water), "{queued}, {most}: {:?}", report.stats);
        }
    });
}

#[test]
fn flush_with_zero_timeout_only_checks_the_queue() {
    watched(|| {
        let agent = stalled_agent();
        let (result, _) = session(runner(&agent), |sink, _| {
            sink.flush(Duration::ZERO)?;
            fill(sink);
            let flushed = sink.flush(Duration::ZERO);
            assert!(matches!(flushed, Err(Error::FlushTimeout(Duration::ZERO))), "{flushed:?}");
            agent.resume();
            sink.flush(LIMIT)?;
            sink.flush(Duration::ZERO)
        });
        result.unwrap();
    });
}

/// The largest capacity. The queue takes more than a gigabyte.
#[cfg(target_pointer_width = "64")]
#[test]
fn full_queue_of_the_largest_capacity_does_not_delay_run() {
    const CAPACITY: usize = 4_194_304;
    for drain_timeout in [Duration::ZERO, Duration::from_millis(100)] {
        watched_for(4 * LIMIT, move || {
            let agent = stalled_agent();
            let runner = runner(&agent).channel_capacity(CAPACITY).drain_timeout(drain_timeout);
            let mut returned = None;
            let (result, report) = session(runner, |sink, _| {
                thread::scope(|scope| {
                    for _ in 0..2 {
                        scope.spawn(|| while sink.event("test").try_emit(&1).is_ok() {});
                    }
                });
                returned = Some(Moment::now());
                Ok(())
            });
            returned.unwrap().elapsed_within(drain_timeout + SLACK);
            assert!(matches!(result, Err(Error::Undelivered { .. })), "{result:?}");
            assert!(report.stats.undelivered >= CAPACITY as u64, "{:?}", report.stats);
        });
    }
}

#[cfg(unix)]
#[test]
fn one_heartbeat_follows_a_stall_in_a_heartbeat() {
    const INTERVAL: Duration = Duration::from_millis(10);
    const MORE: u32 = 5;
    watched(|| {
        let agent = stalled_agent();
        let (result, _) = session(runner(&agent).heartbeat(INTERVAL), |sink, _| {
            // Heartbeats alone fill the pipe, so the writer is blocked while it writes one.
            let beats = common::settled(|| sink.stats().heartbeats);
            let resumed = Instant::now();
            agent.resume();
            while sink.stats().heartbeats < beats + 1 + u64::from(MORE) {
                thread::sleep(Duration::from_millis(1));
            }
            // One heartbeat comes at once, and each further one an interval later.
            let took = resumed.elapsed();
            assert!(took >= MORE * INTERVAL, "{MORE} heartbeats followed within {took:?}");
            Ok(())
        });
        result.unwrap();
    });
}
