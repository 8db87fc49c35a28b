//! An agent that misbehaves before the session stands. Whatever it does, the body does not run,
//! `on_close` is not called, and the error says what it was.

mod common;
mod raw;

use std::sync::mpsc;
use std::time::{Duration, Instant};

use common::{LIMIT, assert_harmless, failure, metadata, runner, watched};
use raw::frame;
use serde_json::json;
use wedr_plugin_sdk::testing::{Script, SessionEnd, TestAgent};
use wedr_plugin_sdk::{Error, EventSink, Metadata, RejectReason, Runner, SessionContext};
use wedr_plugin_sdk::{Result, SessionReport};

const MIB: usize = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
/// Shorter than any answer that is meant to be late, and long enough for one that is not.
const SHORT: Duration = Duration::from_millis(300);
/// What a loaded machine may add to a deadline.
const GRACE: Duration = Duration::from_secs(5);

/// The failure with an agent that follows `script`. It has all the time there is, so whatever is
/// not said at once is never said.
fn failure_with(script: Script) -> Error {
    let agent = TestAgent::with(script).unwrap();
    let error = failure(runner(&agent).handshake_timeout(Duration::MAX), metadata());
    let session = agent.ended_session(LIMIT).expect("the plugin hung up");
    assert_eq!(session.received.len(), 0, "it went on after {error}");
    error
}

/// A session that must come about; returns its report.
fn session(
    runner: Runner,
    body: impl FnOnce(&EventSink, &SessionContext) -> Result<()>,
) -> SessionReport {
    let (send, report) = mpsc::channel();
    let keep = move |report: &SessionReport| send.send(report.clone()).unwrap();
    runner.on_close(keep).run_with(metadata(), body).unwrap();
    report.recv().expect("on_close was called")
}

fn one_event(sink: &EventSink, _: &SessionContext) -> Result<()> {
    sink.emit("test.event", json!({ "n": 1 }))
}

fn ack(session_id: &str) -> Vec<u8> {
    frame(json!({ "type": "hello_ack", "session_id": session_id }).to_string())
}

fn reject(reason: &str) -> Vec<u8> {
    frame(json!({ "type": "reject", "reason": reason }).to_string())
}

/// Checks an error that shows what the agent said.
fn assert_shows_harmlessly(error: &Error) {
    assert_harmless(error);
    for text in [error.to_string(), format!("{error:?}")] {
        assert!(text.len() < 2000, "{} bytes: {text:.300}", text.len());
    }
}

/// A hello that no socket buffer holds.
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
fn a_reject_is_its_reason_and_says_what_to_do() {
    use RejectReason::{
        BadHandshake, HashMismatch, PathMismatch, Revoked, SchemaMismatch, SignatureInvalid,
        TooManySessions, UnknownPluginId,
    };
    let known = [
        ("bad_handshake", BadHandshake, "matching versions"),
        ("schema_mismatch", SchemaMismatch, "rebuild the plugin"),
        ("unknown_plugin_id", UnknownPluginId, "`wedr-plugin enroll`"),
        ("path_mismatch", PathMismatch, "`wedr-plugin update <id>`"),
        ("hash_mismatch", HashMismatch, "`wedr-plugin update <id>`"),
        ("signature_invalid", SignatureInvalid, "sign it"),
        ("revoked", Revoked, "`wedr-plugin enroll`"),
        ("too_many_sessions", TooManySessions, "stop one"),
    ];
    watched(|| {
        for (wire, reason, remedy) in known {
            let error = failure_with(Script::new().reject(wire));
            let message = error.to_string();
            assert!(message.contains(wire) && message.contains(remedy), "{message}");
            assert_eq!(format!("{error:?}"), message);
            assert_eq!(error.is_permanent(), wire != "too_many_sessions", "{wire}");
            assert_eq!(self::reason(error), reason);
        }
    });
}

#[test]
fn an_unknown_reason_is_kept_and_shown_harmlessly() {
    let longest = "y".repeat(MIB - (reject("").len() - 4));
    let nasty: String = ('\0'..='\u{a0}').chain("\u{202e}\u{2066}\u{200b}".chars()).collect();
    let mut reasons = vec!["solar_flare".into(), String::new(), nasty];
    if cfg!(unix) {
        // A named pipe loses what was not read when the agent closed.
        reasons.push(longest);
    }
    watched(|| {
        for wire in reasons {
            let error = failure_with(Script::new().reject(wire.as_str()));
            assert_shows_harmlessly(&error);
            assert!(error.is_permanent());
            let reason = reason(error);
            let shown = [reason.to_string(), format!("{reason:?}")].concat();
            assert_eq!(shown.chars().find(|c| c.is_control()), None);
            assert!(reason == RejectReason::Other(wire.clone()), "{wire:.100?}");
        }
    });
}

