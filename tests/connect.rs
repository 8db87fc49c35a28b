//! What can be wrong before hello is said: the configuration, for which nothing is opened, and
//! the pipe itself.

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

/// The most bytes that a socket's path may have, and the most characters of a named pipe's.
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

/// What the operating system said when `path` was to be opened.
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
fn a_bad_configuration_opens_nothing() {
    watched(|| {
        let agent = RawAgent::start();
        let name = |bytes: usize| Metadata::new("test-plugin", "1.2.3", "x".repeat(bytes));
        let nameless = Metadata::new("", "1.2.3", "Test plugin");
        for (runner, metadata, says) in [
            (agent.runner().channel_capacity(0), metadata(), "channel_capacity is 0"),
            (agent.runner().channel_capacity(usize::MAX), metadata(), "between 1 and 4194304"),
            (agent.runner().channel_capacity((1 << 22) + 1), metadata(), "is 4194305"),
            (agent.runner().heartbeat(Duration::ZERO), metadata(), "heartbeat"),
            (agent.runner(), nameless, "plugin_id is empty"),
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
fn a_path_that_is_no_sockets_opens_nothing() {
    watched(|| {
        // A path cut off at a NUL, or at its longest, would be this agent's.
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
fn the_longest_hello_and_the_longest_path_are_good() {
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
fn a_pipe_that_nobody_listens_on() {
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
            assert!(error.to_string().contains("is no socket"), "{error}");
        }
        assert_eq!(connect_error(&at("file/plugin.sock")).0, ErrorKind::NotADirectory);

        // Left over from an agent that stopped.
        drop(std::os::unix::net::UnixListener::bind(at("stale.sock")).unwrap());
        assert_eq!(connect_error(&at("stale.sock")).0, ErrorKind::ConnectionRefused);

        // Not a stream.
        let _datagrams = std::os::unix::net::UnixDatagram::bind(at("datagrams.sock")).unwrap();
        connect_error(&at("datagrams.sock"));

        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        connect_error(&at("loop"));
    });
}

#[cfg(unix)]
#[test]
fn a_path_is_shown_harmlessly() {
    watched(|| {
        let nasty = b"/nowhere/\x1b[2J\r\n\xff\xe2\x80\xae.sock";
        let (kind, _) = connect_error(Path::new(OsStr::from_bytes(nasty)));
        assert_eq!(kind, ErrorKind::NotFound);
    });
}

#[cfg(unix)]
#[test]
fn a_path_may_have_spaces_and_any_bytes() {
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

/// A backlog that holds one connection, which is not the plugin's.
#[cfg(target_os = "linux")]
mod backlog {
    use super::*;
    use nix::sys::socket::{Backlog, listen};
    use raw::RawPipe;
    use std::time::Instant;

    fn full() -> (RawAgent, RawPipe) {
        let agent = RawAgent::start();
        listen(agent.listener(), Backlog::new(0).unwrap()).unwrap();
        let filler = RawPipe::connect(agent.path());
        (agent, filler)
    }

    #[test]
    fn a_full_backlog_is_waited_for_as_long_as_was_said() {
        watched(|| {
            let (agent, _filler) = full();
            let timeout = Duration::from_millis(300);
            let start = Instant::now();
            let error = failure(agent.runner().connect_timeout(timeout), metadata());
            let waited = start.elapsed();
            let Error::Connect { path, source } = &error else {
                panic!("{error:?}");
            };
            assert_eq!((path.as_path(), source.kind()), (agent.path(), ErrorKind::TimedOut));
            assert!(error.to_string().contains("connect_timeout"), "{error}");
            assert!(waited >= timeout && waited < timeout + Duration::from_secs(5), "{waited:?}");
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
    fn a_shutdown_while_the_backlog_is_full_is_no_error() {
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
