//! `wedr-dev-agent check`: plugins that pass, and plugins that fail, each because of its own fault.

use std::ffi::OsString;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;

use crate::agent::command;
use crate::common::{example, watched};

/// The names of all scenarios.
fn scenarios() -> Vec<String> {
    let ran = command().args(["check", "--list"]).output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let list = String::from_utf8(ran.stdout).unwrap();
    list.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn check(arguments: &[&str], plugin: &[OsString]) -> Command {
    let mut command = command();
    command.arg("check").args(arguments).arg("--").args(plugin);
    command
}

/// The lines of a report.
fn lines(ran: &Output) -> Vec<&str> {
    std::str::from_utf8(&ran.stdout).unwrap().lines().collect()
}

/// Calls `look` for all `items`, eight at a time, because the calls mostly wait. Returns the results.
fn at_once<I: Send>(
    items: impl Iterator<Item = I> + Send,
    look: impl Fn(I) -> Option<String> + Sync,
) -> Vec<String> {
    let (items, found) = (Mutex::new(items), Mutex::new(Vec::new()));
    let next = || items.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while let Some(item) = next() {
                    let seen = look(item);
                    found.lock().unwrap().extend(seen);
                }
            });
        }
    });
    found.into_inner().unwrap()
}

/// Runs a command to its end. The watchdog is for this command alone: many together take long on a loaded
/// machine.
fn output(mut command: Command) -> Output {
    watched(move || command.output().unwrap())
}

