//! Writes the same JSON as `serde_json`, faster, and refuses what the agent's parser would refuse.
//!
//! The agent parses contents with `serde_json`, which limits nesting. [`raw`] checks text that
//! was not checked before: a `RawValue`, and the numbers of the feature `arbitrary_precision`. `serde_json`
//! itself writes floats.
//!
//! This module exists because serialising is most of the cost of `emit`: see decision 8 in
//! docs/decisions.

mod compound;
mod escape;

use std::fmt;

use serde::Serialize;
use serde::ser::{Error as _, Serializer};

use super::buffer::Buffer;
use super::{MAX_PAYLOAD_DEPTH, raw};
use crate::error::Error;

use compound::{Compound, Kind};
use escape::Escaped;

pub(super) use escape::put_string;

type JsonResult<T = ()> = serde_json::Result<T>;

/// Writes `payload` to `out` as compact JSON.
pub(super) fn write<'b, 'l, T>(out: Buffer<'b, 'l>, payload: &T) -> Result<Buffer<'b, 'l>, Error>
where
    T: Serialize + ?Sized,
{
    let mut json = Json { out, depth: 0, in_key: false, unfinished: 0, refusal: None };
    let result = payload.serialize(&mut json);
    match (json.refusal, result) {
        (Some(refusal), _) => Err(refusal),
        (None, Err(e)) => Err(e.into()),
        (None, Ok(())) if json.unfinished > 0 => Err(swallowed().into()),
        (None, Ok(())) => Ok(json.out),
    }
}

struct Json<'a, 'l> {
    out: Buffer<'a, 'l>,
    /// The number of open arrays and objects.
    depth: usize,
    /// Whether the next value is an object's key.
    in_key: bool,
    /// The number of parts of the value that were begun and not ended, because they failed or panicked. If
    /// the whole value still succeeds, its `Serialize` implementation has ignored the failure.
    unfinished: usize,
    /// A refusal, which a `serde_json::Error` cannot hold.
    refusal: Option<Error>,
}

fn swallowed() -> serde_json::Error {
    serde_json::Error::custom("a Serialize implementation ignored that a part of the value failed")
}

fn no_key() -> serde_json::Error {
    serde_json::Error::custom("key must be a string")
}

impl<'a, 'l> Json<'a, 'l> {
    /// Starts an array or an object.
    fn open(&mut self, bracket: u8) -> JsonResult {
        self.not_in_key()?;
        if self.depth == MAX_PAYLOAD_DEPTH {
            self.refusal = Some(Error::PayloadTooDeep { max: MAX_PAYLOAD_DEPTH });
            return Err(serde_json::Error::custom("nested too deep"));
        }
        self.depth += 1;
        self.out.put(&[bracket]);
        Ok(())
    }

    fn close(&mut self, bracket: u8) {
        self.depth -= 1;
        self.out.put(&[bracket]);
    }

    fn compound(&mut self, bracket: u8) -> JsonResult<Compound<'_, 'a, 'l>> {
        self.open(bracket)?;
        Ok(Compound::new(self, Kind::Plain))
    }

    /// Starts an array or an object that is the only value of an object. The key is the variant's name.
    fn variant(&mut self, name: &str, bracket: u8) -> JsonResult<Compound<'_, 'a, 'l>> {
        self.open_variant(name)?;
        self.open(bracket)?;
        Ok(Compound::new(self, Kind::Variant))
    }

    fn open_variant(&mut self, name: &str) -> JsonResult {
        if raw::is_private_key(name) {
            return Err(raw::private_key());
        }
        self.open(b'{')?;
        put_string(&mut self.out, name);
        self.out.put(b":");
        Ok(())
    }

    fn not_in_key(&self) -> JsonResult {
        if self.in_key { Err(no_key()) } else { Ok(()) }
    }

    /// Writes a scalar without quotes, or with quotes if it is a key.
    fn bare(&mut self, text: &str) {
        if self.in_key {
            self.out.put(b"\"");
        }
        self.out.put_few(text.as_bytes());
        if self.in_key {
            self.out.put(b"\"");
        }
    }

    fn float(&mut self, value: impl Serialize, finite: bool) -> JsonResult {
        if self.in_key {
            if !finite {
                return Err(serde_json::Error::custom(
                    "float key must be finite (got NaN or +/-inf)",
                ));
            }
            self.out.put(b"\"");
        }
        serde_json::to_writer(&mut self.out, &value)?;
        if self.in_key {
            self.out.put(b"\"");
        }
        Ok(())
    }
}

