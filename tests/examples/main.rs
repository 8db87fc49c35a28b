//! The examples, as processes, run as a user runs them.

mod callback;
#[path = "../common/mod.rs"]
mod common;
mod event_log;
mod execd;
mod host;
mod poll;
mod quickstart;
mod service;
mod table;
mod tick;
mod tokio;
mod tune;

use common::process::{PROCESS_LIMIT, Plugin};
#[cfg(unix)]
use wedr_plugin_sdk::testing::SessionEnd;
use wedr_plugin_sdk::testing::{Event, RecordedSession, TestAgent};

/// Waits until `wanted` is true of the session's events, and returns all events.
fn events(agent: &TestAgent, mut wanted: impl FnMut(&[&Event]) -> bool) -> Vec<Event> {
    let has_come = |session: &RecordedSession| wanted(&session.events().collect::<Vec<_>>());
    let come = agent.wait_until(PROCESS_LIMIT, sessions_are(has_come));
    let sessions = agent.sessions();
    let events: Vec<_> = sessions.iter().flat_map(RecordedSession::events).cloned().collect();
    assert!(come, "it does not come after the last of {}: {:?}", events.len(), events.last());
    events
}

fn sessions_are(
    mut wanted: impl FnMut(&RecordedSession) -> bool,
) -> impl FnMut(&[RecordedSession]) -> bool {
    move |sessions| sessions.first().is_some_and(&mut wanted)
}

/// Ends the example as a supervisor does, and checks that it ends in order. Where a test cannot send Ctrl+C,
/// the agent closes the pipe.
fn ends_in_order(plugin: Plugin, agent: &TestAgent) {
    #[cfg(unix)]
    {
        plugin.terminate();
        let (status, said) = plugin.ended();
        assert!(status.success(), "{said}");
        assert_eq!(agent.ended_session(PROCESS_LIMIT).unwrap().end, Some(SessionEnd::Goodbye));
    }
    #[cfg(not(unix))]
    ends_with_the_agent(plugin, agent);
}

/// Closes the pipe, and checks that the example prints the loss and ends with a failure status.
fn ends_with_the_agent(plugin: Plugin, agent: &TestAgent) {
    agent.disconnect();
    let (status, said) = plugin.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the pipe to the agent was lost"), "{said}");
}

/// Checks that the example ends by itself, and prints what is wrong and what to do.
fn fails(plugin: Plugin, code: i32, message: &str) {
    let (status, said) = plugin.ended();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(message), "{said}");
}
