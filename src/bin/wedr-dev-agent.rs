//! An agent to develop plugins against: see docs/dev-agent.md.

fn main() -> std::process::ExitCode {
    wedr_plugin_sdk::dev_agent::main()
}
