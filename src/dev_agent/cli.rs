//! The command line of the agent that listens, and the list of tasks. The flags of a task are in the
//! `Arguments` of its module.
//!
//! A fault acts through [`Faults::script`], or in `session.rs`. `listen.rs` uses the other flags, and
//! passes those about the launched plugin to `launch.rs`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum, value_parser};

use super::{check, events, schema};
use crate::error::RejectReason;
use crate::testing::Script;

/// An agent for plugin development: shows what plugins send, and injects faults on request.
#[derive(Debug, Parser)]
#[command(name = "wedr-dev-agent", bin_name = "wedr-dev-agent", version, after_help = NOTES)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
#[command(subcommand_value_name = "TASK", subcommand_help_heading = "Tasks")]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) task: Option<Task>,

    #[command(flatten)]
    pub(super) live: Live,
}

/// What the program does instead of listening.
#[derive(Debug, Subcommand)]
pub(super) enum Task {
    /// Check how a plugin behaves when the agent misbehaves
    Check(check::Arguments),

    /// Print the kinds, fields and types of recorded events, as a schema for rules
    Schema(schema::Arguments),

    /// Print recorded events as the input of wedr-waza-check simulate
    Events(events::Arguments),

    /// Become a plugin without a terminal; `--like-service` starts this.
    #[cfg(unix)]
    #[command(hide = true)]
    BecomePlugin {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// The options of an agent that listens until it is told to end.
#[derive(Debug, clap::Args)]
pub(super) struct Live {
    /// The pipe to listen on; see below for the default
    #[arg(long, value_name = "PATH")]
    pub(super) pipe: Option<PathBuf>,

    /// Print events as text (for people) or ndjson (for programs)
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    pub(super) format: Format,

    /// The id of the launched plugin; see below for the default
    #[arg(long, value_name = "ID", env = "WEDR_PLUGIN_ID", hide_env = true)]
    plugin_id: Option<String>,

    /// Launch the plugin again when it exits, after 1 s, then 2 s, up to 60 s
    #[arg(long, requires = "command")]
    pub(super) restart: bool,

    /// Launch and end the plugin as the agent's Windows service does
    #[arg(long, requires = "command")]
    pub(super) like_service: bool,

    /// The plugin to launch, and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,

    #[command(flatten)]
    pub(super) faults: Faults,
}

const NOTES: &str = "\
Events go to standard output, everything else goes to standard error. In ndjson each line is one
JSON object. In a terminal there is a status line. NO_COLOR=1 turns colours off.

Default pipe: with a COMMAND a private pipe, whose path the plugin gets in WEDR_PIPE_PATH. Without a
COMMAND the real agent's: /run/wazabiedr/plugin.sock, or \\\\.\\pipe\\WazabiEDR_plugin on Windows.
Default id: the value of WEDR_PLUGIN_ID, or a new UUID. The plugin gets its id in WEDR_PLUGIN_ID.

Ctrl+C ends the agent and interrupts the plugin that it launched. If the plugin still runs 5 s
later, the agent kills it. The exit status is the plugin's. It is 1 if the agent could not start
the plugin, could not listen, or could not write its output.

With --like-service the plugin gets no arguments, no terminal or console, and no Ctrl+C. Its output
is discarded. When the agent ends, the plugin has 5 s to end by itself. Then the agent kills it.

Reasons: bad_handshake, schema_mismatch, unknown_plugin_id, path_mismatch, hash_mismatch,
signature_invalid, revoked, too_many_sessions (sent before hello is read). Later agents may send
others.

Examples:
  wedr-dev-agent -- target/debug/my-plugin --verbose
  wedr-dev-agent --format ndjson -- target/debug/my-plugin | jq .payload
  wedr-dev-agent --restart --close-after 100 -- target/debug/my-plugin
  wedr-dev-agent --pipe /tmp/agent.sock
  wedr-dev-agent check -- target/debug/my-plugin
  wedr-dev-agent schema recording.ndjson";

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Ndjson,
}

/// The faults that the agent injects in every session.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Fault injection, in every session")]
pub(super) struct Faults {
    /// Reject the plugin; see below for the agent's reasons
    #[arg(long, value_name = "REASON")]
    pub(super) reject: Option<String>,

