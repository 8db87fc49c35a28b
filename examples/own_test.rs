//! A plugin with tests of its own: it reports lines that appear in the hosts file, or go from it.
//!
//! `WEDR_PLUGIN_ID=demo cargo run --example own_test -- /etc/hosts`, with an agent on the default
//! pipe, or on the one named in `WEDR_PIPE_PATH`; its tests: `cargo test --example own_test`.
//!
//! What makes it easy to test: where it connects and how often it looks come from outside.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, process};

use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, SessionContext, metadata};

fn main() -> Result<()> {
    let (Some(file), None) = (env::args_os().nth(1), env::args_os().nth(2)) else {
        eprintln!("usage: own_test FILE");
        process::exit(2);
    };
    // The SDK never reads it: letting the environment say where telemetry goes is for examples.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    plugin(runner, metadata!("hosts")?, file.as_ref(), Duration::from_secs(1))
}

fn plugin(runner: Runner, metadata: Metadata, file: &Path, every: Duration) -> Result<()> {
    runner.run_with(metadata, |sink, ctx| watch(file, every, sink, ctx))
}

fn watch(file: &Path, every: Duration, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let mut known = read(file)?;
    sink.emit("hosts.start", json!({ "file": file.to_string_lossy(), "lines": known.len() }))?;
    while !ctx.is_shutting_down() {
        let found = read(file)?;
        for line in found.difference(&known) {
            sink.emit("hosts.added", json!({ "line": line }))?;
        }
        for line in known.difference(&found) {
            sink.emit("hosts.removed", json!({ "line": line }))?;
        }
        known = found;
        ctx.sleep(every);
    }
    Ok(())
}

fn read(file: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read(file).map_err(|e| {
        let file = file.display();
        Error::plugin(format!("cannot read {file}: {e}; it must be there and readable"))
    })?;
    let text = String::from_utf8_lossy(&text);
    // A last line without its end is still being written.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    Ok(whole.map(|line| line.trim_end().to_owned()).collect())
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use tempfile::NamedTempFile;
    use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};

    use super::*;

    /// More than anything here takes.
    const LIMIT: Duration = Duration::from_secs(60);

    fn hosts() -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "127.0.0.1 localhost").unwrap();
        file
    }

    fn runner(agent: &TestAgent) -> Runner {
        // The signals are those of the process that runs the tests.
        Runner::new().pipe_path(agent.path()).install_signal_handler(false)
    }

    fn run(runner: Runner, file: &Path) -> Result<()> {
        let metadata = Metadata::new("test", "1.0", "hosts");
        plugin(runner, metadata, file, Duration::from_millis(1))
    }

    #[test]
    fn lines_that_come_and_go_are_reported() {
        let mut file = hosts();
        let path = file.path().to_owned();
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent);
        let shutdown = runner.shutdown_handle();
        // Not of a scope, which would wait for it when an assertion fails.
        let running = thread::spawn(move || run(runner, &path));
        assert!(agent.wait_for_events(1, LIMIT), "it starts");
        writeln!(file, "6.6.6.6 bank.example").unwrap();
        assert!(agent.wait_for_events(2, LIMIT), "it reports what comes");
        file.as_file().set_len(0).unwrap();
        assert!(agent.wait_for_events(4, LIMIT), "it reports what goes");
        shutdown.shutdown();
        running.join().unwrap().unwrap();
        let session = agent.ended_session(LIMIT).unwrap();
        let seen: Vec<_> = session.events().map(|e| (&*e.kind, &e.payload["line"])).collect();
        assert_eq!(seen[1], ("hosts.added", &json!("6.6.6.6 bank.example")));
        assert_eq!(seen[2], ("hosts.removed", &json!("127.0.0.1 localhost")));
        assert_eq!(seen[3], ("hosts.removed", &json!("6.6.6.6 bank.example")));
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    }

    #[test]
    fn a_plugin_that_was_revoked_is_not_to_be_started_again() {
        let agent = TestAgent::with(Script::new().reject("revoked")).unwrap();
        let error = run(runner(&agent), hosts().path()).unwrap_err();
        assert!(error.is_permanent(), "{error}");
    }

    #[test]
    fn an_agent_that_goes_away_ends_the_plugin_with_an_error() {
        let agent = TestAgent::with(Script::new().close_after(1)).unwrap();
        let error = run(runner(&agent), hosts().path()).unwrap_err();
        assert!(error.is_disconnected() && !error.is_permanent(), "{error}");
    }

    #[test]
    fn a_slow_agent_gets_every_line() {
        let mut file = hosts();
        let path = file.path().to_owned();
        let agent = TestAgent::with(Script::new().read_slowly(500_000)).unwrap();
        // A short queue: the plugin has to wait.
        let runner = runner(&agent).channel_capacity(4);
        let shutdown = runner.shutdown_handle();
        let host = |n| format!("10.0.0.1 host-{n:04}.{}", "x".repeat(200));
        let running = thread::spawn(move || run(runner, &path));
        assert!(agent.wait_for_events(1, LIMIT), "it starts");
        (0..1000).for_each(|n| writeln!(file, "{}", host(n)).unwrap());
        assert!(agent.wait_for_events(1 + 1000, LIMIT), "all lines arrive");
        shutdown.shutdown();
        running.join().unwrap().unwrap();
        let session = agent.ended_session(LIMIT).unwrap();
        let lines = session.events().skip(1).map(|e| e.payload["line"].as_str().unwrap());
        assert!(lines.eq((0..1000).map(host)), "in order, each once");
    }
}
