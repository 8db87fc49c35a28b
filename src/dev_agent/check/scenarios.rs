//! The table of scenarios: how the agent behaves, and what the plugin must do.

use std::time::Duration;

use super::trial::{Result, Trial};
use crate::testing::Script;

/// How long the agent stalls or reads slowly. A plugin must not give up a write within this time.
const STALL: Duration = Duration::from_secs(3);
/// How long the check watches a session without a fault.
const WATCH: Duration = Duration::from_secs(1);
/// How many bytes a second a slow agent reads.
const SLOW: u32 = 20_000;
/// The smallest `max_payload_bytes` that an agent is expected to send.
const SMALL: u64 = 4096;
/// The time without a frame after which the agent may drop a session, if the heartbeat interval is one second.
const SILENCE: Duration = Duration::from_secs(3);

/// One run of the plugin, or two.
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// What the plugin must do, as a sentence.
    pub(super) expects: &'static str,
    /// How the agent behaves.
    pub(super) script: fn() -> Script,
    /// Runs the scenario. If the plugin passes, returns what it did.
    pub(super) run: fn(&mut Trial<'_>) -> Result<String>,
}

/// In the order in which the check runs them: the failure of an early scenario often explains later
/// failures.
pub(super) const SCENARIOS: &[Scenario] = &[
    #[cfg(unix)]
    Scenario {
        name: "ctrl-c",
        expects: "the plugin sends hello with the id in WEDR_PLUGIN_ID, and an event; within 5 s of \
                  Ctrl+C it sends goodbye and exits with status 0",
        script: Script::new,
        run: |trial| {
            trial.first_event()?;
            trial.interrupt();
            trial.ends_in_order()
        },
    },
    #[cfg(unix)]
    Scenario {
        name: "sigterm",
        expects: "within 5 s of SIGTERM the plugin sends goodbye and exits with status 0",
        script: Script::new,
        run: |trial| {
            trial.first_event()?;
            trial.terminate();
            trial.ends_in_order()
        },
    },
    Scenario {
        name: "heartbeats",
        expects: "the plugin sends a frame at least every three heartbeat intervals, here 3 s",
        script: || Script::new().heartbeat_sec(1),
        run: |trial| {
            trial.hello()?;
            trial.sends_heartbeats(2 * SILENCE, SILENCE)
        },
    },
    Scenario {
        name: "unknown-id",
        expects: "the plugin, rejected with unknown_plugin_id, prints this reason and exits with an \
                  error status; it works when it is started again and accepted",
        script: || Script::new().reject("unknown_plugin_id"),
        run: |trial| refused(trial, "unknown_plugin_id"),
    },
    Scenario {
        name: "revoked",
        expects: "the plugin, rejected with revoked, prints this reason and exits with an error \
                  status; it works when it is started again and accepted",
        script: || Script::new().reject("revoked"),
        run: |trial| refused(trial, "revoked"),
    },
    Scenario {
        name: "closed-unanswered",
        expects: "the plugin exits with an error status within 10 s after the agent closed without \
                  an answer",
        script: || Script::new().close_before_answer(),
        run: |trial| {
            trial.session_closes()?;
            trial.fails("after the agent closed without an answer")
        },
    },
    Scenario {
        name: "closed",
        expects: "the plugin exits with an error status within 10 s after the agent closed the \
                  session",
        script: || Script::new().heartbeat_sec(1).close_after(1),
        run: |trial| {
            trial.first_event()?;
            trial.session_closes()?;
            trial.fails("after the agent closed the session")
        },
    },
    Scenario {
        name: "agent-dies",
        expects: "the plugin exits with an error status within 10 s after the agent died",
        script: || Script::new().heartbeat_sec(1),
        run: |trial| {
            trial.first_event()?;
            trial.agent_dies();
            trial.fails("after the agent died")
        },
    },
    Scenario {
        name: "stall",
        expects: "the plugin keeps its session while the agent reads nothing for 3 s, and skips a \
                  sequence number for each event that it loses",
        script: || Script::new().stop_reading_after(1),
        run: |trial| {
            trial.first_event()?;
            trial.stays(STALL, "while the agent stalled", OUTLAST)?;
            trial.agent_resumes();
            trial.stays(WATCH, "after the agent stalled", OUTLAST)?;
            trial.end_in_order()
        },
    },
    #[cfg(unix)]
    Scenario {
        name: "stall-for-good",
        expects: "the plugin exits within 5 s of Ctrl+C although the agent no longer reads",
        script: || Script::new().stop_reading_after(1),
        run: |trial| {
            trial.first_event()?;
            trial.stays(STALL, "while the agent stalled", OUTLAST)?;
            trial.interrupt();
            trial.ends().map(|status| status.to_string())
        },
    },
    Scenario {
        name: "slow",
        expects: "the plugin keeps its session while the agent reads 20 000 bytes a second for 3 s",
        script: || Script::new().read_slowly(SLOW),
        run: |trial| {
            trial.first_event()?;
            trial.stays(STALL, "while the agent read slowly", OUTLAST)?;
            trial.agent_resumes();
            trial.stays(WATCH, "after the agent read slowly", OUTLAST)?;
            trial.end_in_order()
        },
    },
    Scenario {
        name: "small-limit",
        expects: "the plugin sends no event of more than 4096 bytes, the max_payload_bytes of \
                  hello_ack",
        script: || Script::new().max_payload_bytes(SMALL),
        run: |trial| {
            trial.first_event_if_any()?;
            let remedy = "shorten or split an event that is too large, and keep the session";
            trial.stays(WATCH, "under the small limit", remedy)?;
            trial.end_in_order()
        },
    },
    Scenario {
        name: "unknown-fields",
        expects: "the plugin ignores fields of hello_ack that it does not know",
        script: || {
            Script::new().answer_with_body(
                r#"{"type":"hello_ack","later":{"a":[1]},"session_id":"check","server_version":"9",
                "max_payload_bytes":1048576,"heartbeat_sec":30,"until":null}"#,
            )
        },
        run: accepted,
    },
    Scenario {
        name: "short-ack",
        expects: "the plugin accepts a hello_ack that has only a session_id",
        script: || Script::new().answer_with_body(r#"{"type":"hello_ack","session_id":"check"}"#),
        run: accepted,
    },
    Scenario {
        name: "bytes-after-ack",
        expects: "the plugin reads and ignores bytes after hello_ack",
        script: || Script::new().send_after_ack(*b"\x10\0\0\0{\"type\":\"later\"}\xff\xff"),
        run: accepted,
    },
    Scenario {
        name: "killed",
        expects: "the plugin works when it is started again after it was killed",
        script: Script::new,
        run: |trial| {
            trial.first_event()?;
            trial.kill();
            works_again(trial)
        },
    },
];

const OUTLAST: &str = "keep the session open, and let the writer wait until the agent reads again";

/// The agent accepts the plugin with an answer that a later version may send.
fn accepted(trial: &mut Trial<'_>) -> Result<String> {
    trial.first_event()?;
    let remedy = "ignore everything that the agent sends and that docs/protocol.md does not list";
    trial.stays(WATCH, "after the answer", remedy)?;
    trial.end_in_order()
}

fn refused(trial: &mut Trial<'_>, reason: &str) -> Result<String> {
    trial.session_closes()?;
    let first = trial.fails("after the refusal")?;
    trial.has_printed(reason)?;
    Ok(format!("{first}; then {}", works_again(trial)?))
}

fn works_again(trial: &mut Trial<'_>) -> Result<String> {
    trial.start_again(Script::new())?;
    trial.first_event()?;
    trial.end_in_order()
}
