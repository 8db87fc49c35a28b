//! What the example is to do.

use std::fs;
#[cfg(unix)]
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::UNIX_EPOCH;
#[cfg(unix)]
use std::time::{Duration, SystemTime};

use jiff::Zoned;
use jiff::tz::{self, TimeZone};
use libtest_mimic::Arguments;
use serde_json::{Value, json};
use tempfile::TempDir;
#[cfg(unix)]
use wedr_plugin_sdk::testing::SessionEnd;
use wedr_plugin_sdk::testing::{Event, RecordedSession, Script, TestAgent};

use crate::common::process::{PATIENCE, Plugin};
use crate::common::trials::trials;
use crate::processes::Writer;
use crate::timestamp;
use crate::writer::{line, rotated};

pub(crate) fn run() -> ExitCode {
    let trials = trials![
        rotation_while_it_looks,
        #[cfg(unix)]
        rotations_between_two_looks,
        #[cfg(unix)]
        rotations_with_dates_for_names,
        #[cfg(unix)]
        files_removed_and_packed,
        #[cfg(unix)]
        a_file_without_a_name,
        #[cfg(unix)]
        a_file_in_the_place_of_another,
        an_agent_that_stops_reading,
        #[cfg(unix)]
        late_lines_while_the_plugin_waits,
        #[cfg(target_os = "linux")]
        more_changes_than_the_kernel_remembers,
        truncation_in_place,
        a_last_line_that_is_never_ended,
        a_file_that_is_not_there_yet,
        the_end_by_default,
        bytes_of_all_kinds,
        lines_too_long_for_an_event,
        times_in_events,
        times_in_lines,
        #[cfg(unix)]
        termination,
        bad_command_lines,
        what_cannot_be_followed,
        #[cfg(unix)]
        a_folder_that_goes_away,
        an_agent_that_goes_away,
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn start(agent: &TestAgent, options: &[&str], file: &Path) -> Plugin {
    Plugin::spawn(Plugin::command("log_tail", agent).args(options).arg(file))
}

/// A log of its own, and who has to do with it.
struct Scene {
    agent: TestAgent,
    plugin: Plugin,
    writer: Writer,
    path: PathBuf,
    _folder: TempDir,
}

impl Scene {
    /// The log is there and empty, and the plugin follows it.
    fn new() -> Self {
        Self::in_folder(TempDir::new().unwrap(), Script::new())
    }

    fn in_folder(folder: TempDir, script: Script) -> Self {
        let agent = TestAgent::with(script).unwrap();
        let path = folder.path().join("app.log");
        let mut writer = Writer::start(&path);
        writer.does(&["lines 0"]);
        let plugin = start(&agent, &["--from-start"], &path);
        let scene = Self { agent, plugin, writer, path, _folder: folder };
        assert_eq!(has_started(&scene.agent, &scene.path), 0);
        scene
    }

    #[cfg(unix)]
    fn folder(&self) -> &Path {
        self.path.parent().unwrap()
    }

    fn wait_for_events(&self, count: usize) {
        // Counted only when it may be true, since this is asked at every event.
        let is_there = |session: &RecordedSession| {
            session.end.is_some()
                || session.received.len() >= count && session.events().count() >= count
        };
        let there = self.agent.wait_until(PATIENCE, |s| s.first().is_some_and(is_there));
        let seen = self.agent.sessions().first().map_or(0, |s| s.events().count());
        assert!(there && seen >= count, "{seen} events instead of {count}");
    }

    /// Waits for this many lines.
    fn wait_for(&self, count: usize) {
        self.wait_for_events(count + 1);
    }

    fn events(&self) -> Vec<Event> {
        self.agent.sessions()[0].events().cloned().collect()
    }

    /// Waits for this many lines, ends the plugin, and returns what it forwarded.
    fn lines(self, count: usize) -> Vec<Value> {
        self.wait_for(count);
        let session = self.end();
        let lines = session.events().filter(|event| event.kind == "log.line");
        lines.map(|event| event.payload.clone()).collect()
    }

    #[cfg(unix)]
    fn end(self) -> RecordedSession {
        self.plugin.terminate();
        let session = self.agent.ended_session(PATIENCE).expect("the session ends");
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
        let (status, said) = self.plugin.ended();
        assert_eq!((status.code(), said.as_str()), (Some(0), ""));
        session
    }

    /// Nothing but a console's Ctrl+C would end it in order.
    #[cfg(not(unix))]
    fn end(self) -> RecordedSession {
        drop(self.plugin);
        self.agent.ended_session(PATIENCE).expect("the session ends")
    }

    /// The first `count` lines, each once and in order.
    fn expect_numbered(self, count: usize) {
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

/// The plugin keeps up or lags behind, as it happens.
fn rotation_while_it_looks() {
    let mut scene = Scene::new();
    let mut count = 0;
    for _ in 0..8 {
        scene.writer.does(&["lines 400", "half", "shift", "lines 100", "half"]);
        scene.writer.does(&["lines 50", "open", "lines 200"]);
        // In a row, and two that stay empty.
        scene.writer.does(&["storm 8", "shift", "open", "shift", "open"]);
        count += 400 + 1 + 100 + 1 + 50 + 200 + 16;
    }
    scene.expect_numbered(count);
}

/// The plugin stands still while it happens, so that it never sees most files under the log's
/// name.
#[cfg(unix)]
fn rotations_between_two_looks() {
    let mut scene = Scene::new();
    let mut count = 0;
    for rotations in [1, 2, 12, 3] {
        scene.writer.does(&["lines 100", "half"]);
        count += 101;
        scene.wait_for(count - 1);
        scene.plugin.stop();
        scene.writer.does(&["lines 10", "shift", "lines 20"]);
        count += 30;
        for _ in 1..rotations {
            scene.writer.does(&["open", "lines 5", "half", "shift", "lines 5"]);
            count += 11;
        }
        scene.writer.does(&["open", "lines 50"]);
        count += 50;
        scene.plugin.resume();
        scene.wait_for(count);
    }
    scene.expect_numbered(count);
}

/// No number says which is older.
#[cfg(unix)]
fn rotations_with_dates_for_names() {
    let mut scene = Scene::new();
    scene.plugin.stop();
    let mut written = SystemTime::now() - Duration::from_secs(3600);
    for date in ["-30-01-2026", "-31-01-2026", "-01-02-2026", ".old", ".02-02-2026"] {
        let renamed = format!("{}{date}", scene.path.display());
        scene.writer.does(&["lines 10"]);
        fs::rename(&scene.path, &renamed).unwrap();
        scene.writer.does(&["lines 10", "open"]);
        // The clock of a file system may tick more slowly than this loop.
        written += Duration::from_secs(60);
        fs::File::options().append(true).open(renamed).unwrap().set_modified(written).unwrap();
    }
    scene.plugin.resume();
    scene.expect_numbered(100);
}

/// The usual end of rotated files, some before they are read and some while they are written.
#[cfg(unix)]
fn files_removed_and_packed() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10", "shift", "open", "lines 10"]);
    let mut count = 20;
    for is_stopped in [true, false, true, false] {
        scene.wait_for(count);
        if is_stopped {
            scene.plugin.stop();
        }
        let old = rotated(&scene.path, 1);
        fs::write(format!("{}.gz", old.display()), "packed\n").unwrap();
        fs::remove_file(&old).unwrap();
        scene.writer.does(&["lines 10", "shift", "lines 10", "half"]);
        fs::remove_file(&old).unwrap();
        scene.writer.does(&["lines 10", "open", "lines 10", "shift", "open", "lines 10"]);
        count += 51;
        if is_stopped {
            scene.plugin.resume();
        }
    }
    scene.expect_numbered(count);
}

/// Its writer has not gone on to another file yet.
#[cfg(unix)]
fn a_file_without_a_name() {
    let mut scene = Scene::new();
    scene.writer.writes("1\n");
    scene.writer.does(&["shift", "open"]);
    scene.writer.writes("2\n");
    scene.wait_for(2);
    fs::remove_file(&scene.path).unwrap();
    let older = fs::File::options().append(true).open(rotated(&scene.path, 1));
    older.unwrap().write_all(b"3\n").unwrap();
    // Now the plugin has seen that the name is gone.
    scene.wait_for(3);
    scene.writer.writes("4\n");
    scene.writer.does(&["open"]);
    scene.writer.writes("5\n");
    assert_eq!(texts(&scene.lines(5)), ["1", "2", "3", "4", "5"]);
}

/// The inode number of a file that the plugin does not follow must not be given to one that it
/// has to.
#[cfg(unix)]
fn a_file_in_the_place_of_another() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(rotated(&path, 1), "from before the start\n").unwrap();
    let mut scene = Scene::in_folder(folder, Script::new());
    scene.plugin.stop();
    fs::remove_file(rotated(&path, 1)).unwrap();
    scene.writer.does(&["lines 10", "shift", "open", "lines 10", "shift", "open", "lines 10"]);
    scene.plugin.resume();
    scene.expect_numbered(30);
}

/// The watcher's callback waits in `emit` meanwhile.
fn an_agent_that_stops_reading() {
    let script = Script::new().stop_reading_after(100);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    for _ in 0..5 {
        scene.writer.does(&["lines 3000", "shift", "lines 1000", "open"]);
    }
    scene.agent.resume();
    scene.expect_numbered(20_000);
}

/// The new file is there already, while the old one is still read and still written to.
#[cfg(unix)]
fn late_lines_while_the_plugin_waits() {
    let script = Script::new().stop_reading_after(100);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    scene.plugin.stop();
    scene.writer.does(&["shift"]);
    fs::File::create(&scene.path).unwrap();
    // More than the plugin's queue and the pipe hold.
    scene.writer.does(&["lines 20000"]);
    scene.plugin.resume();
    scene.wait_for_events(100);
    scene.writer.does(&["lines 100", "open", "lines 100"]);
    scene.agent.resume();
    scene.expect_numbered(20_200);
}

/// The kernel's queue for the watcher overflows: only a rescan helps.
#[cfg(target_os = "linux")]
fn more_changes_than_the_kernel_remembers() {
    let mut scene = Scene::new();
    scene.plugin.stop();
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    for number in 0..limit.trim().parse::<usize>().unwrap() {
        // At least one event each, and no two alike in a row.
        fs::write(scene.folder().join(format!("other{}", number % 2)), "").unwrap();
    }
    scene.writer.does(&["lines 10", "shift", "lines 10", "open", "lines 10", "shift", "open"]);
    scene.writer.does(&["lines 10"]);
    scene.plugin.resume();
    scene.wait_for(40);
    scene.writer.does(&["lines 10"]);
    scene.expect_numbered(50);
}

fn truncation_in_place() {
    let mut scene = Scene::new();
    let mut count = 0;
    for lines in [1000, 700, 10, 400] {
        scene.writer.does(&[&format!("lines {lines}")]);
        count += lines;
        // What is truncated unread is lost to everyone.
        scene.wait_for(count);
        scene.writer.does(&["copytruncate", "lines 5"]);
        count += 5;
        scene.wait_for(count);
    }
    scene.expect_numbered(count);
}

fn a_last_line_that_is_never_ended() {
    let mut scene = Scene::new();
    scene.writer.writes("first\nsecond, never en");
    scene.wait_for(1);
    scene.writer.does(&["truncate"]);
    scene.wait_for(2);
    scene.writer.writes("third\r\nfourth, never en");
    scene.wait_for(3);
    scene.writer.does(&["shift", "open"]);
    scene.writer.writes("fifth\n");
    scene.wait_for(4);
    // Now the writer has gone on, and the file that it left is finished.
    fs::rename(rotated(&scene.path, 1), scene.path.with_file_name("elsewhere")).unwrap();
    let texts: Vec<_> = scene
        .lines(5)
        .iter()
        .map(|line| (line["text"].as_str().unwrap().to_owned(), line["unfinished"] == true))
        .collect();
    let expected = [
        ("first", false),
        ("second, never en", true),
        ("third", false),
        ("fifth", false),
        ("fourth, never en", true),
    ];
    assert_eq!(texts, expected.map(|(text, unfinished)| (text.to_owned(), unfinished)));
}

fn a_file_that_is_not_there_yet() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(rotated(&path, 1), "from before the start\n").unwrap();
    // Where it begins makes no difference: nothing was there.
    let plugin = start(&agent, &[], &path);
    assert_eq!(has_started(&agent, &path), Value::Null);
    let mut writer = Writer::start(&path);
    writer.does(&["lines 10", "shift", "open", "lines 10"]);
    Scene { agent, plugin, writer, path, _folder: folder }.expect_numbered(20);
}

fn the_end_by_default() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    fs::write(&path, "from before the start\nbegun bef").unwrap();
    let plugin = start(&agent, &[], &path);
    assert_eq!(has_started(&agent, &path), json!("from before the start\n".len()));
    let mut writer = Writer::start(&path);
    writer.writes("ore, ended after\n");
    let scene = Scene { agent, plugin, writer, path, _folder: folder };
    assert_eq!(texts(&scene.lines(1)), ["begun before, ended after"]);
}

