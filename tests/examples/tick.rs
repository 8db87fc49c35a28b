use wedr_plugin_sdk::testing::TestAgent;

use crate::common::process::Plugin;
use crate::common::watched;
use crate::{ends_in_order, ends_with_the_agent, events, fails};

#[test]
fn tick_connects_to_the_pipe_of_the_variable() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(Plugin::command("tick", &agent).env("WEDR_PLUGIN_ID", "8f0c"));
        let seen = events(&agent, |events| events.len() >= 2);
        assert!(seen.iter().all(|event| event.kind == "acme.tick"));
        assert_eq!(agent.sessions()[0].hello.as_ref().unwrap().plugin_id, "8f0c");
        ends_with_the_agent(plugin, &agent);
    });
}

#[test]
fn tick_ends_in_order() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(&mut Plugin::command("tick", &agent));
        events(&agent, |events| !events.is_empty());
        ends_in_order(plugin, &agent);
    });
}

#[test]
fn tick_without_an_id_prints_the_remedy() {
    watched(|| {
        let agent = TestAgent::start().unwrap();
        let plugin = Plugin::spawn(Plugin::command("tick", &agent).env_remove("WEDR_PLUGIN_ID"));
        fails(plugin, 1, "Error: no plugin id: the environment variable WEDR_PLUGIN_ID");
        assert!(agent.sessions().is_empty());
    });
}
