//! Errors before hello: an invalid configuration, for which the SDK opens no pipe, and the pipe itself.

mod common;
mod raw;

#[cfg(unix)]
use std::ffi::{OsStr, OsString};
#[cfg(unix)]
use std::io::ErrorKind;
#[cfg(unix)]
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
#[cfg(unix)]
use std::path::PathBuf;
use std::time::Duration;

#[cfg(unix)]
use common::runner;
use common::{assert_harmless, failure, metadata, watched};
use raw::RawAgent;
use serde_json::json;
#[cfg(unix)]
use wedr_plugin_sdk::testing::TestAgent;
use wedr_plugin_sdk::{Error, Metadata, Runner};

/// The longest path of a socket in bytes, or of a named pipe in characters.
const PATH_MAX: usize = match () {
    () if cfg!(windows) => 256,
    () if cfg!(target_os = "linux") => 107,
    () => 103,
};

/// The message of a configuration error.
fn invalid(runner: Runner, metadata: Metadata) -> String {
    let error = failure(runner, metadata);
    assert!(matches!(error, Error::InvalidConfig(_)), "{error:?}");
    assert!(error.is_permanent());
    assert_harmless(&error);
    error.to_string()
}

/// The error of the operating system when the SDK opened `path`.
#[cfg(unix)]
fn connect_error(path: &Path) -> (ErrorKind, Error) {
    let runner =
        Runner::new().pipe_path(path).install_signal_handler(false).connect_timeout(Duration::MAX);
    let error = failure(runner, metadata());
    let Error::Connect { path: named, source } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(named, path);
    assert!(!error.is_permanent());
    assert_harmless(&error);
    (source.kind(), error)
}

#[cfg(unix)]
fn beside(path: &Path, more: &[u8]) -> PathBuf {
    let bytes = [path.as_os_str().as_bytes(), more].concat();
    OsString::from_vec(bytes).into()
}

#[test]
fn bad_configuration_opens_nothing() {
    watched(|| {
        let agent = RawAgent::start();
        let name = |bytes: usize| Metadata::new("test-plugin", "1.2.3", "x".repeat(bytes));
        let with_id = |id: &str| Metadata::new(id, "1.2.3", "Test plugin");
        for (runner, metadata, says) in [
            (agent.runner().channel_capacity(0), metadata(), "channel_capacity is 0"),
            (agent.runner().channel_capacity(usize::MAX), metadata(), "between 1 and 4194304"),
            (agent.runner().channel_capacity((1 << 22) + 1), metadata(), "is 4194305"),
            (agent.runner().heartbeat(Duration::ZERO), metadata(), "heartbeat"),
            (agent.runner(), with_id(""), "plugin_id is empty"),
            (agent.runner(), with_id("8f0c\n"), r#"plugin_id "8f0c\n" has white space"#),
            (agent.runner(), with_id(" 8f0c"), r#"plugin_id " 8f0c" has white space"#),
            (agent.runner(), with_id("8f\u{7}0c"), r#"plugin_id "8f\u{7}0c" has white space"#),
            (agent.runner(), name(1 << 20), "hello takes 1048"),
        ] {
            let message = invalid(runner, metadata);
            assert!(message.contains(says), "{message}");
        }
        assert!(!agent.was_connected_to());
    });
}

#[cfg(unix)]
#[test]
fn invalid_socket_path_opens_nothing() {
    watched(|| {
        // If the SDK cut the path at the NUL, or at the longest length, it would connect to this agent.
        let folder = tempfile::tempdir().unwrap();
        let longest = PATH_MAX - folder.path().as_os_str().len() - 1;
        let agent = RawAgent::at(folder.path().join("s".repeat(longest)));
        let with_nul = beside(agent.path(), b"\0.sock");
        for (path, says) in [
            (PathBuf::new(), "is empty".to_owned()),
            (with_nul, "has a NUL byte".to_owned()),
            (PathBuf::from("\0abstract"), "has a NUL byte".to_owned()),
            (beside(agent.path(), b"s"), format!("may have {PATH_MAX}")),
            (beside(agent.path(), &b"\n".repeat(70_000)), format!("may have {PATH_MAX}")),
        ] {
            let runner = agent.runner().pipe_path(path);
            let message = invalid(runner, metadata());
            assert!(message.contains(&says), "{message:.200}");
        }
        assert!(!agent.was_connected_to());
    });
}

#[test]
fn longest_hello_and_the_longest_path_are_good() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let folder = if cfg!(windows) { Path::new(r"\\.\pipe") } else { folder.path() };
        let longest = PATH_MAX - folder.as_os_str().len() - 1;
        let agent = RawAgent::at(folder.join("s".repeat(longest)));
        let empty = json!({
            "type": "hello", "plugin_id": "i", "plugin_version": "", "plugin_name": "",
            "schema_version": 1,
        });
        let most = (1 << 20) - empty.to_string().len();
        let named = |bytes: usize| Metadata::new("i", "", "x".repeat(bytes));
        invalid(agent.runner(), named(most + 1));
        assert!(!agent.was_connected_to());
        std::thread::scope(|scope| {
            let session = scope.spawn(|| {
                let mut pipe = agent.accept();
                let hello = pipe.shake_hands();
                pipe.rest_of_session();
                hello
            });
            agent.runner().run_with(named(most), |_, _| Ok(())).unwrap();
            assert_eq!(session.join().unwrap().len(), 4 + (1 << 20));
        });
    });
}

