use super::*;
use serde::ser::SerializeMap;
use std::collections::BTreeMap;
use std::fmt::Display;

use crate::wire::event::EventTail;
use serde_json::{Value, json};

const MAX: usize = 1 << 20;

fn written<T: Serialize + ?Sized>(value: &T) -> Result<String, Error> {
    let event = EventTail::encode("", 0, value, MAX)?;
    let tail = std::str::from_utf8(event.as_bytes()).expect("JSON is UTF-8");
    let payload = tail.strip_prefix(r#""ts_unix_ns":0,"kind":"","payload":"#);
    Ok(payload
        .and_then(|payload| payload.strip_suffix('}'))
        .expect("a tail with the payload at its end")
        .to_owned())
}

/// Checks that `value` is written as `serde_json` writes it, or refused with the same error text.
fn same<T: Serialize + ?Sized>(value: &T) {
    match (written(value), serde_json::to_string(value)) {
        (Ok(mine), Ok(theirs)) => assert_eq!(mine, theirs),
        (Err(mine), Err(theirs)) => {
            assert!(
                mine.to_string().contains(&theirs.to_string()),
                "{mine} does not contain {theirs}"
            );
        }
        (mine, theirs) => panic!("{mine:?}, but serde_json returns {theirs:?}"),
    }
}

#[derive(Serialize)]
struct Unit;
#[derive(Serialize)]
struct New<T>(T);
#[derive(Serialize)]
struct Pair(i32, &'static str);
#[derive(Serialize)]
struct Fields {
    a: u8,
    #[serde(rename = "b\"\n")]
    b: Option<bool>,
}
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
enum Shape {
    Unit,
    New(u8),
    Tuple(u8, i8),
    Struct { x: i64 },
    Empty {},
}

#[test]
fn values_of_every_kind_are_written_as_serde_json_does() {
    same(&json!({ "a": [1, -2, 1.5, true, null, "x", {}, []], "b": { "c": { "d": 0 } } }));
    same(&(1_u8, -1_i8, u64::MAX, i64::MIN, u128::MAX, i128::MIN, 'c', '"', "\u{1f600}"));
    same(&[0.0_f64, -0.0, 1e300, 5e-324, 0.1, f64::NAN, f64::INFINITY, 123_456_789.0]);
    same(&[0.1_f32, f32::MAX, f32::NAN, 16_777_216.0]);
    same(&(Unit, New(3), New(New("x")), Pair(1, "y"), (), Some(1), None::<u8>));
    same(&(Fields { a: 1, b: None }, Fields { a: 2, b: Some(true) }));
    same(&(Shape::Unit, Shape::New(1), Shape::Tuple(1, -1), Shape::Struct { x: 7 }));
    same(&(Shape::Empty {}, Vec::<u8>::new(), BTreeMap::<String, u8>::new()));
    same(&std::net::IpAddr::from([192, 168, 0, 1]));
    same(&format_args!("{}\"{}", 1, '\n'));
}

#[test]
fn bytes_are_an_array_of_numbers() {
    struct Bytes;
    impl Serialize for Bytes {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(&[0, 7, 255])
        }
    }
    same(&Bytes);
    same(&[Some(Bytes), None]);
}

/// A map whose key is a float.
struct FloatKey(f64);

impl Serialize for FloatKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map([(self.0, self.0 as f32), (1.0, 1.0)])
    }
}

#[test]
fn keys_are_written_or_refused_as_serde_json_does() {
    fn key<K: Serialize + Ord>(key: K) {
        same(&BTreeMap::from([(key, 1)]));
    }
    key("a\"b");
    key(String::new());
    key('\\');
    key(true);
    key(-7_i8);
    key(u128::MAX);
    key(Some(3));
    key(None::<u8>);
    key(());
    key((1, 2));
    key(vec![1]);
    key(BTreeMap::from([(1, 1)]));
    key(Shape::Unit);
    key(Shape::New(1));
    key(Shape::Tuple(1, 2));
    key(Shape::Struct { x: 1 });
    key(std::net::Ipv4Addr::LOCALHOST);
    for float in [f64::NAN, f64::NEG_INFINITY, 0.5] {
        same(&FloatKey(float));
    }
}

