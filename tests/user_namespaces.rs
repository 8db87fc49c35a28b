//! The plugin in a user namespace, where the kernel reports every user that is not mapped as the overflow
//! user. If the machine allows no user namespace, a line on standard error tells what was not tested.
#![cfg(target_os = "linux")]

#[path = "trust/children.rs"]
mod children;
mod common;
mod raw;

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use children::{
    ForeignAgent, ONE_AT_A_TIME, OVERFLOW_USER, SOCKET, allow, assert_passes, open_folder,
    other_uid, own_uid, run, start_child, start_child_by, untrusted,
};
use common::watched;
use raw::RawAgent;
use tempfile::TempDir;
use wedr_plugin_sdk::AgentTrust;

/// Starts this test binary in a user namespace of its own, as [`start_child`] does for [`other_uid`]. If this
/// machine allows none, it prints a line on standard error and returns `None`.
fn start_in_namespace(
    options: &[&str],
    name: &str,
    socket: &Path,
    folder: &TempDir,
) -> Option<Child> {
    let launcher = [&["unshare", "--user"], options, &["--"]].concat();
    let mut probe = Command::new(launcher[0]);
    probe.args(&launcher[1..]).arg("true").stdin(Stdio::null()).uid(other_uid());
    let turn = ONE_AT_A_TIME.lock().unwrap();
    let probed = probe.output();
    drop(turn);
    if probed.as_ref().is_ok_and(|output| output.status.success()) {
        return Some(start_child_by(&launcher, name, other_uid(), socket, folder));
    }
    // Not with `eprintln!`, which the test harness captures.
    let _ = writeln!(
        io::stderr(),
        "NOT TESTED: {name}: this machine lets user {} create no user namespace ({}): {probed:?}",
        other_uid(),
        launcher.join(" "),
    );
    None
}

/// In a user namespace that does not map the agent's user, the agent's user and every other user of the host
/// have the same id.
fn assert_unmapped_agent_is_untrusted(socket: &OsStr) {
    for trust in [AgentTrust::OwnerOrRoot, AgentTrust::Uid(OVERFLOW_USER)] {
        let message = untrusted(run(socket, trust));
        assert!(message.contains("appears as user 65534"), "{message}");
        assert!(message.contains("/proc/self/uid_map"), "{message}");
        assert!(message.contains("map the agent's user into the namespace"), "{message}");
        assert!(message.contains("AgentTrust::Any"), "{message}");
        assert!(!message.contains("name it"), "{message}");
    }
    run(socket, AgentTrust::Any).unwrap();
}

/// Runs [`assert_unmapped_agent_is_untrusted`] in a user namespace.
fn an_unmapped_agent_is_untrusted(options: &'static [&'static str], name: &'static str) {
    if let Some(socket) = env::var_os(SOCKET) {
        return assert_unmapped_agent_is_untrusted(&socket);
    }
    watched(move || {
        let folder = open_folder();
        let agent = RawAgent::at(folder.path().join("plugin.sock"));
        allow(agent.path(), 0o777);
        let Some(plugin) = start_in_namespace(options, name, agent.path(), &folder) else {
            return;
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(agent.accept().next_frame(), None, "OwnerOrRoot");
                assert_eq!(agent.accept().next_frame(), None, "Uid");
                agent.accept().serve();
            });
            assert_passes(plugin);
        });
    });
}

#[test]
fn unmapped_agent_is_untrusted_by_an_unmapped_plugin() {
    let name = "unmapped_agent_is_untrusted_by_an_unmapped_plugin";
    an_unmapped_agent_is_untrusted(&[], name);
}

/// As in a container whose `nobody` is a user of the host.
#[test]
fn unmapped_agent_is_untrusted_by_a_plugin_mapped_to_nobody() {
    let name = "unmapped_agent_is_untrusted_by_a_plugin_mapped_to_nobody";
    an_unmapped_agent_is_untrusted(&["--map-user=65534"], name);
}

#[test]
fn mapped_agent_is_trusted_in_a_user_namespace() {
    let name = "mapped_agent_is_trusted_in_a_user_namespace";
    if let Some(socket) = env::var_os(SOCKET) {
        if !Path::new(&socket).exists() {
            return ForeignAgent::serve(&socket);
        }
        run(&socket, AgentTrust::OwnerOrRoot).unwrap();
        run(&socket, AgentTrust::Uid(0)).unwrap();
        let message = untrusted(run(&socket, AgentTrust::Uid(OVERFLOW_USER)));
        assert!(message.contains("runs as user 0,"), "{message}");
        return;
    }
    watched(move || {
        let folder = open_folder();
        let socket = folder.path().join("plugin.sock");
        // The first child finds no socket, so it is the agent.
        let mut agent = ForeignAgent::start(name, &socket, &folder);
        let Some(plugin) = start_in_namespace(&["--map-root-user"], name, &socket, &folder) else {
            return;
        };
        assert_passes(plugin);
        let said = [(); 3].map(|()| agent.says());
        assert_eq!(said, ["got hello", "got hello", "got nothing"]);
    });
}

/// Outside user namespaces the overflow user is a user like any other.
#[test]
fn overflow_user_is_ordinary_where_all_users_are_mapped() {
    let name = "overflow_user_is_ordinary_where_all_users_are_mapped";
    if let Some(socket) = env::var_os(SOCKET) {
        return ForeignAgent::serve(&socket);
    }
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let is_whole = map.split_whitespace().eq(["0", "0", "4294967295"]);
    if own_uid() != 0 || !is_whole {
        let _ = writeln!(
            io::stderr(),
            "NOT TESTED: {name}: this takes root, outside user namespaces; uid_map: {map}"
        );
        return;
    }
    watched(move || {
        let folder = open_folder();
        let socket = folder.path().join("plugin.sock");
        let mut agent = ForeignAgent::of(start_child(name, OVERFLOW_USER, &socket, &folder));
        run(&socket, AgentTrust::Uid(OVERFLOW_USER)).unwrap();
        assert_eq!(agent.says(), "got hello");
        let message = untrusted(run(&socket, AgentTrust::OwnerOrRoot));
        assert!(message.contains("runs as user 65534,"), "{message}");
        assert_eq!(agent.says(), "got nothing");
    });
}
