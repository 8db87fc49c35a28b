//! The small examples, run as a newcomer would.

mod common;

use std::process::{Child, Command, Stdio};

use common::{LIMIT, example, watched};
use wedr_plugin_sdk::testing::TestAgent;

/// Ends its process when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn quickstart_shows_the_events_arrive_and_ends_by_itself() {
    watched(|| {
        let ran = Command::new(example("quickstart")).stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8(ran.stdout).unwrap();
        assert!(ran.status.success(), "{said}");
        for tick in 1..=5 {
            assert!(
                said.contains(&format!(r#"acme.tick {{"alive":true,"tick":{tick}}}"#)),
                "{said}"
            );
        }
        assert!(
            said.contains("hello from Quickstart") && said.contains("confirmed: true"),
            "{said}"
        );
    });
}

#[test]
fn tick_reports_to_the_pipe_it_is_told() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Command::new(example("tick"))
            .env("WEDR_PLUGIN_ID", "8f0c")
            .env("WEDR_PIPE_PATH", agent.path())
            .stdin(Stdio::null())
            .spawn();
        let mut plugin = Running(plugin.unwrap());
        assert!(agent.wait_for_events(2, LIMIT));
        let session = agent.sessions().remove(0);
        assert_eq!(session.hello.as_ref().unwrap().plugin_id, "8f0c");
        assert!(session.events().all(|event| event.kind == "acme.tick"));
        agent.disconnect();
        let status = plugin.0.wait().unwrap();
        assert_eq!(status.code(), Some(1), "a lost pipe is a failure, for its supervisor to see");
    });
}

#[test]
fn tick_without_an_id_says_what_to_do() {
    watched(|| {
        let ran = Command::new(example("tick"))
            .env_remove("WEDR_PLUGIN_ID")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8(ran.stderr).unwrap();
        assert_eq!(ran.status.code(), Some(1));
        assert!(
            said.starts_with("Error: no plugin id: ") && said.contains("WEDR_PLUGIN_ID"),
            "{said}"
        );
    });
}