#[test]
fn short_strings_are_escaped_at_every_position() {
    for length in 0..20 {
        for at in 0..length {
            for special in (0..=0x7f_u8).map(char::from).chain(['\u{80}', 'é', '\u{2028}', '😀'])
            {
                let mut text = "x".repeat(length);
                text.replace_range(at..=at, special.encode_utf8(&mut [0; 4]));
                same(&text);
                text.insert(at, '\u{1f}');
                same(&text);
            }
        }
    }
}

#[test]
fn strings_are_escaped_at_the_inline_limit() {
    for before in 0..8 {
        for length in 150..260 {
            for special in ['"', '\\', '\n'] {
                let text = format!("{}{special}", "x".repeat(length));
                same(&("x".repeat(before), text));
            }
        }
    }
}

#[test]
fn long_strings_are_escaped_at_every_position() {
    for length in [300, 511, 512, 513, 700, 33_000] {
        for from_end in 0..80 {
            for special in ['"', '\\', '\n', '\u{1f}', '\u{7f}', 'é', '😀'] {
                let mut text = "x".repeat(length);
                text.insert(length - from_end, special);
                text.insert(length - from_end, special);
                same(&text);
            }
        }
    }
    let all: String = (0..=0x7f_u8).map(char::from).collect();
    for before in 0..40 {
        same(&format!("{}{}", "x".repeat(before), all.repeat(10)));
    }
}

#[test]
fn display_that_fails_is_refused() {
    struct Fails;
    impl Display for Fails {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    assert!(matches!(written(&[Fails]), Err(Error::Json(_))));
}

#[test]
fn nesting_is_refused_exactly_if_the_agent_does() {
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!([inner]));
    for levels in 120..135 {
        let content = json!({ "payload": nested(levels) }).to_string();
        let agent_takes = serde_json::from_str::<Value>(&content).is_ok();
        let result = written(&nested(levels));
        assert_eq!(result.is_ok(), agent_takes, "{levels} levels");
        if !agent_takes {
            assert!(matches!(result, Err(Error::PayloadTooDeep { max: 126 })), "{result:?}");
        }
    }
    // A variant is an object around its value.
    let deepest = (0..62).fold(json!(1), |inner, _| json!([[inner]]));
    assert!(written(&New(Shape::New(1))).is_ok());
    assert!(written(&[Ok::<_, ()>(&deepest)]).is_ok());
    assert!(written(&[[Ok::<_, ()>(&deepest)]]).is_err());
}

#[test]
fn value_whose_serialize_hides_a_failure_is_refused() {
    struct Fails;
    impl Serialize for Fails {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(S::Error::custom("no"))
        }
    }
    /// Writes entries, and returns `Ok` although one failed.
    struct Hides<F>(F);
    impl<F: Fn(&mut dyn FnMut(Entry))> Serialize for Hides<F> {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            (self.0)(&mut |entry| {
                let _ = match entry {
                    Entry::Key(text) => map.serialize_key(text),
                    Entry::BadKey => map.serialize_key(&Fails),
                    Entry::Value => map.serialize_value(&1),
                    Entry::BadValue => map.serialize_value(&[Fails]),
                };
            });
            map.end()
        }
    }
    enum Entry {
        Key(&'static str),
        BadKey,
        Value,
        BadValue,
    }
    use Entry::{BadKey, BadValue, Key, Value};
    let hides = |entries: fn(&mut dyn FnMut(Entry))| written(&Hides(entries));
    assert!(hides(|put| [Key("a"), Value, Key("b"), Value].into_iter().for_each(put)).is_ok());
    assert!(hides(|put| [Key("a"), BadValue, Key("b"), Value].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [Key("a"), Value, Key("b"), BadValue].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [BadKey, Value].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [Key("a")].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [Key("a"), Key("b"), Value].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [Value].into_iter().for_each(put)).is_err());
    assert!(hides(|put| [Key("a"), Value, Value].into_iter().for_each(put)).is_err());
}

