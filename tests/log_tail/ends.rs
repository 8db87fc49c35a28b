//! How the plugin begins and ends.

use std::fs;

use libtest_mimic::Trial;
use serde_json::{Value, json};
use tempfile::TempDir;
use wedr_plugin_sdk::testing::TestAgent;
#[cfg(unix)]
use wedr_plugin_sdk::testing::{Script, SessionEnd};

#[cfg(unix)]
use crate::common::process::PROCESS_LIMIT;
use crate::common::process::Plugin;
use crate::common::trials::trials;
use crate::processes::Writer;
use crate::scene::{Scene, has_started, start, texts};
use crate::writer::rotated;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        missing_log_is_waited_for,
        plugin_begins_at_the_end_by_default,
        #[cfg(unix)]
        sigterm_ends_the_plugin_with_a_goodbye,
        bad_arguments_show_the_usage,
        log_that_cannot_be_followed_is_an_error,
        #[cfg(unix)]
        loss_of_the_folder_is_an_error,
        loss_of_the_agent_is_an_error,
    ]
}

fn missing_log_is_waited_for() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(rotated(&path, 1), "from before the start\n").unwrap();
    // The log was empty, so all positions to begin at are the same.
    let plugin = start(&agent, &[], &path);
    assert_eq!(has_started(&agent, &path), Value::Null);
    let mut writer = Writer::start(&path);
    writer.does(&["lines 10", "shift", "open", "lines 10"]);
    Scene { agent, plugin, writer, path, folder }.expect_numbered(20);
}

fn plugin_begins_at_the_end_by_default() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "from before the start\nbegun bef").unwrap();
    let plugin = start(&agent, &[], &path);
    assert_eq!(has_started(&agent, &path), json!("from before the start\n".len()));
    let mut writer = Writer::start(&path);
    writer.writes("ore, ended after\n");
    let scene = Scene { agent, plugin, writer, path, folder };
    assert_eq!(texts(&scene.lines(1)), ["begun before, ended after"]);
}

#[cfg(unix)]
fn sigterm_ends_the_plugin_with_a_goodbye() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 100"]);
    scene.writer.writes("whole\nhalf a line");
    scene.wait_for(101);
    scene.plugin.terminate();
    let session = scene.agent.ended_session(PROCESS_LIMIT).expect("the session ends");
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    assert_eq!((session.events().count(), session.missing_seqs()), (102, 0));
    let (status, said) = scene.plugin.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("the last 11 bytes of"), "{said}");
}

fn bad_arguments_show_the_usage() {
    let agent = TestAgent::start().unwrap();
    for arguments in [&[][..], &["a", "b"], &["--from-end", "a"], &["--from-start"], &["/"], &[""]]
    {
        let plugin = Plugin::spawn(Plugin::command("log_tail", &agent).args(arguments));
        let (status, said) = plugin.ended();
        assert_eq!(status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.starts_with("usage: log_tail "), "{arguments:?}: {said}");
    }
    assert_eq!(agent.sessions().len(), 0);
}

fn log_that_cannot_be_followed_is_an_error() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let refused = |name: &str, what: &str| {
        let path = folder.path().join(name);
        let (status, said) = start(&agent, &[], &path).ended();
        assert_eq!(status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(what) && said.contains("caused by"), "{name}: {said}");
    };
    refused("none/app.log", &format!("cannot list {}", folder.path().join("none").display()));
    refused("folder", &format!("cannot open {}", folder.path().join("folder").display()));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).unwrap();
        refused("link", &format!("cannot open {}", folder.path().join("link").display()));
    }
}

#[cfg(unix)]
fn loss_of_the_folder_is_an_error() {
    let outer = TempDir::new().unwrap();
    for removed in [false, true] {
        let folder = TempDir::new_in(&outer).unwrap();
        let mut scene = Scene::in_folder(folder, Script::new());
        scene.writer.does(&["lines 1"]);
        scene.wait_for(1);
        if removed {
            fs::remove_file(&scene.path).unwrap();
            scene.writer.does(&["lines 1"]);
            // The plugin has seen that the file was removed, and still has it open.
            scene.wait_for(2);
            fs::remove_dir(scene.folder()).unwrap();
        } else {
            fs::rename(scene.folder(), outer.path().join("elsewhere")).unwrap();
        }
        let folder = scene.folder().display().to_string();
        let (status, said) = scene.plugin.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&folder) && said.contains("must exist"), "{said}");
        let session = scene.agent.ended_session(PROCESS_LIMIT).expect("the session ends");
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    }
}

fn loss_of_the_agent_is_an_error() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.agent.disconnect();
    let (status, said) = scene.plugin.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the pipe to the agent was lost"), "{said}");
}
