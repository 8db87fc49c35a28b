//! One log, which several plugins follow, one after another, with the same position file.

use std::path::PathBuf;
use std::time::{Duration, Instant};
use std::{fs, thread};

use serde_json::{Value, json};
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{Event, RecordedSession, Script, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::processes::Writer;
use crate::scene::has_started;
use crate::writer::line;

/// A log, its position file, and one plugin after another.
pub(crate) struct Story {
    pub(crate) folder: TempDir,
    pub(crate) writer: Writer,
    pub(crate) written: usize,
    pub(crate) log: PathBuf,
    pub(crate) position: PathBuf,
    /// The texts that each plugin forwarded.
    pub(crate) forwarded: Vec<Vec<String>>,
}

pub(crate) struct Run {
    pub(crate) agent: TestAgent,
    pub(crate) plugin: Plugin,
}

impl Story {
    /// Runs the first plugin with an empty log.
    pub(crate) fn new() -> Self {
        let mut story = Self::unbegun();
        let run = story.run();
        story.kill(run);
        story
    }

    pub(crate) fn unbegun() -> Self {
        let folder = TempDir::new().unwrap();
        let log = folder.path().join("app.log");
        let position = folder.path().join("position");
        let mut writer = Writer::start(&log);
        writer.does(&["lines 0"]);
        Self { folder, writer, written: 0, log, position, forwarded: Vec::new() }
    }

    pub(crate) fn run(&self) -> Run {
        let run = self.run_with(Script::new());
        // The plugin saves its position for the first time directly after the start.
        self.wait_for_position(|_| true);
        run
    }

    pub(crate) fn run_with(&self, script: Script) -> Run {
        let agent = TestAgent::with(script).unwrap();
        let mut command = Plugin::command("log_tail", &agent);
        command.arg("--position").arg(&self.position).arg(&self.log);
        let plugin = Plugin::spawn(&mut command);
        has_started(&agent, &self.log);
        Run { agent, plugin }
    }

    pub(crate) fn lines(&mut self, count: usize) {
        self.writer.does(&[&format!("lines {count}")]);
        self.written += count;
    }

    /// Waits until the position file has the position at the end of the log. Returns that position.
    pub(crate) fn wait_until_saved(&self) -> u64 {
        let length = fs::metadata(&self.log).unwrap().len();
        self.wait_for_position(|saved| saved["files"][0]["position"] == length);
        length
    }

    /// Waits until the position file has this content.
    pub(crate) fn wait_for_position(&self, is_it: impl Fn(&Value) -> bool) {
        let began = Instant::now();
        while !fs::read(&self.position)
            .is_ok_and(|bytes| is_it(&serde_json::from_slice(&bytes).expect("never half a file")))
        {
            assert!(began.elapsed() < PROCESS_LIMIT, "{:?}", fs::read_to_string(&self.position));
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until the agent has received the last line.
    pub(crate) fn wait(&self, run: &Run) {
        let last = line(self.written - 1);
        let is_there = |s: &[RecordedSession]| {
            s[0].end.is_some() || s[0].events().last().is_some_and(|e| e.payload["text"] == last)
        };
        assert!(run.agent.wait_until(PROCESS_LIMIT, is_there), "no line {last}");
        let sessions = run.agent.sessions();
        let event = sessions[0].events().last().unwrap();
        assert_eq!(event.payload["text"], last, "{event:?}, end: {:?}", sessions[0].end);
    }

    pub(crate) fn kill(&mut self, run: Run) {
        drop(run.plugin);
        self.keep(&run.agent);
    }

    #[cfg(unix)]
    pub(crate) fn terminate(&mut self, run: Run) {
        run.plugin.terminate();
        self.keep(&run.agent);
        let (status, said) = run.plugin.ended();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
    }

    pub(crate) fn keep(&mut self, agent: &TestAgent) {
        let session = agent.ended_session(PROCESS_LIMIT).expect("the session ends");
        let lines = session.events().filter(|event| event.kind == "log_line");
        let text = |event: &Event| {
            assert_eq!(event.payload.get("unfinished"), None, "{event:?}");
            event.payload["text"].as_str().unwrap().to_owned()
        };
        self.forwarded.push(lines.map(text).collect());
    }

    /// Checks that each plugin forwarded lines without a gap, and began where the one before ended, or
    /// earlier.
    pub(crate) fn expect_nothing_lost(&self) {
        let mut next = 0;
        for texts in self.forwarded.iter().filter(|texts| !texts.is_empty()) {
            let first = texts[0][..6].parse::<usize>().unwrap();
            assert!(first <= next, "lost: {next} to {first}");
            let expected: Vec<_> = (first..first + texts.len()).map(line).collect();
            assert!(*texts == expected, "not in order after {first}: {texts:#?}");
            next = next.max(first + texts.len());
        }
        assert_eq!(next, self.written);
    }
}

pub(crate) fn started(run: &Run) -> Value {
    let sessions = run.agent.sessions();
    let start = sessions[0].events().next().unwrap();
    json!([start.payload["position"], start.payload["resumed"], start.payload["gap"]])
}