fn bytes_of_all_kinds() {
    let mut scene = Scene::new();
    scene.writer.writes(b"\n\r\n\xff\xe2\x82 not text\nCR\r in a line\r\r\n\0\x1b[31m\n \t\n");
    let lines = scene.lines(6);
    let replaced = "\u{fffd}\u{fffd} not text";
    assert_eq!(texts(&lines), ["", "", replaced, "CR\r in a line\r", "\0\u{1b}[31m", " \t"]);
}

fn lines_too_long_for_an_event() {
    let script = Script::new().max_payload_bytes(4096);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    // What takes most room in JSON, what must not be cut, what is no text, and much of something.
    let bodies =
        ["\u{1}".repeat(2000), "é€🦀".repeat(500), "\u{fffd}".repeat(900), "x".repeat(1 << 20)];
    let at = "2026-01-02T03:04:05Z ";
    for body in &bodies {
        let body = body.replace('\u{fffd}', "?").into_bytes();
        let body: Vec<_> = body.into_iter().map(|b| if b == b'?' { 0xff } else { b }).collect();
        scene.writer.writes([at.as_bytes(), &body, b"\r\n"].concat());
    }
    scene.writer.writes("short\n");
    let is_last = |event: &Event| event.payload["text"] == "short";
    let all = |s: &[RecordedSession]| {
        s[0].received.len() > 1 && s[0].events().last().is_some_and(is_last)
    };
    assert!(scene.agent.wait_until(PATIENCE, all), "the last line comes");

    let events = scene.events();
    let mut parts = events[1..events.len() - 1].iter();
    for body in bodies {
        let mut whole = String::new();
        for number in 1.. {
            let part = parts.next().expect("another part");
            assert_eq!((&part.payload["part"], part.ts_unix_ns), (&json!(number), TIME));
            whole += part.payload["text"].as_str().unwrap();
            if part.payload.get("more").is_none() {
                break;
            }
        }
        assert!(whole == format!("{at}{body}"), "{} bytes", whole.len());
    }
    assert_eq!(parts.count(), 0);
    assert_eq!(events.last().unwrap().payload.get("part"), None);
    scene.end();
}

