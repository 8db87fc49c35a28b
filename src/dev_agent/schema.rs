//! `wedr-dev-agent schema`: the kinds, fields and types of a recording, as a schema for the agent's
//! rules.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};

use super::examiner::{Examiner, Type};
use super::recording::{self, Result, Stop};
use crate::error::Printable;

/// The module of all plugins' events.
pub(super) const MODULE: &str = "plugin";

#[derive(Debug, clap::Args)]
#[command(after_help = NOTES)]
pub(super) struct Arguments {
    /// A recording of wedr-dev-agent --format ndjson
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Compare with this schema; exit with status 1 on a difference
    #[arg(long, value_name = "SCHEMA")]
    expect: Option<PathBuf>,
}

const NOTES: &str = "\
The schema contains the kinds and fields that a rule can name. It leaves out a field that changes
its type, except a field with integers and floats, which is a float. Standard error gets a note
about everything that rules cannot use. The agent has one schema for all plugins. If you have
several plugins, concatenate their recordings first.

With --expect, standard output gets one line per difference, and the exit status is 1 if there is a
difference: a kind or a field that is not in SCHEMA, a field with another type, or a field in SCHEMA
that no recorded event of this kind has. A kind in SCHEMA that was not recorded is only a note.

Examples:
  wedr-dev-agent schema recording.ndjson > schema.json
  wedr-dev-agent schema recording.ndjson --expect schema.json";

#[derive(Debug, Serialize, Deserialize)]
struct Module {
    module: String,
    events: Vec<Kind>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kind {
    name: String,
    fields: Vec<Field>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Field {
    name: String,
    field_type: FieldType,
}

/// The types of fields in a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FieldType {
    Int,
    Float,
    String,
    Bool,
}

/// The fields of each kind, with their types; `None` for a field that rules cannot use.
type Kinds = BTreeMap<String, BTreeMap<String, Option<FieldType>>>;

pub(super) fn main(arguments: &Arguments) -> ExitCode {
    recording::status(run(arguments))
}

/// Returns false if the recording differs from the expected schema.
fn run(arguments: &Arguments) -> Result<bool> {
    let expected = arguments.expect.as_deref().map(expected).transpose()?;
    let mut examiner = Examiner::default();
    recording::read(&arguments.file, |event| {
        examiner.event(&event);
        Ok(())
    })?;
    recording::print(&examiner.notes());
    let recorded = recorded(&examiner);
    let mut out = io::stdout().lock();
    let Some(expected) = expected else {
        let schema = [Module { module: MODULE.into(), events: events(recorded) }];
        let schema = serde_json::to_string_pretty(&schema).expect("names and types serialise");
        writeln!(out, "{schema}")?;
        return Ok(true);
    };
    for name in expected.keys().filter(|name| !recorded.contains_key(*name)) {
        let _ =
            writeln!(io::stderr(), "note: the recording has no event of kind {}", Printable(name));
    }
    let differences = differences(&recorded, &expected);
    for difference in &differences {
        writeln!(out, "{difference}")?;
    }
    Ok(differences.is_empty())
}

fn recorded(examiner: &Examiner) -> Kinds {
    let usable = |field_type| match field_type {
        Type::Int => Some(FieldType::Int),
        Type::Float => Some(FieldType::Float),
        Type::String => Some(FieldType::String),
        Type::Bool => Some(FieldType::Bool),
        Type::Object | Type::Array => None,
    };
    let kinds = examiner.kinds().map(|(name, kind)| {
        let fields =
            kind.fields().map(|(name, field_type)| (name.to_owned(), field_type.and_then(usable)));
        (name.to_owned(), fields.collect())
    });
    kinds.collect()
}

fn events(kinds: Kinds) -> Vec<Kind> {
    let field = |(name, field_type): (_, Option<_>)| Some(Field { name, field_type: field_type? });
    let kinds = kinds.into_iter();
    kinds
        .map(|(name, fields)| Kind { name, fields: fields.into_iter().filter_map(field).collect() })
        .collect()
}

/// Reads the plugins' kinds from a schema file.
fn expected(path: &Path) -> Result<Kinds> {
    let cannot = |e: &dyn std::error::Error| {
        let remedy = "print one with wedr-dev-agent schema";
        Stop::Cannot(format!("cannot read the schema {}: {e}; {remedy}", path.display()))
    };
    let text = fs::read_to_string(path).map_err(|e| cannot(&e))?;
    let modules: Vec<Module> = serde_json::from_str(&text).map_err(|e| cannot(&e))?;
    let plugins = modules.into_iter().filter(|module| module.module == MODULE);
    let fields = |kind: Kind| {
        kind.fields.into_iter().map(|field| (field.name, Some(field.field_type))).collect()
    };
    let kinds = plugins.flat_map(|module| module.events);
    Ok(kinds.map(|kind| (kind.name.clone(), fields(kind))).collect())
}

/// The differences between the recorded and the expected events, one line each.
fn differences(recorded: &Kinds, expected: &Kinds) -> Vec<String> {
    let mut all = Vec::new();
    for (kind, fields) in recorded {
        let Some(wanted) = expected.get(kind) else {
            all.push(format!("{kind}: not in the schema"));
            continue;
        };
        for (field, field_type) in fields {
            match (wanted.get(field), field_type) {
                (None, Some(_)) => all.push(format!("{kind}.{field}: not in the schema")),
                (Some(expected_type), field_type) if expected_type != field_type => {
                    all.push(format!(
                        "{kind}.{field}: {} in the recording, {} in the schema",
                        name(*field_type),
                        name(*expected_type)
                    ));
                }
                // The field is as expected, or a note names it.
                (Some(_), _) | (None, None) => {}
            }
        }
        for field in wanted.keys().filter(|field| !fields.contains_key(*field)) {
            all.push(format!("{kind}.{}: in the schema, but in no event", Printable(field)));
        }
    }
    all
}

fn name(field_type: Option<FieldType>) -> &'static str {
    match field_type {
        Some(FieldType::Int) => "int",
        Some(FieldType::Float) => "float",
        Some(FieldType::String) => "string",
        Some(FieldType::Bool) => "bool",
        None => "a type that rules cannot use",
    }
}