    /// Stop reading after N events, for good or for SECONDS
    #[arg(long, value_name = "N[:SECONDS]")]
    pub(super) stall_after: Option<Stall>,

    /// Read at most this many bytes per second
    #[arg(long, value_name = "BYTES_PER_S", value_parser = value_parser!(u32).range(1..))]
    pub(super) slow: Option<u32>,

    /// Close the pipe after N events
    #[arg(long, value_name = "N")]
    pub(super) close_after: Option<usize>,

    /// Kill the launched plugin without notice after N events
    #[arg(long, value_name = "N", requires = "command", value_parser = value_parser!(u64).range(1..))]
    pub(super) kill_after: Option<u64>,

    /// Accept events of at most this many bytes
    #[arg(long, value_name = "BYTES")]
    ack_max: Option<u64>,

    /// Ask the plugin for a heartbeat every SEC seconds
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
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let remedy = |_| "give a number of events, or events and seconds: 100:10";
        let (after, time) = match text.split_once(':') {
            None => (text, None),
            Some((after, seconds)) => {
                (after, Some(Duration::from_secs(seconds.parse().map_err(remedy)?)))
            }
        };
        Ok(Self { after: after.parse().map_err(remedy)?, time })
    }
}

impl Cli {
    /// Parses the program's arguments. If `--` is missing before the plugin's command, the error has a tip.
    pub(super) fn parse_arguments() -> Result<Self, clap::Error> {
        Self::try_parse().map_err(|mut error| {
            let task = std::env::args_os().nth(1).unwrap_or_default();
            let form = match task.to_str() {
                Some("schema" | "events") => None,
                Some("check") => Some("wedr-dev-agent check -- COMMAND"),
                _ => Some("wedr-dev-agent [OPTIONS] -- COMMAND"),
            };
            let is_option = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::String(argument)) => argument.starts_with('-'),
                _ => true,
            };
            if let (ErrorKind::UnknownArgument, Some(form), false) = (error.kind(), form, is_option)
            {
                let tip = format!("put -- before the plugin's command: {form}").into();
                error.insert(ContextKind::Suggested, ContextValue::StyledStrs(vec![tip]));
            }
            error
        })
    }
}

impl Live {
    /// The given id, or a new one.
    pub(super) fn plugin_id(&self) -> String {
        let given = self.plugin_id.clone().filter(|id| !id.is_empty());
        given.unwrap_or_else(super::new_id)
    }
}

impl Faults {
    /// The reason of `--reject`, if the real agent does not have it.
    pub(super) fn unknown_reason(&self) -> Option<String> {
        match RejectReason::from_wire(self.reject.clone()?) {
            RejectReason::Other(reason) => Some(reason),
            _ => None,
        }
    }

    /// The faults that start only after some events: the number of events, what the agent does, and
    /// the flag. Empty with `--reject`, because a rejected plugin sends no events.
    pub(super) fn delayed(
        &self,
    ) -> impl Iterator<Item = (u64, &'static str, &'static str)> + use<> {
        [
            (self.stall_after.map(|stall| stall.after as u64), "stops reading", "--stall-after"),
            (self.close_after.map(|after| after as u64), "closes the pipe", "--close-after"),
            (self.kill_after, "kills the plugin", "--kill-after"),
        ]
        .into_iter()
        .take(if self.reject.is_none() { usize::MAX } else { 0 })
        .filter_map(|(after, what, flag)| Some((after?, what, flag)))
    }

    pub(super) fn script(&self) -> Script {
        let script = Script::new().server_version(concat!("dev-", env!("CARGO_PKG_VERSION")));
        let script = match self.reject.as_deref() {
            // For this reason the agent does not read hello first.
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
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn stall_is_for_good_or_for_seconds() {
        assert_eq!("7".parse(), Ok(Stall { after: 7, time: None }));
        let seconds = Some(Duration::from_secs(30));
        assert_eq!("0:30".parse(), Ok(Stall { after: 0, time: seconds }));
        for wrong in ["", ":", "1:", ":1", "1:x", "-1"] {
            assert!(wrong.parse::<Stall>().is_err(), "{wrong}");
        }
    }
}