/// Checks that `plugin` passes every scenario.
fn passes(plugin: &[OsString]) {
    let failed = at_once(scenarios().into_iter(), |name| {
        let ran = output(check(&["--only", &name], plugin));
        let ok = ran.status.success() && lines(&ran)[0].starts_with("ok    ");
        (!ok).then(|| format!("{name}: {ran:?}"))
    });
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn tick_passes_every_scenario() {
    passes(&[example("tick").into()]);
}

#[test]
fn report_as_json_has_every_outcome() {
    watched(|| {
        let arguments = ["--format", "json", "--only", "killed", "--only", "short-ack"];
        let tick = [example("tick").into()];
        let ran = check(&arguments, &tick).output().unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let report: Value = serde_json::from_slice(&ran.stdout).unwrap();
        assert_eq!(report["passed"], true);
        let scenarios = report["scenarios"].as_array().unwrap();
        let names: Vec<_> = scenarios.iter().map(|scenario| &scenario["name"]).collect();
        assert_eq!(names, ["short-ack", "killed"], "in the order of the list");
        for scenario in scenarios {
            assert_eq!((&scenario["ok"], &scenario["remedy"]), (&true.into(), &Value::Null));
            assert!(scenario["expected"].is_string() && scenario["seen"].is_string());
        }
        assert!(report["notes"][0]["what"].as_str().unwrap().contains("acme.tick has a dot"));
    });
}

#[test]
fn check_that_cannot_run_names_the_cause() {
    watched(|| {
        let ran = check(&[], &["no-such-plugin".into()]).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!((ran.status.code(), &*ran.stdout), (Some(1), &b""[..]));
        assert!(said.contains("cannot launch no-such-plugin: "), "{said}");
        assert!(said.contains("; build the plugin, or give its path"), "{said}");

        for wrong in [&["check"][..], &["check", "--only", "x", "--", "plugin"]] {
            let ran = command().args(wrong).output().unwrap();
            assert_eq!(ran.status.code(), Some(2), "{ran:?}");
        }
    });
}

#[cfg(unix)]
mod with_python {
    use std::fs::File;
    use std::io::{BufRead, BufReader};
    use std::iter;
    use std::process::Stdio;
    use std::sync::mpsc::{self, RecvTimeoutError};
    use std::time::Instant;

    use tempfile::TempDir;

    use super::*;
    use crate::common::LIMIT;
    use crate::common::process::Process;

    /// A plugin in this folder, started with the real Python.
    fn python(plugin: &str, arguments: &[&str]) -> Vec<OsString> {
        let version = Command::new("python3").arg("--version").output();
        assert!(
            version.is_ok_and(|ran| ran.status.success()),
            "these tests need python3, and it cannot be started: install Python 3.9 or later"
        );
        let plugin = format!("{}/tests/dev_agent/plugins/{plugin}", env!("CARGO_MANIFEST_DIR"));
        let mut command = vec!["python3".into(), "-B".into(), plugin.into()];
        command.extend(arguments.iter().map(Into::into));
        command
    }

    fn bad(fault: &str, folder: &TempDir) -> Vec<OsString> {
        python("bad.py", &[fault, folder.path().to_str().unwrap()])
    }

    #[test]
    fn python_plugin_passes_every_scenario() {
        passes(&python("good.py", &[]));
    }

    #[test]
    fn python_plugin_passes_as_a_whole() {
        let mut command = check(&["--strict"], &python("good.py", &[]));
        let mut process = Process::start(command.stdout(Stdio::piped()));
        let output = BufReader::new(process.0.stdout.take().unwrap());
        let (send, lines) = mpsc::channel();
        thread::spawn(move || output.lines().try_for_each(|line| send.send(line.unwrap())));
        // Each scenario has its own time limit: all together take long on a loaded machine.
        let printed: Vec<_> = iter::from_fn(|| match lines.recv_timeout(LIMIT) {
            Err(RecvTimeoutError::Timeout) => panic!("still running after {LIMIT:?}: it hangs"),
            line => line.ok(),
        })
        .collect();
        assert!(process.0.wait().unwrap().success(), "{printed:#?}");
        let last = format!("{0} of {0} scenarios ok", scenarios().len());
        assert_eq!(printed.last(), Some(&last));
    }

    #[test]
    fn heartbeats_may_use_numbers_up() {
        watched(|| {
            let folder = tempfile::tempdir().unwrap();
            let plugin = bad("CountsHeartbeats", &folder);
            let ran = check(&["--only", "heartbeats"], &plugin).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
        });
    }

    /// A fault, the scenario that finds it, and the text that the scenario reports.
    const FAULTS: &[(&str, &str, &str)] = &[
        ("WrongId", "ctrl-c", "seen: hello has the plugin_id always the same; "),
        ("WrongSchema", "ctrl-c", "seen: hello has the schema_version 2; "),
        ("NoEvent", "ctrl-c", "seen: no event within 20s after hello; "),
        (
            "NoGoodbye",
            "ctrl-c",
            "seen: the plugin closed the pipe without goodbye, exit status: 0; ",
        ),
        (
            "ErrorStatus",
            "ctrl-c",
            "seen: the plugin sent goodbye and then ended with exit status: 3; ",
        ),
        ("IgnoresSignals", "ctrl-c", "seen: the plugin still runs 5s after the signal; "),
        (
            "DiesOfSigterm",
            "sigterm",
            "seen: the plugin closed the pipe without goodbye, signal: 15 ",
        ),
        ("NoHeartbeat", "heartbeats", "seen: no frame for more than 3s; "),
        (
            "HidesTheReason",
            "unknown-id",
            "seen: the plugin did not print unknown_plugin_id; the plugin printed ",
        ),
        (
            "StaysRefused",
            "revoked",
            "seen: the plugin ended before hello, exit status: 1; the plugin printed ",
        ),
        (
            "ExitsWith0",
            "closed-unanswered",
            "seen: the plugin exited with status 0 after the agent closed ",
        ),
        (
            "Reconnects",
            "closed",
            "seen: the plugin still runs 10s after the agent closed the session, and connected again, ",
        ),
        ("Reconnects", "agent-dies", "seen: the plugin still runs 10s after the agent died; "),
        (
            "GivesUpWrites",
            "stall",
            "seen: the plugin ended while the agent stalled, exit status: 1; ",
        ),
        ("Blocks", "stall-for-good", "seen: the plugin still runs 5s after the signal; "),
        ("PartialWrites", "slow", "seen: the plugin violated the protocol: "),
        ("IgnoresTheLimit", "small-limit", "seen: the plugin violated the protocol: an event of 5"),
        (
            "KnownFieldsOnly",
            "unknown-fields",
            "exit status: 1; the plugin printed \"python: unknown fields: ['later', 'until']\"; ",
        ),
        ("AllFieldsRequired", "short-ack", "the plugin printed \"python: no heartbeat_sec\"; "),
        (
            "NothingAfterTheAck",
            "bytes-after-ack",
            "the plugin printed \"python: unexpected bytes: ",
        ),
        (
            "ClosesFirst",
            "bytes-after-ack",
            "seen: the plugin ended after the answer, exit status: 1; the plugin printed \"python: unexpected ",
        ),
        (
            "StaysWithoutSession",
            "bytes-after-ack",
            "seen: the plugin closed its session after the answer, and its process still runs; ",
        ),
        (
            "ClosesWhenIdle",
            "heartbeats",
            "seen: the plugin ended, exit status: 1; the plugin printed \"python: ",
        ),
        (
            "LockFile",
            "killed",
            "seen: the plugin ended before hello, exit status: 1; the plugin printed ",
        ),
    ];

    #[test]
    fn bad_plugin_fails_its_own_scenario() {
        for scenario in scenarios() {
            let has_fault = FAULTS.iter().any(|(_, name, _)| *name == scenario);
            assert!(has_fault, "no bad plugin fails {scenario}");
        }
        let wrong = at_once(FAULTS.iter(), |(fault, scenario, seen)| {
            let folder = tempfile::tempdir().unwrap();
            // The event never comes, so the limit is short, but long enough for Python to start.
            let first = if *fault == "NoEvent" { "20s" } else { "30s" };
            let arguments = ["--only", scenario, "--first-event", first];
            let ran = output(check(&arguments, &bad(fault, &folder)));
            let line = lines(&ran)[0];
            let fails = ran.status.code() == Some(1)
                && line.starts_with(&format!("FAIL  {scenario}: expected: "))
                && line.contains(seen)
                && line.contains("; to do: ");
            (!fails).then(|| format!("{fault} in {scenario}: {ran:?}"))
        });
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn notes_fail_only_if_strict() {
        watched(|| {
            let folder = tempfile::tempdir().unwrap();
            let plugin = bad("UnusableEvents", &folder);
            let ran = check(&["--only", "stall"], &plugin).output().unwrap();
            assert!(ran.status.success(), "{ran:?}");
            let notes = [
                "kind acme.tick has a dot",
                "no rule can name the field a-b of acme.tick",
                "the field n of acme.tick changes its type: int, float",
                "the field nested of acme.tick is an object",
                "a payload of python_text is not an object",
            ];
            for note in notes {
                let shown =
                    lines(&ran).iter().any(|line| line.starts_with(&format!("note  {note}")));
                assert!(shown, "{note}: {ran:?}");
            }
            let ran = check(&["--only", "stall", "--strict"], &plugin).output().unwrap();
            assert_eq!(ran.status.code(), Some(1));
            let last = lines(&ran).last().unwrap().to_string();
            assert_eq!(last, "1 of 1 scenarios ok; notes: 5, which fail with --strict");
        });
    }

    #[test]
    fn ctrl_c_ends_a_check_and_its_plugin() {
        watched(|| {
            let folder = tempfile::tempdir().unwrap();
            let id = folder.path().join("id");
            let script = format!("echo $$ > {0}.new; mv {0}.new {0}; sleep 1000", id.display());
            let plugin = ["sh".into(), "-c".into(), script.into()];
            let mut running = Process::start(check(&[], &plugin).stdout(Stdio::null()));
            let began = Instant::now();
            while !id.exists() {
                assert!(began.elapsed() < LIMIT);
                thread::yield_now();
            }
            running.send(nix::sys::signal::SIGINT);
            assert_eq!(running.0.wait().unwrap().code(), Some(130));
            let line = BufReader::new(File::open(id).unwrap()).lines().next().unwrap().unwrap();
            let plugin = nix::unistd::Pid::from_raw(line.parse().unwrap());
            assert!(nix::sys::signal::kill(plugin, None).is_err(), "the plugin runs");
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn report_that_cannot_be_written_is_an_error() {
        watched(|| {
            let full = || File::options().write(true).open("/dev/full").unwrap();
            let tick = [example("tick").into()];
            let checked = check(&["--only", "ctrl-c"], &tick).stdout(full()).output().unwrap();
            let listed = command().args(["check", "--list"]).stdout(full()).output().unwrap();
            for ran in [checked, listed] {
                let said = String::from_utf8(ran.stderr).unwrap();
                assert_eq!(ran.status.code(), Some(1));
                assert!(said.contains("cannot write the report to standard output: "), "{said}");
            }
        });
    }
}
