//! The position file.

use std::fs::File;
use std::path::Path;
#[cfg(unix)]
use std::time::UNIX_EPOCH;
use std::{fs, thread};

use libtest_mimic::Trial;
use serde_json::{Value, json};
use wedr_plugin_sdk::testing::{Script, TestAgent};

use crate::common::WRITER_IS_BLOCKED_AFTER;
use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::common::trials::trials;
use crate::scene::has_started;
use crate::story::{Run, Story, started};
use crate::writer::{line, rotated};

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        #[cfg(unix)]
        orderly_ends_lose_and_repeat_nothing,
        kills_lose_nothing,
        position_is_saved_while_the_plugin_runs,
        lines_not_sent_to_the_agent_are_not_skipped,
        position_file_may_be_open_in_another_process,
        log_truncated_meanwhile_is_a_gap,
        #[cfg(unix)]
        log_removed_meanwhile_is_a_gap,
        #[cfg(unix)]
        log_with_the_identity_of_another_is_read_whole,
        device_may_get_another_number,
        rotated_files_from_before_are_not_forwarded,
        bad_position_file_is_an_error,
        position_file_that_cannot_be_written_is_an_error,
        environment_has_the_settings,
    ]
}

#[cfg(unix)]
fn orderly_ends_lose_and_repeat_nothing() {
    let mut story = Story::unbegun();
    let rotations: [&[&str]; 3] =
        [&[], &["shift", "open"], &["shift", "open", "lines 0", "shift", "open"]];
    for rotation in rotations {
        let run = story.run();
        assert_eq!(started(&run)[2], false);
        story.lines(100);
        story.wait(&run);
        story.terminate(run);
        story.lines(10);
        story.writer.does(rotation);
        story.lines(10);
    }
    // An incomplete line is neither forwarded nor skipped. The plugin reads it together with the lines
    // before.
    story.writer.does(&["half"]);
    let run = story.run();
    story.wait(&run);
    story.terminate(run);
    story.written += 1;
    story.lines(10);
    let run = story.run();
    story.wait(&run);
    story.terminate(run);
    let all: Vec<_> = story.forwarded.concat();
    let expected: Vec<_> = (0..story.written).map(line).collect();
    assert_eq!(all, expected);
}

fn kills_lose_nothing() {
    let mut story = Story::unbegun();
    for round in 0..6 {
        let run = story.run();
        story.lines(2000);
        if round % 2 == 0 {
            story.wait(&run);
        }
        story.writer.does(&["shift", "open"]);
        story.lines(2000);
        story.kill(run);
        story.lines(10);
    }
    let run = story.run();
    story.lines(10);
    story.wait(&run);
    story.kill(run);
    story.expect_nothing_lost();
}

fn position_is_saved_while_the_plugin_runs() {
    let mut story = Story::unbegun();
    let run = story.run();
    story.lines(100);
    let length = story.wait_until_saved();
    story.kill(run);
    let run = story.run();
    assert_eq!(started(&run), json!([length, true, false]));
    story.lines(1);
    story.wait(&run);
    story.kill(run);
    assert_eq!(story.forwarded[1], [line(100)]);
}

/// If the plugin saved its position while the agent does not read, the queued lines would be skipped.
fn lines_not_sent_to_the_agent_are_not_skipped() {
    let mut story = Story::new();
    // More than the pipe holds.
    story.lines(20_000);
    let run = story.run_with(Script::new().stop_reading_after(10));
    assert!(run.agent.wait_for_events(10, PROCESS_LIMIT));
    // By now the plugin could have saved its position. If it is slower, the test proves less, and does not
    // fail.
    thread::sleep(3 * WRITER_IS_BLOCKED_AFTER);
    drop(run.plugin);
    run.agent.resume();
    story.keep(&run.agent);
    assert!(story.forwarded[1].len() < 20_000, "the queue was not full");
    let run = story.run();
    story.lines(1);
    story.wait(&run);
    story.kill(run);
    story.expect_nothing_lost();
}

