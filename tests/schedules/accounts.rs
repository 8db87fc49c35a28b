//! What must be true of a session that is over, whatever it went through.

use std::time::{Duration, Instant};

use wedr_plugin_sdk::testing::{Event, PluginMessage};
use wedr_plugin_sdk::{CloseCause, Error, Overflow, SessionReport};

use crate::agent::End;
use crate::plan::{Body, Plan};
use crate::producer::KIND;
use crate::session::{Moment, Outcome, PANIC};

/// How much later than its deadline `run` may return, and how soon an emit is released.
const SLACK: Duration = Duration::from_millis(250);
/// What a machine that has other work may add, beyond what is seen of it. Less than anything that the
/// SDK might wait for by mistake. That deadlines hold to the letter is for tests of their own.
const BUSY: Duration = Duration::from_millis(500);
/// Within what the loss of an idle agent is noticed.
const NOTICED: Duration = Duration::from_secs(1);

/// Fails if anything of it is not; returns how late `run` was, most of which it may be.
pub(crate) fn check(plan: &Plan, outcome: &Outcome) -> Duration {
    let late = no_later_than_promised(plan, outcome);
    match &outcome.report {
        None => no_session(plan, outcome),
        Some(report) => session(plan, outcome, report),
    }
    late
}

fn session(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    stats_are_final(outcome, report);
    result_says_what_happened(plan, outcome, report);
    every_ok_is_covered(outcome, report);
    refusals_are_those_by_policy(plan, outcome, report);
    what_came_is_the_beginning_of_what_was_accepted(outcome);
    numbers_skip_refusals_and_nothing_else(outcome, report);
    what_is_called_sent_is(plan, outcome, report);
    who_left_is_told(plan, outcome, report);
}

fn no_session(plan: &Plan, outcome: &Outcome) {
    assert!(outcome.seen.messages.is_empty(), "no session, and the agent got something");
    match &outcome.result {
        Ok(Ok(())) => assert!(outcome.times.asked.is_some(), "nobody asked for it to end"),
        Ok(Err(Error::HandshakeClosed | Error::Connect { .. })) => assert!(plan.agent_may_leave()),
        other => panic!("without a session: {other:?}"),
    }
}

fn no_later_than_promised(plan: &Plan, outcome: &Outcome) -> Duration {
    let times = &outcome.times;
    let returned = times.run_returned.expect("it has");
    let body = times.body_returned;
    // Where nothing is known of the shutdown it was no later than the body's return.
    let asked = [times.asked, body].into_iter().flatten().min_by_key(|moment| moment.at);
    if let (Some(killed), Some(body)) = (times.agent_killed, body)
        && plan.body == Body::WaitsForShutdown
    {
        in_time("the body", killed.at + NOTICED + SLACK, killed, body);
    }
    let Some(asked) = asked else { return Duration::ZERO };
    for closed in outcome.accounts.iter().filter_map(|account| account.closed) {
        let released = Moment { at: closed.returned, ..returned };
        in_time("an emit", asked.at.max(closed.called) + SLACK, asked, released);
    }
    let drained = asked.at + plan.drain_timeout;
    let promised = body.map_or(drained, |body| body.at.max(drained));
    in_time("run", promised + SLACK, asked, returned);
    returned.at.saturating_duration_since(promised)
}

/// It is done by then, or later by no more than a busy machine explains. Three threads take turns on
/// the way to the end: the one that asks for it, the writer, and the one that waits for both.
fn in_time(who: &str, promised: Instant, since: Moment, done: Moment) {
    let late = done.at.saturating_duration_since(promised);
    let starved = done.starved.saturating_sub(since.starved);
    let busy = BUSY + 3 * starved;
    assert!(late <= busy, "{who} was {late:?} late; threads were starved for {starved:?}");
}

fn result_says_what_happened(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let stats = &report.stats;
    let ran = outcome.times.body_returned.is_some();
    let fails = matches!(plan.body, Body::FailsAfter(_));
    let panics = matches!(plan.body, Body::PanicsAfter(_));
    match &outcome.result {
        Err(panic) => {
            assert!(panics && panic == PANIC, "{panic}");
            assert_eq!(report.cause, CloseCause::Panicked);
        }
        Ok(Err(Error::Plugin(_))) => assert!(fails),
        Ok(Err(Error::Undelivered { count })) => {
            assert_eq!(*count, stats.undelivered);
            assert!(*count > 0);
            assert_ne!(report.cause, CloseCause::PipeLost);
        }
        Ok(Err(lost)) => {
            assert!(lost.is_disconnected(), "{lost}");
            assert_eq!(report.cause, CloseCause::PipeLost);
            assert!(outcome.seen.end != Some(End::Goodbye), "it was there until goodbye");
        }
        Ok(Ok(())) => {
            assert_eq!(stats.undelivered, 0, "run said Ok");
            let in_order = [CloseCause::BodyReturned, CloseCause::ShutdownRequested];
            assert!(in_order.contains(&report.cause), "{:?}", report.cause);
            assert!(!ran || !(fails || panics), "the body did not return Ok");
        }
    }
}

