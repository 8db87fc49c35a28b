//! The paths at which the dev agent listens, and those at which it refuses to.

use std::path::Path;

#[cfg(unix)]
use crate::agent::DevAgent;
use crate::agent::{Place, command};
use crate::common::watched;

/// The error of a dev agent that cannot listen at `path`.
fn refusal(path: &Path) -> String {
    let ran = command().arg("--pipe").arg(path).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("--pipe"), "{said}");
    said
}

/// Not under Wine 8, which accepts a second listener with the same pipe name.
#[cfg(unix)]
#[test]
fn pipe_of_a_live_agent_is_not_replaced() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let said = refusal(&agent.pipe);
        assert!(said.contains(": another process already does; end it, "), "{said}");
        agent.runner().run_with(crate::common::metadata(), |_, _| Ok(())).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn stale_socket_is_replaced_and_removed_at_the_end() {
    watched(|| {
        let place = Place::new();
        drop(std::os::unix::net::UnixListener::bind(&place.path).unwrap());
        assert!(place.path.exists());
        let mut agent = DevAgent::spawn(command().arg("--pipe").arg(&place.path));
        agent.runner().run_with(crate::common::metadata(), |_, _| Ok(())).unwrap();
        agent.stop();
        assert!(!place.path.exists());
    });
}

#[cfg(unix)]
#[test]
fn another_listeners_socket_survives_the_agents_end() {
    watched(|| {
        let mut agent = DevAgent::start(&[]);
        let path = agent.pipe.clone();
        std::fs::remove_file(&path).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        agent.stop();
        std::os::unix::net::UnixStream::connect(&path).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn file_that_is_not_a_socket_is_not_removed() {
    watched(|| {
        let place = Place::new();
        std::fs::write(&place.path, "precious").unwrap();
        let said = refusal(&place.path);
        assert!(said.contains(": a file that is not a socket has this path; "), "{said}");
        assert_eq!(std::fs::read(&place.path).unwrap(), b"precious");
    });
}

#[test]
fn invalid_pipe_path_is_an_error_with_a_remedy() {
    watched(|| {
        let place = Place::new();
        if cfg!(unix) {
            let said = refusal(&place.path.with_file_name("none").join("plugin.sock"));
            assert!(said.contains("; create its folder first, "), "{said}");
            refusal(&place.path.with_file_name("x".repeat(200)));
        } else {
            refusal(Path::new(r"\\server\pipe\x"));
        }
    });
}
