use wedr_plugin_sdk::testing::TestAgent;

use crate::common::process::Plugin;
use crate::common::watched;
use crate::fails;

#[cfg(not(windows))]
#[test]
fn event_log_and_windows_service_say_that_they_are_for_windows() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        for example in ["event_log", "windows_service"] {
            let plugin = Plugin::start(example, &agent, ["System"]);
            fails(plugin, 1, "this example is for Windows");
        }
    });
}

/// Its subscriptions are stubs.
#[cfg(windows)]
fn is_wine() -> bool {
    let query = std::process::Command::new("reg").args(["query", r"HKCU\Software\Wine"]).output();
    query.is_ok_and(|ran| ran.status.success())
}

#[cfg(windows)]
#[test]
fn event_log_subscribes_or_says_why_not() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("event_log", &agent, ["System"]);
        if is_wine() {
            fails(plugin, 1, "Error: cannot subscribe to the event log System: ");
        } else {
            let seen = crate::events(&agent, |events| !events.is_empty());
            assert_eq!(seen[0].kind, "event_log.start");
            crate::ends_with_the_agent(plugin, &agent);
        }
    });
}

#[cfg(windows)]
#[test]
fn event_log_says_what_it_cannot_subscribe_to() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::start("event_log", &agent, ["No such log"]);
        fails(plugin, 1, "Error: cannot subscribe to the event log No such log: ");
    });
}
