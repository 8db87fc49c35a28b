use std::fmt::Write;
use std::fs;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::common::{example, watched};

/// Runs the example, which puts its charts into `folder`. Returns what it printed.
fn tune(folder: &TempDir, arguments: &[&str]) -> String {
    let ran = output(folder, arguments);
    let printed = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{printed}{}", String::from_utf8_lossy(&ran.stderr));
    printed
}

fn output(folder: &TempDir, arguments: &[&str]) -> Output {
    let mut command = Command::new(example("tune"));
    command.args(arguments).arg("--out").arg(folder.path().join("charts"));
    command.stdin(Stdio::null()).output().unwrap()
}

/// The capacities in the printed table, in order, each with its mark.
fn tested(printed: &str) -> Vec<(&str, u32)> {
    let rows = printed.lines().filter(|line| line.contains(" Block |"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        (cells[1], cells[2].parse().unwrap())
    })
    .collect()
}

#[test]
fn tune_tries_every_setting_and_draws_both_tables() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let printed = tune(
            &folder,
            &["--rate", "1000", "--burst", "10", "--stall", "1ms", "--lasting", "40ms"],
        );
        let rows = printed.lines().filter(|line| line.starts_with('|')).count();
        // Two table heads of two lines, eight capacities with two policies each, and seven lingers.
        assert_eq!(rows, 4 + 16 + 7, "{printed}");
        for chart in ["capacity.svg", "linger.svg"] {
            let svg = fs::read_to_string(folder.path().join("charts").join(chart)).unwrap();
            assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{chart}: {svg}");
            assert!(svg.contains("\ndefault\n"), "{chart} marks the default: {svg}");
        }
    });
}

#[test]
fn tune_tests_and_marks_the_computed_capacity() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let short = ["--rate", "1000", "--burst", "10", "--stall", "20ms", "--lasting", "40ms"];
        let printed = tune(&folder, &[&short[..], &["--capacity", "7,40"]].concat());
        // 1000 events/s for 20 ms, and the burst.
        assert!(printed.contains("channel_capacity >= 30 (default 8192)\n"), "{printed}");
        let all = [("", 7), ("computed", 30), ("", 40), ("default", 8192)];
        assert_eq!(tested(&printed), all, "{printed}");
        let result = "channel_capacity(30), the computed capacity: ";
        assert!(printed.contains(result), "{printed}");
        let svg = fs::read_to_string(folder.path().join("charts/capacity.svg")).unwrap();
        for label in ["computed", "default", "7", "30", "40", "8192"] {
            assert!(svg.contains(&format!("\n{label}\n")), "no {label} in {svg}");
        }
    });
}

#[test]
fn tune_computes_the_bytes_of_long_events() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let load = ["--rate", "1000", "--burst", "19", "--stall", "1ms", "--lasting", "10ms"];
        let printed = tune(&folder, &[&load[..], &["--bytes", "5000"]].concat());
        // The bytes of 20 events and of the rest of their frames.
        assert!(printed.contains("max_queued_bytes >= 130000 (default 67108864)\n"), "{printed}");
        let printed = tune(&folder, &load);
        assert!(!printed.contains("max_queued_bytes"), "{printed}");
    });
}

/// A recording: session, milliseconds and bytes of the payload of each event.
fn recording(events: &[(u32, u64, usize)]) -> String {
    let mut lines = String::new();
    for (session, ms, bytes) in events {
        let ts = 1_700_000_000_000_000_000 + ms * 1_000_000;
        let payload = "x".repeat(bytes - 2);
        writeln!(
            lines,
            r#"{{"session":{session},"plugin_id":"a","seq":0,"ts_unix_ns":{ts},"kind":"k","payload":"{payload}"}}"#
        )
        .unwrap();
    }
    lines
}

#[test]
fn tune_finds_the_worst_stall_in_a_recording() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("recording.ndjson");
        let calm = [(1, 0, 100), (1, 50, 100), (1, 100, 100)];
        // Four events within 20 ms, out of order; the fifth is 20 ms after the first.
        let busy = [(2, 219, 100), (2, 200, 300), (2, 201, 100), (2, 210, 100), (2, 220, 100)];
        fs::write(&file, recording(&[&calm[..], &busy].concat())).unwrap();
        let file = file.to_str().unwrap();
        let printed = tune(&folder, &["--from", file, "--stall", "20ms", "--capacity", "2"]);
        assert!(printed.contains("channel_capacity >= 4 (default 8192)\n"), "{printed}");
        assert!(printed.contains("max_queued_bytes >= 2500 "), "{printed}");
        assert_eq!(tested(&printed), [("", 2), ("computed", 4), ("default", 8192)], "{printed}");
    });
}

#[test]
fn tune_names_the_line_that_is_no_recorded_event() {
    watched(|| {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("recording.ndjson");
        fs::write(&file, recording(&[(1, 0, 10)]) + "12:00:00 #1 acme.x {}\n").unwrap();
        let ran = output(&folder, &["--from", file.to_str().unwrap()]);
        let error = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success());
        let named = format!("cannot read {}, line 2: ", file.display());
        assert!(error.contains(&named) && error.contains("--format ndjson"), "{error}");

        fs::write(&file, "").unwrap();
        let ran = output(&folder, &["--from", file.to_str().unwrap()]);
        let error = String::from_utf8(ran.stderr).unwrap();
        assert!(!ran.status.success() && error.contains(" has no event; "), "{error}");
    });
}