fn every_ok_is_covered(outcome: &Outcome, report: &SessionReport) {
    let stats = &report.stats;
    let accepted: u64 = outcome.accounts.iter().map(|a| a.accepted.len() as u64).sum();
    let perhaps = outcome.accounts.iter().filter(|a| a.closed.is_some()).count() as u64;
    let covered = stats.sent + stats.undelivered;
    assert!(
        (accepted..=accepted + perhaps).contains(&covered),
        "accepted {accepted} and perhaps {perhaps}; sent {} and undelivered {}",
        stats.sent,
        stats.undelivered
    );
    assert_eq!(stats.queued, 0, "the session is over");
}

fn refusals_are_those_by_policy(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let refused: u64 = outcome.accounts.iter().map(|account| account.refused).sum();
    assert_eq!(report.stats.refused, refused);
    let unwinds = matches!(plan.body, Body::PanicsAfter(_));
    assert!(refused == 0 || plan.overflow == Overflow::Refuse || unwinds);
}

fn events(outcome: &Outcome) -> impl Iterator<Item = &Event> {
    outcome.seen.messages.iter().filter_map(|message| match message {
        PluginMessage::Event(event) => Some(event),
        _ => None,
    })
}

/// Of each producer, in its order.
fn what_came_is_the_beginning_of_what_was_accepted(outcome: &Outcome) {
    if let Some(End::Violation(what)) = &outcome.seen.end {
        panic!("{what}");
    }
    let mut came = vec![Vec::new(); outcome.accounts.len()];
    for event in events(outcome) {
        let field = |name: &str| event.payload[name].as_u64().unwrap();
        let text = event.payload["text"].as_str().unwrap();
        assert_eq!((event.kind.as_str(), text.len() as u64), (KIND, field("length")));
        came[field("producer") as usize].push(field("n"));
    }
    for (id, (came, account)) in came.iter().zip(&outcome.accounts).enumerate() {
        let possible = account.accepted.iter().copied().chain(account.closed.map(|c| c.n));
        let expected: Vec<_> = possible.take(came.len()).collect();
        assert_eq!(*came, expected, "producer {id}: what came, and what should have come");
    }
}

fn numbers_skip_refusals_and_nothing_else(outcome: &Outcome, report: &SessionReport) {
    let numbers = outcome.seen.messages.iter().filter_map(|message| match message {
        PluginMessage::Event(event) => Some(event.seq),
        PluginMessage::Heartbeat { seq } => Some(*seq),
        _ => None,
    });
    let (mut next, mut skipped) = (0, 0);
    for number in numbers {
        assert!(number >= next, "number {number} comes after {next}");
        skipped += number - next;
        next = number + 1;
    }
    let refused = report.stats.refused;
    assert!(skipped <= refused, "{skipped} numbers are missing, {refused} events were refused");
    if outcome.seen.end == Some(End::Goodbye) {
        assert_eq!(skipped, refused, "numbers missing at goodbye, and events refused");
    }
}

fn what_is_called_sent_is(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let stats = &report.stats;
    let came = events(outcome).count() as u64;
    let beat = |message: &&PluginMessage| matches!(message, PluginMessage::Heartbeat { .. });
    let heartbeats = outcome.seen.messages.iter().filter(beat).count() as u64;
    match &outcome.seen.end {
        Some(End::Goodbye) => {
            assert_eq!((came, heartbeats), (stats.sent, stats.heartbeats), "events, heartbeats");
            assert_eq!(stats.undelivered, 0, "it said goodbye");
        }
        // One that says something last finds the plugin gone, and reads no more; and on Windows a
        // cancelled write's bytes may have come, which nobody is told.
        Some(End::Disconnected) if plan.sent_after_ack == 0 && cfg!(unix) => {
            assert_eq!(came, stats.sent, "the agent has read what there was");
        }
        _ => assert!(cfg!(windows) || came <= stats.sent, "{came} came of {}", stats.sent),
    }
}

/// But for the waits of producers that the end of the session released.
fn stats_are_final(outcome: &Outcome, report: &SessionReport) {
    if let Some(mut later) = outcome.stats.clone() {
        later.waits = report.stats.waits;
        later.longest_wait = report.stats.longest_wait;
        assert_eq!(later, report.stats);
    }
}

fn who_left_is_told(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let lost = matches!(&outcome.result, Ok(Err(e)) if e.is_disconnected());
    if plan.agent_may_leave() {
        // It may have read everything and kept nothing; but it has not seen the plugin leave.
        assert!(!report.confirmed || outcome.seen.end != Some(End::Disconnected));
        return;
    }
    assert!(!lost && report.cause != CloseCause::PipeLost, "the agent was there");
    let said_goodbye = outcome.seen.end == Some(End::Goodbye);
    assert!(said_goodbye || outcome.seen.end == Some(End::Disconnected), "{:?}", outcome.seen.end);
    assert!(said_goodbye || !report.confirmed, "confirmed without a goodbye");
}