/// Windows does not replace a file that another process has open.
fn position_file_may_be_open_in_another_process() {
    let mut story = Story::new();
    let opened = File::open(&story.position).unwrap();
    let run = story.run();
    story.lines(10);
    story.wait(&run);
    // The plugin reads these lines after its first attempt to save.
    story.lines(10);
    story.wait(&run);
    drop(opened);
    story.wait_until_saved();
    story.kill(run);
    story.expect_nothing_lost();
}

fn log_truncated_meanwhile_is_a_gap() {
    for regrown in [1, 300] {
        let mut story = Story::unbegun();
        let run = story.run();
        story.lines(100);
        story.wait_for_position(|saved| saved["files"][0]["position"] != 0);
        story.kill(run);
        story.writer.does(&["copytruncate"]);
        story.lines(regrown);
        let run = story.run();
        assert_eq!(started(&run), json!([0, true, true]));
        story.wait(&run);
        story.kill(run);
        let expected: Vec<_> = (100..100 + regrown).map(line).collect();
        assert_eq!(story.forwarded[1], expected);
    }
}

#[cfg(unix)]
fn log_removed_meanwhile_is_a_gap() {
    let mut story = Story::new();
    story.lines(10);
    fs::remove_file(&story.log).unwrap();
    story.writer.does(&["open"]);
    story.lines(10);
    let run = story.run();
    assert_eq!(started(&run), json!([0, true, true]));
    story.wait(&run);
    story.kill(run);
    assert_eq!(story.forwarded[1], (10..20).map(line).collect::<Vec<_>>());
}

/// The new file has the inode number of the old one, and the file system has no creation times. Only the
/// first bytes differ.
#[cfg(unix)]
fn log_with_the_identity_of_another_is_read_whole() {
    use std::os::unix::fs::MetadataExt;
    let mut story = Story::unbegun();
    let run = story.run();
    story.lines(100);
    story.wait_until_saved();
    story.kill(run);
    fs::remove_file(&story.log).unwrap();
    story.writer.does(&["open"]);
    story.lines(200);
    change_position_file(&story.position, |saved| {
        let new = fs::metadata(&story.log).unwrap();
        let created = new.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let created = created.map(|since| u64::try_from(since.as_nanos()).unwrap());
        let id = json!({ "device": new.dev(), "inode": new.ino(), "created": created });
        assert_ne!(saved["files"][0]["id"], id);
        saved["files"][0]["id"] = id;
    });
    let run = story.run();
    assert_eq!(started(&run), json!([0, true, true]));
    story.wait(&run);
    story.kill(run);
    assert_eq!(story.forwarded[1], (100..300).map(line).collect::<Vec<_>>());
}

fn change_position_file(path: &Path, change: impl FnOnce(&mut Value)) {
    let mut saved: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut saved);
    fs::write(path, saved.to_string()).unwrap();
}

fn device_may_get_another_number() {
    let mut story = Story::unbegun();
    fs::write(rotated(&story.log, 1), "from before the start\n").unwrap();
    let run = story.run();
    story.lines(100);
    story.wait_until_saved();
    story.kill(run);
    change_position_file(&story.position, |saved| {
        for id in ["/files/0/id/device", "/others/0/device"] {
            let device = saved.pointer_mut(id).unwrap();
            *device = json!(device.as_u64().unwrap() + 1);
        }
    });
    story.writer.does(&["shift", "open"]);
    let run = story.run();
    assert_eq!(started(&run), json!([0, true, false]));
    story.lines(1);
    story.wait(&run);
    story.kill(run);
    assert_eq!(story.forwarded[1], [line(100)]);
}

