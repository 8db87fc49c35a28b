//! Which user may own the other end of the pipe, and which may open it. Root tests with two users: it starts
//! this test binary again as another user. Any other user tests with itself alone.
#![cfg(unix)]

#[path = "trust/children.rs"]
mod children;
mod common;
mod raw;

use std::env;
use std::ffi::OsStr;

use children::{
    DAEMON, ForeignAgent, SOCKET, allow, assert_passes, open_folder, other_uid, own_uid, run,
    start_child, untrusted,
};
use common::{LIMIT, metadata, runner, watched};
use raw::RawAgent;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};
use wedr_plugin_sdk::{AgentTrust, Error};

#[test]
fn agent_of_another_user_than_was_named_gets_nothing() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let (own, other) = (own_uid(), own_uid() + 1);
        let runner = runner(&agent)
            .trusted_agent(AgentTrust::Uid(other))
            .on_close(|report| panic!("on_close was called: {report:?}"));
        let message = untrusted(runner.run_with(metadata(), |_, _| panic!("the body ran")));
        assert!(message.contains(&format!("runs as user {own},")), "{message}");
        assert!(message.contains(&format!("only user {other} ")), "{message}");
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.hello, None);
        assert_eq!(session.end, Some(SessionEnd::Disconnected { mid_frame: false }));
    });
}

#[test]
fn agent_of_the_own_user_is_trusted_unless_another_was_named() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        for trust in [AgentTrust::OwnerOrRoot, AgentTrust::Uid(own_uid()), AgentTrust::Any] {
            runner(&agent).trusted_agent(trust).run_with(metadata(), |_, _| Ok(())).unwrap();
        }
        runner(&agent).run_with(metadata(), |_, _| Ok(())).unwrap();
        assert!(agent.wait_until(LIMIT, |all| {
            all.len() == 4 && all.iter().all(|one| one.end == Some(SessionEnd::Goodbye))
        }));
    });
}

#[test]
fn agent_that_is_neither_root_nor_the_own_user_is_not_trusted() {
    if let Some(socket) = env::var_os(SOCKET) {
        return ForeignAgent::serve(&socket);
    }
    watched(|| {
        let folder = open_folder();
        let socket = folder.path().join("plugin.sock");
        let name = "agent_that_is_neither_root_nor_the_own_user_is_not_trusted";
        let mut agent = ForeignAgent::start(name, &socket, &folder);
        let other = other_uid();
        if other == own_uid() {
            run(&socket, AgentTrust::OwnerOrRoot).unwrap();
            assert_eq!(agent.says(), "got hello");
        } else {
            let message = untrusted(run(&socket, AgentTrust::OwnerOrRoot));
            assert!(message.contains(&format!("user {other},")), "{message}");
            assert!(message.contains("neither root nor the plugin's own"), "{message}");
            assert_eq!(agent.says(), "got nothing");
            untrusted(run(&socket, AgentTrust::Uid(own_uid())));
            assert_eq!(agent.says(), "got nothing");
        }
        for trust in [AgentTrust::Uid(other), AgentTrust::Any] {
            run(&socket, trust).unwrap();
            assert_eq!(agent.says(), "got hello");
        }
    });
}

#[test]
fn agent_that_runs_as_root_is_trusted_by_any_user() {
    if let Some(socket) = env::var_os(SOCKET) {
        run(&socket, AgentTrust::OwnerOrRoot).unwrap();
        run(&socket, AgentTrust::Any).unwrap();
        if own_uid() == DAEMON {
            let message = untrusted(run(&socket, AgentTrust::Uid(DAEMON)));
            assert!(message.contains("runs as user 0,"), "{message}");
        }
        return;
    }
    watched(|| {
        let folder = open_folder();
        let agent = RawAgent::at(folder.path().join("plugin.sock"));
        allow(agent.path(), 0o777);
        let name = "agent_that_runs_as_root_is_trusted_by_any_user";
        std::thread::scope(|scope| {
            scope.spawn(|| {
                agent.accept().serve();
                agent.accept().serve();
            });
            assert_passes(start_child(name, other_uid(), agent.path(), &folder));
        });
    });
}

#[test]
fn pipe_that_may_not_be_opened_is_a_connect_error() {
    let denied = |socket: &OsStr| match run(socket, AgentTrust::default()) {
        Err(error @ Error::Connect { .. }) => {
            let message = error.to_string();
            assert!(message.contains("change the pipe"), "{message}");
            assert!(!error.is_permanent());
        }
        other => panic!("{other:?}"),
    };
    if let Some(socket) = env::var_os(SOCKET) {
        return denied(&socket);
    }
    watched(move || {
        let folder = open_folder();
        let agent = RawAgent::at(folder.path().join("plugin.sock"));
        allow(agent.path(), 0o600);
        if other_uid() == own_uid() {
            allow(agent.path(), 0);
            denied(agent.path().as_os_str());
        } else {
            let name = "pipe_that_may_not_be_opened_is_a_connect_error";
            assert_passes(start_child(name, other_uid(), agent.path(), &folder));
        }
        assert!(!agent.was_connected_to());
    });
}
