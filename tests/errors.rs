//! docs/errors.md shows every error as `main` prints it. These tests cause each error and compare its text
//! with the page. `WEDR_BLESS=1 cargo test --test errors` writes the texts into the page.

mod common;
mod raw;
#[macro_use]
#[path = "../src/error/variants.rs"]
mod variants;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{LIMIT, example, metadata, runner, watched};
use serde_json::{Value, json};
use wedr_plugin_sdk::testing::{Script, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Metadata, Result, Runner, SessionContext};

const PAGE: &str = "docs/errors.md";
/// The width of the page, in columns.
const WIDTH: usize = 100;

/// Texts by their headings, in the order of the page.
#[derive(Debug, Default, PartialEq)]
struct Texts(Vec<(String, String)>);

impl Texts {
    fn add(&mut self, heading: &str, error: &Error) {
        self.add_with(heading, error, &[]);
    }

    /// Adds an error whose text has a part that varies. The page shows a placeholder for that part.
    fn add_with(&mut self, heading: &str, error: &Error, placeholders: &[(&str, &str)]) {
        let variant = heading.split(':').next().unwrap();
        assert_eq!(variant_of(error), variant, "{error}");
        let printed = placeholders
            .iter()
            .fold(format!("Error: {error:?}"), |text, (this, that)| text.replace(this, that));
        self.0.push((heading.into(), wrapped(&printed)));
        let permanent = section(heading).contains("**Permanent.**");
        assert_eq!(error.is_permanent(), permanent, "{heading}, on the page");
    }
}

macro_rules! variant_of {
    ($($variant:ident,)+) => {
        fn variant_of(error: &Error) -> &'static str {
            match error {
                $(Error::$variant { .. } => stringify!($variant),)+
                _ => panic!("a variant that src/error/variants.rs does not list: {error:?}"),
            }
        }
    };
}
for_all_variants!(variant_of);

fn page() -> Texts {
    texts_of(PAGE)
}

/// The texts that a page shows.
fn texts_of(page: impl AsRef<Path>) -> Texts {
    let mut texts = Texts::default();
    let page = fs::read_to_string(page).unwrap();
    let mut heading = "";
    let mut text: Option<String> = None;
    for line in page.lines() {
        if let Some(title) = line.strip_prefix("### ") {
            heading = title;
        }
        match &mut text {
            None if line == "```text" => text = Some(String::new()),
            None => {}
            Some(_) if line == "```" => texts.0.push((heading.into(), text.take().unwrap())),
            Some(text) => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    texts
}

/// The text of the page from a heading to the next.
fn section(heading: &str) -> String {
    let page = fs::read_to_string(PAGE).unwrap();
    let below = page.split_once(&format!("\n### {heading}\n"));
    let (_, below) = below.unwrap_or_else(|| panic!("{PAGE} has no heading `### {heading}`"));
    below.split("\n#").next().unwrap().to_owned()
}

/// Writes `texts` into the code blocks of the page, one after another.
fn bless(texts: &Texts) {
    let blocks = |texts: &Texts| texts.0.iter().map(|(h, _)| h.clone()).collect::<Vec<_>>();
    assert_eq!(blocks(&page()), blocks(texts), "first make a ```text block for each of these");
    let page = fs::read_to_string(PAGE).unwrap();
    let mut parts = page.split("```text\n");
    let mut blessed = parts.next().unwrap().to_owned();
    for (part, (_, text)) in parts.zip(&texts.0) {
        let rest = &part[part.find("```").expect("a block has an end")..];
        blessed.extend(["```text\n", text, rest]);
    }
    fs::write(PAGE, blessed).unwrap();
}

/// Lines of at most `WIDTH` columns, as a terminal would wrap them.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    for line in text.lines() {
        let mut column = 0;
        for word in line.split_inclusive(' ') {
            if column > 0 && column + word.trim_end().len() > WIDTH {
                out.truncate(out.trim_end_matches(' ').len());
                out.push('\n');
                column = 0;
            }
            out.push_str(word);
            column += word.len();
        }
        out.push('\n');
    }
    out
}

#[test]
fn page_shows_every_error_as_main_prints_it() {
    watched(|| {
        let mut provoked = Texts::default();
        before_the_pipe(&mut provoked);
        opening(&mut provoked);
        handshake(&mut provoked);
        refusals(&mut provoked);
        events(&mut provoked);
        the_end(&mut provoked);
        if cfg!(target_os = "linux") {
            if std::env::var_os("WEDR_BLESS").is_some() {
                bless(&provoked);
            }
            assert_eq!(page(), provoked, "to take them over: WEDR_BLESS=1");
        } else {
            let page = page();
            for text in provoked.0 {
                assert!(page.0.contains(&text), "{PAGE} does not have {text:?}");
            }
        }
    });
}

