//! Collects the kinds, fields and types that rules can use, and notes about the rest.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::error::{Printable, shortened};
use crate::testing::Event;

/// How many kinds are examined, and how many fields of each kind. The limit bounds the memory.
const LIMIT: usize = 1000;

/// Something that rules cannot use.
#[derive(Debug, Serialize)]
pub(super) struct Note {
    pub(super) what: String,
    pub(super) remedy: String,
}

/// The kinds, fields and types of all events so far.
#[derive(Default)]
pub(super) struct Examiner {
    kinds: BTreeMap<String, Kind>,
    /// Whether there were more kinds, or fields of a kind, than [`LIMIT`].
    too_many: bool,
}

/// The payloads of one kind.
#[derive(Default)]
pub(super) struct Kind {
    /// Whether a payload was not an object.
    not_an_object: bool,
    fields: BTreeMap<String, BTreeSet<Type>>,
}

/// The types of fields that rules distinguish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Type {
    Bool,
    Int,
    Float,
    String,
    Object,
    Array,
}

impl Type {
    /// Returns `None` for null, which rules treat as an absent field.
    fn of(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Self::Bool,
            // Rules treat an integer outside the range of an i64 as a float.
            Value::Number(n) if n.is_i64() => Self::Int,
            Value::Number(_) => Self::Float,
            Value::String(_) => Self::String,
            Value::Object(_) => Self::Object,
            Value::Array(_) => Self::Array,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Float => "float",
            Self::String => "string",
            Self::Object => "object",
            Self::Array => "array",
        }
    }

    fn is_scalar(self) -> bool {
        !matches!(self, Self::Object | Self::Array)
    }
}

impl Examiner {
    pub(super) fn event(&mut self, event: &Event) {
        let name = shortened(&event.kind);
        if self.kinds.len() >= LIMIT && !self.kinds.contains_key(&name) {
            self.too_many = true;
            return;
        }
        let kind = self.kinds.entry(name).or_default();
        let Value::Object(members) = &event.payload else {
            kind.not_an_object = true;
            return;
        };
        for (field, value) in members {
            let Some(value_type) = Type::of(value) else { continue };
            let name = shortened(field);
            if kind.fields.len() < LIMIT || kind.fields.contains_key(&name) {
                kind.fields.entry(name).or_default().insert(value_type);
            } else {
                self.too_many = true;
            }
        }
    }

    /// The kinds that a rule can name. Kinds with dots are included: a later engine may accept them.
    pub(super) fn kinds(&self) -> impl Iterator<Item = (&str, &Kind)> {
        let kinds = self.kinds.iter().map(|(name, kind)| (name.as_str(), kind));
        kinds.filter(|(name, _)| name.split('.').all(is_name))
    }

    /// Notes about everything that rules cannot use.
    pub(super) fn notes(&self) -> Vec<Note> {
        let too_many = self.too_many.then(|| Note {
            what: format!(
                "there are more than {LIMIT} kinds, or fields of a kind; only the first were examined"
            ),
            remedy: "use fewer kinds and fields; put what varies into the values of fields".into(),
        });
        self.kinds.iter().flat_map(|(name, kind)| kind.notes(name)).chain(too_many).collect()
    }
}

impl Kind {
    /// The fields that a rule can name, each with its type if rules can use it. A field that is an
    /// integer in some events and a float in others is a float.
    pub(super) fn fields(&self) -> impl Iterator<Item = (&str, Option<Type>)> {
        let of = |types: &BTreeSet<Type>| {
            let widest = *types.last()?;
            let numbers = types.iter().all(|one| matches!(one, Type::Int | Type::Float));
            (widest.is_scalar() && (types.len() == 1 || numbers)).then_some(widest)
        };
        let named = self.fields.iter().filter(|(name, _)| is_name(name));
        named.map(move |(name, types)| (name.as_str(), of(types)))
    }

