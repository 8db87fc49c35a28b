//! The content of lines, and their times.

use std::fs;
use std::time::UNIX_EPOCH;

use jiff::ZonedDateTime;
use jiff::tz::{self, TimeZone};
use libtest_mimic::Trial;
use serde_json::json;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{Event, RecordedSession, Script, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::common::trials::trials;
use crate::processes::Writer;
use crate::scene::{Scene, has_started, texts};
use crate::timestamp;
use crate::writer::rotated;

pub(crate) fn trials() -> Vec<Trial> {
    trials![
        incomplete_line_is_sent_when_its_file_is_complete,
        bytes_that_are_no_text_are_replaced,
        line_too_long_for_an_event_is_sent_in_parts,
        event_has_the_time_of_its_line,
        time_at_the_beginning_of_a_line_is_found,
    ]
}

fn incomplete_line_is_sent_when_its_file_is_complete() {
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
    // Now the writer writes to another file, and the old file is complete.
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

fn bytes_that_are_no_text_are_replaced() {
    let mut scene = Scene::new();
    scene.writer.writes(b"\n\r\n\xff\xe2\x82 not text\nCR\r in a line\r\r\n\0\x1b[31m\n \t\n");
    let lines = scene.lines(6);
    let replaced = "\u{fffd}\u{fffd} not text";
    assert_eq!(texts(&lines), ["", "", replaced, "CR\r in a line\r", "\0\u{1b}[31m", " \t"]);
}

fn line_too_long_for_an_event_is_sent_in_parts() {
    let script = Script::new().max_payload_bytes(4096);
    let mut scene = Scene::in_folder(TempDir::new().unwrap(), script);
    // Characters that take most room in JSON, characters of several bytes, invalid UTF-8, and a long line.
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
    assert!(scene.agent.wait_until(PROCESS_LIMIT, all), "the last line comes");

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

fn event_has_the_time_of_its_line() {
    let agent = TestAgent::start().unwrap();
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("app.log");
    let command = &mut Plugin::command("log_tail", &agent);
    let plugin = Plugin::spawn(command.arg(&path).env("TZ", "<+05>-5"));
    has_started(&agent, &path);
    let mut writer = Writer::start(&path);
    let now = ZonedDateTime::now().with_time_zone(TimeZone::fixed(tz::offset(5)));
    writer.writes("2026-01-02T03:04:05Z with its own\n");
    writer.writes(now.strftime("%b %e %H:%M:%S host classic\n").to_string());
    writer.writes("without\n");
    let scene = Scene { agent, plugin, writer, path, folder };
    scene.wait_for(3);
    let times: Vec<_> = scene.events()[1..].iter().map(|event| event.ts_unix_ns).collect();
    let second = u64::try_from(now.timestamp().as_second()).unwrap() * 1_000_000_000;
    assert_eq!(times[..2], [TIME, second]);
    let since = UNIX_EPOCH.elapsed().unwrap().as_nanos();
    assert!((u128::from(second)..since).contains(&u128::from(times[2])), "when it was read");
    scene.end();
}

fn time_at_the_beginning_of_a_line_is_found() {
    let now: ZonedDateTime = "2026-01-01T00:10:00+01:00[+01:00]".parse().unwrap();
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

    // The last year in which this date is not in the future, in the time zone of now.
    let seconds = |year| {
        let time: jiff::Timestamp = format!("{year}+01:00").parse().unwrap();
        Some(u64::try_from(time.as_nanosecond()).unwrap())
    };
    assert_eq!(find("Dec 31 23:59:59 x"), seconds("2025-12-31T23:59:59"));
    assert_eq!(find("Jun 30 12:00:00 x"), seconds("2025-06-30T12:00:00"));
    assert_eq!(find("Jul  5 12:00:00 x"), seconds("2025-07-05T12:00:00"));
    assert_eq!(find("Mar  1 12:00:00 x"), seconds("2025-03-01T12:00:00"));
    // A clock that is a little ahead is accepted; one that is far ahead is not.
    assert_eq!(find("Jan  3 00:09:00 x"), seconds("2026-01-03T00:09:00"));
    assert_eq!(find("Jan  3 00:11:00 x"), seconds("2025-01-03T00:11:00"));

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
        // None of the nearest years is a leap year.
        "Feb 29 12:00:00 x",
    ] {
        assert_eq!(find(line), None, "{line}");
    }
}
