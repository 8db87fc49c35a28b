use std::fs;

use tempfile::TempDir;
use wedr_plugin_sdk::testing::{Event, Script, TestAgent};

use crate::common::process::Plugin;
use crate::common::watched;
use crate::{ends_in_order, events, fails};

fn started(script: Script, folder: &TempDir) -> (TestAgent, Plugin) {
    let agent = TestAgent::with(script).unwrap();
    let plugin = Plugin::start("callback", &agent, [folder.path()]);
    let start = &events(&agent, |events| events.len() == 1)[0];
    assert_eq!(start.kind, "folder.start");
    (agent, plugin)
}

fn is_about(event: &Event, name: &str) -> bool {
    event.kind == "folder.change" && event.payload["paths"].to_string().contains(name)
}

#[test]
fn callback_reports_changes() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let (agent, plugin) = started(Script::new(), &folder);
        fs::write(folder.path().join("first"), "").unwrap();
        events(&agent, |events| events.iter().any(|event| is_about(event, "first")));
        // Reading is no change.
        fs::read(folder.path().join("first")).unwrap();
        fs::write(folder.path().join("second"), "").unwrap();
        let seen = events(&agent, |events| events.iter().any(|event| is_about(event, "second")));
        let is_access = |event: &Event| event.payload["what"].to_string().contains("Access");
        assert!(!seen.iter().any(is_access), "{seen:?}");
        ends_in_order(plugin, &agent);
    });
}

/// On Windows the watcher itself drops callbacks when many come at once, and does not say so: too
/// few are left to fill the queue.
#[cfg(unix)]
#[test]
fn callback_drops_what_finds_no_room_and_reports_how_much() {
    use wedr_plugin_sdk::testing::RecordedSession;

    use crate::common::process::PATIENCE;

    watched(|| {
        let folder = TempDir::new().unwrap();
        let (agent, mut plugin) = started(Script::new().stop_reading_after(1), &folder);
        let mut n = 0;
        plugin.says_during("events dropped so far", || {
            fs::write(folder.path().join(format!("{}", n % 1000)), "x").unwrap();
            n += 1;
        });
        agent.resume();
        // What the agent is told is what it sees itself.
        let told = |session: &RecordedSession| {
            let dropped = session.events().filter(|event| event.kind == "folder.dropped");
            let told = dropped.map(|event| event.payload["count"].as_u64().unwrap()).sum::<u64>();
            told > 0 && told == session.missing_seqs()
        };
        assert!(agent.wait_until(PATIENCE, crate::sessions_are(told)));
        crate::ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn callback_says_what_it_cannot_watch() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let folder = TempDir::new().unwrap();
        let none = folder.path().join("none");
        let plugin = Plugin::start("callback", &agent, [&none]);
        fails(plugin, 1, &format!("Error: cannot watch {}: ", none.display()));
    });
}

/// On Windows a folder that is watched stays until the watch ends.
#[cfg(unix)]
#[test]
fn callback_ends_with_its_folder() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let (_agent, plugin) = started(Script::new(), &folder);
        fs::remove_dir(folder.path()).unwrap();
        fails(plugin, 1, &format!("Error: cannot watch {}: ", folder.path().display()));
    });
}