    fn notes(&self, name: &str) -> Vec<Note> {
        let shown = Printable(name);
        let mut notes = Vec::new();
        let mut note = |what: String, remedy: String| notes.push(Note { what, remedy });
        if name.contains('.') && is_name(&name.replace('.', "_")) {
            note(
                format!("kind {shown} has a dot; the rule engine 0.1.0 matches no kind with a dot"),
                format!("name the kind {}", name.replace('.', "_")),
            );
        } else if !is_name(name) {
            note(
                format!("no rule can name the kind {shown}"),
                "use only letters, digits and underscores".into(),
            );
        }
        if self.not_an_object {
            note(
                format!("a payload of {shown} is not an object; rules can use no part of it"),
                "put the payload into a field of an object".into(),
            );
        }
        for (field, types) in &self.fields {
            let field_shown = Printable(field);
            if !is_name(field) {
                note(
                    format!("no rule can name the field {field_shown} of {shown}"),
                    "use only letters, digits and underscores".into(),
                );
            }
            let names: Vec<_> = types.iter().map(|field_type| field_type.name()).collect();
            if types.iter().any(|field_type| !field_type.is_scalar()) {
                note(
                    format!(
                        "the field {field_shown} of {shown} is an {}, which rules cannot use",
                        if types.contains(&Type::Object) { "object" } else { "array" }
                    ),
                    "put the values that rules need into top-level fields: strings, numbers or booleans".into(),
                );
            } else if names.len() > 1 {
                note(
                    format!(
                        "the field {field_shown} of {shown} changes its type: {}",
                        names.join(", ")
                    ),
                    "use one type in all events of the kind; write 5 or 5.0, not both".into(),
                );
            }
        }
        notes
    }
}

/// Whether a rule can contain this name.
fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn notes(events: &[(&str, Value)]) -> Vec<String> {
        let mut examiner = Examiner::default();
        for (kind, payload) in events {
            let event = json!({ "seq": 0, "ts_unix_ns": 0, "kind": kind, "payload": payload });
            examiner.event(&serde_json::from_value(event).unwrap());
        }
        examiner.notes().into_iter().map(|note| note.what).collect()
    }

    #[test]
    fn flat_events_with_plain_names_get_no_note() {
        let events = [
            ("acme_tick", json!({ "n": 1, "f": 1.5, "text": "x", "on": true, "later": null })),
            ("acme_tick", json!({ "n": -2, "f": 2.0, "text": "", "on": false, "later": "x" })),
            ("acme_boot", json!({ "n": "another kind's type" })),
        ];
        assert_eq!(notes(&events), [""; 0]);
    }

    #[test]
    fn everything_that_rules_cannot_use_gets_a_note() {
        for (events, wanted) in [
            (vec![("acme.tick", json!({}))], "kind acme.tick has a dot"),
            (vec![("acme-tick", json!({}))], "no rule can name the kind acme-tick"),
            (vec![("k", json!([1]))], "a payload of k is not an object"),
            (vec![("k", json!({ "a-b": 1 }))], "no rule can name the field a-b of k"),
            (vec![("k", json!({ "a": { "b": 1 } }))], "the field a of k is an object"),
            (vec![("k", json!({ "a": [] }))], "the field a of k is an array"),
            (
                vec![("k", json!({ "a": 5 })), ("k", json!({ "a": 5.0 }))],
                "the field a of k changes its type: int, float",
            ),
            (
                vec![("k", json!({ "a": 5 })), ("k", json!({ "a": u64::MAX }))],
                "the field a of k changes its type: int, float",
            ),
        ] {
            let notes = notes(&events);
            assert!(notes.len() == 1 && notes[0].starts_with(wanted), "{wanted}: {notes:?}");
        }
    }

    #[test]
    fn memory_is_bounded_and_text_is_escaped() {
        let mut examiner = Examiner::default();
        for n in 0..LIMIT + 10 {
            let payload = json!({ format!("\u{1b}{n}"): 1 });
            for kind in ["\u{1b}".to_owned(), format!("\u{1b}{n}")] {
                let event = json!({ "seq": 0, "ts_unix_ns": 0, "kind": kind, "payload": payload });
                examiner.event(&serde_json::from_value(event).unwrap());
            }
        }
        assert_eq!((examiner.kinds.len(), examiner.kinds["\u{1b}"].fields.len()), (LIMIT, LIMIT));
        assert!(examiner.notes().iter().all(|note| !note.what.contains('\u{1b}')));
    }
}
