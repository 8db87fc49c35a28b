//! Unchecked text that claims to be JSON.
//!
//! `serde_json` passes the text of a `RawValue`, and a number under its feature `arbitrary_precision`, as
//! a struct with a private name. `serde_json` writes the text. This module checks that the agent's parser
//! accepts the text: nesting is limited, a number must fit an `f64`, and an escaped surrogate must be one of a
//! pair.

use std::io;

use serde::de::IgnoredAny;
use serde::ser::{Error as _, SerializeStruct};
use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::MAX_PAYLOAD_DEPTH;
use super::buffer::Buffer;
use crate::error::Error;

/// The beginning of the private names.
pub(super) const PRIVATE: &str = "$serde_json::private::";

/// Writes the struct `name` with its one field, which may be nested `levels` deep.
pub(super) fn write<T>(
    out: &mut Buffer<'_, '_>,
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

/// Writes text that the agent accepts, and stores the first refusal.
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
    /// Called for a struct with a private name that `serde_json` does not know.
    fn begin_object<W: ?Sized + io::Write>(&mut self, _: &mut W) -> io::Result<()> {
        let unknown = "a struct has a name that serde_json uses itself; give it another name";
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

/// Checks that a number, which has JSON's grammar, is in the range of the agent's parser. With `serde_json`'s
/// feature `float_roundtrip` that parser rounds correctly. Without the feature it may be slightly wrong, so
/// that the largest numbers become infinite. The number must be finite in both cases.
fn check_number(text: &str) -> Result<(), Error> {
    let is_finite = text.parse::<f64>().is_ok_and(f64::is_finite) && read_simply(text).is_finite();
    if is_finite { Ok(()) } else { Err(serde_json::Error::custom("number out of range").into()) }
}

/// The absolute value of a number as `serde_json` reads it without `float_roundtrip`.
fn read_simply(text: &str) -> f64 {
    let text = text.trim_start_matches('-');
    let (digits, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let mut significand = 0_u64;
    let mut scale = 0_i64;
    // The first digit that does not fit into the `u64` is dropped, and so are all digits after it.
    let mut is_full = false;
    let mut take = |digit: u8| {
        let more = significand.checked_mul(10).and_then(|n| n.checked_add(u64::from(digit - b'0')));
        is_full |= more.is_none();
        if !is_full {
            significand = more.unwrap_or(significand);
        }
        !is_full
    };
    for digit in whole.bytes() {
        scale += i64::from(!take(digit));
    }
    for digit in fraction.bytes() {
        scale -= i64::from(take(digit));
    }
    // An exponent beyond `i64` has the same effect as the largest one.
    let saturated = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
    scale += exponent.parse::<i64>().unwrap_or(saturated).clamp(i64::MIN / 2, i64::MAX / 2);
    #[expect(clippy::cast_precision_loss, reason = "as serde_json does it")]
    let mut value = significand as f64;
    while value != 0.0 && scale < -308 {
        value /= 1e308;
        scale += 308;
    }
    match i32::try_from(scale) {
        _ if value == 0.0 => 0.0,
        Ok(scale @ 0..=308) => value * power_of_ten(scale),
        Ok(scale @ -308..0) => value / power_of_ten(-scale),
        _ => f64::INFINITY,
    }
}

/// 10 to the power of `n`, at most 308, correctly rounded.
fn power_of_ten(n: i32) -> f64 {
    format!("1e{n}").parse().unwrap_or(f64::INFINITY)
}

/// Whether an object with this key has another meaning for a `serde_json` with the features `raw_value` or
/// `arbitrary_precision`. The agent's `serde_json` may have them.
#[inline]
pub(super) fn is_private_key(key: &str) -> bool {
    key.starts_with('$') && key.starts_with(PRIVATE)
}

pub(super) fn private_key() -> serde_json::Error {
    serde_json::Error::custom(format_args!(
        "a key begins with {PRIVATE}, which serde_json uses itself; give the field another name"
    ))
}

/// Checks one JSON value as text. Does not use recursion.
fn check_fragment(text: &str, max_depth: usize) -> Result<(), Error> {
    // Checks the grammar, on which the scan below relies.
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
            b'"' if bytes[at..end].contains(&b'\\') || bytes[at + 1] == b'$' => {
                let string = serde_json::from_str::<String>(&text[at..end])?;
                let is_key = text[end..].trim_start().starts_with(':');
                if is_key && is_private_key(&string) {
                    return Err(private_key().into());
                }
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

    /// Near the largest `f64`, the rounding of the parser decides whether it accepts a number.
    #[test]
    fn large_numbers_are_refused_exactly_if_the_agent_does() {
        let mut rng = fastrand::Rng::with_seed(17);
        let mut seen = [0, 0];
        for _ in 0..20_000 {
            let digits = rng.usize(1..25);
            let tail: String = (0..digits).map(|_| rng.digit(10)).collect();
            let whole = format!("1797693134862315{tail}");
            let point = rng.usize(1..whole.len());
            let text = format!("{}.{}e{}", &whole[..point], &whole[point..], 309 - point);
            let accepts = agent_takes(&text) && text.parse::<f64>().is_ok_and(f64::is_finite);
            let mine = check_number(&text);
            assert_eq!(mine.is_ok(), accepts, "{text}: {mine:?}");
            seen[usize::from(accepts)] += 1;
        }
        assert!(seen.iter().all(|n| *n > 100), "{seen:?}");
    }

    #[test]
    fn private_names_of_serde_json_are_refused_as_keys() {
        for text in [
            r#"{"$serde_json::private::RawValue":"1"}"#,
            r#"[{"a":1,"$serde_json::private::Number" : "1"}]"#,
            r#"{"\u0024serde_json::private::Number":"1"}"#,
        ] {
            let error = check_fragment(text, MAX_PAYLOAD_DEPTH).unwrap_err().to_string();
            assert!(error.contains("another name"), "{error}");
        }
    }

    #[test]
    fn raw_text_is_refused_exactly_if_the_agent_does() {
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
            r#"{"\u0024serde_json::private":1}"#,
            r#""$serde_json::private::Number""#,
            "nul",
            "[1",
            "",
            " { \"a\" : [ true , null ] } ",
            &deep(126),
            &deep(127),
            &deep(200),
            &"9".repeat(308),
            &"9".repeat(310),
            // They round to the largest `f64` exactly, or as the parser rounds.
            "1.7976931348623158e308",
            "1.79769313486231569e308",
            "17976931348623157e292",
            "0.00017976931348623157e312",
            &format!("17976931348623157{}", "0".repeat(292)),
            &format!("17976931348623157{}.5e1", "0".repeat(291)),
            &format!("{}e-400", "1".repeat(700)),
            &format!("0.{}1e400", "0".repeat(100)),
            "1e99999999999999999999",
            "1e-99999999999999999999",
            "0e99999999999999999999",
        ] {
            let mine = check_fragment(text, MAX_PAYLOAD_DEPTH);
            assert_eq!(mine.is_ok(), agent_takes(text), "{text}: {mine:?}");
        }
        assert!(matches!(check_fragment(&deep(3), 2), Err(Error::PayloadTooDeep { .. })));
    }
}
