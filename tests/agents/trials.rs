//! The tests: each runs a session with an agent's process, and kills, stops or continues that process.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use libtest_mimic::Arguments;
use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Overflow};

use crate::common::time::{Moment, assert_in_time};
use crate::common::trials::trials;
use crate::common::{
    LIMIT, NOTICED, SLACK, assert_counters, assert_lost, is_flushed, metadata, session,
};
use crate::process::{Agent, Seen};

/// The time in which a blocked `emit` must return.
const RELEASED: Duration = Duration::from_millis(100);
const PRODUCERS: u64 = 8;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two of them measure times, so they run alone.
    arguments.test_threads.get_or_insert(1);
    let trials = trials![
        agent_killed_before_its_answer_closes_the_handshake,
        death_of_an_idle_agent_is_detected,
        event_cut_off_by_the_agents_death_is_undelivered,
        counts_are_exact_after_the_agents_death_in_a_flood,
        agent_stopped_for_2_s_gets_all_events,
        agent_stopped_in_a_flood_misses_only_refused_events,
        agent_stopped_for_good_delays_run_as_promised,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What the calls of `emit` returned to one producer.
struct Results {
    accepted: u64,
    refused: u64,
    /// The error that ended the producer, and when `emit` returned it.
    end: Option<(Error, Moment)>,
}

/// Emits until `enough` is set or the session is closed. The events have consecutive numbers.
fn produce(sink: &EventSink, producer: u64, enough: &AtomicBool) -> Results {
    let mut results = Results { accepted: 0, refused: 0, end: None };
    while !enough.load(Ordering::Relaxed) {
        match sink.event("test.numbered").emit(&(producer, results.accepted)) {
            Ok(()) => results.accepted += 1,
            Err(Error::QueueFull) => {
                results.refused += 1;
                thread::yield_now();
            }
            Err(end) => {
                results.end = Some((end, Moment::now()));
                break;
            }
        }
    }
    results
}

/// Runs [`PRODUCERS`] threads that emit while `meanwhile` runs, until the session ends or `meanwhile` sets
/// the flag. Returns the results of each.
fn flood(sink: &EventSink, meanwhile: impl FnOnce(&AtomicBool)) -> Vec<Results> {
    let enough = &AtomicBool::new(false);
    thread::scope(|scope| {
        let start = |producer| scope.spawn(move || produce(sink, producer, enough));
        let producers: Vec<_> = (0..PRODUCERS).map(start).collect();
        meanwhile(enough);
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    })
}

fn accepted(results: &[Results]) -> u64 {
    results.iter().map(|results| results.accepted).sum()
}

fn refused(results: &[Results]) -> u64 {
    results.iter().map(|results| results.refused).sum()
}

/// Waits until the agent has received many events.
fn wait_until_flooded(sink: &EventSink) {
    while sink.stats().sent < 1000 {
        thread::yield_now();
    }
}

/// Waits until no more events are sent.
fn wait_until_stalled(sink: &EventSink) {
    loop {
        let sent = sink.stats().sent;
        if !is_flushed(sink) && sink.stats().sent == sent {
            return;
        }
    }
}

/// Checks that the agent received all accepted events of each producer, in order.
fn assert_all_arrived(seen: &Seen, results: &[Results]) {
    let mut next = vec![0; results.len()];
    for event in seen.events() {
        let producer = event.payload[0].as_u64().unwrap() as usize;
        assert_eq!(event.payload[1], next[producer], "out of order, or lost on the way");
        next[producer] += 1;
    }
    assert!(next.into_iter().eq(results.iter().map(|results| results.accepted)));
    assert_eq!(seen.end, "Goodbye");
}

fn agent_killed_before_its_answer_closes_the_handshake() {
    let mut agent = Agent::start("answers_slowly");
    let runner = agent.runner().handshake_timeout(Duration::MAX);
    let result = thread::scope(|scope| {
        let body = || runner.run_with(metadata(), |_, _| panic!("the body ran"));
        let running = scope.spawn(body);
        agent.waits_for_hello();
        agent.kill();
        running.join().unwrap()
    });
    assert!(matches!(result, Err(Error::HandshakeClosed)), "{result:?}");
}

fn death_of_an_idle_agent_is_detected() {
    let mut agent = Agent::start("reads");
    let (result, report) = session(agent.runner().heartbeat(None), |sink, ctx| {
        sink.emit("test.last", json!({}))?;
        sink.flush(LIMIT)?;
        agent.kill();
        let killed = Moment::now();
        ctx.wait_for_shutdown();
        killed.elapsed_within(NOTICED + SLACK);
        assert!(sink.emit("test.late", json!({})).unwrap_err().is_disconnected());
        Ok(())
    });
    assert_lost(&result, &report);
    assert_eq!((report.stats.sent, report.stats.undelivered), (1, 0));
}

fn event_cut_off_by_the_agents_death_is_undelivered() {
    let mut agent = Agent::start("reads_nothing");
    let (result, report) = session(agent.runner().heartbeat(None), |sink, ctx| {
        // Larger than the buffer of any pipe.
        sink.emit("test.long", "x".repeat(1_000_000).into())?;
        for _ in 0..10 {
            sink.emit("test.behind", json!({}))?;
        }
        wait_until_stalled(sink);
        let stats = sink.stats();
        assert_eq!((stats.sent, stats.queued), (0, 11));
        // Windows does not tell how much of a write is done.
        assert!(cfg!(windows) || stats.bytes_sent > 0, "{stats:?}");
        agent.kill();
        ctx.wait_for_shutdown();
        Ok(())
    });
    assert_lost(&result, &report);
    assert_eq!((report.stats.sent, report.stats.undelivered), (0, 11));
}

fn counts_are_exact_after_the_agents_death_in_a_flood() {
    for policy in [Overflow::Block, Overflow::Refuse] {
        let mut agent = Agent::start("reads");
        let runner = agent.runner().channel_capacity(64).overflow(policy);
        let mut results = Vec::new();
        let (result, report) = session(runner, |sink, _| {
            results = flood(sink, |_| {
                wait_until_flooded(sink);
                agent.kill();
            });
            // `run` reports the loss, whatever the body returns.
            Ok(())
        });
        assert_lost(&result, &report);
        assert_counters(&report.stats, accepted(&results), PRODUCERS);
        assert_eq!(report.stats.refused, refused(&results));
        for results in results {
            let (end, _) = results.end.expect("the session's end");
            assert!(end.is_disconnected(), "{end:?}");
        }
    }
}

/// Stops the agent while producers emit, and continues it when `until` returns. Then checks that the agent
/// received all accepted events, and that `seq` shows all refused events. Returns the producers' results.
fn stopped_in_a_flood(policy: Overflow, until: impl FnOnce(&EventSink)) -> Vec<Results> {
    let mut agent = Agent::start_to_be_stopped();
    // Without heartbeats only events carry numbers.
    let runner = agent.runner().channel_capacity(64).overflow(policy).heartbeat(None);
    let mut results = Vec::new();
    let (result, report) = session(runner, |sink, _| {
        results = flood(sink, |enough| {
            wait_until_flooded(sink);
            agent.stop();
            wait_until_stalled(sink);
            until(sink);
            agent.resume();
            sink.flush(Duration::MAX).unwrap();
            enough.store(true, Ordering::Relaxed);
        });
        Ok(())
    });
    result.unwrap();
    assert!(report.confirmed, "{report:?}");
    let stats = report.stats;
    assert_eq!((stats.sent, stats.undelivered), (accepted(&results), 0), "{stats:?}");
    assert_eq!(stats.refused, refused(&results), "{stats:?}");
    let seen = agent.session();
    assert_all_arrived(&seen, &results);
    assert_eq!(seen.missing_seqs, stats.refused);
    results
}

fn agent_stopped_for_2_s_gets_all_events() {
    let results = stopped_in_a_flood(Overflow::Block, |sink| {
        let before = sink.stats();
        // A fixed time, because nothing must happen in it.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(sink.stats(), before);
    });
    assert_eq!(refused(&results), 0);
}

fn agent_stopped_in_a_flood_misses_only_refused_events() {
    let results = stopped_in_a_flood(Overflow::Refuse, |sink| {
        let before = sink.stats().refused;
        while sink.stats().refused < before + 1000 {
            thread::yield_now();
        }
    });
    assert!(refused(&results) >= 1000);
}

fn agent_stopped_for_good_delays_run_as_promised() {
    for drain_timeout in [Duration::ZERO, Duration::from_millis(500)] {
        let mut agent = Agent::start_to_be_stopped();
        let runner = agent.runner().channel_capacity(64).drain_timeout(drain_timeout);
        let (mut results, mut asked) = (Vec::new(), None);
        let (result, report) = session(runner, |sink, ctx| {
            results = flood(sink, |_| {
                wait_until_flooded(sink);
                agent.stop();
                wait_until_stalled(sink);
                asked = Some(Moment::now());
                ctx.shutdown_handle().shutdown();
            });
            Ok(())
        });
        let asked = asked.unwrap();
        let outlasted = asked.elapsed_within(drain_timeout + SLACK);
        assert!(outlasted >= drain_timeout, "{outlasted:?}");
        for results in &results {
            let (end, released) = results.end.as_ref().expect("the session's end");
            assert!(matches!(end, Error::Shutdown), "{end:?}");
            assert_in_time("an emit", asked.at + RELEASED, asked, *released);
        }
        let stats = report.stats;
        let lost = stats.undelivered;
        assert!(matches!(result, Err(Error::Undelivered { count }) if count == lost), "{result:?}");
        assert!(!report.confirmed);
        assert_counters(&stats, accepted(&results), PRODUCERS);
        // The bytes that were written can be read, and the last frame may be incomplete.
        agent.resume();
        let seen = agent.session();
        assert_eq!((seen.events().count() as u64, seen.missing_seqs), (stats.sent, 0));
        assert!(seen.end.starts_with("Disconnected"), "{}", seen.end);
    }
}
