//! An agent that misbehaves during the handshake. Whatever it does, the body does not run, `on_close` is not
//! called, and the error tells the cause.

mod common;
mod raw;

use std::sync::mpsc;
use std::time::Duration;

use common::time::Moment;
use common::{AT_ONCE, LIMIT, assert_harmless, failure, metadata, runner, watched};
use raw::frame;
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, Metadata, RejectReason};

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// A handshake timeout that is shorter than the delay of a late answer, and long enough for other answers.
const SHORT: Duration = Duration::from_millis(300);

/// The error of a session with an agent that follows `script`. There is no time limit, so the test hangs if
/// the error does not come.
fn failure_with(script: Script) -> Error {
    let agent = TestAgent::with(script).unwrap();
    let error = failure(runner(&agent).handshake_timeout(Duration::MAX), metadata());
    let session = agent.ended_session(LIMIT).expect("the plugin hung up");
    assert_eq!(session.received.len(), 0, "the plugin sent events after {error}");
    error
}

fn ack(session_id: &str) -> Vec<u8> {
    frame(json!({ "type": "hello_ack", "session_id": session_id }).to_string())
}

fn reject(reason: &str) -> Vec<u8> {
    frame(json!({ "type": "reject", "reason": reason }).to_string())
}

/// Checks an error that contains a text of the agent.
fn assert_shows_harmlessly(error: &Error) {
    assert_harmless(error);
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.len() < 2000, "{} bytes: {text:.300}", text.len());
    }
}

/// A hello that is larger than any socket buffer.
fn metadata_of_900_kib() -> Metadata {
    Metadata::new("test-plugin", "1.2.3", "x".repeat(900 << 10))
}

fn reason(error: Error) -> RejectReason {
    match error {
        Error::Rejected { reason } => reason,
        other => panic!("{other:?}"),
    }
}

fn assert_protocol(error: &Error) {
    assert!(matches!(error, Error::Protocol(_)), "{error:?}");
    assert_shows_harmlessly(error);
}

#[test]
fn reject_has_its_reason_and_a_remedy() {
    use RejectReason::{
        BadHandshake, HashMismatch, PathMismatch, Revoked, SchemaMismatch, SignatureInvalid,
        TooManySessions, UnknownPluginId,
    };
    let known = [
        ("bad_handshake", BadHandshake, "matching versions"),
        ("schema_mismatch", SchemaMismatch, "rebuild the plugin"),
        ("unknown_plugin_id", UnknownPluginId, "`wedr-plugin enroll <BINARY> --name"),
        ("path_mismatch", PathMismatch, "`wedr-plugin update <id> <BINARY>`"),
        ("hash_mismatch", HashMismatch, "`wedr-plugin update <id>`"),
        ("signature_invalid", SignatureInvalid, "sign the binary"),
        ("revoked", Revoked, "`wedr-plugin unrevoke <id>`"),
        ("too_many_sessions", TooManySessions, "stop another plugin"),
    ];
    watched(|| {
        for (wire, reason, remedy) in known {
            let error = failure_with(Script::new().reject(wire));
            let message = error.to_string();
            assert!(message.contains(wire) && message.contains(remedy), "{message}");
            assert_eq!(format!("{error:?}"), message);
            let permanent = ["bad_handshake", "schema_mismatch", "signature_invalid"];
            assert_eq!(error.is_permanent(), permanent.contains(&wire), "{wire}");
            assert_eq!(self::reason(error), reason);
        }
    });
}

#[test]
fn unknown_reason_is_kept_and_shown_harmlessly() {
    let longest = "y".repeat(MIB - (reject("").len() - 4));
    let nasty: String = ('\0'..='\u{a0}').chain("\u{202e}\u{2066}\u{200b}".chars()).collect();
    let mut reasons = vec!["solar_flare".into(), String::new(), nasty];
    if cfg!(unix) {
        // A named pipe discards what was not read when the agent closed it.
        reasons.push(longest);
    }
    watched(|| {
        for wire in reasons {
            let error = failure_with(Script::new().reject(wire.as_str()));
            assert_shows_harmlessly(&error);
            assert!(!error.is_permanent());
            let reason = reason(error);
            let shown = [reason.to_string(), format!("{reason:?}")].concat();
            assert_eq!(shown.chars().find(|c| c.is_control()), None);
            assert!(reason == RejectReason::Other(wire.clone()), "{wire:.100?}");
        }
    });
}

#[test]
fn reason_too_long_for_a_frame_is_a_protocol_error() {
    watched(|| {
        let one_too_long = "y".repeat(MIB - (reject("").len() - 4) + 1);
        assert_protocol(&failure_with(Script::new().reject(one_too_long)));
        assert_protocol(&failure_with(Script::new().reject("y".repeat(MIB))));
    });
}

