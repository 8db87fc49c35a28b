use wedr_plugin_sdk::testing::TestAgent;

use crate::common::process::Plugin;
use crate::common::watched;
use crate::fails;

#[cfg(not(windows))]
#[test]
fn event_log_and_windows_service_need_windows() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        for example in ["event_log", "windows_service"] {
            let plugin = Plugin::start(example, &agent, ["System"]);
            fails(plugin, 1, "this example runs only on Windows");
        }
    });
}

/// Not under Wine, whose event-log subscriptions are stubs.
#[cfg(windows)]
fn is_wine() -> bool {
    let query = std::process::Command::new("reg").args(["query", r"HKCU\Software\Wine"]).output();
    query.is_ok_and(|ran| ran.status.success())
}

#[cfg(windows)]
#[test]
fn event_log_subscribes_or_reports_the_cause() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("event_log", &agent, ["System"]);
        if is_wine() {
            fails(plugin, 1, "Error: cannot subscribe to the event log System with the query *: ");
        } else {
            let seen = crate::events(&agent, |events| !events.is_empty());
            assert_eq!(seen[0].kind, "event_log_start");
            crate::ends_with_the_agent(plugin, &agent);
        }
    });
}

/// The agent launches plugins without arguments.
#[cfg(windows)]
#[test]
fn event_log_takes_its_channel_and_query_from_the_environment() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let mut command = Plugin::command("event_log", &agent);
        let command = command.env("EVENT_LOG_CHANNEL", "No such log").env("EVENT_LOG_QUERY", "*");
        let plugin = Plugin::spawn(command);
        fails(plugin, 1, "Error: cannot subscribe to the event log No such log with the query *: ");
    });
}

#[cfg(windows)]
#[test]
fn event_log_without_a_channel_prints_its_usage() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let usage = "usage: event_log CHANNEL [QUERY]";
        fails(Plugin::start::<&str>("event_log", &agent, []), 2, usage);
        fails(Plugin::start("event_log", &agent, ["System", "*", "more"]), 2, usage);
    });
}

#[cfg(windows)]
#[test]
fn event_log_names_a_log_that_does_not_exist() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("event_log", &agent, ["No such log"]);
        fails(plugin, 1, "Error: cannot subscribe to the event log No such log with the query *: ");
    });
}