/// 2026-01-02T03:04:05Z
const TIME: u64 = 1_767_323_045_000_000_000;

fn times_in_events() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    let command = &mut Plugin::command("log_tail", &agent);
    let plugin = Plugin::spawn(command.arg(&path).env("TZ", "<+05>-5"));
    has_started(&agent, &path);
    let mut writer = Writer::start(&path);
    let now = Zoned::now().with_time_zone(TimeZone::fixed(tz::offset(5)));
    writer.writes("2026-01-02T03:04:05Z with its own\n");
    writer.writes(now.strftime("%b %e %H:%M:%S host classic\n").to_string());
    writer.writes("without\n");
    let scene = Scene { agent, plugin, writer, path, _folder: folder };
    scene.wait_for(3);
    let times: Vec<_> = scene.events()[1..].iter().map(|event| event.ts_unix_ns).collect();
    let second = u64::try_from(now.timestamp().as_second()).unwrap() * 1_000_000_000;
    assert_eq!(times[..2], [TIME, second]);
    let since = UNIX_EPOCH.elapsed().unwrap().as_nanos();
    assert!((u128::from(second)..since).contains(&u128::from(times[2])), "when it was read");
    scene.end();
}

fn times_in_lines() {
    let now: Zoned = "2026-01-01T00:10:00+01:00[+01:00]".parse().unwrap();
    let find = |line: &str| timestamp::find(line, &now);
    for line in [
        "2026-01-02T03:04:05Z",
        "2026-01-02T03:04:05.000Z text",
        "2026-01-02T08:34:05+05:30 text",
        "2026-01-01T22:04:05-05:00",
        "<34>1 2026-01-02T03:04:05Z host app - - - text",
        "<34>2026-01-02T03:04:05Z host",
        "Jan  2 04:04:05 host app: text",
        "<13>Jan  2 04:04:05 host app: text",
        "Jan 02 04:04:05",
    ] {
        assert_eq!(find(line), Some(TIME), "{line}");
    }
    assert_eq!(find("2026-01-02T03:04:05.678Z"), Some(TIME + 678_000_000));
    assert_eq!(find("1970-01-01T00:00:00.000000001Z"), Some(1));

    // The year that is nearest, in the zone of now.
    let seconds = |year| {
        let time: jiff::Timestamp = format!("{year}+01:00").parse().unwrap();
        Some(u64::try_from(time.as_nanosecond()).unwrap())
    };
    assert_eq!(find("Dec 31 23:59:59 x"), seconds("2025-12-31T23:59:59"));
    assert_eq!(find("Jun 30 12:00:00 x"), seconds("2026-06-30T12:00:00"));
    assert_eq!(find("Jul  5 12:00:00 x"), seconds("2025-07-05T12:00:00"));

    for line in [
        "",
        " ",
        "<",
        "<34>",
        "<34",
        "<x>2026-01-02T03:04:05Z",
        "<34>1",
        "-",
        "é€🦀",
        "12:00:00",
        "2026-01-02T03:04:05 no zone",
        "2026-01-02",
        "2026-13-02T03:04:05Z",
        "Jan",
        "Jan  2",
        "Foo  2 03:04:05",
        "Jan 32 03:04:05",
        "text 2026-01-02T03:04:05Z",
        "1969-12-31T23:59:59Z",
        "2600-01-01T00:00:00Z",
        // None of the years near is a leap year.
        "Feb 29 12:00:00 x",
    ] {
        assert_eq!(find(line), None, "{line}");
    }
}

