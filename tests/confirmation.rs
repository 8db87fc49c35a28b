//! What the report says about the goodbye: whether it was sent, and whether the agent's close proves that the
//! agent has read everything.
#![cfg(target_os = "linux")]

mod common;
mod raw;

use std::net::Shutdown;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use common::{LIMIT, emit_alone, events_that_fit_alone, runner, session, stalled_agent, watched};
use raw::{RawAgent, RawPipe};
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{CloseCause, SessionReport};

/// The frame of the goodbye.
const GOODBYE: usize = r#"    {"type":"goodbye"}"#.len();

/// Runs a session of one event. The agent reads everything except the last byte of the goodbye, calls `ends`,
/// and keeps the connection until the session is over.
fn report(ends: impl FnOnce(&mut Option<RawPipe>) + Send) -> SessionReport {
    let agent = RawAgent::start();
    let (over, wait_until_over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let agent = &agent;
        scope.spawn(move || {
            let mut pipe = agent.accept();
            pipe.shake_hands();
            pipe.next_frame().expect("the event");
            pipe.fill(&mut [0; GOODBYE - 1]).expect("a goodbye");
            let mut pipe = Some(pipe);
            ends(&mut pipe);
            let _ = wait_until_over.recv();
        });
        let (result, report) = session(agent.runner(), |sink, _| sink.emit("test", json!({})));
        drop(over);
        result.unwrap();
        assert_eq!((report.stats.sent, report.goodbye_sent), (1, true), "{report:?}");
        report
    })
}

fn shut(pipe: &mut Option<RawPipe>) {
    pipe.as_ref().unwrap().shut_down(Shutdown::Both);
}

fn read_the_last_byte(pipe: &mut Option<RawPipe>) {
    pipe.as_mut().unwrap().fill(&mut [0]).expect("the end of the goodbye");
}

#[test]
fn agent_that_shuts_both_directions_with_a_byte_unread_does_not_confirm() {
    watched(|| assert!(!report(shut).confirmed));
}

#[test]
fn agent_that_shuts_both_directions_and_reads_the_rest_confirms() {
    watched(|| {
        let shut_and_read = |pipe: &mut _| {
            shut(pipe);
            read_the_last_byte(pipe);
        };
        assert!(report(shut_and_read).confirmed);
    });
}

#[test]
fn agent_that_reads_everything_and_shuts_both_directions_confirms() {
    watched(|| {
        let read_and_shut = |pipe: &mut _| {
            read_the_last_byte(pipe);
            shut(pipe);
        };
        assert!(report(read_and_shut).confirmed);
    });
}

#[test]
fn agent_that_closes_with_a_byte_unread_does_not_confirm() {
    watched(|| {
        assert!(!report(|pipe| *pipe = None).confirmed);
        // The close discards the byte. In some of the runs the plugin checks the pipe between the shutdown and
        // the close.
        for _ in 0..100 {
            let shut_and_close = |pipe: &mut _| {
                shut(pipe);
                *pipe = None;
            };
            assert!(!report(shut_and_close).confirmed);
        }
    });
}

#[test]
fn agent_that_reads_everything_and_closes_confirms() {
    watched(|| {
        let read_and_close = |pipe: &mut _| {
            read_the_last_byte(pipe);
            *pipe = None;
        };
        assert!(report(read_and_close).confirmed);
    });
}

#[test]
fn goodbye_that_the_agent_never_answers_is_sent_and_unconfirmed() {
    watched(|| {
        let agent = TestAgent::with(Script::new().stay_after_goodbye()).unwrap();
        let (result, report) = session(runner(&agent), |sink, _| sink.emit("test", json!({})));
        result.unwrap();
        assert!(report.goodbye_sent && !report.confirmed, "{report:?}");
    });
}

#[test]
fn goodbye_without_time_left_is_reported_as_not_sent() {
    watched(|| {
        let payload = "x".repeat(4096);
        let fits = events_that_fit_alone(&payload);
        let agent = stalled_agent();
        let runner = runner(&agent).heartbeat(None).drain_timeout(Duration::from_millis(100));
        let (result, report) =
            session(runner, |sink, _| (0..fits).try_for_each(|_| emit_alone(sink, &payload)));
        // Every event was sent, so no event is lost.
        result.unwrap();
        assert_eq!(report.cause, CloseCause::BodyReturned);
        assert_eq!((report.stats.sent, report.stats.undelivered), (fits, 0));
        assert_eq!((report.goodbye_sent, report.confirmed), (false, false));
        agent.resume();
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Disconnected { mid_frame: false }));
        assert_eq!(session.events().count() as u64, fits);
    });
}

#[test]
fn lost_pipe_is_reported_without_a_goodbye() {
    watched(|| {
        let agent = TestAgent::with(Script::new().close_after(1)).unwrap();
        let (result, report) = session(runner(&agent), |sink, ctx| {
            sink.emit("test", json!({}))?;
            ctx.wait_for_shutdown();
            Ok(())
        });
        common::assert_lost(&result, &report);
        assert!(!report.goodbye_sent);
    });
}
