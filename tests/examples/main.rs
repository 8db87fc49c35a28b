//! The examples, as processes, run as their users would.

mod callback;
#[path = "../common/mod.rs"]
mod common;
mod event_log;
mod execd;
mod poll;
mod quickstart;
mod service;
mod table;
mod tick;
mod tokio;
mod tune;

use common::process::{PATIENCE, Plugin};
#[cfg(unix)]
use wedr_plugin_sdk::testing::SessionEnd;
use wedr_plugin_sdk::testing::{Event, RecordedSession, TestAgent};

/// Waits until its session has events as `wanted` says, and returns them all.
fn events(agent: &TestAgent, mut wanted: impl FnMut(&[&Event]) -> bool) -> Vec<Event> {
    let has_come = |session: &RecordedSession| wanted(&session.events().collect::<Vec<_>>());
    let come = agent.wait_until(PATIENCE, sessions_are(has_come));
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

/// Its supervisor ends it, and it ends well. Where a test cannot send Ctrl+C, the agent goes.
fn ends_in_order(plugin: Plugin, agent: &TestAgent) {
    #[cfg(unix)]
    {
        plugin.terminate();
        let (status, said) = plugin.ended();
        assert!(status.success(), "{said}");
        assert_eq!(agent.ended_session(PATIENCE).unwrap().end, Some(SessionEnd::Goodbye));
    }
    #[cfg(not(unix))]
    ends_with_the_agent(plugin, agent);
}

/// The agent goes, and it says so, and ends with a status for its supervisor to see.
fn ends_with_the_agent(plugin: Plugin, agent: &TestAgent) {
    agent.disconnect();
    let (status, said) = plugin.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the pipe to the agent was lost"), "{said}");
}

/// It ends by itself, having said what is wrong and what to do about it.
fn fails(plugin: Plugin, code: i32, message: &str) {
    let (status, said) = plugin.ended();
    assert_eq!(status.code(), Some(code), "{said}");
    assert!(said.contains(message), "{said}");
}