#[test]
fn a_reason_that_fits_no_frame_is_not_the_protocol() {
    watched(|| {
        let one_too_long = "y".repeat(MIB - (reject("").len() - 4) + 1);
        assert_protocol(&failure_with(Script::new().reject(one_too_long)));
        assert_protocol(&failure_with(Script::new().reject("y".repeat(MIB))));
    });
}

#[test]
fn a_reject_sent_before_hello_is_read_is_not_lost() {
    let script = Script::new().reject("too_many_sessions").answer_before_hello();
    let hellos = [metadata(), metadata_of_900_kib()];
    watched(|| {
        let agent = TestAgent::with(script).unwrap();
        for metadata in hellos {
            // The agent has closed before hello is written, during it or after it: as it comes.
            for _ in 0..100 {
                let runner = runner(&agent).handshake_timeout(Duration::MAX);
                let error = failure(runner, metadata.clone());
                if cfg!(windows) && matches!(error, Error::HandshakeClosed) {
                    // A named pipe loses what was not read when the agent closed.
                    continue;
                }
                assert_eq!(reason(error), RejectReason::TooManySessions);
            }
        }
        assert!(agent.sessions().iter().all(|session| session.hello.is_none()));
    });
}

#[test]
fn an_agent_that_never_answers_is_waited_for_as_long_as_was_said() {
    watched(|| {
        let agent = TestAgent::with(Script::new().never_answer()).unwrap();
        let start = Instant::now();
        let error = failure(runner(&agent).handshake_timeout(SHORT), metadata());
        assert!(matches!(error, Error::HandshakeTimeout(SHORT)), "{error:?}");
        let waited = start.elapsed();
        assert!(waited >= SHORT && waited < SHORT + GRACE, "{waited:?}");
        assert!(error.to_string().contains("300ms"), "{error}");
        assert!(!error.is_permanent());
    });
}

#[test]
fn an_answer_may_come_byte_by_byte() {
    watched(|| {
        let script = Script::new().answer_slowly(Duration::from_millis(1));
        let agent = TestAgent::with(script.session_id("slow")).unwrap();
        let report = session(runner(&agent).handshake_timeout(LIMIT), one_event);
        assert!(report.confirmed, "{report:?}");
        assert_eq!(report.session_id, "slow");
    });
}

#[test]
fn the_handshake_timeout_is_for_the_whole_answer() {
    watched(|| {
        // A byte every 30 ms would take more than three seconds, one a second two minutes.
        for (pause, timeout) in [(SHORT / 10, SHORT), (SECOND, 2 * SECOND + SHORT)] {
            let agent = TestAgent::with(Script::new().answer_slowly(pause)).unwrap();
            let start = Instant::now();
            let error = failure(runner(&agent).handshake_timeout(timeout), metadata());
            let waited = start.elapsed();
            assert!(matches!(error, Error::HandshakeTimeout(t) if t == timeout), "{error:?}");
            assert!((timeout..timeout + GRACE).contains(&waited), "{waited:?}");
        }
    });
}

#[test]
fn a_long_hello_may_be_read_slowly_but_not_for_ever() {
    watched(|| {
        let script = Script::new().read_slowly(8 << 20);
        let agent = TestAgent::with(script).unwrap();
        runner(&agent).handshake_timeout(LIMIT).run_with(metadata_of_900_kib(), one_event).unwrap();

        let agent = TestAgent::with(Script::new().read_slowly(1000)).unwrap();
        let error = failure(runner(&agent).handshake_timeout(SHORT), metadata_of_900_kib());
        assert!(matches!(error, Error::HandshakeTimeout(SHORT)), "{error:?}");
    });
}

#[test]
fn garbage_is_not_the_protocol() {
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
fn an_answer_must_be_an_object() {
    watched(|| {
        for body in [r#"["hello_ack","s","v",4096,30]"#, r#"["reject","revoked"]"#] {
            assert_protocol(&failure_with(Script::new().answer_with_body(body)));
        }
    });
}

#[test]
#[cfg(target_os = "linux")]
fn an_announced_length_allocates_nothing() {
    fn peak_kib() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
        let digits = peak.unwrap().trim().trim_end_matches(" kB");
        digits.parse().unwrap()
    }
    watched(|| {
        let before = peak_kib();
        assert_protocol(&failure_with(Script::new().announce(u32::MAX)));
        // The tests beside this one take address space too, but not gigabytes of it.
        assert!(peak_kib() - before < 3 << 20, "{before} KiB before");
    });
}

#[test]
fn only_the_first_answer_counts() {
    watched(|| {
        let acked = [ack("first"), reject("revoked")].concat();
        let agent = TestAgent::with(Script::new().answer_with(acked)).unwrap();
        let report = session(runner(&agent), one_event);
        assert_eq!(report.session_id, "first");
        assert!(report.confirmed, "{report:?}");

        let rejected = [reject("revoked"), ack("second")].concat();
        let error = failure_with(Script::new().answer_with(rejected));
        assert_eq!(reason(error), RejectReason::Revoked);
    });
}

