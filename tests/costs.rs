//! Costs of events that can be counted: allocations, `write` calls and memory.

mod common;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{LIMIT, metadata, runner, watched};
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{Error, Overflow};

#[derive(serde::Serialize)]
struct Opened<'a> {
    pid: u32,
    path: &'a str,
}

const BURSTS: usize = 100;

/// The writer wakes this often to check an idle pipe. It also trims the empty buffers then.
const CHECK: Duration = Duration::from_millis(500);

/// The heap allocations of this thread for each of many bursts of events with such a path, after the thread has
/// its scratch buffer and the queue has recycled buffers; and how long the bursts took.
fn allocations(path: &str) -> (Vec<u64>, Duration) {
    let agent = TestAgent::start().unwrap();
    let mut bursts = Vec::new();
    let mut took = Duration::ZERO;
    runner(&agent)
        // All events of a burst are in the queue at the same time.
        .linger(LIMIT)
        .run_with(metadata(), |sink, _| {
            let emit = |pid| sink.event("acme.open").emit(&Opened { pid, path }).unwrap();
            let burst = || {
                let heap = allocation_counter::measure(|| (0..10).for_each(emit));
                // The buffers of sent events are free again.
                sink.flush(LIMIT).map(|()| heap.count_total)
            };
            for _ in 0..10 {
                burst()?;
            }
            let began = Instant::now();
            for _ in 0..BURSTS {
                bursts.push(burst()?);
            }
            took = began.elapsed();
            Ok(())
        })
        .unwrap();
    (bursts, took)
}

#[test]
fn typed_event_that_fits_inline_allocates_nothing() {
    watched(|| assert_eq!(allocations("/usr/bin/true").0, [0; BURSTS]));
}

/// An `emit` allocates only if the writer uses or trims the empty buffers at the same time. Here the writer
/// lingers during a burst, except when one of its checks is due.
#[test]
fn longer_event_allocates_nothing_once_buffers_are_recycled() {
    watched(|| {
        for length in [300, 3000, 30_000, 100_000] {
            let (bursts, took) = allocations(&"x".repeat(length));
            let allocating = bursts.iter().filter(|allocations| **allocations > 0).count();
            let checks = 1 + (took.as_millis() / CHECK.as_millis()) as usize;
            assert!(allocating <= checks, "{length} bytes: {bursts:?}, at most {checks} checks");
        }
    });
}

#[test]
fn flood_is_sent_in_large_writes() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (report, accounts) = mpsc::channel();
        runner(&agent)
            .channel_capacity(1 << 16)
            .linger(LIMIT)
            .on_close(move |closed| report.send(closed.stats.clone()).unwrap())
            .run_with(metadata(), |sink, _| {
                // The writer sends the first event alone. The others gather while it lingers.
                for pid in 0..20_000 {
                    sink.event("acme.open").emit(&Opened { pid, path: "/usr/bin/true" })?;
                }
                Ok(())
            })
            .unwrap();
        let stats = accounts.recv().unwrap();
        assert_eq!(stats.sent, 20_000);
        // Besides the full writes: the first event, the rest, and goodbye.
        let most = stats.bytes_sent / (32 << 10) + 3;
        assert!(stats.bytes_sent > 1 << 20 && stats.writes <= most, "{stats:?}, most: {most}");
    });
}

/// Events whose frames have a little more than 1 MiB - 4 KiB.
const LARGE: usize = (1 << 20) - (4 << 10);

#[test]
fn large_events_stay_within_the_byte_budget_while_the_agent_stalls() {
    const BUDGET: usize = 8 << 20;
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        runner(&agent)
            .max_queued_bytes(BUDGET)
            .overflow(Overflow::Refuse)
            .run_with(metadata(), |sink, _| {
                sink.emit("test.first", serde_json::json!({}))?;
                assert!(agent.wait_for_events(1, LIMIT));
                let path = "x".repeat(LARGE);
                let event = Opened { pid: 1, path: &path };
                // Emit until the pipe and the writer's batch are full as well.
                let (mut accepted, mut refused) = (0, 0);
                let heap = allocation_counter::measure(|| {
                    while refused < 100 {
                        match sink.event("acme.open").emit(&event) {
                            Ok(()) => accepted += 1,
                            Err(Error::QueueFull) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                });
                let queued = sink.stats().queued;
                assert!((7..=9).contains(&queued), "{queued} queued, {accepted} accepted");
                // The writer frees memory too, but only that of the events that it sends.
                let sent = sink.stats().sent as usize * (1 << 20);
                let most = BUDGET + sent + (1 << 20) + (1 << 20);
                assert!(heap.bytes_max as usize <= most, "{heap:?}, at most {most}");
                agent.resume();
                Ok(())
            })
            .unwrap();
    });
}