#[test]
fn reject_sent_before_hello_is_read_is_not_lost() {
    let run_20 = |metadata: Metadata| {
        let script = Script::new().reject("too_many_sessions").answer_before_hello();
        let agent = TestAgent::with(script).unwrap();
        // The agent closes before the plugin writes hello, while it writes, or after: the threads decide.
        for _ in 0..20 {
            let runner = runner(&agent).handshake_timeout(Duration::MAX);
            let error = failure(runner, metadata.clone());
            if cfg!(windows) && matches!(error, Error::HandshakeClosed) {
                // A named pipe discards what was not read when the agent closed it.
                continue;
            }
            assert_eq!(reason(error), RejectReason::TooManySessions);
        }
        assert!(agent.sessions().iter().all(|session| session.hello.is_none()));
    };
    for _ in 0..5 {
        watched(move || run_20(metadata()));
        watched(move || run_20(metadata_of_900_kib()));
    }
}

#[test]
fn missing_answer_is_waited_for_until_the_timeout() {
    watched(|| {
        let agent = TestAgent::with(Script::new().never_answer()).unwrap();
        let start = Moment::now();
        let error = failure(runner(&agent).handshake_timeout(SHORT), metadata());
        let waited = start.elapsed_within(SHORT + AT_ONCE);
        assert!(matches!(error, Error::HandshakeTimeout(SHORT)), "{error:?}");
        assert!(waited >= SHORT, "{waited:?}");
        assert!(error.to_string().contains("300ms"), "{error}");
        assert!(!error.is_permanent());
    });
}

#[test]
fn handshake_timeout_is_for_the_whole_answer() {
    watched(|| {
        // One byte every 30 ms would take more than three seconds in all; one byte per second, two minutes.
        for (pause, timeout) in [(SHORT / 10, SHORT), (SECOND, 2 * SECOND + SHORT)] {
            let agent = TestAgent::with(Script::new().answer_slowly(pause)).unwrap();
            let start = Moment::now();
            let error = failure(runner(&agent).handshake_timeout(timeout), metadata());
            let waited = start.elapsed_within(timeout + AT_ONCE);
            assert!(matches!(error, Error::HandshakeTimeout(t) if t == timeout), "{error:?}");
            assert!(waited >= timeout, "{waited:?}");
        }
    });
}

#[test]
fn long_hello_may_be_read_slowly_but_not_for_ever() {
    watched(|| {
        let script = Script::new().read_slowly(8 << 20);
        let agent = TestAgent::with(script).unwrap();
        runner(&agent)
            .handshake_timeout(LIMIT)
            .run_with(metadata_of_900_kib(), |_, _| Ok(()))
            .unwrap();

        let agent = TestAgent::with(Script::new().read_slowly(1000)).unwrap();
        let error = failure(runner(&agent).handshake_timeout(SHORT), metadata_of_900_kib());
        assert!(matches!(error, Error::HandshakeTimeout(SHORT)), "{error:?}");
    });
}

