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
    assert_eq!(start.kind, "folder_start");
    (agent, plugin)
}

fn is_about(event: &Event, name: &str) -> bool {
    event.kind == "folder_change" && event.payload["path"].to_string().contains(name)
}

#[test]
fn callback_reports_changes() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let (agent, plugin) = started(Script::new(), &folder);
        fs::write(folder.path().join("first"), "").unwrap();
        events(&agent, |events| events.iter().any(|event| is_about(event, "first")));
        // Reading a file does not change it.
        fs::read(folder.path().join("first")).unwrap();
        fs::write(folder.path().join("second"), "").unwrap();
        let seen = events(&agent, |events| events.iter().any(|event| is_about(event, "second")));
        let is_access = |event: &Event| event.payload["what"].to_string().contains("Access");
        assert!(!seen.iter().any(is_access), "{seen:?}");
        ends_in_order(plugin, &agent);
    });
}

/// Not on Windows: the watcher there drops callbacks without notice when many come at once, so too few are
/// left to fill the queue.
#[cfg(unix)]
#[test]
fn callback_reports_the_events_that_it_drops() {
    use wedr_plugin_sdk::testing::RecordedSession;

    use crate::common::process::PROCESS_LIMIT;

    watched(|| {
        let folder = TempDir::new().unwrap();
        let (agent, plugin) = started(Script::new().stop_reading_after(1), &folder);
        // More changes than fit into the queue and the socket.
        for n in 0..20_000 {
            fs::write(folder.path().join(format!("{}", n % 1000)), "x").unwrap();
        }
        agent.resume();
        // The reports agree with the gaps that the agent sees.
        let reported = |session: &RecordedSession| {
            let reports = session.events().filter(|event| event.kind == "folder_lost");
            let count = |event: &Event, field: &str| event.payload[field].as_u64().unwrap();
            let lost =
                reports.map(|event| count(event, "refused") + count(event, "lost")).sum::<u64>();
            lost > 0 && lost == session.missing_seqs()
        };
        assert!(agent.wait_until(PROCESS_LIMIT, crate::sessions_are(reported)));
        crate::ends_with_the_agent(plugin, &agent);
    });
}

/// Makes the queue of inotify overflow.
#[cfg(target_os = "linux")]
#[test]
fn callback_reports_the_events_that_the_system_drops() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let (agent, plugin) = started(Script::new(), &folder);
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        plugin.stop();
        // Each change is at least one event.
        for n in 0..=limit.trim().parse().unwrap() {
            let n: u32 = n;
            fs::write(folder.path().join((n % 100).to_string()), "x").unwrap();
        }
        plugin.resume();
        let reports_loss = |e: &&Event| e.kind == "folder_lost" && e.payload["lost_total"] == 1;
        events(&agent, |events| events.iter().any(reports_loss));
        fs::write(folder.path().join("later"), "").unwrap();
        events(&agent, |events| events.iter().any(|event| is_about(event, "later")));
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn callback_names_a_folder_that_it_cannot_watch() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let folder = TempDir::new().unwrap();
        let none = folder.path().join("none");
        let plugin = Plugin::start("callback", &agent, [&none]);
        fails(plugin, 1, &format!("Error: cannot watch {}: ", none.display()));
    });
}

/// Not on Windows: a watched folder cannot be removed there before the watch ends.
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

/// The plugin must end, because the paths of further events would be wrong.
#[cfg(unix)]
#[test]
fn callback_ends_when_its_folder_is_renamed() {
    watched(|| {
        let above = TempDir::new().unwrap();
        for replaced in [false, true] {
            let folder = above.path().join("folder");
            fs::create_dir(&folder).unwrap();
            let agent = TestAgent::start().unwrap();
            let plugin = Plugin::start("callback", &agent, [&folder]);
            events(&agent, |events| events.len() == 1);
            let renamed = above.path().join(format!("renamed-{replaced}"));
            fs::rename(&folder, &renamed).unwrap();
            if replaced {
                fs::create_dir(&folder).unwrap();
            }
            fs::write(renamed.join("file"), "").unwrap();
            fails(plugin, 1, &format!("Error: cannot watch {}: it was removed", folder.display()));
            let session = agent.ended_session(crate::common::process::PROCESS_LIMIT).unwrap();
            assert!(!session.events().any(|event| is_about(event, "file")), "a false path");
            let _ = fs::remove_dir(&folder);
        }
    });
}

#[test]
fn callback_takes_its_folder_from_the_environment() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("callback", &agent);
        let plugin = Plugin::spawn(command.env("CALLBACK_FOLDER", folder.path()));
        let start = &events(&agent, |events| events.len() == 1)[0];
        assert_eq!(start.payload["folder"], folder.path().to_str().unwrap());
        ends_in_order(plugin, &agent);
    });
}