#[cfg(unix)]
fn termination() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 100"]);
    scene.writer.writes("whole\nhalf a line");
    scene.wait_for(101);
    scene.plugin.terminate();
    let session = scene.agent.ended_session(PATIENCE).expect("the session ends");
    assert_eq!(session.end, Some(SessionEnd::Goodbye));
    assert_eq!((session.events().count(), session.missing_seqs()), (102, 0));
    let (status, said) = scene.plugin.ended();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("the last 11 bytes of"), "{said}");
}

fn bad_command_lines() {
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

fn what_cannot_be_followed() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    let refused = |name: &str, what: &str| {
        let path = folder.path().join(name);
        let (status, said) = start(&agent, &[], &path).ended();
        assert_eq!(status.code(), Some(1), "{name}: {said}");
        assert!(said.contains(what) && said.contains("caused by"), "{name}: {said}");
    };
    refused("none/app.log", &format!("cannot watch {}", folder.path().join("none").display()));
    refused("folder", &format!("cannot open {}", folder.path().join("folder").display()));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("elsewhere", folder.path().join("link")).unwrap();
        refused("link", &format!("cannot open {}", folder.path().join("link").display()));
    }
}

#[cfg(unix)]
fn a_folder_that_goes_away() {
    let outer = TempDir::new().unwrap();
    for removed in [false, true] {
        let folder = TempDir::new_in(&outer).unwrap();
        let mut scene = Scene::in_folder(folder, Script::new());
        scene.writer.does(&["lines 1"]);
        scene.wait_for(1);
        if removed {
            fs::remove_file(&scene.path).unwrap();
            scene.writer.does(&["lines 1"]);
            // The plugin has seen that the file is gone, and holds what is left of it.
            scene.wait_for(2);
            fs::remove_dir(scene.folder()).unwrap();
        } else {
            fs::rename(scene.folder(), outer.path().join("elsewhere")).unwrap();
        }
        let folder = scene.folder().display().to_string();
        let (status, said) = scene.plugin.ended();
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(&folder) && said.contains("must be there"), "{said}");
        let session = scene.agent.ended_session(PATIENCE).expect("the session ends");
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    }
}

fn an_agent_that_goes_away() {
    let mut scene = Scene::new();
    scene.writer.does(&["lines 10"]);
    scene.wait_for(10);
    scene.agent.disconnect();
    let (status, said) = scene.plugin.ended();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the pipe to the agent was lost"), "{said}");
}

fn texts(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// Waits until the plugin has had its first look; returns where it began.
fn has_started(agent: &TestAgent, path: &Path) -> Value {
    assert!(agent.wait_for_events(1, PATIENCE), "it starts");
    let start = agent.sessions()[0].events().next().unwrap().clone();
    assert_eq!((start.kind.as_str(), &start.payload["file"]), ("log.start", &json!(path)));
    start.payload["position"].clone()
}