fn rotated_files_from_before_are_not_forwarded() {
    let mut story = Story::unbegun();
    for age in 1..5 {
        fs::write(rotated(&story.log, age), "from before the start\n").unwrap();
    }
    for _ in 0..3 {
        let run = story.run();
        story.lines(10);
        story.wait(&run);
        story.kill(run);
        story.lines(10);
        story.writer.does(&["shift", "open"]);
        story.lines(10);
    }
    let run = story.run();
    story.wait(&run);
    story.kill(run);
    story.expect_nothing_lost();
}

fn bad_position_file_is_an_error() {
    let mut story = Story::unbegun();
    let run = story.run();
    story.lines(10);
    story.wait_for_position(|saved| saved["files"][0]["position"] != 0);
    story.kill(run);
    let good = fs::read_to_string(&story.position).unwrap();
    let other = |from: &str, to: &str| {
        assert!(good.contains(from), "{good}");
        good.replacen(from, to, 1)
    };
    // As JSON writes the path: on Windows it has backslashes.
    let log = json!(story.log).to_string();
    let position = fs::metadata(&story.log).unwrap().len();
    for (content, why) in [
        (String::new(), "EOF"),
        (good[..good.len() / 2].to_owned(), "EOF"),
        ("{}".to_owned(), "missing field"),
        ("[1]".to_owned(), "invalid"),
        (other("\"version\":1", "\"version\":2"), "version 2"),
        (other(&log, "\"/var/log/other.log\""), "it is for another log, /var/log/other.log"),
        (other(&format!("\"position\":{position}"), "\"position\":-1"), "invalid value"),
        (other(&format!("\"position\":{position}"), "\"position\":1024"), "contradict"),
        (other("\"position\"", "\"offset\""), "unknown field"),
    ] {
        fs::write(&story.position, &content).unwrap();
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("log_tail", &agent);
        command.arg("--position").arg(&story.position).arg(&story.log);
        let (status, said) = Plugin::spawn(&mut command).ended();
        assert_eq!(status.code(), Some(1), "{content}: {said}");
        let expected =
            format!("cannot use {}: it is not a position file", story.position.display());
        assert!(said.contains(&expected) && said.contains(why), "{content}: {said}");
        assert!(said.contains("remove it to start without a position"), "{said}");
        assert_eq!(agent.sessions().len(), 0);
        assert_eq!(fs::read_to_string(&story.position).unwrap(), content, "it is left as it was");
    }
}

fn position_file_that_cannot_be_written_is_an_error() {
    let story = Story::unbegun();
    let agent = TestAgent::start().unwrap();
    let mut command = Plugin::command("log_tail", &agent);
    let position = story.folder.path().join("none").join("position");
    command.arg("--position").arg(&position).arg(&story.log);
    let (status, said) = Plugin::spawn(&mut command).ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot write {}", position.display())), "{said}");
}

fn environment_has_the_settings() {
    let mut story = Story::unbegun();
    story.lines(10);
    let agent = TestAgent::start().unwrap();
    let mut command = Plugin::command("log_tail", &agent);
    command.env("LOG_TAIL_FILE", &story.log).env("LOG_TAIL_POSITION", &story.position);
    let plugin = Plugin::spawn(command.env("LOG_TAIL_FROM_START", "1"));
    has_started(&agent, &story.log);
    let run = Run { agent, plugin };
    story.wait(&run);
    story.wait_for_position(|saved| saved["files"][0]["position"] != 0);
    story.kill(run);
    story.expect_nothing_lost();

    let agent = TestAgent::start().unwrap();
    for (name, value) in [("LOG_TAIL_FROM_START", "yes"), ("LOG_TAIL_FILE", "")] {
        let mut command = Plugin::command("log_tail", &agent);
        command.env("LOG_TAIL_FILE", &story.log).env(name, value);
        let (status, said) = Plugin::spawn(&mut command).ended();
        assert_eq!(status.code(), Some(2), "{name}: {said}");
        assert!(said.contains("LOG_TAIL_FILE="), "{said}");
    }
}
