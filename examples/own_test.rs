//! A plugin with its own tests: it reports lines that are added to a file or removed from it, such as the hosts
//! file.
//!
//! ```sh
//! wedr-dev-agent -- cargo run --example own_test -- /etc/hosts
//! cargo test --example own_test
//! ```
//!
//! Settings: the file, as the argument or in `OWN_TEST_FILE`. The agent launches plugins without arguments.
//!
//! The plugin is easy to test because its functions get their settings as parameters: the pipe, the file, the
//! interval, and the program's arguments.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;
use std::{env, fs, process};

use serde_json::json;
use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, SessionContext, metadata};

fn main() -> Result<()> {
    let Some(file) = file(env::args_os().skip(1), env::var_os("OWN_TEST_FILE")) else {
        eprintln!("usage: own_test FILE, or set OWN_TEST_FILE");
        process::exit(2);
    };
    // For wedr-dev-agent. The SDK itself never takes the pipe's path from the environment.
    let runner = env::var_os("WEDR_PIPE_PATH").into_iter().fold(Runner::new(), Runner::pipe_path);
    plugin(runner, metadata!("hosts")?, file.as_ref(), Duration::from_secs(1))
}

/// The only argument, or the variable. `None` if both are missing, or if there are more arguments.
fn file(
    mut arguments: impl Iterator<Item = OsString>,
    variable: Option<OsString>,
) -> Option<OsString> {
    let file = arguments.next().or(variable)?;
    arguments.next().is_none().then_some(file)
}

fn plugin(runner: Runner, metadata: Metadata, file: &Path, every: Duration) -> Result<()> {
    runner.run_with(metadata, |sink, ctx| watch(file, every, sink, ctx))
}

fn watch(file: &Path, every: Duration, sink: &EventSink, ctx: &SessionContext) -> Result<()> {
    let mut known = read(file)?;
    sink.emit("hosts_start", json!({ "file": file.to_string_lossy(), "lines": known.len() }))?;
    while !ctx.is_shutting_down() {
        let found = read(file)?;
        for line in found.difference(&known) {
            sink.emit("hosts_added", json!({ "line": line }))?;
        }
        for line in known.difference(&found) {
            sink.emit("hosts_removed", json!({ "line": line }))?;
        }
        known = found;
        ctx.sleep(every);
    }
    Ok(())
}

fn read(file: &Path) -> Result<BTreeSet<String>> {
    let text = fs::read(file).map_err(|e| {
        let file = file.display();
        Error::plugin(format!("cannot read {file}: {e}; it must exist and be readable"))
    })?;
    let text = String::from_utf8_lossy(&text);
    // A last line without a newline may be incomplete.
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

    /// Longer than any test takes.
    const LIMIT: Duration = Duration::from_secs(60);

    fn hosts() -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "127.0.0.1 localhost").unwrap();
        file
    }

    fn runner(agent: &TestAgent) -> Runner {
        // The signal handlers belong to the process that runs the tests.
        Runner::new().pipe_path(agent.path()).install_signal_handler(false)
    }

    fn run(runner: Runner, file: &Path) -> Result<()> {
        let metadata = Metadata::new("test", "1.0", "hosts");
        plugin(runner, metadata, file, Duration::from_millis(1))
    }

    /// The agent launches plugins without arguments.
    #[test]
    fn file_is_the_argument_or_the_variable() {
        let file = |arguments: &[&str], variable: Option<&str>| {
            file(arguments.iter().map(OsString::from), variable.map(OsString::from))
        };
        assert_eq!(file(&[], Some("variable")), Some("variable".into()));
        assert_eq!(file(&["argument"], None), Some("argument".into()));
        assert_eq!(file(&["argument"], Some("variable")), Some("argument".into()));
        assert_eq!(file(&[], None), None);
        assert_eq!(file(&["one", "two"], Some("variable")), None);
    }

    #[test]
    fn added_and_removed_lines_are_reported() {
        let mut file = hosts();
        let path = file.path().to_owned();
        let agent = TestAgent::start().unwrap();
        let runner = runner(&agent);
        let shutdown = runner.shutdown_handle();
        // Not a scoped thread: the scope would wait for it when an assertion fails.
        let running = thread::spawn(move || run(runner, &path));
        assert!(agent.wait_for_events(1, LIMIT), "the plugin starts");
        writeln!(file, "6.6.6.6 bank.example").unwrap();
        assert!(agent.wait_for_events(2, LIMIT), "the plugin reports the added line");
        file.as_file().set_len(0).unwrap();
        assert!(agent.wait_for_events(4, LIMIT), "the plugin reports the removed lines");
        shutdown.shutdown();
        running.join().unwrap().unwrap();
        let session = agent.ended_session(LIMIT).unwrap();
        let seen: Vec<_> = session.events().map(|e| (&*e.kind, &e.payload["line"])).collect();
        assert_eq!(seen[1], ("hosts_added", &json!("6.6.6.6 bank.example")));
        assert_eq!(seen[2], ("hosts_removed", &json!("127.0.0.1 localhost")));
        assert_eq!(seen[3], ("hosts_removed", &json!("6.6.6.6 bank.example")));
        assert_eq!(session.end, Some(SessionEnd::Goodbye));
    }

    #[test]
    fn refusal_that_an_administrator_can_remove_is_not_permanent() {
        let agent = TestAgent::with(Script::new().reject("revoked")).unwrap();
        let error = run(runner(&agent), hosts().path()).unwrap_err();
        assert!(error.to_string().contains("wedr-plugin unrevoke"), "{error}");
        assert!(!error.is_permanent(), "{error}");
    }

    #[test]
    fn agent_that_goes_away_ends_the_plugin_with_an_error() {
        let agent = TestAgent::with(Script::new().close_after(1)).unwrap();
        let error = run(runner(&agent), hosts().path()).unwrap_err();
        assert!(error.is_disconnected() && !error.is_permanent(), "{error}");
    }

    #[test]
    fn slow_agent_gets_every_line() {
        let mut file = hosts();
        let path = file.path().to_owned();
        let agent = TestAgent::with(Script::new().read_slowly(500_000)).unwrap();
        // With a short queue the plugin must wait.
        let runner = runner(&agent).channel_capacity(4);
        let shutdown = runner.shutdown_handle();
        let host = |n| format!("10.0.0.1 host-{n:04}.{}", "x".repeat(200));
        let running = thread::spawn(move || run(runner, &path));
        assert!(agent.wait_for_events(1, LIMIT), "the plugin starts");
        (0..1000).for_each(|n| writeln!(file, "{}", host(n)).unwrap());
        assert!(agent.wait_for_events(1 + 1000, LIMIT), "all lines arrive");
        shutdown.shutdown();
        running.join().unwrap().unwrap();
        let session = agent.ended_session(LIMIT).unwrap();
        let lines = session.events().skip(1).map(|e| e.payload["line"].as_str().unwrap());
        assert!(lines.eq((0..1000).map(host)), "each line once, in order");
    }
}
