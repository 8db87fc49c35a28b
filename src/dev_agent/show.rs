//! Formats an event as text for people or as JSON for programs.

use std::fmt::Write;

use console::Style;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};
use serde::Serialize;
use serde_json::Value;

use super::fold::Folded;
use crate::error::{Printable, shortened};
use crate::testing::Event;

/// Lines of a folded event are indented by this many columns.
const INDENT: usize = 4;

/// Time, session, kind and payload. If there is a `width`, no line has more columns than that.
pub(super) fn text(session: u64, event: &Event, bytes: usize, width: Option<usize>) -> String {
    let styles = Styles::new();
    let mut line = Folded::new(width, INDENT);
    line.put(&time(event.ts_unix_ns), &styles.faint);
    line.put(&format!(" #{session} "), &styles.faint);
    line.put(&Printable(&shortened(&event.kind)).to_string(), &styles.kind);
    line.put(" ", &styles.plain);
    put(&event.payload, &styles, &mut line);
    line.finish(&format!("… shortened, {bytes} bytes in total; --format ndjson prints all"))
}

/// A JSON object on one line, without characters that control a terminal.
pub(super) fn ndjson(session: u64, plugin_id: &str, event: &Event) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        session: u64,
        plugin_id: &'a str,
        seq: u64,
        ts_unix_ns: u64,
        kind: &'a str,
        payload: &'a Value,
    }
    let Event { seq, ts_unix_ns, kind, payload } = event;
    let line = Line { session, plugin_id, seq: *seq, ts_unix_ns: *ts_unix_ns, kind, payload };
    json(&line) + "\n"
}

struct Styles {
    plain: Style,
    faint: Style,
    kind: Style,
    key: Style,
    string: Style,
    other: Style,
}

impl Styles {
    fn new() -> Self {
        let plain = Style::new().for_stdout();
        Self {
            faint: plain.clone().dim(),
            kind: plain.clone().green().bold(),
            key: plain.clone().cyan(),
            string: plain.clone().yellow(),
            other: plain.clone().magenta(),
            plain,
        }
    }
}

/// Adds `value` as compact JSON, in pieces. A line may end between two pieces.
fn put(value: &Value, styles: &Styles, line: &mut Folded) {
    let between = |line: &mut Folded, at: usize, open: &str| {
        line.put(if at == 0 { open } else { "," }, &styles.plain);
    };
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (at, (key, value)) in members.iter().enumerate() {
                between(line, at, "{");
                line.put(&json(key), &styles.key);
                line.put(":", &styles.plain);
                put(value, styles, line);
                if line.is_full() {
                    return;
                }
            }
            line.put("}", &styles.plain);
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, value) in items.iter().enumerate() {
                between(line, at, "[");
                put(value, styles, line);
                if line.is_full() {
                    return;
                }
            }
            line.put("]", &styles.plain);
        }
        Value::Object(_) | Value::Array(_) => line.put(&json(value), &styles.plain),
        Value::String(text) => line.put(&json(text), &styles.string),
        Value::Null | Value::Bool(_) | Value::Number(_) => line.put(&json(value), &styles.other),
    }
}

/// JSON in which all characters that are not printable are escaped. In JSON such characters occur
/// only in strings.
pub(super) fn json(value: &(impl Serialize + ?Sized)) -> String {
    let raw = serde_json::to_string(value).expect("a parsed value serialises");
    let mut escaped = String::with_capacity(raw.len());
    for c in raw.chars() {
        if matches!(c, ' '..='~') || c.escape_debug().len() == 1 {
            escaped.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                write!(escaped, "\\u{unit:04x}").expect("writing to a String succeeds");
            }
        }
    }
    escaped
}

/// The event's local time, with the date if the date is not today.
fn time(unix_ns: u64) -> String {
    let at = Timestamp::from_nanosecond(unix_ns.into())
        .expect("a u64 of nanoseconds ends in the year 2554");
    let at = at.to_zoned_datetime(TimeZone::system());
    let format = if at.date() == ZonedDateTime::now().date() { "%T%.3f" } else { "%F %T%.3f" };
    at.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, payload: Value) -> Event {
        let fields = json!({ "seq": 1, "ts_unix_ns": 0, "kind": kind, "payload": payload });
        serde_json::from_value(fields).unwrap()
    }

    #[test]
    fn control_characters_from_the_wire_are_escaped() {
        let bad = "\u{1b}[2J\r\n\u{7f}\u{9b}\u{202e}\u{e0001}é漢";
        let event = event(bad, json!({ bad: bad, "list": [bad] }));
        for shown in
            [text(1, &event, 0, Some(80)), text(1, &event, 0, None), ndjson(1, bad, &event)]
        {
            let raw = |c: char| c.is_control() || ['\u{202e}', '\u{e0001}'].contains(&c);
            assert!(!shown.replace('\n', "").contains(raw), "{shown:?}");
            assert!(shown.contains("é漢"), "{shown:?}");
        }
    }

    #[test]
    fn escaped_json_parses_to_the_same_value() {
        let bad = "\u{1b}\u{7f}\u{9b}\u{202e}\u{e0001}\"\\é";
        let line = ndjson(7, bad, &event(bad, json!({ bad: [bad, 1.5, null] })));
        let read: Value = serde_json::from_str(&line).unwrap();
        let whole = json!({
            "session": 7, "plugin_id": bad, "seq": 1, "ts_unix_ns": 0, "kind": bad,
            "payload": { bad: [bad, 1.5, null] },
        });
        assert_eq!(read, whole);
    }

    #[test]
    fn payload_is_printed_as_compact_json() {
        let payload = json!({ "a": [1, "x", [], {}], "b": { "c": null, "d": true }, "e": -2.5 });
        let shown = text(3, &event("acme.x", payload.clone()), 0, None);
        let (_, shown) = shown.split_once(" #3 acme.x ").unwrap();
        assert_eq!(shown, format!("{payload}\n"));
    }

    #[test]
    fn time_of_another_day_has_its_date() {
        assert!(time(0).contains("19"), "{}", time(0));
        let now = Timestamp::now().as_nanosecond().try_into().unwrap();
        // At midnight the date may be printed or not.
        assert!(time(now).len() >= "00:00:00.000".len());
        time(u64::MAX);
    }
}