macro_rules! integers {
    ($($name:ident: $type:ty,)*) => {
        $(
            #[inline]
            fn $name(self, value: $type) -> JsonResult {
                self.bare(itoa::Buffer::new().format(value));
                Ok(())
            }
        )*
    };
}

impl<'j, 'a, 'l> Serializer for &'j mut Json<'a, 'l> {
    type Ok = ();
    type Error = serde_json::Error;
    type SerializeSeq = Compound<'j, 'a, 'l>;
    type SerializeTuple = Compound<'j, 'a, 'l>;
    type SerializeTupleStruct = Compound<'j, 'a, 'l>;
    type SerializeTupleVariant = Compound<'j, 'a, 'l>;
    type SerializeMap = Compound<'j, 'a, 'l>;
    type SerializeStruct = Compound<'j, 'a, 'l>;
    type SerializeStructVariant = Compound<'j, 'a, 'l>;

    integers! {
        serialize_i8: i8,
        serialize_i16: i16,
        serialize_i32: i32,
        serialize_i64: i64,
        serialize_i128: i128,
        serialize_u8: u8,
        serialize_u16: u16,
        serialize_u32: u32,
        serialize_u64: u64,
        serialize_u128: u128,
    }

    fn serialize_bool(self, value: bool) -> JsonResult {
        self.bare(if value { "true" } else { "false" });
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> JsonResult {
        self.float(value, value.is_finite())
    }

    fn serialize_f64(self, value: f64) -> JsonResult {
        self.float(value, value.is_finite())
    }

    fn serialize_char(self, value: char) -> JsonResult {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    #[inline]
    fn serialize_str(self, value: &str) -> JsonResult {
        if self.in_key && raw::is_private_key(value) {
            return Err(raw::private_key());
        }
        put_string(&mut self.out, value);
        Ok(())
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> JsonResult {
        use fmt::Write;
        if self.in_key {
            let mut key = String::new();
            return match write!(key, "{value}") {
                Ok(()) => self.serialize_str(&key),
                Err(_) => Err(serde_json::Error::custom("a Display failed")),
            };
        }
        self.out.put(b"\"");
        if write!(Escaped(&mut self.out), "{value}").is_err() {
            return Err(serde_json::Error::custom("a Display failed"));
        }
        self.out.put(b"\"");
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> JsonResult {
        self.collect_seq(value)
    }

    fn serialize_unit(self) -> JsonResult {
        self.not_in_key()?;
        self.out.put(b"null");
        Ok(())
    }

    fn serialize_none(self) -> JsonResult {
        self.serialize_unit()
    }

    fn serialize_unit_struct(self, _: &'static str) -> JsonResult {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> JsonResult {
        self.serialize_str(variant)
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> JsonResult {
        value.serialize(self)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> JsonResult {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> JsonResult {
        self.open_variant(variant)?;
        value.serialize(&mut *self)?;
        self.close(b'}');
        Ok(())
    }

    fn serialize_seq(self, _: Option<usize>) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.compound(b'[')
    }

    fn serialize_tuple(self, _: usize) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.compound(b'[')
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.compound(b'[')
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.variant(variant, b'[')
    }

    fn serialize_map(self, _: Option<usize>) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.compound(b'{')
    }

    #[inline]
    fn serialize_struct(self, name: &'static str, _: usize) -> JsonResult<Compound<'j, 'a, 'l>> {
        if name.starts_with(raw::PRIVATE) {
            self.not_in_key()?;
            return Ok(Compound::new(self, Kind::Raw(name)));
        }
        self.compound(b'{')
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> JsonResult<Compound<'j, 'a, 'l>> {
        self.variant(variant, b'{')
    }
}

#[cfg(test)]
mod tests;
