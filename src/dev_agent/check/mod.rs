//! `wedr-dev-agent check`: runs a plugin once per scenario, and reports how the plugin behaved. The
//! check sees only the pipe, the exit status and the output, so a plugin can be written in any
//! language.

mod agent;
mod end;
mod plugin;
mod report;
mod scenarios;
mod trial;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use jiff::SignedDuration;
use parking_lot::Mutex;

use super::examiner::Examiner;
use crate::shutdown::Shutdown;
use report::{Format, Report};
use scenarios::{SCENARIOS, Scenario};
use trial::{Settings, Stop, Trial};

/// The exit status of a program that Ctrl+C ended, as in a shell.
const CANCELLED: u8 = 130;

/// The command line of `check`.
#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Arguments {
    /// Print the scenarios and exit
    #[arg(long)]
    list: bool,

    /// Run only this scenario; may be given several times
    #[arg(long, value_name = "NAME", hide_possible_values = true,
        value_parser = PossibleValuesParser::new(SCENARIOS.iter().map(|scenario| scenario.name)))]
    only: Vec<String>,

    /// How long the plugin's first event may take
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    first_event: Duration,

    /// Print a line per scenario (text) or one document (json)
    #[arg(long, value_enum, default_value_t, hide_possible_values = true)]
    format: Format,

    /// Exit with status 1 if there is a note
    #[arg(long)]
    strict: bool,

    /// The plugin to check, and its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "list")]
    command: Vec<OsString>,
}

const NOTES: &str = "\
The check starts the plugin at least once for each scenario. The plugin gets a new id in
WEDR_PLUGIN_ID and the path of a private pipe in WEDR_PIPE_PATH. If it fails a scenario, the report
includes the last line that it printed.

A note is about an event that the agent's rules cannot use: the name of a kind or a field, a payload
that is not a flat object, a field that changes its type.

The exit status is 0 if every scenario is ok. It is 1 if a scenario failed or could not be run, or
if there is a note with --strict, 2 if the command line is wrong, and 130 after Ctrl+C.

Examples:
  wedr-dev-agent check -- target/debug/my-plugin
  wedr-dev-agent check --only stall --first-event 5s -- python3 plugin.py
  wedr-dev-agent check --format json --strict -- target/debug/my-plugin > report.json";

fn time(text: &str) -> Result<Duration, String> {
    let time: SignedDuration = text.parse().map_err(|_| "give a number and a unit, such as 30s")?;
    Duration::try_from(time).map_err(|_| "a time cannot be negative".into())
}

/// Checks the plugin; returns the program's exit status.
pub(super) fn main(arguments: &Arguments) -> ExitCode {
    let checked = if arguments.list { list() } else { check(arguments) };
    match checked {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Stop::Cancelled) => ExitCode::from(CANCELLED),
        Err(Stop::Cannot(what) | Stop::Failed { seen: what, .. }) => {
            // If standard error fails too, only the exit status can report this error.
            let _ = writeln!(io::stderr(), "wedr-dev-agent: {what}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> trial::Result<bool> {
    for Scenario { name, expects, .. } in SCENARIOS {
        writeln!(io::stdout(), "{name:<18} {expects}").map_err(cannot_write)?;
    }
    Ok(true)
}

fn check(arguments: &Arguments) -> trial::Result<bool> {
    let cancelled = Arc::new(Shutdown::new());
    let cancel = Arc::clone(&cancelled);
    ctrlc::set_handler(move || cancel.request())
        .map_err(|e| Stop::Cannot(format!("cannot handle Ctrl+C: {e}")))?;
    let settings = Settings {
        command: arguments.command.clone(),
        first_event: arguments.first_event,
        examiner: Arc::new(Mutex::new(Examiner::default())),
        cancelled,
    };
    let mut report = Report::new(arguments.format, arguments.strict);
    let wanted = |scenario: &&Scenario| {
        arguments.only.is_empty() || arguments.only.iter().any(|name| name == scenario.name)
    };
    for scenario in SCENARIOS.iter().filter(wanted) {
        let began = Instant::now();
        let outcome = Trial::start(&settings, (scenario.script)())
            .and_then(|mut trial| (scenario.run)(&mut trial));
        let result = match outcome {
            Ok(seen) => Ok(seen),
            Err(Stop::Failed { seen, remedy }) => Err((seen, remedy)),
            Err(stop) => return Err(stop),
        };
        report.add(scenario, result, began.elapsed()).map_err(cannot_write)?;
    }
    let notes = settings.examiner.lock().notes();
    report.finish(&notes).map_err(cannot_write)
}

fn cannot_write(e: io::Error) -> Stop {
    Stop::Cannot(format!("cannot write the report to standard output: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_scenario_has_a_name_of_its_own() {
        let names: HashSet<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
    }

    #[test]
    fn time_has_a_unit() {
        assert_eq!(time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(time("1m 500ms"), Ok(Duration::from_millis(60_500)));
        assert!(time("30").is_err() && time("").is_err() && time("-1s").is_err());
    }
}