/// The reject reasons that the page shows. A unit test of `src/error` checks that these are all.
fn reasons() -> Vec<String> {
    let headings = page().0.into_iter().map(|(heading, _)| heading);
    let reasons =
        headings.filter_map(|heading| Some(heading.strip_prefix("Rejected: ")?.to_owned()));
    reasons.filter(|reason| reason != "anything else").collect()
}

#[test]
fn other_pages_quote_the_errors_as_they_are() {
    let known: Vec<_> = page().0.into_iter().map(|(_, text)| text).collect();
    let pages = fs::read_dir("docs").unwrap().map(|entry| entry.unwrap().path());
    let texts = pages.filter(|path| path.is_file()).flat_map(|path| texts_of(path).0);
    let quoted: Vec<_> = texts.filter(|(_, text)| text.starts_with("Error: ")).collect();
    assert!(quoted.len() > known.len(), "no other page quotes an error");
    for (heading, text) in quoted {
        assert!(known.contains(&text), "under {heading}: {text}{PAGE} has no such error");
    }
}

/// Runs a session that ends before it begins.
fn failure(runner: Runner, metadata: Metadata) -> Error {
    runner.run_with(metadata, |_, _| panic!("the body ran")).unwrap_err()
}

/// The error of a session with an agent that follows `script`.
fn outcome(
    script: Script,
    set: impl FnOnce(Runner) -> Runner,
    body: impl FnOnce(&TestAgent, &EventSink, &SessionContext) -> Result<()>,
) -> Result<()> {
    let agent = TestAgent::with(script).unwrap();
    set(runner(&agent)).run_with(metadata(), |sink, ctx| body(&agent, sink, ctx))
}

fn before_the_pipe(texts: &mut Texts) {
    // In a real `main`, which prints `Error: ` and the Debug text.
    let ran = Command::new(example("tick"))
        .env_remove("WEDR_PLUGIN_ID")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(ran.status.code(), Some(1));
    texts.add("MissingPluginId", &Error::MissingPluginId);
    assert_eq!(wrapped(&String::from_utf8(ran.stderr).unwrap()), texts.0[0].1);

    let quiet = || Runner::new().install_signal_handler(false);
    texts.add("InvalidConfig", &failure(quiet().channel_capacity(0), metadata()));
    texts.add("InvalidConfig", &failure(quiet().heartbeat(Duration::ZERO), metadata()));
    texts.add("InvalidConfig", &failure(quiet(), Metadata::new("", "1.2.3", "Test plugin")));
    if cfg!(target_os = "linux") {
        texts.add("InvalidConfig", &failure(quiet().pipe_path(""), metadata()));
        let long = "/var/lib/ci/workspace/acme-sensor-nightly-build/target/x86_64-unknown-linux-gnu\
                    /debug/tmp/agent-under-test/plugin.sock";
        texts.add("InvalidConfig", &failure(quiet().pipe_path(long), metadata()));
    }

    ctrlc::set_handler(|| std::process::exit(130)).unwrap();
    texts.add("SignalHandler", &failure(Runner::new(), metadata()));
}

#[cfg(not(target_os = "linux"))]
fn opening(_: &mut Texts) {}

/// Only Linux has these texts of the operating system, and these ways to cause them.
#[cfg(target_os = "linux")]
fn opening(texts: &mut Texts) {
    use nix::sys::socket::{Backlog, listen};
    use nix::unistd::{Uid, setfsuid};
    use raw::{RawAgent, RawPipe};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    let agent = RawAgent::start();
    let folder = agent.path().parent().unwrap();
    let on_the_page = "/run/wazabiedr/plugin.sock";
    let mut add = |heading: &str, runner: Runner, path: &Path| {
        let error = failure(runner.pipe_path(path), metadata());
        texts.add_with(heading, &error, &[(&path.display().to_string(), on_the_page)]);
    };

    add("Connect: nothing there", agent.runner(), &folder.join("missing.sock"));

    drop(std::os::unix::net::UnixListener::bind(folder.join("stale.sock")).unwrap());
    add("Connect: no listener", agent.runner(), &folder.join("stale.sock"));

    fs::set_permissions(agent.path(), fs::Permissions::from_mode(0o000)).unwrap();
    std::thread::scope(|scope| {
        let refused = || {
            // Only for this thread: root may open everything.
            setfsuid(Uid::from_raw(65534));
            add("Connect: not allowed", agent.runner(), agent.path());
        };
        scope.spawn(refused).join().unwrap();
    });

    let busy = RawAgent::start();
    listen(busy.listener(), Backlog::new(0).unwrap()).unwrap();
    let _filler = RawPipe::connect(busy.path());
    let impatient = busy.runner().connect_timeout(Duration::from_millis(1));
    add("Connect: too busy", impatient, busy.path());

    let _datagrams = std::os::unix::net::UnixDatagram::bind(folder.join("datagrams")).unwrap();
    add("Connect: anything else", agent.runner(), &folder.join("datagrams"));

    let agent = TestAgent::start().unwrap();
    let own = fs::metadata(agent.path()).unwrap().uid();
    let trust = wedr_plugin_sdk::AgentTrust::Uid(own + 1);
    let error = failure(runner(&agent).trusted_agent(trust), metadata());
    let (own, other) = (format!("user {own},"), format!("user {} ", own + 1));
    texts.add_with("UntrustedAgent", &error, &[(&own, "user 1000,"), (&other, "user 990 ")]);
}

