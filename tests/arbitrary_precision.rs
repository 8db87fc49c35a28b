//! A plugin with the feature `arbitrary_precision` of `serde_json`, which keeps numbers as text. `emit`
//! accepts a number exactly if the agent's parser, which does not have the feature, accepts it.
#![cfg(unix)]

mod common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{LIMIT, watched};
use serde_json::Value;
use wedr_plugin_sdk::testing::{SessionEnd, TestAgent};

const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/arbitrary_precision/Cargo.toml");

/// Lets cargo build or run the plugin, in the target folder of this test.
fn cargo(what: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("arbitrary_precision");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args([what, "--quiet", "--locked", "--manifest-path", MANIFEST, "--target-dir"]);
    cargo.arg(target);
    cargo
}

/// The value that the agent's parser reads from a payload.
fn as_the_agent_reads(payload: &str) -> Option<Value> {
    let content: Value = serde_json::from_str(&format!("{{\"payload\":{payload}}}")).ok()?;
    Some(content["payload"].clone())
}

#[test]
fn arbitrary_precision_numbers_are_checked_like_the_agent() {
    // Not under the watchdog, because the compiler may take long.
    assert!(cargo("build").status().unwrap().success());
    watched(|| {
        let deep = |levels: usize| format!("{}1e3{}", "[".repeat(levels), "]".repeat(levels));
        let payloads = [
            "0",
            "-0",
            "0.10",
            "1e3",
            "1E+3",
            "1e308",
            "1e309",
            "1e999",
            "-1e999",
            "0e999",
            "1e-999",
            "5e-324",
            "18446744073709551615",
            "18446744073709551616",
            "123456789012345678901234567890.123456789012345678901234567890",
            "[1,[2,-1e400],3]",
            r#"{"a":{"b":1e400}}"#,
            r#"{"a":{"b":1e40}}"#,
            &"9".repeat(308),
            &"9".repeat(310),
            &deep(126),
            &deep(127),
        ];
        let agent = TestAgent::start().unwrap();
        let mut plugin = cargo("run")
            .arg("--")
            .arg(agent.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        plugin.stdin.take().unwrap().write_all(payloads.join("\n").as_bytes()).unwrap();
        let output = plugin.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", output.status);

        let answers = String::from_utf8(output.stdout).unwrap();
        let answers: Vec<_> = payloads.iter().copied().zip(answers.lines()).collect();
        assert_eq!(answers.len(), payloads.len());
        for (payload, answer) in answers {
            assert_eq!(
                answer == "taken",
                as_the_agent_reads(payload).is_some(),
                "{payload} was {answer}"
            );
        }
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!((session.end.as_ref(), session.missing_seqs()), (Some(&SessionEnd::Goodbye), 0));
        let arrived = session.events().map(|event| event.payload.clone());
        assert!(
            arrived.eq(payloads.iter().copied().filter_map(as_the_agent_reads)),
            "not as they were"
        );
    });
}
