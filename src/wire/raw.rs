//! Text that claims to be JSON and that nobody has looked at.
//!
//! `serde_json` passes the text of a `RawValue`, and the numbers of its feature
//! `arbitrary_precision`, as structs of a private name. It writes them itself; here is checked that
//! the agent's parser takes them: nesting is limited, a number must fit an `f64`, and a surrogate
//! must have its other half.

use std::io;

use serde::de::IgnoredAny;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::MAX_PAYLOAD_DEPTH;
use super::buffer::Buffer;
use crate::error::Error;

/// What the names of those structs begin with.
pub(super) const PRIVATE: &str = "$serde_json::private::";

/// Writes the struct `name` with its one field, which may be nested `levels` deep.
pub(super) fn write<T>(
    out: &mut Buffer<'_>,
    name: &'static str,
    key: &'static str,
    value: &T,
    levels: usize,
) -> Result<(), Error>
where
    T: Serialize + ?Sized,
{
    let mut checked = Checked { levels, refusal: None };
    let mut serializer = serde_json::Serializer::with_formatter(out, &mut checked);
    let result = serializer.serialize_struct(name, 1).and_then(|mut text| {
        text.serialize_field(key, value)?;
        text.end()
    });
    checked.refusal.map_or_else(|| Ok(result?), Err)
}

/// Lets pass what the agent takes, and keeps the first refusal.
struct Checked {
    levels: usize,
    refusal: Option<Error>,
}

impl Checked {
    fn refuse(&mut self, refusal: Error) -> io::Error {
        self.refusal.get_or_insert(refusal);
        io::ErrorKind::InvalidData.into()
    }
}

fn too_deep() -> Error {
    Error::PayloadTooDeep { max: MAX_PAYLOAD_DEPTH }
}

impl Formatter for &mut Checked {
    /// A struct of such a name that `serde_json` does not know.
    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let unknown = "a struct with a name that serde_json keeps for itself";
        Err(self.refuse(serde_json::Error::custom(unknown).into()))
    }

    fn write_number_str<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        value: &str,
    ) -> io::Result<()> {
        check_number(value).map_err(|e| self.refuse(e))?;
        out.write_all(value.as_bytes())
    }

    fn write_raw_fragment<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        check_fragment(fragment, self.levels).map_err(|e| self.refuse(e))?;
        out.write_all(fragment.as_bytes())
    }
}

/// The agent's parser is one that rounds a little off, and would find what is next to the largest
/// number out of range.
fn check_number(text: &str) -> Result<(), Error> {
    let number = serde_json::from_str::<f64>(text)?;
    // With a point after the first digit, as all who print it do, it is read right.
    let is_as_printed = || {
        let text = text.trim_start_matches('-');
        let exponent = text.strip_prefix("1.7976931348623157").unwrap_or_default();
        matches!(exponent, "e308" | "E308" | "e+308" | "E+308")
    };
    if number.abs() >= f64::MAX && !is_as_printed() {
        return Err(serde_json::Error::custom("number out of range").into());
    }
    Ok(())
}

/// Checks one JSON value as text. Goes over it once, without recursion.
fn check_fragment(text: &str, max_depth: usize) -> Result<(), Error> {
    // The grammar, so that the scan below may take it for granted.
    serde_json::from_str::<IgnoredAny>(text)?;
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        let end = match bytes[at] {
            b'"' => string_end(bytes, at),
            b'-' | b'0'..=b'9' => number_end(bytes, at),
            _ => at + 1,
        };
        match bytes[at] {
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth -= 1,
            b'"' if bytes[at..end].contains(&b'\\') => {
                serde_json::from_str::<String>(&text[at..end])?;
            }
            b'-' | b'0'..=b'9' => check_number(&text[at..end])?,
            _ => {}
        }
        if depth > max_depth {
            return Err(too_deep());
        }
        at = end;
    }
    Ok(())
}

fn string_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

fn number_end(bytes: &[u8], start: usize) -> usize {
    let in_number = |b: &u8| matches!(b, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
    start + bytes[start..].iter().take_while(|b| in_number(b)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn agent_takes(payload: &str) -> bool {
        serde_json::from_str::<Value>(&format!("{{\"payload\":{payload}}}")).is_ok()
    }

    #[test]
    fn raw_text_is_refused_exactly_where_the_agent_stops() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        for text in [
            "1",
            "-0.0",
            "1e308",
            "1e309",
            "1.7976931348623157e308",
            "-1.7976931348623157e+308",
            "1.7976931348623157E+308",
            "1e999",
            "-1e999",
            "0e999",
            "1e-999",
            "[1,2e400]",
            r#""\ud800""#,
            r#""\ud83d\ude00""#,
            r#""\udc00\ud800""#,
            r#"{"\ud800":1}"#,
            r#""\\ud800""#,
            r#""a\"b","#,
            r#""[[[["#,
            r#""[[[[""#,
            "nul",
            "[1",
            "",
            " { \"a\" : [ true , null ] } ",
            &deep(126),
            &deep(127),
            &deep(200),
            &"9".repeat(308),
            &"9".repeat(310),
        ] {
            let mine = check_fragment(text, MAX_PAYLOAD_DEPTH);
            assert_eq!(mine.is_ok(), agent_takes(text), "{text}: {mine:?}");
        }
        assert!(matches!(check_fragment(&deep(3), 2), Err(Error::PayloadTooDeep { .. })));
    }
}
