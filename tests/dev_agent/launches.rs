//! Plugins that the dev agent launches.

use serde_json::Value;

use crate::agent::{DevAgent, command};
use crate::common::{example, watched};

fn plugin_id(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    event["plugin_id"].as_str().unwrap().to_owned()
}

#[test]
fn launched_plugin_connects_and_its_exit_is_reported() {
    watched(|| {
        let arguments = ["--plugin-id", "8f0c", "--close-after", "2"];
        let mut agent = DevAgent::launch(&arguments, example("tick"));
        let (status, events, notes) = agent.ended();
        assert_eq!(status.code(), Some(1), "the plugin's own");
        assert_eq!(events.len(), 2, "{events:#?}");
        // The line about hello may come before the line about the launch.
        let note = |text| {
            notes.iter().find(|note| note.contains(text)).unwrap_or_else(|| {
                panic!("nothing about {text:?} in {notes:#?}");
            })
        };
        assert!(note("launched").ends_with("WEDR_PLUGIN_ID=8f0c"), "{notes:#?}");
        note("#1 hello from tick ");
        note("stderr | Error: the pipe to the agent was lost");
        assert!(note(" ended, ").ends_with(": 1"), "{notes:#?}");
        note("summary: 1 session, 2 events");
    });
}

#[test]
fn plugin_without_an_id_gets_a_fresh_one_each_time() {
    watched(|| {
        let ids = [(), ()].map(|()| {
            let arguments = ["--format", "ndjson", "--close-after", "1"];
            let agent = DevAgent::launch(&arguments, example("tick"));
            plugin_id(&agent.event())
        });
        for id in &ids {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12], "{id} is no UUID");
        }
        assert_ne!(ids[0], ids[1]);
    });
}

#[test]
fn id_in_the_environment_is_the_plugins() {
    watched(|| {
        let mut command = command();
        command.env("WEDR_PLUGIN_ID", "from-env").args(["--format", "ndjson", "--"]);
        let agent = DevAgent::spawn(command.arg(example("tick")));
        assert_eq!(plugin_id(&agent.event()), "from-env");
    });
}

#[test]
fn exited_plugin_is_launched_again_after_1_s_then_2_s() {
    watched(|| {
        #[cfg_attr(windows, expect(unused_mut))]
        let mut agent = DevAgent::launch(&["--restart", "--close-after", "1"], example("tick"));
        for (session, pause) in [(1, 1), (2, 2)] {
            agent.note(&format!("#{session} hello"));
            agent.note(" ended, ");
            assert_eq!(
                agent.note("restarts"),
                format!("the agent restarts the plugin in {pause}s")
            );
        }
        agent.note("#3 hello");
        agent.note(" ended, ");
        #[cfg(unix)]
        {
            // The dev agent now waits before it launches the plugin again.
            agent.interrupt();
            let (status, events, _) = agent.ended();
            assert_eq!((status.code(), events.len()), (Some(1), 3));
        }
    });
}

#[test]
fn launch_failure_is_an_error_with_a_remedy() {
    watched(|| {
        let ran = command().args(["--", "no-such-plugin"]).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(said.contains("cannot launch no-such-plugin: "), "{said}");
        assert!(said.contains("; build the plugin, or give its path"), "{said}");
    });
}

/// Whether the dev agent prints the remedy for the pipe's path after a program has ended without a session.
fn prints_the_remedy_for_the_path(command: &mut std::process::Command) -> bool {
    let mut agent = DevAgent::spawn(command);
    let (_, _, notes) = agent.ended();
    notes.iter().any(|line| line.contains("WEDR_PIPE_PATH to Runner"))
}

#[test]
fn remedy_for_the_path_appears_without_a_session() {
    watched(|| {
        // An example with an agent of its own.
        assert!(prints_the_remedy_for_the_path(command().arg("--").arg(example("quickstart"))));
    });
}