fn handshake(texts: &mut Texts) {
    let failure = |script, patience| {
        let patience = |runner: Runner| runner.handshake_timeout(patience);
        outcome(script, patience, |_, _, _| panic!("the body ran")).unwrap_err()
    };
    let short = Duration::from_millis(123);
    let error = failure(Script::new().never_answer(), short);
    texts.add_with("HandshakeTimeout", &error, &[("123ms", "10s")]);

    texts.add("HandshakeClosed", &failure(Script::new().close_before_answer(), LIMIT));

    let http = Script::new().answer_with("HTTP/1.1 400 Bad Request\r\n\r\n");
    texts.add("Protocol", &failure(http, LIMIT));
    let incomplete = Script::new().answer_with_body(r#"{"type":"hello_ack"}"#);
    texts.add("Protocol", &failure(incomplete, LIMIT));
}

fn refusals(texts: &mut Texts) {
    for reason in reasons().into_iter().chain(["solar_flare".into()]) {
        let heading = match &*reason {
            "solar_flare" => "Rejected: anything else".into(),
            known => format!("Rejected: {known}"),
        };
        let refused = outcome(Script::new().reject(reason), |r| r, |_, _, _| panic!("it ran"));
        texts.add(&heading, &refused.unwrap_err());
    }
}

fn events(texts: &mut Texts) {
    let mut kept = None;
    let small = Script::new().max_payload_bytes(4096);
    outcome(
        small,
        |r| r,
        |_, sink, _| {
            let long = json!({ "dump": "x".repeat(9000) });
            let error =
                sink.emit_with_ts("acme.dump", 1_700_000_000_000_000_000, long).unwrap_err();
            texts.add("PayloadTooLarge", &error);

            let deep = (0..127).fold(Value::Null, |inner, _| json!([inner]));
            texts.add("PayloadTooDeep", &sink.emit("acme.tree", deep).unwrap_err());

            let by_pair = BTreeMap::from([((1, 2), 3)]);
            texts.add("Json", &sink.event("acme.map").emit(&by_pair).unwrap_err());
            kept = Some(sink.clone());
            Ok(())
        },
    )
    .unwrap();
    let late = kept.unwrap().emit("acme.late", json!({})).unwrap_err();

    // One event that is larger than any buffer, and an agent that does not read it.
    let stalled = Script::new().stop_reading_after(0);
    let long = json!("x".repeat(900 << 10));
    let hasty = |r: Runner| r.channel_capacity(1).drain_timeout(Duration::ZERO);
    let mut unflushed = None;
    let undelivered = outcome(stalled.clone(), hasty, |_, sink, _| {
        sink.emit("acme.dump", long.clone())?;
        unflushed = sink.flush(Duration::from_millis(123)).err();
        Ok(())
    });
    let mut full = None;
    outcome(stalled, hasty, |_, sink, _| {
        while full.is_none() {
            full = sink.event("acme.dump").try_emit(&long).err();
        }
        Ok(())
    })
    .unwrap_err();
    texts.add("QueueFull", &full.unwrap());
    texts.add("Shutdown", &late);
    texts.add_with("FlushTimeout", &unflushed.unwrap(), &[("123ms", "5s")]);
    texts.add("Undelivered", &undelivered.unwrap_err());
}

#[cfg(not(target_os = "linux"))]
fn the_end(_: &mut Texts) {}

/// The causes are texts of the operating system.
#[cfg(target_os = "linux")]
fn the_end(texts: &mut Texts) {
    let lost = outcome(
        Script::new(),
        |r| r,
        |agent, _, ctx| {
            agent.disconnect();
            ctx.wait_for_shutdown();
            Ok(())
        },
    );
    texts.add("Io: the pipe was lost", &lost.unwrap_err());

    let rules = "/etc/acme/rules.json";
    let own = outcome(
        Script::new(),
        |r| r,
        |_, _, _| {
            let _rules = fs::read_to_string(rules)?;
            Ok(())
        },
    );
    texts.add("Io: the body's own", &own.unwrap_err());

    let own = outcome(
        Script::new(),
        |r| r,
        |_, _, _| {
            let _rules = fs::read_to_string(rules)
                .map_err(|e| Error::plugin(format!("cannot read the rules in {rules}: {e}")))?;
            Ok(())
        },
    );
    texts.add("Plugin", &own.unwrap_err());
}