#[test]
fn value_that_catches_a_panic_of_a_part_is_refused() {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    struct Panics;
    impl Serialize for Panics {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            std::panic::resume_unwind(Box::new(()))
        }
    }
    struct Catches;
    impl Serialize for Catches {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut map = serializer.serialize_map(None)?;
            let _ = catch_unwind(AssertUnwindSafe(|| map.serialize_key(&Panics)));
            map.serialize_value(&1)?;
            map.end()
        }
    }
    struct CatchesText;
    impl Serialize for CatchesText {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeStruct;
            const NAME: &str = "$serde_json::private::RawValue";
            let mut text = serializer.serialize_struct(NAME, 1)?;
            let _ = catch_unwind(AssertUnwindSafe(|| text.serialize_field(NAME, &Panics)));
            text.end()
        }
    }
    assert!(matches!(written(&Catches), Err(Error::Json(_))));
    assert!(matches!(written(&CatchesText), Err(Error::Json(_))));
}

#[test]
fn private_struct_names_of_serde_json_are_checked() {
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::Nothing")]
    struct NoFields {}
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::Unknown")]
    struct OneField {
        a: Value,
    }
    #[derive(Serialize)]
    #[serde(rename = "$serde_json::private::RawValue")]
    struct TwoTexts {
        #[serde(rename = "$serde_json::private::RawValue")]
        a: &'static str,
        b: &'static str,
    }
    let deep = (0..MAX_PAYLOAD_DEPTH).fold(json!(1), |inner, _| json!([inner]));
    assert!(written(&NoFields {}).is_err());
    assert!(written(&OneField { a: deep }).is_err());
    assert!(written(&TwoTexts { a: "1", b: "2" }).is_err());
}

#[test]
fn private_names_of_serde_json_are_refused_as_keys() {
    const NAMES: [&str; 2] = ["$serde_json::private::RawValue", "$serde_json::private::Number"];
    #[derive(Serialize)]
    struct Field {
        #[serde(rename = "$serde_json::private::RawValue")]
        text: &'static str,
    }
    #[derive(Serialize)]
    enum Variant {
        #[serde(rename = "$serde_json::private::Number")]
        Of(&'static str),
    }
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    struct Shown(&'static str);
    impl Serialize for Shown {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self.0)
        }
    }
    let refused = |result: Result<String, Error>| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("$serde_json::private::, which serde_json uses itself"), "{error}");
    };
    refused(written(&Field { text: "1" }));
    refused(written(&Variant::Of("1")));
    for name in NAMES {
        refused(written(&BTreeMap::from([("a", "1"), (name, "1")])));
        refused(written(&BTreeMap::from([(Shown(name), "1")])));
        refused(written(&json!({ "a": [{ name: "1" }] })));
        // As a value it is ordinary text.
        same(name);
        same(&BTreeMap::from([("$serde_json", name)]));
    }
}

#[test]
fn payload_is_refused_after_a_part_that_is_too_deep() {
    struct Continues(usize);
    impl Serialize for Continues {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeSeq;
            let mut seq = serializer.serialize_seq(None)?;
            if self.0 > 1 {
                seq.serialize_element(&Continues(self.0 - 1))?;
            } else {
                let _ = seq.serialize_element(&[1]);
                let raw = serde_json::value::RawValue::from_string("[1]".into()).unwrap();
                seq.serialize_element(&raw)?;
            }
            seq.end()
        }
    }
    let result = written(&Continues(MAX_PAYLOAD_DEPTH));
    assert!(matches!(result, Err(Error::PayloadTooDeep { .. })), "{result:?}");
}