#[test]
fn garbage_is_a_protocol_error() {
    watched(|| {
        let over = u32::try_from(MIB).unwrap() + 1;
        let deep = format!(
            r#"{{"type":"hello_ack","session_id":"s","extra":{}{}}}"#,
            "[".repeat(500_000),
            "]".repeat(500_000)
        );
        let scripts = [
            Script::new().answer_with("HTTP/1.1 400 Bad Request\r\n\r\n"),
            Script::new().answer_with(vec![0xa5; 5000]),
            Script::new().announce(0),
            Script::new().announce(over),
            Script::new().announce(u32::MAX),
            Script::new().answer_with_body("welcome"),
            Script::new().answer_with_body("null"),
            Script::new().answer_with_body("[]"),
            Script::new().answer_with_body(deep),
            Script::new().answer_with_body("[".repeat(MIB)),
            Script::new().answer_with_body(b"{\"type\":\"hello_ack\",\"session_id\":\"\xff\"}"),
            Script::new().answer_with_body(r#"{"type":"hello_ack","session_id":"\ud800"}"#),
            Script::new().answer_with_body(r#"{"type":"\u001b[2J\u202e","session_id":"s"}"#),
            Script::new().answer_with_body(format!(r#"{{"type":"{}"}}"#, "z".repeat(100_000))),
            Script::new().answer_with_body(r#"{"session_id":"s"}"#),
            Script::new().answer_with_body(r#"{"type":"hello_ack"}"#),
            Script::new().answer_with_body(r#"{"type":"reject"}"#),
            Script::new()
                .answer_with_body(r#"{"type":"hello_ack","session_id":"s","session_id":"s"}"#),
            Script::new()
                .answer_with_body(r#"{"type":"reject","type":"reject","reason":"revoked"}"#),
            Script::new().answer_with_body(r#"{"type":"reject","reason":"a","reason":"b"}"#),
        ];
        for script in scripts {
            assert_protocol(&failure_with(script));
        }
    });
}

#[test]
fn answer_must_be_an_object() {
    watched(|| {
        for content in [r#"["hello_ack","s","v",4096,30]"#, r#"["reject","revoked"]"#] {
            assert_protocol(&failure_with(Script::new().answer_with_body(content)));
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn announced_length_allocates_nothing() {
    fn peak_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        let digits = peak.unwrap().trim().trim_end_matches(" kB");
        digits.parse().unwrap()
    }
    watched(|| {
        let before = peak_kib();
        assert_protocol(&failure_with(Script::new().announce(u32::MAX)));
        // Other tests in this process also use address space, but not gigabytes.
        assert!(peak_kib() - before < 3 << 20, "{before} KiB before");
    });
}

#[test]
fn answer_after_a_reject_is_ignored() {
    watched(|| {
        let rejected = [reject("revoked"), ack("second")].concat();
        let error = failure_with(Script::new().answer_with(rejected));
        assert_eq!(reason(error), RejectReason::Revoked);
    });
}

#[test]
fn close_instead_of_an_answer_is_handshake_closed() {
    watched(|| {
        let after_hello = [Script::new().close_before_answer(), Script::new().close_mid_answer()];
        let at_once = after_hello.clone().map(Script::answer_before_hello);
        for script in after_hello.into_iter().chain(at_once) {
            let error = failure_with(script.clone());
            assert!(matches!(error, Error::HandshakeClosed), "{error:?}");
            assert!(!error.is_permanent());

            let agent = TestAgent::with(script).unwrap();
            let runner = runner(&agent).handshake_timeout(Duration::MAX);
            let error = failure(runner, metadata_of_900_kib());
            assert!(matches!(error, Error::HandshakeClosed), "{error:?}");
        }
    });
}

#[test]
fn shutdown_during_the_handshake_is_no_error() {
    watched(|| {
        let agent = TestAgent::with(Script::new().never_answer()).unwrap();
        let runner = runner(&agent).handshake_timeout(Duration::MAX);
        let handle = runner.shutdown_handle();
        std::thread::scope(|scope| {
            let agent = &agent;
            scope.spawn(move || {
                let hello =
                    |session: &wedr_plugin_sdk::testing::RecordedSession| session.hello.is_some();
                assert!(agent.wait_until(LIMIT, |sessions| sessions.first().is_some_and(hello)));
                handle.shutdown();
            });
            runner
                .on_close(|report| panic!("on_close was called: {report:?}"))
                .run_with(metadata(), |_, _| panic!("the body ran"))
                .unwrap();
        });
        let session = agent.ended_session(LIMIT).unwrap();
        assert_eq!(session.end, Some(SessionEnd::Disconnected { mid_frame: false }));
    });
}

/// An agent that does not read hello and does not close the pipe.
mod unread {
    use super::raw::{ACK, RawAgent};
    use super::*;

    /// Runs a plugin with a long hello against an agent that sends `bytes` without reading. There is no time
    /// limit: the answer ends the handshake. Returns the plugin's result, and the bytes that the plugin sent.
    fn answered_unread(bytes: &[u8]) -> (Error, Vec<u8>) {
        let agent = RawAgent::start();
        std::thread::scope(|scope| {
            let (finished, wait_until_finished) = mpsc::channel::<()>();
            let listening = &agent;
            let agents = scope.spawn(move || {
                let mut pipe = listening.accept();
                pipe.send(bytes).unwrap();
                // Returns when the sender is dropped.
                let _ = wait_until_finished.recv();
                pipe.rest()
            });
            let runner = agent.runner().handshake_timeout(Duration::MAX);
            let error = failure(runner, metadata_of_900_kib());
            drop(finished);
            (error, agents.join().unwrap())
        })
    }

    #[test]
    fn reject_ends_the_handshake_while_hello_is_blocked() {
        watched(|| {
            let (error, _) = answered_unread(&reject("revoked"));
            assert_eq!(reason(error), RejectReason::Revoked);
        });
    }

    #[test]
    fn ack_of_a_partial_hello_is_a_protocol_error() {
        watched(|| {
            let (error, rest) = answered_unread(&raw::frame(ACK));
            assert!(matches!(error, Error::Protocol(_)), "{error:?}");
            let announced = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            assert!(rest.len() < 4 + announced, "written after a torn frame");
        });
    }
}
