use serde_json::json;
use tempfile::TempDir;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::common::watched;
use crate::{ends_with_the_agent, events, fails};

/// Starts the example with a program that runs this text: a shell script, or a batch file on Windows.
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
        let session = agent.ended_session(PROCESS_LIMIT).unwrap();
        let mut expected = vec![
            ("execd_json", json!({ "a": [1] })),
            ("execd_text", json!({ "text": "plain" })),
            ("execd_text", json!({ "text": "[1]" })),
        ];
        if cfg!(unix) {
            expected.push(("execd_text", json!({ "text": "unended" })));
        }
        let seen: Vec<_> = session.events().map(|e| (&*e.kind, e.payload.clone())).collect();
        assert_eq!(seen, expected);
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn execd_exits_with_0_if_its_program_did() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (plugin, _folder) = started(&agent, "echo done");
        fails(plugin, 0, "");
        assert_eq!(agent.ended_session(PROCESS_LIMIT).unwrap().end, Some(SessionEnd::Goodbye));
    });
}

#[test]
fn execd_ends_the_program_with_the_agent() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        // The program reads its input, which ends only when the program must end.
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
        // The program runs. Wine's interpreter also prints each label that it passes.
        events(&agent, |events| !events.is_empty());
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn execd_names_a_program_that_it_cannot_start() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("execd", &agent, ["no-such-program"]);
        fails(plugin, 1, "Error: cannot start no-such-program: ");
        fails(Plugin::start("execd", &agent, ["--"]), 2, "usage: execd ");
    });
}