#[cfg(unix)]
#[test]
fn pipe_without_a_listener_is_a_connect_error() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);

        let (kind, error) = connect_error(&at("missing.sock"));
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(error.to_string().contains("missing.sock: "), "{error}");
        assert!(error.to_string().contains("start the agent"), "{error}");

        std::fs::write(at("file"), "no socket").unwrap();
        for no_socket in [at("file"), folder.path().to_owned()] {
            let (kind, error) = connect_error(&no_socket);
            assert_eq!(kind, ErrorKind::ConnectionRefused);
            assert!(error.to_string().contains("is not the agent's socket"), "{error}");
        }
        assert_eq!(connect_error(&at("file/plugin.sock")).0, ErrorKind::NotADirectory);

        // The socket of an agent that has ended.
        drop(std::os::unix::net::UnixListener::bind(at("stale.sock")).unwrap());
        assert_eq!(connect_error(&at("stale.sock")).0, ErrorKind::ConnectionRefused);

        // A socket, but not for streams.
        let _datagrams = std::os::unix::net::UnixDatagram::bind(at("datagrams.sock")).unwrap();
        connect_error(&at("datagrams.sock"));

        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        connect_error(&at("loop"));
    });
}

#[cfg(unix)]
#[test]
fn path_is_shown_harmlessly() {
    watched(|| {
        let nasty = b"/nowhere/\x1b[2J\r\n\xff\xe2\x80\xae.sock";
        let (kind, _) = connect_error(Path::new(OsStr::from_bytes(nasty)));
        assert_eq!(kind, ErrorKind::NotFound);
    });
}

#[cfg(unix)]
#[test]
fn path_may_have_spaces_and_any_bytes() {
    watched(|| {
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"a b \t\"c\".sock"[..], b"\xff\xfe\x80.sock", "é☃ \n.sock".as_bytes()] {
            let agent = TestAgent::start().unwrap();
            let path = folder.path().join(OsStr::from_bytes(name));
            std::os::unix::fs::symlink(agent.path(), &path).unwrap();
            runner(&agent).pipe_path(path).run_with(metadata(), |_, _| Ok(())).unwrap();

            let agent = RawAgent::at(folder.path().join("own").join(OsStr::from_bytes(name)));
            std::thread::scope(|scope| {
                scope.spawn(|| agent.accept().serve());
                agent.runner().run_with(metadata(), |_, _| Ok(())).unwrap();
            });
        }
    });
}

/// A listener whose backlog has room for one connection. The test takes that room.
#[cfg(target_os = "linux")]
mod backlog {
    use super::*;
    use common::AT_ONCE;
    use common::time::Moment;
    use nix::sys::socket::{Backlog, listen};
    use raw::RawPipe;

    fn full() -> (RawAgent, RawPipe) {
        let agent = RawAgent::start();
        listen(agent.listener(), Backlog::new(0).unwrap()).unwrap();
        let filler = RawPipe::connect(agent.path());
        (agent, filler)
    }

    #[test]
    fn full_backlog_is_waited_for_until_the_timeout() {
        watched(|| {
            let (agent, _filler) = full();
            let timeout = Duration::from_millis(300);
            let start = Moment::now();
            let error = failure(agent.runner().connect_timeout(timeout), metadata());
            let waited = start.elapsed_within(timeout + AT_ONCE);
            let Error::Connect { path, source } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((path.as_path(), source.kind()), (agent.path(), ErrorKind::TimedOut));
            assert!(error.to_string().contains("connect_timeout"), "{error}");
            assert!(waited >= timeout, "{waited:?}");
        });
    }

    #[test]
    fn room_in_the_backlog_is_used() {
        watched(|| {
            let (agent, _filler) = full();
            std::thread::scope(|scope| {
                let agent = &agent;
                scope.spawn(move || {
                    let _filler = agent.accept();
                    agent.accept().serve();
                });
                let runner = agent.runner().connect_timeout(Duration::MAX);
                runner.run_with(metadata(), |_, _| Ok(())).unwrap();
            });
        });
    }

    #[test]
    fn shutdown_while_the_backlog_is_full_is_no_error() {
        watched(|| {
            let (agent, _filler) = full();
            let runner = agent
                .runner()
                .connect_timeout(Duration::MAX)
                .on_close(|report| panic!("on_close was called: {report:?}"));
            let handle = runner.shutdown_handle();
            std::thread::scope(|scope| {
                scope.spawn(move || handle.shutdown());
                runner.run_with(metadata(), |_, _| panic!("the body ran")).unwrap();
            });
        });
    }
}
