//! Writes JSON, and refuses what the agent's parser would.
//!
//! The agent parses bodies with `serde_json` as it comes: nesting is limited, a number must fit
//! an `f64`, and a surrogate must have its other half. Ordinary values always do; a `RawValue`
//! and the numbers of the feature `arbitrary_precision` carry text that nobody has looked at.

use std::io;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde::ser::Error as _;
use serde_json::ser::Formatter;

use super::MAX_PAYLOAD_DEPTH;
use crate::error::Error;

/// Serialises `payload` to `out` as compact JSON.
pub(super) fn write<W, T>(out: W, payload: &T) -> Result<(), Error>
where
    W: io::Write,
    T: Serialize + ?Sized,
{
    let mut strict = Strict { depth: 0, half_written: false, refusal: None };
    let mut serializer = serde_json::Serializer::with_formatter(out, &mut strict);
    let result = payload.serialize(&mut serializer);
    let Strict { depth, half_written, refusal } = strict;
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    result?;
    if half_written || depth > 0 { Err(swallowed()) } else { Ok(()) }
}

/// Follows the structure as it is written, and keeps the first refusal.
struct Strict {
    depth: usize,
    /// A key or an element was begun that has not been written yet. Seen where there should be
    /// none, it means that a `Serialize` went on after a part of it had failed.
    half_written: bool,
    refusal: Option<Error>,
}

impl Strict {
    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.half_written, true) {
            return Err(self.refuse(swallowed()));
        }
        Ok(())
    }

    fn end(&mut self) {
        self.half_written = false;
    }

    fn descend(&mut self) -> io::Result<()> {
        self.half_written = false;
        self.depth += 1;
        if self.depth > MAX_PAYLOAD_DEPTH { Err(self.refuse(too_deep())) } else { Ok(()) }
    }

    fn ascend(&mut self) -> io::Result<()> {
        if self.half_written {
            return Err(self.refuse(swallowed()));
        }
        self.depth -= 1;
        Ok(())
    }

    #[cold]
    fn refuse(&mut self, refusal: Error) -> io::Error {
        self.refusal.get_or_insert(refusal);
        io::ErrorKind::InvalidData.into()
    }
}

fn too_deep() -> Error {
    Error::PayloadTooDeep { max: MAX_PAYLOAD_DEPTH }
}

fn swallowed() -> Error {
    serde_json::Error::custom("a Serialize went on after a part of the value had failed").into()
}

/// What is not here is as compact as it comes.
impl Formatter for &mut Strict {
    fn begin_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.descend()?;
        out.write_all(b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.ascend()?;
        out.write_all(b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin()?;
        if first { Ok(()) } else { out.write_all(b",") }
    }

    fn end_array_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.end();
        Ok(())
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.descend()?;
        out.write_all(b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, out: &mut W) -> io::Result<()> {
        self.ascend()?;
        out.write_all(b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.begin()?;
        if first { Ok(()) } else { out.write_all(b",") }
    }

    // From a key's start to its value's end something is half-written; nothing to do between.

    fn end_object_value<W: ?Sized + io::Write>(&mut self, _out: &mut W) -> io::Result<()> {
        self.end();
        Ok(())
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
        check_fragment(fragment, MAX_PAYLOAD_DEPTH - self.depth).map_err(|e| self.refuse(e))?;
        out.write_all(fragment.as_bytes())
    }
}

fn check_number(text: &str) -> Result<(), Error> {
    serde_json::from_str::<f64>(text)?;
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
    use serde_json::{Value, json};

    fn nested(levels: usize) -> Value {
        (0..levels).fold(json!(1), |inner, _| json!([inner]))
    }

    fn agent_takes(payload: &str) -> bool {
        serde_json::from_str::<Value>(&format!("{{\"payload\":{payload}}}")).is_ok()
    }

    #[test]
    fn nesting_is_refused_exactly_where_the_agent_stops() {
        for levels in 120..135 {
            let mut out = Vec::new();
            let result = write(&mut out, &nested(levels));
            let text = serde_json::to_string(&nested(levels)).unwrap();
            assert_eq!(result.is_ok(), agent_takes(&text), "{levels} levels");
            if levels > MAX_PAYLOAD_DEPTH {
                assert!(matches!(result, Err(Error::PayloadTooDeep { max: 126 })), "{result:?}");
            }
        }
    }

    #[test]
    fn a_value_whose_serialize_hides_a_failure_is_refused() {
        struct Fails;
        impl Serialize for Fails {
            fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
                Err(S::Error::custom("no"))
            }
        }
        struct FailsInside;
        impl Serialize for FailsInside {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_seq([Ok(1), Err(Fails)].iter().map(|item| match item {
                    Ok(n) => Part::Number(*n),
                    Err(_) => Part::Fails(Fails),
                }))
            }
        }
        #[derive(Serialize)]
        #[serde(untagged)]
        enum Part {
            Number(i32),
            Fails(Fails),
        }
        struct Hides<T>(T, bool);
        impl<T: Serialize> Serialize for Hides<T> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                use serde::ser::SerializeMap;
                let mut map = serializer.serialize_map(None)?;
                map.serialize_entry("a", &1)?;
                let _ = map.serialize_entry("b", &self.0);
                if self.1 {
                    map.serialize_entry("c", &2)?;
                }
                map.end()
            }
        }
        for and_more in [false, true] {
            assert!(write(Vec::new(), &Hides(Fails, and_more)).is_err());
            assert!(write(Vec::new(), &Hides(FailsInside, and_more)).is_err());
            assert!(write(Vec::new(), &[Hides(Hides(3, and_more), and_more)]).is_ok());
        }
    }

    #[test]
    fn raw_text_is_refused_exactly_where_the_agent_stops() {
        let deep = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        for text in [
            "1",
            "-0.0",
            "1e308",
            "1e309",
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
