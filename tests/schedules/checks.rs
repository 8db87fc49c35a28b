//! What must be true of a session that has ended, whatever happened in it.

use std::time::{Duration, Instant};

use wedr_plugin_sdk::testing::{Event, PluginMessage};
use wedr_plugin_sdk::{CloseCause, Error, Overflow, SessionReport};

use crate::agent::End;
use crate::common::time::{Moment, assert_in_time};
use crate::common::{NOTICED, SLACK};
use crate::plan::{Body, Plan};
use crate::producer::{KIND, LOST, Results};
use crate::session::{Outcome, PANIC};

/// How much more a loaded machine may add, besides the measured starvation. It is less than any time that the
/// SDK could wait by mistake. Tests of their own (tests/drain.rs) check the exact deadlines.
const BUSY: Duration = Duration::from_millis(500);

/// Checks everything. Returns how late `run` was.
pub(crate) fn check(plan: &Plan, outcome: &Outcome) -> Duration {
    let late = ends_in_the_promised_time(plan, outcome);
    match &outcome.report {
        None => no_session(plan, outcome),
        Some(report) => session(plan, outcome, report),
    }
    late
}

fn session(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    stats_are_final(outcome, report);
    result_matches_the_end(plan, outcome, report);
    every_accepted_event_is_counted(outcome, report);
    only_the_policy_refuses(plan, outcome, report);
    losses_are_the_reported_losses(outcome, report);
    loss_reports_show_all_losses(plan, outcome, report);
    arrived_events_are_the_first_accepted(outcome);
    numbers_skip_losses_and_nothing_else(outcome, report);
    sent_events_have_arrived(plan, outcome, report);
    loss_of_the_pipe_is_reported(plan, outcome, report);
}

fn no_session(plan: &Plan, outcome: &Outcome) {
    assert!(outcome.seen.messages.is_empty(), "no session, and the agent got something");
    match &outcome.result {
        Ok(Ok(())) => assert!(outcome.times.asked.is_some(), "no end was requested"),
        Ok(Err(Error::HandshakeClosed | Error::Connect { .. })) => assert!(plan.agent_may_leave()),
        other => panic!("without a session: {other:?}"),
    }
}

fn ends_in_the_promised_time(plan: &Plan, outcome: &Outcome) -> Duration {
    let times = &outcome.times;
    let returned = times.run_returned.expect("`run` has returned");
    let body = times.body_returned;
    // The shutdown began when the body returned, or earlier.
    let asked = [times.asked, body].into_iter().flatten().min_by_key(|moment| moment.at);
    if let (Some(killed), Some(body)) = (times.agent_killed, body)
        && plan.body == Body::WaitsForShutdown
    {
        in_time("the body", killed.at + NOTICED + SLACK, killed, body);
    }
    let Some(asked) = asked else { return Duration::ZERO };
    for closed in outcome.results.iter().filter_map(|results| results.closed) {
        let released = Moment { at: closed.returned, ..returned };
        in_time("an emit", asked.at.max(closed.called) + SLACK, asked, released);
    }
    let drained = asked.at + plan.drain_timeout;
    let promised = body.map_or(drained, |body| body.at.max(drained));
    in_time("run", promised + SLACK, asked, returned);
    returned.at.saturating_duration_since(promised)
}

/// Checks that something was done in time, or later only as far as a loaded machine explains.
fn in_time(what: &str, promised: Instant, since: Moment, done: Moment) {
    assert_in_time(what, promised + BUSY, since, done);
}

fn result_matches_the_end(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
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
            assert!(outcome.seen.end != Some(End::Goodbye), "the agent was there until goodbye");
        }
        Ok(Ok(())) => {
            assert_eq!(stats.undelivered, 0, "`run` returned `Ok`");
            let in_order = [CloseCause::BodyReturned, CloseCause::ShutdownRequested];
            assert!(in_order.contains(&report.cause), "{:?}", report.cause);
            assert!(!ran || !(fails || panics), "the body did not return Ok");
        }
    }
}

fn every_accepted_event_is_counted(outcome: &Outcome, report: &SessionReport) {
    let stats = &report.stats;
    let accepted: u64 = outcome.results.iter().map(|a| a.accepted.len() as u64).sum();
    let perhaps = outcome.results.iter().filter(|a| a.closed.is_some()).count() as u64;
    let covered = stats.sent + stats.undelivered;
    assert!(
        (accepted..=accepted + perhaps).contains(&covered),
        "accepted {accepted} and perhaps {perhaps}; sent {} and undelivered {}",
        stats.sent,
        stats.undelivered
    );
    assert_eq!(stats.queued, 0, "the session is over");
}

fn only_the_policy_refuses(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let refused: u64 = outcome.results.iter().map(|results| results.refused).sum();
    assert_eq!(report.stats.refused, refused);
    let unwinds = matches!(plan.body, Body::PanicsAfter(_));
    assert!(refused == 0 || plan.overflow == Overflow::Refuse || unwinds);
}

fn losses_are_the_reported_losses(outcome: &Outcome, report: &SessionReport) {
    let sum = |count: fn(&Results) -> u64| outcome.results.iter().map(count).sum::<u64>();
    let possible = sum(|results| results.surely_lost)..=sum(|results| results.lost);
    assert!(possible.contains(&report.stats.lost), "{possible:?}: {:?}", report.stats);
}

