//! Where the agent listens, and where it does not.

use std::path::Path;

#[cfg(unix)]
use crate::agent::DevAgent;
use crate::agent::{Place, command};
use crate::common::watched;

/// What an agent says that cannot listen on `path`.
fn refusal(path: &Path) -> String {
    let ran = command().arg("--pipe").arg(path).output().unwrap();
    assert_eq!(ran.status.code(), Some(1));
    let said = String::from_utf8(ran.stderr).unwrap();
    assert!(said.contains("--pipe"), "{said}");
    said
}

/// Not under Wine 8, which lets anybody be the first on a pipe that exists.
#[cfg(unix)]
#[test]
fn a_pipe_that_somebody_listens_on_is_left_to_them() {
    watched(|| {
        let agent = DevAgent::start(&[]);
        let said = refusal(&agent.pipe);
        assert!(said.contains(": somebody already does; end it, "), "{said}");
        agent.runner().run_with(crate::common::metadata(), |_, _| Ok(())).unwrap();
    });
}

#[cfg(unix)]
#[test]
fn a_socket_that_nobody_listens_on_is_replaced_and_removed_at_the_end() {
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
fn what_is_no_socket_is_left_alone() {
    watched(|| {
        let place = Place::new();
        std::fs::write(&place.path, "precious").unwrap();
        let said = refusal(&place.path);
        assert!(said.contains(": it is there and no socket; "), "{said}");
        assert_eq!(std::fs::read(&place.path).unwrap(), b"precious");
    });
}

#[test]
fn a_path_that_can_be_no_pipe_is_said_with_what_to_do() {
    watched(|| {
        let place = Place::new();
        if cfg!(unix) {
            let said = refusal(&place.path.with_file_name("none").join("plugin.sock"));
            assert!(said.contains("; make its folder first, "), "{said}");
            refusal(&place.path.with_file_name("x".repeat(200)));
        } else {
            refusal(Path::new(r"\\server\pipe\x"));
        }
    });
}
