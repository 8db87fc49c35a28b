//! An agent for plugin development: see docs/dev-agent.md.

fn main() -> std::process::ExitCode {
    wedr_plugin_sdk::dev_agent::main()
}
