//! The examples that a service manager starts: their exit statuses, and the systemd unit that uses them.

use std::fs;
use std::time::Duration;

use wedr_plugin_sdk::Runner;
use wedr_plugin_sdk::testing::{Script, TestAgent};

use crate::common::process::Plugin;
use crate::common::watched;
use crate::{ends_in_order, ends_with_the_agent, events, fails};

const UNIT: &str = "examples/systemd/acme-tick.service";

/// The value of this key in the unit.
fn unit(key: &str) -> String {
    let text = fs::read_to_string(UNIT).unwrap();
    let mut values = text.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{UNIT} does not set {key}"));
    assert_eq!(values.next(), None, "{UNIT} sets {key} twice");
    value.to_owned()
}

#[test]
fn systemd_does_not_restart_after_a_permanent_error() {
    watched(|| {
        let prevented = unit("RestartPreventExitStatus").parse().unwrap();
        let reason = "signature_invalid";
        let agent = TestAgent::with(Script::new().reject(reason)).unwrap();
        fails(Plugin::spawn(&mut Plugin::command("systemd", &agent)), prevented, reason);
        let without =
            Plugin::spawn(Plugin::command("systemd", &agent).env_remove("WEDR_PLUGIN_ID"));
        fails(without, prevented, "no plugin id: ");
    });
}

#[test]
fn systemd_restarts_after_other_errors() {
    watched(|| {
        assert_eq!(unit("Restart"), "on-failure");
        assert_ne!(unit("RestartPreventExitStatus"), "1");
        for reason in ["too_many_sessions", "revoked"] {
            let agent = TestAgent::with(Script::new().reject(reason)).unwrap();
            fails(Plugin::spawn(&mut Plugin::command("systemd", &agent)), 1, reason);
        }
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(&mut Plugin::command("systemd", &agent));
        events(&agent, |events| !events.is_empty());
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn systemd_stops_the_plugin_in_order() {
    watched(|| {
        assert_eq!(unit("KillSignal"), "SIGTERM");
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(&mut Plugin::command("systemd", &agent));
        events(&agent, |events| !events.is_empty());
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn systemd_allows_more_time_than_the_drain_takes() {
    let stop = Duration::from_secs(unit("TimeoutStopSec").parse().unwrap());
    // The Debug text of the runner has its settings.
    let runner = format!("{:?}", Runner::new());
    let drain = runner.split("drain_timeout: ").nth(1).unwrap();
    let drain = drain.split('s').next().unwrap().parse().unwrap();
    assert!(stop > Duration::from_secs(drain) + Duration::from_millis(250));
}

/// As a service it was only tested by hand: docs/windows.md.
#[cfg(windows)]
#[test]
fn windows_service_started_by_hand_is_a_console_program() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(&mut Plugin::command("windows_service", &agent));
        events(&agent, |events| !events.is_empty());
        ends_with_the_agent(plugin, &agent);
        // A reject that an administrator cannot remove while the plugin is unchanged, and a reject that an
        // administrator can remove.
        for (reason, code) in [("signature_invalid", 2), ("revoked", 1)] {
            let agent = TestAgent::with(Script::new().reject(reason)).unwrap();
            fails(Plugin::spawn(&mut Plugin::command("windows_service", &agent)), code, reason);
        }
    });
}

/// Needs the tools of systemd; systemd itself need not run.
#[cfg(target_os = "linux")]
#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    use std::process::Command;

    let program = crate::common::example("systemd");
    let folder = tempfile::TempDir::new().unwrap();
    let installed = folder.path().join("acme-tick.service");
    let text = fs::read_to_string(UNIT).unwrap();
    let text = text.replace("/usr/local/bin/acme-tick", program.to_str().unwrap());
    fs::write(&installed, text).unwrap();
    let verify =
        Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(installed).output();
    match verify {
        Err(e) => eprintln!("not checked: cannot start systemd-analyze: {e}"),
        Ok(ran) => {
            let said = String::from_utf8_lossy(&ran.stderr);
            assert!(ran.status.success() && !said.contains("acme-tick"), "{said}");
        }
    }
}
