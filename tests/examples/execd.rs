use serde_json::json;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

use crate::common::process::{PATIENCE, Plugin};
use crate::common::watched;
use crate::{ends_with_the_agent, events, fails};

/// Starts it with a program that does this: a shell script, or a batch file on Windows.
fn started(agent: &TestAgent, script: &str) -> (Plugin, TempDir) {
    let folder = TempDir::new().unwrap();
    let (shell, file): (&[&str], _) =
        if cfg!(windows) { (&["cmd", "/c"], "script.bat") } else { (&["sh"], "script.sh") };
    let file = folder.path().join(file);
    std::fs::write(&file, script).unwrap();
    let mut command = Plugin::command("execd", agent);
    (Plugin::spawn(command.arg("--").args(shell).arg(file)), folder)
}

#[test]
fn execd_forwards_each_line_and_ends_with_the_programs_status() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let script = if cfg!(windows) {
            "@echo {\"a\": [1]}\r\n@echo plain\r\n@echo [1]\r\n@echo told 1>&2\r\n@exit 7\r\n"
        } else {
            "echo '{\"a\": [1]}'; echo plain; echo '[1]'; echo told >&2; printf unended; exit 7"
        };
        let (plugin, _folder) = started(&agent, script);
        fails(plugin, 7, "told");
        let session = agent.ended_session(PATIENCE).unwrap();
        let mut expected = vec![
            ("execd.json", json!({ "a": [1] })),
            ("execd.text", json!({ "text": "plain" })),
            ("execd.text", json!({ "text": "[1]" })),
        ];
        if cfg!(unix) {
            expected.push(("execd.text", json!({ "text": "unended" })));
        }
        let seen: Vec<_> = session.events().map(|e| (&*e.kind, e.payload.clone())).collect();
        assert_eq!(seen, expected);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn execd_ends_well_with_a_program_that_did() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (plugin, _folder) = started(&agent, "echo done");
        fails(plugin, 0, "");
        assert_eq!(agent.ended_session(PATIENCE).unwrap().end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn execd_ends_the_program_with_the_agent() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        // It reads its input, which ends only when it is to end.
        let script = if cfg!(windows) { "@echo ready\r\n@more\r\n" } else { "echo ready; cat" };
        let (plugin, _folder) = started(&agent, script);
        events(&agent, |events| events.len() == 1);
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn execd_kills_a_program_that_does_not_end() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let script = if cfg!(windows) {
            "@echo ready\r\n:again\r\n@goto again\r\n"
        } else {
            "trap '' TERM; echo ready; while :; do :; done"
        };
        let (plugin, _folder) = started(&agent, script);
        // It is running. Wine's interpreter prints each label that it passes besides.
        events(&agent, |events| !events.is_empty());
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn execd_says_what_it_cannot_start() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("execd", &agent, ["no-such-program"]);
        fails(plugin, 1, "Error: cannot start no-such-program: ");
        fails(Plugin::start("execd", &agent, ["--"]), 2, "usage: execd ");
    });
}

#[cfg(unix)]
mod unix {
    use wedr_plugin_sdk::testing::Script;

    use super::*;

    #[test]
    fn execd_ends_the_program_in_order() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let script = "trap 'echo farewell >&2; exit 3' TERM; echo ready; while :; do :; done";
            let (plugin, _folder) = started(&agent, script);
            events(&agent, |events| events.len() == 1);
            plugin.terminate();
            fails(plugin, 0, "farewell");
            assert_eq!(agent.ended_session(PATIENCE).unwrap().end, Some(SessionEnd::Goodbye));
        });
    }

    #[test]
    fn execd_ends_the_input_of_the_program() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let script = "trap '' TERM; echo ready; while read -r _; do :; done; echo farewell >&2";
            let (plugin, _folder) = started(&agent, script);
            events(&agent, |events| events.len() == 1);
            plugin.terminate();
            fails(plugin, 0, "farewell");
        });
    }

    #[test]
    fn execd_lets_a_program_end_by_itself_that_has_no_more_to_say() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            // SIGTERM would not wait for the end of its input.
            let script = "trap 'exit 99' TERM; exec >&-; while read -r _; do :; done; exit 7";
            let (plugin, _folder) = started(&agent, script);
            fails(plugin, 7, "");
        });
    }

    #[test]
    fn execd_kills_all_that_the_program_started() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let script = "trap '' TERM; sleep 1000 & echo ready; wait";
            let (plugin, _folder) = started(&agent, script);
            events(&agent, |events| events.len() == 1);
            plugin.terminate();
            // While any of them lives, its standard error does not end.
            fails(plugin, 0, "");
        });
    }

    #[test]
    fn execd_lets_a_program_say_all_while_it_ends() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            // More than a pipe holds: it would be stuck, or die of a broken pipe.
            let last = "head -c 1000000 /dev/zero && echo farewell >&2; exit";
            let script = format!("trap '{last}' TERM; echo ready; while :; do :; done");
            let (plugin, _folder) = started(&agent, &script);
            events(&agent, |events| events.len() == 1);
            plugin.terminate();
            fails(plugin, 0, "farewell");
        });
    }

    #[test]
    fn execd_reports_a_program_that_a_signal_ended_as_a_shell_does() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let (plugin, _folder) = started(&agent, "kill -KILL $$");
            fails(plugin, 137, "");
        });
    }

    #[test]
    fn execd_makes_the_program_wait_for_a_slow_agent_and_loses_nothing() {
        watched(|| {
            let agent = TestAgent::with(Script::new().stop_reading_after(1)).unwrap();
            let script = "seq 1 50000; echo all is written >&2; cat";
            let (mut plugin, _folder) = started(&agent, script);
            events(&agent, |events| events.len() == 1);
            agent.resume();
            let seen = events(&agent, |events| events.len() == 50_000);
            plugin.says("all is written");
            let numbers = seen.iter().map(|event| event.payload["text"].as_str().unwrap());
            assert!(numbers.eq((1..=50_000).map(|n| n.to_string())));
            ends_with_the_agent(plugin, &agent);
        });
    }

    #[test]
    fn execd_splits_lines_too_long_for_an_event() {
        watched(|| {
            let agent = TestAgent::with(Script::new().max_payload_bytes(4096)).unwrap();
            // Each of its bytes takes six in JSON.
            let (plugin, _folder) =
                started(&agent, r"head -c 5000 /dev/zero | tr '\0' '\001'; echo");
            fails(plugin, 0, "");
            let session = agent.ended_session(PATIENCE).unwrap();
            let whole: String =
                session.events().map(|e| e.payload["text"].as_str().unwrap()).collect();
            assert_eq!(whole, "\u{1}".repeat(5000));
        });
    }
}
