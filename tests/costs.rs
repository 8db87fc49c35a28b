//! What events cost where it can be counted: allocations, `write` calls and memory.

mod common;

use std::sync::mpsc;

use common::{LIMIT, metadata, runner, watched};
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{Error, Overflow};

#[derive(serde::Serialize)]
struct Opened<'a> {
    pid: u32,
    path: &'a str,
}

const EVENTS: u64 = 1000;

/// The heap allocations on this thread for each of many events with such a path, once the
/// thread's scratch buffer is there.
fn allocations_per_emit(path: &str) -> u64 {
    let agent = TestAgent::start().unwrap();
    let mut counted = 0;
    runner(&agent)
        .run_with(metadata(), |sink, _| {
            let emit = |pid| sink.event("acme.open").emit(&Opened { pid, path }).unwrap();
            emit(0);
            counted = allocation_counter::measure(|| (0..EVENTS as u32).for_each(emit)).count_total;
            Ok(())
        })
        .unwrap();
    assert_eq!(counted % EVENTS, 0, "{counted} allocations for {EVENTS} events");
    counted / EVENTS
}

#[test]
fn a_typed_event_that_fits_inline_allocates_nothing() {
    watched(|| assert_eq!(allocations_per_emit("/usr/bin/true"), 0));
}

#[test]
fn a_longer_one_allocates_once() {
    watched(|| {
        for length in [300, 3000, 30_000] {
            assert_eq!(allocations_per_emit(&"x".repeat(length)), 1, "{length} bytes");
        }
    });
}

#[test]
fn a_flood_goes_out_in_large_writes() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (report, accounts) = mpsc::channel();
        runner(&agent)
            .channel_capacity(1 << 16)
            .linger(LIMIT)
            .drain_timeout(LIMIT)
            .on_close(move |closed| report.send(closed.stats.clone()).unwrap())
            .run_with(metadata(), |sink, _| {
                // The first goes out alone. The others gather while the writer lingers.
                for pid in 0..20_000 {
                    sink.event("acme.open").emit(&Opened { pid, path: "/usr/bin/true" })?;
                }
                Ok(())
            })
            .unwrap();
        let stats = accounts.recv().unwrap();
        assert_eq!(stats.sent, 20_000);
        // Besides the full ones: the first event, the rest, and goodbye.
        let most = stats.bytes_sent / (32 << 10) + 3;
        assert!(stats.bytes_sent > 1 << 20 && stats.writes <= most, "{stats:?}, most: {most}");
    });
}

/// Its frames are a little larger than 1 MiB less 4 KiB; so is the limit of a body.
const LARGE: usize = (1 << 20) - (4 << 10);

#[test]
fn large_events_stay_within_the_byte_budget_while_the_agent_stalls() {
    const BUDGET: usize = 8 << 20;
    watched(|| {
        let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
        runner(&agent)
            .max_queued_bytes(BUDGET)
            .overflow(Overflow::Refuse)
            .drain_timeout(LIMIT)
            .run_with(metadata(), |sink, _| {
                sink.emit("test.first", serde_json::json!({}))?;
                assert!(agent.wait_for_events(1, LIMIT));
                let path = "x".repeat(LARGE);
                let event = Opened { pid: 1, path: &path };
                // Until the pipe and the writer's hand are full as well.
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
                // What the writer frees is not this thread's, but it frees only what it sends.
                let sent = sink.stats().sent as usize * (1 << 20);
                let most = BUDGET + sent + (1 << 20) + (1 << 20);
                assert!(heap.bytes_max as usize <= most, "{heap:?}, at most {most}");
                agent.resume();
                Ok(())
            })
            .unwrap();
    });
}