/// Checks that the sums of the loss reports are right, and that all losses were reported before goodbye.
fn loss_reports_show_all_losses(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let (mut refused, mut lost) = (0, 0);
    for event in all_events(outcome).filter(|event| event.kind == LOST) {
        assert!(plan.sends_loss_reports, "{event:?}");
        let field = |name: &str| event.payload[name].as_u64().unwrap();
        assert!(field("refused") + field("lost") > 0, "a report of nothing: {event:?}");
        refused += field("refused");
        lost += field("lost");
        assert_eq!((field("refused_total"), field("lost_total")), (refused, lost));
    }
    let stats = &report.stats;
    assert!(refused <= stats.refused && lost <= stats.lost, "{refused}, {lost}: {stats:?}");
    if plan.sends_loss_reports && outcome.seen.end == Some(End::Goodbye) {
        assert_eq!((refused, lost), (stats.refused, stats.lost), "reported at goodbye");
    }
}

fn all_events(outcome: &Outcome) -> impl Iterator<Item = &Event> {
    outcome.seen.messages.iter().filter_map(|message| match message {
        PluginMessage::Event(event) => Some(event),
        _ => None,
    })
}

/// The producers' events.
fn events(outcome: &Outcome) -> impl Iterator<Item = &Event> {
    all_events(outcome).filter(|event| event.kind != LOST)
}

/// Checks that the agent received the first accepted events of each producer, in their order.
fn arrived_events_are_the_first_accepted(outcome: &Outcome) {
    if let Some(End::Violation(what)) = &outcome.seen.end {
        panic!("{what}");
    }
    let mut arrived = vec![Vec::new(); outcome.results.len()];
    for event in events(outcome) {
        let field = |name: &str| event.payload[name].as_u64().unwrap();
        let text = event.payload["text"].as_str().unwrap();
        assert_eq!((event.kind.as_str(), text.len() as u64), (KIND, field("length")));
        arrived[field("producer") as usize].push(field("n"));
    }
    for (id, (arrived, results)) in arrived.iter().zip(&outcome.results).enumerate() {
        let possible = results.accepted.iter().copied().chain(results.closed.map(|c| c.n));
        let expected: Vec<_> = possible.take(arrived.len()).collect();
        assert_eq!(*arrived, expected, "producer {id}: what arrived, and what should have come");
    }
}

/// Checks the numbers of events and heartbeats. A heartbeat has the number of the next event.
fn numbers_skip_losses_and_nothing_else(outcome: &Outcome, report: &SessionReport) {
    let (mut next, mut skipped) = (0, 0);
    for message in &outcome.seen.messages {
        let (number, used_up) = match message {
            PluginMessage::Event(event) => (event.seq, 1),
            PluginMessage::Heartbeat { seq } => (*seq, 0),
            _ => continue,
        };
        assert!(number >= next, "number {number} comes where {next} is due");
        skipped += number - next;
        next = number + used_up;
    }
    let lost = report.stats.refused + report.stats.lost;
    assert!(skipped <= lost, "{skipped} numbers are missing, {lost} events were lost");
    if outcome.seen.end == Some(End::Goodbye) {
        assert_eq!(skipped, lost, "numbers missing at goodbye, and events lost");
    }
}

fn sent_events_have_arrived(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let stats = &report.stats;
    let arrived = events(outcome).count() as u64;
    let beat = |message: &&PluginMessage| matches!(message, PluginMessage::Heartbeat { .. });
    let heartbeats = outcome.seen.messages.iter().filter(beat).count() as u64;
    match &outcome.seen.end {
        Some(End::Goodbye) => {
            assert_eq!((arrived, heartbeats), (stats.sent, stats.heartbeats), "events, heartbeats");
            assert_eq!(stats.undelivered, 0, "the plugin sent goodbye");
        }
        // An agent that writes after its answer may get an error and stop reading. On Windows bytes of a
        // cancelled write may have arrived, which the system does not report.
        Some(End::Disconnected) if plan.sent_after_ack == 0 && cfg!(unix) => {
            assert_eq!(arrived, stats.sent, "the agent has read what there was");
        }
        _ => assert!(cfg!(windows) || arrived <= stats.sent, "{arrived} arrived of {}", stats.sent),
    }
}

/// The counters do not change after the report, except the waits of producers that the end released.
fn stats_are_final(outcome: &Outcome, report: &SessionReport) {
    if let Some(mut later) = outcome.stats.clone() {
        later.waits = report.stats.waits;
        later.longest_wait = report.stats.longest_wait;
        assert_eq!(later, report.stats);
    }
}

fn loss_of_the_pipe_is_reported(plan: &Plan, outcome: &Outcome, report: &SessionReport) {
    let lost = matches!(&outcome.result, Ok(Err(e)) if e.is_disconnected());
    if plan.agent_may_leave() {
        // The agent may have read everything. But it has not seen the end of the stream.
        assert!(!report.confirmed || outcome.seen.end != Some(End::Disconnected));
        return;
    }
    assert!(!lost && report.cause != CloseCause::PipeLost, "the agent was there");
    let sent_goodbye = outcome.seen.end == Some(End::Goodbye);
    assert!(sent_goodbye || outcome.seen.end == Some(End::Disconnected), "{:?}", outcome.seen.end);
    assert!(sent_goodbye || !report.confirmed, "confirmed without a goodbye");
}
