//! A log, its writer, the plugin and the agent.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
#[cfg(unix)]
use wedr_plugin_sdk::testing::SessionEnd;
use wedr_plugin_sdk::testing::{Event, RecordedSession, Script, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::processes::Writer;
use crate::writer::line;

pub(crate) fn command(agent: &TestAgent, options: &[&str], file: &Path) -> Command {
    let mut command = Plugin::command("log_tail", agent);
    command.args(options).arg(file);
    command
}

pub(crate) fn start(agent: &TestAgent, options: &[&str], file: &Path) -> Plugin {
    Plugin::spawn(&mut command(agent, options, file))
}

/// A log with its writer, the plugin and the agent.
#[cfg_attr(windows, allow(dead_code, reason = "tests for Unix use the rest"))]
pub(crate) struct Scene {
    pub(crate) agent: TestAgent,
    pub(crate) plugin: Plugin,
    pub(crate) writer: Writer,
    pub(crate) path: PathBuf,
    pub(crate) folder: TempDir,
}

impl Scene {
    /// Starts with an empty log, which the plugin follows.
    pub(crate) fn new() -> Self {
        Self::in_folder(TempDir::new().unwrap(), Script::new())
    }

    pub(crate) fn in_folder(folder: TempDir, script: Script) -> Self {
        Self::with(folder, script, |agent, path| command(agent, &["--from-start"], path))
    }

    /// Starts the plugin with `command`.
    pub(crate) fn with(
        folder: TempDir,
        script: Script,
        command: impl FnOnce(&TestAgent, &Path) -> Command,
    ) -> Self {
        let agent = TestAgent::with(script).unwrap();
        let path = folder.path().join("app.log");
        let mut writer = Writer::start(&path);
        writer.does(&["lines 0"]);
        let plugin = Plugin::spawn(&mut command(&agent, &path));
        let scene = Self { agent, plugin, writer, path, folder };
        assert_eq!(has_started(&scene.agent, &scene.path), 0);
        scene
    }

    #[cfg(unix)]
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    #[cfg(unix)]
    pub(crate) fn wait_for_events(&self, count: usize) {
        self.wait_until(count, |_| true);
    }

    /// Waits until the agent has received so many lines.
    pub(crate) fn wait_for(&self, count: usize) {
        self.wait_until(count, |event| event.kind == "log_line");
    }

    fn wait_until(&self, count: usize, counts: impl Fn(&Event) -> bool) {
        let counted = |session: &RecordedSession| session.events().filter(|e| counts(e)).count();
        // Counts only if there are enough events, because this runs for each event.
        let is_there = |session: &RecordedSession| {
            session.end.is_some() || session.received.len() >= count && counted(session) >= count
        };
        let there = self.agent.wait_until(PROCESS_LIMIT, |s| s.first().is_some_and(is_there));
        let seen = self.agent.sessions().first().map_or(0, counted);
        assert!(there && seen >= count, "{seen} events instead of {count}");
    }

    /// Waits until the plugin reports a problem with these words in it.
    #[cfg(unix)]
    pub(crate) fn wait_for_error(&self, words: &[&str]) {
        let is_it = |event: &Event| {
            let text = event.payload["error"].as_str().unwrap_or_default();
            event.kind == "log_error" && words.iter().all(|word| text.contains(word))
        };
        let is_there = |s: &RecordedSession| s.end.is_some() || s.events().any(is_it);
        let there = self.agent.wait_until(PROCESS_LIMIT, |s| s.first().is_some_and(is_there));
        let mut events = self.events();
        events.retain(|event| event.kind != "log_line");
        assert!(there && events.iter().any(is_it), "no problem {words:?} in {events:?}");
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.agent.sessions()[0].events().cloned().collect()
    }

    /// Waits for so many lines, ends the plugin, and returns the lines that it forwarded.
    pub(crate) fn lines(self, count: usize) -> Vec<Value> {
        self.wait_for(count);
        let session = self.end();
        let lines = session.events().filter(|event| event.kind == "log_line");
        lines.map(|event| event.payload.clone()).collect()
    }

    #[cfg(unix)]
    pub(crate) fn end(self) -> RecordedSession {
        self.plugin.terminate();
        let session = self.agent.ended_session(PROCESS_LIMIT).expect("the session ends");
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        let (status, said) = self.plugin.ended();
        let said: Vec<_> = said.lines().filter(|line| !line.contains(": cannot ")).collect();
        assert_eq!((status.code(), said), (Some(0), Vec::new()));
        session
    }

    /// On Windows only the Ctrl+C of a console would end the plugin in order.
    #[cfg(not(unix))]
    pub(crate) fn end(self) -> RecordedSession {
        drop(self.plugin);
        self.agent.ended_session(PROCESS_LIMIT).expect("the session ends")
    }

    /// Checks that the agent received the first `count` lines, each once and in order.
    pub(crate) fn expect_numbered(self, count: usize) {
        let lines = self.lines(count);
        let texts = lines.iter().map(|payload| payload["text"].as_str().unwrap().to_owned());
        let texts: Vec<_> = texts.collect();
        let expected: Vec<_> = (0..count).map(line).collect();
        let differs = (0..count.max(texts.len())).find(|at| texts.get(*at) != expected.get(*at));
        if let Some(at) = differs {
            let around = |all: &[String]| all[at.min(all.len())..(at + 5).min(all.len())].to_vec();
            panic!("at {at}: {:#?}\ninstead of {:#?}", around(&texts), around(&expected));
        }
        assert!(lines.iter().all(|payload| payload.as_object().unwrap().len() == 2), "unmarked");
    }
}

pub(crate) fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// Waits until the plugin has scanned for the first time. Returns the position where it began.
pub(crate) fn has_started(agent: &TestAgent, path: &Path) -> Value {
    assert!(agent.wait_for_events(1, PROCESS_LIMIT), "it starts");
    let start = agent.sessions()[0].events().next().unwrap().clone();
    assert_eq!((start.kind.as_str(), &start.payload["file"]), ("log_start", &json!(path)));
    start.payload["position"].clone()
}
