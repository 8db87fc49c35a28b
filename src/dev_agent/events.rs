//! `wedr-dev-agent events`: a recording as the input of `wedr-waza-check simulate`.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use serde::Serialize;
use serde_json::{Map, Value};

use super::examiner::{Examiner, Note};
use super::recording::{self, Result};
use super::schema::MODULE;
use super::show;

#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Arguments {
    /// A recording of wedr-dev-agent --format ndjson
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

const NOTES: &str = "\
The output is a JSON array with one object per event, in the order of the recording. An object has
the fields that rules can use: the strings, numbers and booleans at the top level of the payload.
Standard error gets a note about everything that rules cannot use.

Example:
  wedr-dev-agent events recording.ndjson > events.json
  wedr-waza-check simulate rules events.json";

/// An event in the form in which the agent's rule engine gets it.
#[derive(Serialize)]
struct Simulated<'a> {
    module: &'static str,
    event_type: &'a str,
    fields: Map<String, Value>,
}

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    recording::status(convert(arguments).map(|()| true))
}

fn convert(arguments: &Arguments) -> Result<()> {
    let mut examiner = Examiner::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut before, mut has_raw_xml) = ("[\n", false);
    recording::read(&arguments.file, |event| {
        examiner.event(&event);
        has_raw_xml |= event.payload["raw_xml"].is_string();
        let members = match event.payload {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        let is_scalar =
            |value: &Value| value.is_string() || value.is_number() || value.is_boolean();
        let fields = members.into_iter().filter(|(_, value)| is_scalar(value)).collect();
        let event = Simulated { module: MODULE, event_type: &event.kind, fields };
        write!(out, "{before}{}", show::json(&event))?;
        before = ",\n";
        Ok(())
    })?;
    // The array is closed only after the whole recording was read.
    writeln!(out, "{}", if before == "[\n" { "[]" } else { "\n]" })?;
    out.flush()?;
    recording::print(&examiner.notes());
    if has_raw_xml {
        recording::print(&[Note {
            what: "the real agent adds event_id and the Data fields of raw_xml to each event"
                .into(),
            remedy: "add the fields that your rules name to the converted events by hand".into(),
        }]);
    }
    Ok(())
}
