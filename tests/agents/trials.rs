//! The tests: each has a session with an agent's process, and does something to that process.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use libtest_mimic::Arguments;
use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Overflow};

use crate::common::trials::trials;
use crate::common::{SLACK, assert_accounts, assert_lost, metadata, session};
use crate::process::{Agent, Seen};

/// In which an idle agent's loss is to be noticed: the second that is promised, and another for
/// a loaded machine.
const NOTICED: Duration = Duration::from_secs(2);
/// In which an emit that waits is to be released.
const RELEASED: Duration = Duration::from_millis(100);
const PRODUCERS: u64 = 8;

pub(crate) fn run() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Two of them time what others would delay.
    arguments.test_threads.get_or_insert(1);
    let trials = trials![
        an_agent_killed_before_it_has_answered_has_closed_the_handshake,
        an_agent_killed_while_idle_is_missed,
        an_event_cut_off_by_the_agents_death_is_undelivered,
        an_agent_killed_in_a_flood_leaves_the_accounts_right,
        an_agent_stopped_for_two_seconds_misses_nothing,
        an_agent_stopped_in_a_flood_misses_what_was_refused_and_nothing_else,
        an_agent_stopped_for_good_holds_nobody_longer_than_promised,
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// What a producer was told.
struct Told {
    accepted: u64,
    refused: u64,
    /// What ended it, and when it knew.
    end: Option<(Error, Instant)>,
}

/// Emits until it has been `enough`, or the session takes no more. Events are numbered as they
/// are accepted.
fn produce(sink: &EventSink, producer: u64, enough: &AtomicBool) -> Told {
    let mut told = Told { accepted: 0, refused: 0, end: None };
    while !enough.load(Ordering::Relaxed) {
        match sink.event("test.numbered").emit(&(producer, told.accepted)) {
            Ok(()) => told.accepted += 1,
            Err(Error::QueueFull) => {
                told.refused += 1;
                thread::yield_now();
            }
            Err(end) => {
                told.end = Some((end, Instant::now()));
                break;
            }
        }
    }
    told
}

/// Has [`PRODUCERS`] emit while `meanwhile` runs, and until the session ends or `meanwhile` has
/// set the flag. Returns what each was told.
fn flood(sink: &EventSink, meanwhile: impl FnOnce(&AtomicBool)) -> Vec<Told> {
    let enough = &AtomicBool::new(false);
    thread::scope(|scope| {
        let start = |producer| scope.spawn(move || produce(sink, producer, enough));
        let producers: Vec<_> = (0..PRODUCERS).map(start).collect();
        meanwhile(enough);
        producers.into_iter().map(|producer| producer.join().unwrap()).collect()
    })
}

fn accepted(told: &[Told]) -> u64 {
    told.iter().map(|told| told.accepted).sum()
}

fn refused(told: &[Told]) -> u64 {
    told.iter().map(|told| told.refused).sum()
}

/// Waits until the flood is on.
fn wait_until_flooded(sink: &EventSink) {
    while sink.stats().sent < 1000 {
        thread::yield_now();
    }
}

/// Waits until nothing moves any more.
fn wait_until_stalled(sink: &EventSink) {
    loop {
        let sent = sink.stats().sent;
        match sink.flush(Duration::from_millis(200)) {
            Err(Error::FlushTimeout(_)) if sink.stats().sent == sent => return,
            Ok(()) | Err(Error::FlushTimeout(_)) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
}

/// Checks that of every producer's events the agent saw as many as were accepted, in order.
fn assert_all_arrived(seen: &Seen, told: &[Told]) {
    let mut next = vec![0; told.len()];
    for event in seen.events() {
        let producer = event.payload[0].as_u64().unwrap() as usize;
        assert_eq!(event.payload[1], next[producer], "out of order, or lost on the way");
        next[producer] += 1;
    }
    assert!(next.into_iter().eq(told.iter().map(|told| told.accepted)));
    assert_eq!(seen.end, "Goodbye");
}

fn an_agent_killed_before_it_has_answered_has_closed_the_handshake() {
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

fn an_agent_killed_while_idle_is_missed() {
    let mut agent = Agent::start("reads");
    let (result, report) = session(agent.runner().heartbeat(None), |sink, ctx| {
        sink.emit("test.last", json!({}))?;
        sink.flush(NOTICED)?;
        agent.kill();
        let killed = Instant::now();
        ctx.wait_for_shutdown();
        let noticed = killed.elapsed();
        assert!(noticed < NOTICED, "{noticed:?}");
        assert!(sink.emit("test.late", json!({})).unwrap_err().is_disconnected());
        Ok(())
    });
    assert_lost(&result, &report);
    assert_eq!((report.stats.sent, report.stats.undelivered), (1, 0));
}

fn an_event_cut_off_by_the_agents_death_is_undelivered() {
    let mut agent = Agent::start("reads_nothing");
    let (result, report) = session(agent.runner().heartbeat(None), |sink, ctx| {
        // No pipe holds it.
        sink.emit("test.long", "x".repeat(1_000_000).into())?;
        for _ in 0..10 {
            sink.emit("test.behind", json!({}))?;
        }
        wait_until_stalled(sink);
        let stats = sink.stats();
        assert_eq!((stats.sent, stats.queued), (0, 11));
        // On Windows nothing shows how much of a write is done.
        assert!(cfg!(windows) || stats.bytes_sent > 0, "{stats:?}");
        agent.kill();
        ctx.wait_for_shutdown();
        Ok(())
    });
    assert_lost(&result, &report);
    assert_eq!((report.stats.sent, report.stats.undelivered), (0, 11));
}

fn an_agent_killed_in_a_flood_leaves_the_accounts_right() {
    for policy in [Overflow::Block, Overflow::Refuse] {
        let mut agent = Agent::start("reads");
        let runner = agent.runner().channel_capacity(64).overflow(policy);
        let mut told = Vec::new();
        let (result, report) = session(runner, |sink, _| {
            told = flood(sink, |_| {
                wait_until_flooded(sink);
                agent.kill();
            });
            // Whatever the body says, the loss is told.
            Ok(())
        });
        assert_lost(&result, &report);
        assert_accounts(&report.stats, accepted(&told), PRODUCERS);
        assert_eq!(report.stats.refused, refused(&told));
        for told in told {
            let (end, _) = told.end.expect("the session's end");
            assert!(end.is_disconnected(), "{end:?}");
        }
    }
}

/// Stops the agent in mid-flood, has it go on once `until` returns, and checks that it got all
/// that was accepted, and that `seq` shows all that was refused. Returns what the producers were
/// told.
fn stopped_in_a_flood(policy: Overflow, until: impl FnOnce(&EventSink)) -> Vec<Told> {
    let mut agent = Agent::start_to_be_stopped();
    // Without heartbeats the events alone have numbers.
    let runner = agent.runner().channel_capacity(64).overflow(policy).heartbeat(None);
    let mut told = Vec::new();
    let (result, report) = session(runner, |sink, _| {
        told = flood(sink, |enough| {
            wait_until_flooded(sink);
            agent.stop();
            wait_until_stalled(sink);
            until(sink);
            agent.go_on();
            sink.flush(Duration::MAX).unwrap();
            enough.store(true, Ordering::Relaxed);
        });
        Ok(())
    });
    result.unwrap();
    assert!(report.confirmed, "{report:?}");
    let stats = report.stats;
    assert_eq!((stats.sent, stats.undelivered), (accepted(&told), 0), "{stats:?}");
    assert_eq!(stats.refused, refused(&told), "{stats:?}");
    let seen = agent.session();
    assert_all_arrived(&seen, &told);
    assert_eq!(seen.missing_seqs(), stats.refused);
    told
}

fn an_agent_stopped_for_two_seconds_misses_nothing() {
    let told = stopped_in_a_flood(Overflow::Block, |sink| {
        let before = sink.stats();
        // So long, and not until something happens: nothing may.
        thread::sleep(Duration::from_secs(2));
        assert_eq!(sink.stats(), before);
    });
    assert_eq!(refused(&told), 0);
}

fn an_agent_stopped_in_a_flood_misses_what_was_refused_and_nothing_else() {
    let told = stopped_in_a_flood(Overflow::Refuse, |sink| {
        let before = sink.stats().refused;
        while sink.stats().refused < before + 1000 {
            thread::yield_now();
        }
    });
    assert!(refused(&told) >= 1000);
}

fn an_agent_stopped_for_good_holds_nobody_longer_than_promised() {
    for drain_timeout in [Duration::ZERO, Duration::from_millis(500)] {
        let mut agent = Agent::start_to_be_stopped();
        let runner = agent.runner().channel_capacity(64).drain_timeout(drain_timeout);
        let (mut told, mut asked) = (Vec::new(), None);
        let (result, report) = session(runner, |sink, ctx| {
            told = flood(sink, |_| {
                wait_until_flooded(sink);
                agent.stop();
                wait_until_stalled(sink);
                asked = Some(Instant::now());
                ctx.shutdown_handle().shutdown();
            });
            Ok(())
        });
        let asked = asked.unwrap();
        let outlasted = asked.elapsed();
        let promised = drain_timeout..drain_timeout + SLACK;
        assert!(promised.contains(&outlasted), "{outlasted:?}");
        for told in &told {
            let (end, at) = told.end.as_ref().expect("the session's end");
            assert!(matches!(end, Error::Shutdown), "{end:?}");
            let released = at.duration_since(asked);
            assert!(released < RELEASED, "{released:?}");
        }
        let stats = report.stats;
        let lost = stats.undelivered;
        assert!(matches!(result, Err(Error::Undelivered { count }) if count == lost), "{result:?}");
        assert!(!report.confirmed);
        assert_accounts(&stats, accepted(&told), PRODUCERS);
        // What went out is there to be read, and what comes last may be torn.
        agent.go_on();
        let seen = agent.session();
        assert_eq!((seen.events().count() as u64, seen.missing_seqs()), (stats.sent, 0));
        assert!(seen.end.starts_with("Disconnected"), "{}", seen.end);
    }
}
