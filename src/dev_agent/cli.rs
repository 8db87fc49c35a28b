//! What may be said on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Parser, ValueEnum, value_parser};

use crate::error::RejectReason;
use crate::testing::Script;

/// An agent to develop plugins against: shows what they send, and makes trouble on request.
#[derive(Debug, Parser)]
#[command(name = "wedr-dev-agent", bin_name = "wedr-dev-agent", version, after_help = NOTES)]
pub(super) struct Cli {
    /// The pipe to listen on; see below for the default
    #[arg(long, value_name = "PATH")]
    pub(super) pipe: Option<PathBuf>,

    /// Events as text, for people, or ndjson, for programs
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub(super) format: Format,

    /// The id of the launched plugin; see below for the default
    #[arg(long, value_name = "ID", env = "WEDR_PLUGIN_ID", hide_env = true)]
    plugin_id: Option<String>,

    /// Launch the plugin again when it exits, after 1 s, then 2 s, up to 60 s
    #[arg(long, requires = "command")]
    pub(super) restart: bool,

    /// The plugin to launch, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,

    #[command(flatten)]
    pub(super) trouble: Trouble,
}

const NOTES: &str = "\
Events go to standard output, everything else to standard error; ndjson is a JSON object a line. In
a terminal there is a status line; NO_COLOR is honoured.

Default pipe: with a COMMAND a private one, which the plugin finds in WEDR_PIPE_PATH; else the
agent's own, /run/wazabiedr/plugin.sock, or \\\\.\\pipe\\WazabiEDR_plugin on Windows.
Default id: WEDR_PLUGIN_ID of the environment, or a fresh UUID.

Ctrl+C goes to the launched plugin as well; what has not ended 5 s later is killed. The exit
status is the plugin's, or 1 if something could not be started.

Reasons: bad_handshake, schema_mismatch, unknown_plugin_id, path_mismatch, hash_mismatch,
signature_invalid, revoked, too_many_sessions (said before hello is read). Others may come.

Examples:
  wedr-dev-agent -- target/debug/my-plugin --verbose
  wedr-dev-agent --format ndjson -- target/debug/my-plugin | jq .payload
  wedr-dev-agent --restart --close-after 100 -- target/debug/my-plugin
  wedr-dev-agent --pipe /tmp/agent.sock";

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Ndjson,
}

/// How the agent misbehaves, in every session.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Trouble, in every session")]
pub(super) struct Trouble {
    /// Refuse the plugin; see below for the reasons that the agent has
    #[arg(long, value_name = "REASON")]
    pub(super) reject: Option<String>,

    /// Stop reading after N events, for good or for SECONDS
    #[arg(long, value_name = "N[:SECONDS]")]
    pub(super) stall_after: Option<Stall>,

    /// Read no more than this in a second
    #[arg(long, value_name = "BYTES_PER_S", value_parser = value_parser!(u32).range(1..))]
    pub(super) slow: Option<u32>,

    /// Close the pipe after N events
    #[arg(long, value_name = "N")]
    pub(super) close_after: Option<usize>,

    /// Accept events of at most this many bytes
    #[arg(long, value_name = "BYTES")]
    ack_max: Option<u64>,

    /// Ask for a heartbeat this often
    #[arg(long, value_name = "SEC", value_parser = value_parser!(u32).range(1..))]
    heartbeat: Option<u32>,
}

/// After how many events the agent stops reading, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stall {
    pub(super) after: usize,
    pub(super) time: Option<Duration>,
}

impl FromStr for Stall {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (after, time) = match text.split_once(':') {
            None => (text, None),
            Some((after, seconds)) => (after, Some(Duration::from_secs(seconds.parse()?))),
        };
        Ok(Self { after: after.parse()?, time })
    }
}

impl Cli {
    /// The given id, or a new one.
    pub(super) fn plugin_id(&self) -> String {
        let given = self.plugin_id.clone().filter(|id| !id.is_empty());
        given.unwrap_or_else(|| uuid::Uuid::new_v4().to_string())
    }
}

impl Trouble {
    /// A reason for a refusal that the agent does not have.
    pub(super) fn unknown_reason(&self) -> Option<String> {
        match RejectReason::from_wire(self.reject.clone()?) {
            RejectReason::Other(reason) => Some(reason),
            _ => None,
        }
    }

    pub(super) fn script(&self) -> Script {
        let script = Script::new().server_version(concat!("dev-", env!("CARGO_PKG_VERSION")));
        let script = match self.reject.as_deref() {
            // The agent does not read hello first, then.
            Some(reason @ "too_many_sessions") => script.reject(reason).answer_before_hello(),
            Some(reason) => script.reject(reason),
            None => script,
        };
        let script = self.ack_max.into_iter().fold(script, Script::max_payload_bytes);
        let heartbeat = self.heartbeat.map(u64::from);
        let script = heartbeat.into_iter().fold(script, Script::heartbeat_sec);
        let script = self.slow.into_iter().fold(script, Script::read_slowly);
        let script = self.close_after.into_iter().fold(script, Script::close_after);
        self.stall_after.map(|s| s.after).into_iter().fold(script, Script::stop_reading_after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_stall_is_for_good_or_for_seconds() {
        assert_eq!("7".parse(), Ok(Stall { after: 7, time: None }));
        let seconds = Some(Duration::from_secs(30));
        assert_eq!("0:30".parse(), Ok(Stall { after: 0, time: seconds }));
        for wrong in ["", ":", "1:", ":1", "1:x", "-1"] {
            assert!(wrong.parse::<Stall>().is_err(), "{wrong}");
        }
    }
}
