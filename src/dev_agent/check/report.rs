//! The report of a check: a line for each scenario, then the notes and the result.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::time::Duration;

use clap::ValueEnum;
use console::Style;
use serde::Serialize;

use super::scenarios::Scenario;
use crate::dev_agent::examiner::Note;

/// The format of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    #[default]
    Text,
    Json,
}

/// The result of one scenario.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) ok: bool,
    pub(super) expected: &'static str,
    pub(super) seen: String,
    /// What to do about a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
    pub(super) seconds: f64,
}

/// Collects the outcomes. The text format prints each at once.
pub(super) struct Report {
    format: Format,
    /// Whether a note is a failure.
    strict: bool,
    outcomes: Vec<Outcome>,
}

impl Report {
    pub(super) fn new(format: Format, strict: bool) -> Self {
        Self { format, strict, outcomes: Vec::new() }
    }

    pub(super) fn add(
        &mut self,
        scenario: &Scenario,
        result: Result<String, (String, String)>,
        took: Duration,
    ) -> io::Result<()> {
        let (ok, seen, remedy) = match result {
            Ok(seen) => (true, seen, None),
            Err((seen, remedy)) => (false, seen, Some(remedy)),
        };
        let (name, expected) = (scenario.name, scenario.expects);
        let outcome = Outcome { name, ok, expected, seen, remedy, seconds: took.as_secs_f64() };
        if self.format == Format::Text {
            let Outcome { seen, remedy, .. } = &outcome;
            let mut line = format!("{name}: expected: {expected}; seen: {seen}");
            if let Some(remedy) = remedy {
                write!(line, "; to do: {remedy}").expect("writing to a String succeeds");
            }
            print(marked(ok), &line)?;
        }
        self.outcomes.push(outcome);
        Ok(())
    }

    /// Prints the notes and the result, and returns whether the plugin passed.
    pub(super) fn finish(self, notes: &[Note]) -> io::Result<bool> {
        let failed: Vec<_> = self.outcomes.iter().filter(|o| !o.ok).map(|o| o.name).collect();
        let passed = failed.is_empty() && (notes.is_empty() || !self.strict);
        if self.format == Format::Json {
            #[derive(Serialize)]
            struct Document<'a> {
                passed: bool,
                scenarios: &'a [Outcome],
                notes: &'a [Note],
            }
            let document = Document { passed, scenarios: &self.outcomes, notes };
            let text = serde_json::to_string_pretty(&document).expect("the document serialises");
            return writeln!(io::stdout(), "{text}").map(|()| passed);
        }
        for Note { what, remedy } in notes {
            let mark = if self.strict { marked(false) } else { ("note", Style::new().yellow()) };
            print(mark, &format!("{what}; to do: {remedy}"))?;
        }
        let all = self.outcomes.len();
        let mut outcome = format!("{} of {all} scenarios ok", all - failed.len());
        if !failed.is_empty() {
            write!(outcome, "; failed: {}", failed.join(", "))
                .expect("writing to a String succeeds");
        }
        if !notes.is_empty() {
            let strict = if self.strict { ", which fail with --strict" } else { "" };
            write!(outcome, "; notes: {}{strict}", notes.len())
                .expect("writing to a String succeeds");
        }
        writeln!(io::stdout(), "{outcome}").map(|()| passed)
    }
}

fn marked(ok: bool) -> (&'static str, Style) {
    if ok { ("ok", Style::new().green()) } else { ("FAIL", Style::new().red().bold()) }
}

fn print((mark, style): (&str, Style), line: &str) -> io::Result<()> {
    let mark = style.for_stdout().apply_to(format!("{mark:<5}"));
    writeln!(io::stdout(), "{mark} {line}")
}
