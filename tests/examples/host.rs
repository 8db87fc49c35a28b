use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};

use crate::common::process::{PROCESS_LIMIT, Plugin};
use crate::common::watched;

/// A path at which no agent listens yet.
fn path() -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = if cfg!(windows) {
        let name = folder.path().file_name().unwrap().to_str().unwrap().to_owned();
        format!(r"\\.\pipe\wedr-host-{name}").into()
    } else {
        folder.path().join("plugin.sock")
    };
    (folder, path)
}

fn start(path: &std::path::Path) -> Plugin {
    let mut command = std::process::Command::new(crate::common::example("host"));
    Plugin::spawn(command.env("WEDR_PIPE_PATH", path).env("WEDR_PLUGIN_ID", "example-test"))
}

#[test]
fn host_outlives_its_agents() {
    watched(|| {
        let (_folder, path) = path();
        let mut host = start(&path);
        host.says("the next session starts in 1s");
        // The agent starts later, and ends once.
        let agent = TestAgent::at(&path, Script::new()).unwrap();
        assert!(agent.wait_for_events(1, PROCESS_LIMIT));
        agent.disconnect();
        host.says("the pipe to the agent was lost");
        assert!(agent.wait_for_events_in(1, 1, PROCESS_LIMIT));
        #[cfg(unix)]
        {
            host.terminate();
            let (status, said) = host.ended();
            assert!(status.success(), "{said}");
            let last = agent.nth_ended_session(1, PROCESS_LIMIT).unwrap();
            assert_eq!(last.end, Some(SessionEnd::Goodbye));
        }
        #[cfg(not(unix))]
        assert_eq!(agent.sessions()[1].end, None::<SessionEnd>);
    });
}

#[cfg(unix)]
#[test]
fn signal_ends_the_pause_of_a_host() {
    watched(|| {
        let (_folder, path) = path();
        let mut host = start(&path);
        // Two more pauses, each twice as long. The last is longer than the test may take.
        host.says("the next session starts in 4s");
        let asked = crate::common::time::Moment::now();
        host.terminate();
        let (status, said) = host.ended();
        assert!(status.success(), "{said}");
        asked.elapsed_within(std::time::Duration::from_secs(3));
    });
}