#[cfg(unix)]
mod unix {
    use wedr_plugin_sdk::testing::{Event, RecordedSession, Script};

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
            assert_eq!(agent.ended_session(PROCESS_LIMIT).unwrap().end, Some(SessionEnd::Goodbye));
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
    fn execd_lets_a_program_without_output_end_by_itself() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            // A program that gets SIGTERM would not wait for the end of its input.
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
            // Standard error ends when none of these processes runs any more.
            fails(plugin, 0, "");
        });
    }

    #[test]
    fn execd_reads_all_output_of_an_ending_program() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            // More than a pipe holds: the program would block, or end by SIGPIPE.
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
    fn execd_blocks_the_program_while_the_agent_is_slow() {
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
            // Each byte takes six bytes in JSON.
            let (plugin, _folder) =
                started(&agent, r"head -c 5000 /dev/zero | tr '\0' '\001'; echo");
            fails(plugin, 0, "");
            let session = agent.ended_session(PROCESS_LIMIT).unwrap();
            let whole = joined(&session);
            assert_eq!(whole, "\u{1}".repeat(5000));
        });
    }

    /// The text of one line, put together from its pieces. Checks the marks of the pieces.
    fn joined(session: &RecordedSession) -> String {
        let last = session.events().count() - 1;
        let piece = |(n, event): (usize, &Event)| {
            assert_eq!(
                (&event.payload["part"], &event.payload["more"]),
                (&json!(n + 1), &json!(n < last))
            );
            event.payload["text"].as_str().unwrap().to_owned()
        };
        session.events().enumerate().map(piece).collect()
    }

    #[test]
    fn execd_splits_lines_between_characters() {
        watched(|| {
            // Longer than the limit at which the example splits a line before it has read the end.
            for (character, bytes) in [("é", 2), ("€", 3), ("😀", 4)] {
                for before in 0..bytes {
                    let agent = TestAgent::with(Script::new().max_payload_bytes(4096)).unwrap();
                    let line = format!("{}{}", "x".repeat(before), character.repeat(3000));
                    let (plugin, _folder) = started(&agent, &format!("echo '{line}'"));
                    fails(plugin, 0, "");
                    assert_eq!(joined(&agent.ended_session(PROCESS_LIMIT).unwrap()), line);
                }
            }
        });
    }

    #[test]
    fn execd_keeps_an_object_whole_that_fits_into_an_event() {
        watched(|| {
            let agent = TestAgent::with(Script::new().max_payload_bytes(4096)).unwrap();
            let object = json!({ "text": "x".repeat(3500), "n": u64::MAX });
            let (plugin, _folder) = started(&agent, &format!("echo '{object}'"));
            fails(plugin, 0, "");
            let session = agent.ended_session(PROCESS_LIMIT).unwrap();
            let events: Vec<_> = session.events().collect();
            assert_eq!((events.len(), &*events[0].kind), (1, "execd_json"));
            assert_eq!(events[0].payload, object);
        });
    }

    #[test]
    fn execd_passes_large_integers_and_equal_keys_on_as_documented() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let line = r#"{"id":340282366920938463463374607431768211455,"a":1,"a":2}"#;
            let (plugin, _folder) = started(&agent, &format!("echo '{line}'"));
            fails(plugin, 0, "");
            let session = agent.ended_session(PROCESS_LIMIT).unwrap();
            let payload = &session.events().next().unwrap().payload;
            assert_eq!(payload["id"].as_f64(), Some(2_f64.powi(128)));
            assert_eq!(payload["a"], 2);
        });
    }

    #[test]
    fn killed_execd_ends_the_input_of_the_program() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let folder = TempDir::new().unwrap();
            let marker = folder.path().join("ended");
            let script = format!("echo ready; cat; echo > '{}'", marker.display());
            let (mut plugin, _folder) = started(&agent, &script);
            events(&agent, |events| events.len() == 1);
            plugin.kill();
            while !marker.exists() {
                std::thread::yield_now();
            }
        });
    }

    /// Also if the program itself ends at once, or has ended before.
    #[test]
    fn execd_kills_what_the_program_leaves_in_its_group() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let script = "sh -c 'trap \"\" TERM; echo ready; sleep 1000' & cat";
            let (plugin, _folder) = started(&agent, script);
            events(&agent, |events| events.len() == 1);
            plugin.terminate();
            // Standard error ends when none of these processes runs any more.
            fails(plugin, 0, "");

            let agent = TestAgent::start().unwrap();
            let (plugin, _folder) = started(&agent, "sleep 1000 >&- & exit 7");
            fails(plugin, 7, "");
        });
    }

    #[test]
    fn killed_execd_fails_the_next_output_of_the_program() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let (mut plugin, _folder) = started(&agent, "exec yes");
            events(&agent, |events| !events.is_empty());
            plugin.kill();
            // The processes share the program's standard error.
            plugin.ended();
        });
    }

    #[test]
    fn execd_forwards_lines_at_once_if_the_program_flushes_them() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let (plugin, _folder) = started(&agent, "(echo a; cat) | stdbuf -oL tr a b");
            let seen = events(&agent, |events| events.len() == 1);
            assert_eq!(seen[0].payload["text"], "b");
            ends_with_the_agent(plugin, &agent);
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn killed_execd_ends_a_program_that_asks_for_a_signal() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let words = ["--", "setpriv", "--pdeathsig", "TERM"];
            let script = ["sh", "-c", "echo ready; exec sleep 1000"];
            let mut plugin = Plugin::start("execd", &agent, words.into_iter().chain(script));
            events(&agent, |events| events.len() == 1);
            plugin.kill();
            plugin.ended();
        });
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn execd_ends_while_a_daemon_of_its_program_runs() {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;

        watched(|| {
            let agent = TestAgent::start().unwrap();
            let script = "setsid sh -c 'echo $$; exec sleep 1000' 2>/dev/null & cat";
            let (plugin, _folder) = started(&agent, script);
            let seen = events(&agent, |events| events.len() == 1);
            let daemon = seen[0].payload["text"].as_str().unwrap().parse().unwrap();
            plugin.terminate();
            fails(plugin, 0, "");
            // Fails if the process has ended.
            kill(Pid::from_raw(daemon), Signal::SIGKILL).unwrap();
        });
    }

    #[test]
    fn execd_takes_its_command_from_the_environment() {
        watched(|| {
            let agent = TestAgent::start().unwrap();
            let mut command = Plugin::command("execd", &agent);
            let plugin = Plugin::spawn(command.env("EXECD_COMMAND", "echo  two words"));
            fails(plugin, 0, "");
            let session = agent.ended_session(PROCESS_LIMIT).unwrap();
            assert_eq!(session.events().next().unwrap().payload, json!({ "text": "two words" }));
        });
    }
}