#[cfg(unix)]
#[test]
fn remedy_for_the_path_appears_only_where_it_helps() {
    watched(|| {
        let prints_it = |script: &str| {
            prints_the_remedy_for_the_path(command().args(["--", "sh", "-c", script]))
        };
        assert!(prints_it("exit 1"), "no reason is printed");
        assert!(prints_it("echo cannot connect to /run/wazabiedr/plugin.sock >&2; exit 1"));
        assert!(
            !prints_it("echo usage: my-plugin FOLDER >&2; exit 2"),
            "another reason is printed"
        );
        assert!(!prints_it("kill -SEGV $$"), "a crash");
    });
}

#[cfg(target_os = "linux")]
#[test]
fn plugin_of_a_service_has_no_terminal_and_no_ctrl_c() {
    use std::io::{BufRead, BufReader};
    use std::os::unix::fs::PermissionsExt;
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let (program, fifo) = (folder.path().join("plugin"), folder.path().join("fifo"));
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let script = format!(
            "#!/bin/sh\nexec 3>{}\ntrap 'echo interrupted >&3' INT TERM HUP\n\
             echo \"$$ $(cut -d' ' -f6 /proc/$$/stat) $# $(readlink /proc/$$/fd/2)\" >&3\n\
             while :; do sleep 1; done\n",
            fifo.display()
        );
        // Another process writes the program. While this process has a file open for writing, a process that
        // another test forks has it open too, and then the file cannot be executed.
        let source = folder.path().join("source");
        std::fs::write(&source, script).unwrap();
        std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o755)).unwrap();
        let copied = std::process::Command::new("cp").args([&source, &program]).status();
        assert!(copied.unwrap().success());
        let mut agent = DevAgent::launch(&["--like-service"], &program);
        let mut from_plugin = BufReader::new(std::fs::File::open(&fifo).unwrap()).lines();
        let first = from_plugin.next().unwrap().unwrap();
        let words: Vec<_> = first.split(' ').collect();
        let [pid, session, arguments, stderr] = words[..] else { panic!("{first}") };
        assert_eq!((pid, arguments, stderr), (session, "0", "/dev/null"));
        agent.interrupt();
        agent.note("did not end within 5 s: the agent killed it");
        assert_eq!(agent.ended().0.code(), Some(128 + 9));
        assert!(from_plugin.next().is_none(), "it was interrupted");
    });
}

#[test]
fn plugin_of_a_service_gets_no_arguments() {
    watched(|| {
        let ran = command().args(["--like-service", "--", "plugin", "-v"]).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(said.contains("--like-service launches plugin without arguments"), "{said}");
        let ran = command().args(["--like-service", "--", "no-such-plugin"]).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert!(said.contains("cannot launch no-such-plugin: "), "{said}");
    });
}

#[cfg(unix)]
#[test]
fn output_of_the_plugin_is_marked_and_escaped() {
    watched(|| {
        let mut command = command();
        command.args(["--", "sh", "-c", r"printf 'a\tb\033[2J\n'; printf 'no end' >&2; exit 7"]);
        let mut agent = DevAgent::spawn(&mut command);
        let (status, events, notes) = agent.ended();
        assert_eq!((status.code(), events.len()), (Some(7), 0));
        for shown in [r"stdout | a    b\u{1b}[2J", "stderr | no end"] {
            assert!(notes.iter().any(|line| line == shown), "{notes:#?}");
        }
    });
}

#[cfg(unix)]
#[test]
fn process_that_the_plugin_leaves_behind_is_not_waited_for() {
    watched(|| {
        let mut command = command();
        // The process has the plugin's outputs open.
        command.args(["--", "sh", "-c", "sleep 1000 & echo left $!; exit 3"]);
        let mut agent = DevAgent::spawn(&mut command);
        let left = agent.note("stdout | left ");
        let (status, _, _) = agent.ended();
        let left = left.rsplit(' ').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), nix::sys::signal::SIGKILL)
            .expect("the process still runs");
        assert_eq!(status.code(), Some(3));
    });
}
