//! Arrays and objects, element by element.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant,
    SerializeTuple, SerializeTupleStruct, SerializeTupleVariant,
};

use super::escape::put_string;
use super::{Json, JsonResult};
use crate::wire::{MAX_PAYLOAD_DEPTH, raw};

/// An array or an object that was begun and not yet ended.
pub(in crate::wire) struct Compound<'j, 'a, 'l> {
    json: &'j mut Json<'a, 'l>,
    first: bool,
    /// Whether a key was written and its value was not.
    expects_value: bool,
    kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Plain,
    /// The array or object is inside an object with the variant's name.
    Variant,
    /// The struct with this name, in which `serde_json` passes unchecked text.
    Raw(&'static str),
}

impl<'j, 'a, 'l> Compound<'j, 'a, 'l> {
    pub(super) fn new(json: &'j mut Json<'a, 'l>, kind: Kind) -> Self {
        Self { json, first: true, expects_value: false, kind }
    }

    #[inline]
    fn comma(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.json.out.put(b",");
        }
    }

    /// Keys and values must alternate. If they do not, the map counts as unfinished.
    #[inline]
    fn expect_value(&mut self, expects: bool) {
        self.json.unfinished += usize::from(self.expects_value == expects);
        self.expects_value = expects;
    }

    #[inline]
    fn value<T: Serialize + ?Sized>(&mut self, value: &T) -> JsonResult {
        self.json.unfinished += 1;
        let result = value.serialize(&mut *self.json);
        self.json.unfinished -= usize::from(result.is_ok());
        result
    }

    #[inline]
    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> JsonResult {
        self.comma();
        self.value(value)
    }

    #[inline]
    fn field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> JsonResult {
        if let Kind::Raw(name) = self.kind {
            return self.raw(name, key, value);
        }
        if raw::is_private_key(key) {
            return Err(raw::private_key());
        }
        self.comma();
        put_string(&mut self.json.out, key);
        self.json.out.put(b":");
        self.value(value)
    }

    #[cold]
    fn raw<T>(&mut self, name: &'static str, key: &'static str, value: &T) -> JsonResult
    where
        T: Serialize + ?Sized,
    {
        // The struct has one field, and is unfinished until this field is written.
        self.json.unfinished += 1 + usize::from(!std::mem::replace(&mut self.first, false));
        let levels = MAX_PAYLOAD_DEPTH - self.json.depth;
        match raw::write(&mut self.json.out, name, key, value, levels) {
            Ok(()) => {
                self.json.unfinished -= 1;
                Ok(())
            }
            Err(e) => {
                self.json.refusal = Some(e);
                Err(serde_json::Error::custom("refused"))
            }
        }
    }

    #[inline]
    fn finish(self, bracket: u8) {
        match self.kind {
            // Nothing was written if there was no field.
            Kind::Raw(_) => self.json.unfinished += usize::from(self.first),
            Kind::Plain => self.json.close(bracket),
            Kind::Variant => {
                self.json.close(bracket);
                self.json.close(b'}');
            }
        }
    }
}

impl SerializeMap for Compound<'_, '_, '_> {
    type Ok = ();
    type Error = serde_json::Error;

    #[inline]
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> JsonResult {
        self.expect_value(true);
        self.comma();
        self.json.in_key = true;
        let result = self.value(key);
        self.json.in_key = false;
        self.json.out.put(b":");
        result
    }

    #[inline]
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> JsonResult {
        self.expect_value(false);
        self.value(value)
    }

    #[inline]
    fn end(self) -> JsonResult {
        self.json.unfinished += usize::from(self.expects_value);
        self.finish(b'}');
        Ok(())
    }
}

macro_rules! arrays {
    ($($trait:ident: $method:ident,)*) => {
        $(impl $trait for Compound<'_, '_, '_> {
            type Ok = ();
            type Error = serde_json::Error;

            #[inline]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> JsonResult {
                self.element(value)
            }

            #[inline]
            fn end(self) -> JsonResult {
                self.finish(b']');
                Ok(())
            }
        })*
    };
}

macro_rules! objects {
    ($($trait:ident,)*) => {
        $(impl $trait for Compound<'_, '_, '_> {
            type Ok = ();
            type Error = serde_json::Error;

            #[inline]
            fn serialize_field<T>(&mut self, key: &'static str, value: &T) -> JsonResult
            where
                T: Serialize + ?Sized,
            {
                self.field(key, value)
            }

            #[inline]
            fn end(self) -> JsonResult {
                self.finish(b'}');
                Ok(())
            }
        })*
    };
}

arrays! {
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
}
objects! { SerializeStruct, SerializeStructVariant, }
