use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wedr_plugin_sdk::testing::{Event, TestAgent};

use crate::common::process::Plugin;
use crate::common::watched;
use crate::{ends_in_order, ends_with_the_agent, events, fails};

struct Scene {
    agent: TestAgent,
    plugin: Plugin,
    /// The folder that the plugin watches.
    folder: PathBuf,
    /// A folder where files are written before they are moved, complete, into the watched folder.
    beside: TempDir,
}

impl Scene {
    /// Starts the plugin with one file in the folder.
    fn new() -> Self {
        let beside = TempDir::new().unwrap();
        let folder = beside.path().join("watched");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("old"), "").unwrap();
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("poll", &agent, [&folder]);
        let start = &events(&agent, |events| events.len() == 1)[0];
        assert_eq!((start.kind.as_str(), &start.payload["files"]), ("folder_start", &1.into()));
        Self { agent, plugin, folder, beside }
    }

    fn put(&self, name: &str, bytes: usize) {
        let made = self.beside.path().join("made");
        fs::write(&made, "x".repeat(bytes)).unwrap();
        fs::rename(made, self.folder.join(name)).unwrap();
    }

    /// Waits until a scan that began after this call has ended.
    fn wait_for_a_scan(&self, marker: &str) {
        // A scan that began before may see the first file.
        for marker in [format!("{marker}-1"), format!("{marker}-2")] {
            self.put(&marker, 0);
            events(&self.agent, |events| events.iter().any(|event| name(event) == marker));
        }
    }
}

fn name(event: &Event) -> String {
    let path = Path::new(event.payload["path"].as_str().unwrap_or_default());
    path.file_name().unwrap_or_default().to_str().unwrap().to_owned()
}

#[test]
fn poll_reports_every_new_file_once() {
    watched(|| {
        let scene = Scene::new();
        fs::create_dir(scene.folder.join("no file")).unwrap();
        for bytes in [1, 2, 3] {
            scene.put(&format!("new-{bytes}"), bytes);
        }
        scene.wait_for_a_scan("marker");
        let seen = events(&scene.agent, |_| true);
        let sizes: BTreeMap<_, _> =
            seen[1..].iter().map(|e| (name(e), &e.payload["bytes"])).collect();
        let expected: BTreeMap<_, _> =
            [("new-1", 1), ("new-2", 2), ("new-3", 3), ("marker-1", 0), ("marker-2", 0)].into();
        assert_eq!(sizes.len(), seen.len() - 1, "each once: {seen:?}");
        assert!(sizes.iter().map(|(name, size)| (&**name, size.as_i64().unwrap())).eq(expected));
        assert!(seen[1..].iter().all(|event| event.kind == "folder_new_file"));
        ends_in_order(scene.plugin, &scene.agent);
    });
}

#[test]
fn poll_reports_a_file_that_comes_back() {
    watched(|| {
        let scene = Scene::new();
        fs::remove_file(scene.folder.join("old")).unwrap();
        scene.wait_for_a_scan("marker");
        scene.put("old", 0);
        events(&scene.agent, |events| events.iter().any(|event| name(event) == "old"));
        ends_with_the_agent(scene.plugin, &scene.agent);
    });
}

#[test]
fn poll_ends_with_its_folder() {
    watched(|| {
        let scene = Scene::new();
        fs::remove_dir_all(&scene.folder).unwrap();
        fails(scene.plugin, 1, &format!("Error: cannot list {}: ", scene.folder.display()));
    });
}

/// The agent launches plugins without arguments.
#[test]
fn poll_takes_its_folder_from_the_environment() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("poll", &agent);
        let plugin = Plugin::spawn(command.env("POLL_FOLDER", folder.path()));
        let start = &events(&agent, |events| events.len() == 1)[0];
        assert_eq!(start.payload["folder"], *folder.path().to_string_lossy());
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn poll_without_a_folder_prints_its_usage() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let usage = "usage: poll FOLDER, or set POLL_FOLDER";
        fails(Plugin::start::<&str>("poll", &agent, []), 2, usage);
        fails(Plugin::start("poll", &agent, ["one", "two"]), 2, usage);
    });
}
