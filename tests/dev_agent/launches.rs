//! Plugins that the agent launches itself.

use serde_json::Value;

use crate::agent::{DevAgent, command};
use crate::common::{example, watched};

fn plugin_id(event: &str) -> String {
    let event: Value = serde_json::from_str(event).unwrap();
    event["plugin_id"].as_str().unwrap().to_owned()
}

#[test]
fn a_launched_plugin_finds_the_agent_and_its_exit_is_reported() {
    watched(|| {
        let arguments = ["--plugin-id", "8f0c", "--close-after", "2"];
        let mut agent = DevAgent::launch(&arguments, example("tick"));
        let (status, events, notes) = agent.ended();
        assert_eq!(status.code(), Some(1), "the plugin's own");
        assert_eq!(events.len(), 2, "{events:#?}");
        // It may have said hello before it is told that it was launched.
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
fn a_plugin_without_an_id_gets_a_fresh_one_each_time() {
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
fn the_id_in_the_environment_is_the_plugins() {
    watched(|| {
        let mut command = command();
        command.env("WEDR_PLUGIN_ID", "from-env").args(["--format", "ndjson", "--"]);
        let agent = DevAgent::spawn(command.arg(example("tick")));
        assert_eq!(plugin_id(&agent.event()), "from-env");
    });
}

#[test]
fn a_plugin_that_exits_is_launched_again_after_one_second_then_two() {
    watched(|| {
        #[cfg_attr(windows, expect(unused_mut))]
        let mut agent = DevAgent::launch(&["--restart", "--close-after", "1"], example("tick"));
        for (session, pause) in [(1, 1), (2, 2)] {
            agent.note(&format!("#{session} hello"));
            agent.note(" ended, ");
            assert_eq!(agent.note("restarts"), format!("plugin restarts in {pause}s"));
        }
        agent.note("#3 hello");
        agent.note(" ended, ");
        #[cfg(unix)]
        {
            // While it waits to launch the plugin again.
            agent.interrupt();
            let (status, events, _) = agent.ended();
            assert_eq!((status.code(), events.len()), (Some(1), 3));
        }
    });
}

#[test]
fn what_cannot_be_launched_is_said_with_what_to_do() {
    watched(|| {
        let ran = command().args(["--", "no-such-plugin"]).output().unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(said.contains("cannot launch no-such-plugin: "), "{said}");
        assert!(said.contains("; build it, or give its path"), "{said}");
    });
}

#[test]
fn a_plugin_that_never_connects_is_told_how_to() {
    watched(|| {
        // An example with an agent of its own.
        let mut agent = DevAgent::launch(&[], example("quickstart"));
        let (status, events, notes) = agent.ended();
        assert_eq!((status.code(), events.len()), (Some(0), 0));
        assert!(notes.iter().any(|line| line.contains("WEDR_PIPE_PATH to Runner")), "{notes:#?}");
    });
}

#[cfg(unix)]
#[test]
fn what_the_plugin_says_is_shown_marked_and_escaped() {
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
fn a_process_that_the_plugin_leaves_behind_is_not_waited_for() {
    watched(|| {
        let mut command = command();
        // It has the plugin's outputs open.
        command.args(["--", "sh", "-c", "sleep 1000 & echo left $!; exit 3"]);
        let mut agent = DevAgent::spawn(&mut command);
        let left = agent.note("stdout | left ");
        let (status, _, _) = agent.ended();
        let left = left.rsplit(' ').next().unwrap().parse().unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(left), nix::sys::signal::SIGKILL)
            .expect("it lives on");
        assert_eq!(status.code(), Some(3));
    });
}