#[test]
fn bytes_after_the_ack_are_ignored() {
    let after = [vec![0; 4], vec![0xff; 3], frame("null"), ack("another"), vec![0xa5; 60_000]];
    watched(|| {
        for bytes in after {
            // In one write, and in a second one.
            let together = Script::new().answer_with([ack("s"), bytes.clone()].concat());
            let apart = Script::new().send_after_ack(bytes);
            for script in [together, apart] {
                let agent = TestAgent::with(script).unwrap();
                let report = session(runner(&agent), one_event);
                assert!(report.confirmed, "{report:?}");
                let session = agent.ended_session(LIMIT).unwrap();
                assert_eq!(session.end, Some(SessionEnd::Goodbye));
                assert_eq!(session.events().count(), 1);
            }
        }
    });
}

#[test]
fn an_agent_that_closes_instead_of_answering() {
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
fn a_limit_that_no_event_fits_leaves_the_session_standing() {
    watched(|| {
        for limit in [0, 10] {
            let agent = TestAgent::with(Script::new().max_payload_bytes(limit as u64)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                assert_eq!(ctx.max_payload_bytes(), limit);
                let refused = sink.emit("", json!(null));
                assert!(
                    matches!(refused, Err(Error::PayloadTooLarge { max, .. }) if max == limit),
                    "{refused:?}"
                );
                Ok(())
            });
            assert!(report.confirmed && report.stats.sent == 0, "{report:?}");
        }
    });
}

#[test]
fn a_limit_beyond_the_frame_is_the_frames() {
    watched(|| {
        for limit in [MIB as u64, 1 << 32, u64::MAX] {
            let agent = TestAgent::with(Script::new().max_payload_bytes(limit)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                assert_eq!(ctx.max_payload_bytes(), MIB);
                let refused = sink.emit("test.large", "x".repeat(MIB).into());
                assert!(matches!(refused, Err(Error::PayloadTooLarge { max: MIB, .. })));
                sink.emit("test.large", "x".repeat(MIB - 200).into())
            });
            assert!(report.confirmed && report.stats.sent == 1, "{report:?}");
        }
    });
}

#[test]
fn a_heartbeat_of_no_or_of_endless_seconds_is_none_for_now() {
    watched(|| {
        for seconds in [0, u64::from(u32::MAX), u64::MAX] {
            let agent = TestAgent::with(Script::new().heartbeat_sec(seconds)).unwrap();
            let report = session(runner(&agent), |sink, ctx| {
                one_event(sink, ctx)?;
                sink.flush(LIMIT)?;
                one_event(sink, ctx)
            });
            assert!(report.confirmed && report.stats.heartbeats == 0, "{report:?}");
        }
    });
}

#[test]
fn a_shutdown_during_the_handshake_is_no_error() {
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

/// An agent that does not read hello, and does not hang up either.
mod unread {
    use super::raw::{ACK, RawAgent};
    use super::*;

    /// What a plugin with a long hello makes of an agent that answers `bytes` without reading,
    /// and what came of hello, or after it.
    fn answered_unread(bytes: &[u8], timeout: Duration) -> (Error, Vec<u8>) {
        let agent = RawAgent::start();
        std::thread::scope(|scope| {
            let (finished, wait_until_finished) = mpsc::channel::<()>();
            let listening = &agent;
            let agents = scope.spawn(move || {
                let mut pipe = listening.accept();
                pipe.send(bytes).unwrap();
                // Ends when the sender is dropped.
                let _ = wait_until_finished.recv();
                pipe.rest()
            });
            let error = failure(agent.runner().handshake_timeout(timeout), metadata_of_900_kib());
            drop(finished);
            (error, agents.join().unwrap())
        })
    }

    #[test]
    fn a_reject_counts_though_hello_is_stuck() {
        watched(|| {
            let (error, _) = answered_unread(&reject("revoked"), SHORT);
            assert_eq!(reason(error), RejectReason::Revoked);
        });
    }

    #[test]
    fn a_reject_counts_at_once_though_hello_is_stuck() {
        watched(|| {
            let (error, _) = answered_unread(&reject("revoked"), Duration::MAX);
            assert_eq!(reason(error), RejectReason::Revoked);
        });
    }

    #[test]
    fn an_ack_does_not_mend_a_hello_that_was_cut_off() {
        watched(|| {
            let (error, rest) = answered_unread(&raw::frame(ACK), SHORT);
            assert!(matches!(error, Error::Protocol(_)), "{error:?}");
            let announced = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
            assert!(rest.len() < 4 + announced, "written after a torn frame");
        });
    }
}
