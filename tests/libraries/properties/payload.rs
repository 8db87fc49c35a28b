//! Payloads of every kind that `serde` knows.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use crate::MAX_CONTENT;

#[derive(Debug, Clone)]
pub(crate) enum Tree {
    Unit,
    Nothing,
    Bool(bool),
    I64(i64),
    U64(u64),
    I128(i128),
    U128(u128),
    F32(f32),
    F64(f64),
    Char(char),
    Text(String),
    Bytes(Vec<u8>),
    Raw(Box<RawValue>),
    Something(Box<Tree>),
    Variant(Box<Tree>),
    Seq(Vec<Tree>),
    Map(Vec<(Key, Tree)>),
}

/// A map's key, of any type that `serde` allows.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub(crate) enum Key {
    Text(String),
    Number(i64),
    Large(u128),
    Float(f64),
    Bool(bool),
    Char(char),
    Unit,
    List([u8; 1]),
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Unit => to.serialize_unit(),
            Self::Nothing => to.serialize_none(),
            Self::Bool(x) => x.serialize(to),
            Self::I64(x) => x.serialize(to),
            Self::U64(x) => x.serialize(to),
            Self::I128(x) => x.serialize(to),
            Self::U128(x) => x.serialize(to),
            Self::F32(x) => x.serialize(to),
            Self::F64(x) => x.serialize(to),
            Self::Char(x) => x.serialize(to),
            Self::Text(x) => x.serialize(to),
            Self::Bytes(x) => to.serialize_bytes(x),
            Self::Raw(x) => x.serialize(to),
            Self::Something(x) => to.serialize_some(x),
            Self::Variant(x) => to.serialize_newtype_variant("Tree", 0, "variant", x),
            Self::Seq(all) => to.collect_seq(all),
            Self::Map(all) => {
                let mut map = to.serialize_map(None)?;
                all.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))?;
                map.end()
            }
        }
    }
}

pub(crate) fn trees() -> impl Strategy<Value = Tree> {
    let tree = leaves().prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            3 => vec(inner.clone(), 0..8).prop_map(Tree::Seq),
            3 => vec((keys(), inner.clone()), 0..8).prop_map(Tree::Map),
            1 => inner.clone().prop_map(|x| Tree::Something(Box::new(x))),
            1 => inner.prop_map(|x| Tree::Variant(Box::new(x))),
        ]
    });
    prop_oneof![
        4 => tree.clone(),
        // About as long as a session takes: the rest of a body is some 100 bytes.
        1 => (1..300_usize).prop_map(|less| Tree::Text("x".repeat(MAX_CONTENT as usize - less))),
        // About as deep as the agent's parser goes.
        1 => (tree, 115..130_usize, any::<bool>()).prop_map(|(inner, levels, in_lists)| {
            (0..levels).fold(inner, |inner, level| match level % 2 {
                0 if in_lists => Tree::Seq(vec![inner]),
                _ => Tree::Variant(Box::new(inner)),
            })
        }),
    ]
}

fn leaves() -> impl Strategy<Value = Tree> {
    let long = (".{1,20}", 0..3_000_usize).prop_map(|(part, times)| part.repeat(times));
    let texts = prop_oneof![20 => ".{0,40}".boxed(), 1 => long.boxed()];
    prop_oneof![
        Just(Tree::Unit),
        Just(Tree::Nothing),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::I64),
        any::<u64>().prop_map(Tree::U64),
        any::<i128>().prop_map(Tree::I128),
        any::<u128>().prop_map(Tree::U128),
        // NaN and the infinities are among them.
        proptest::num::f32::ANY.prop_map(Tree::F32),
        proptest::num::f64::ANY.prop_map(Tree::F64),
        any::<char>().prop_map(Tree::Char),
        texts.prop_map(Tree::Text),
        vec(any::<u8>(), 0..40).prop_map(Tree::Bytes),
        raw_texts()
            .prop_filter_map("JSON", |text| { RawValue::from_string(text).ok().map(Tree::Raw) }),
    ]
}

fn keys() -> impl Strategy<Value = Key> {
    prop_oneof![
        20 => ".{0,8}".prop_map(Key::Text),
        4 => any::<i64>().prop_map(Key::Number),
        2 => any::<u128>().prop_map(Key::Large),
        2 => any::<f64>().prop_map(Key::Float),
        2 => any::<bool>().prop_map(Key::Bool),
        2 => any::<char>().prop_map(Key::Char),
        1 => Just(Key::Unit),
        1 => any::<[u8; 1]>().prop_map(Key::List),
    ]
}

/// Unchecked JSON: numbers beyond an `f64`, halves of surrogates, blanks.
fn raw_texts() -> impl Strategy<Value = String> {
    let numbers = "-?(0|[1-9][0-9]{0,400})(\\.[0-9]{1,30})?([eE][+-]?[0-9]{1,4})?";
    let escape = prop_oneof![
        "[ -!#-\\[\\]-~é\u{1f600}]",
        "\\\\[\"\\\\/bfnrt]",
        "\\\\u[0-9a-fA-F]{4}",
        "\\\\u[dD][89abAB][0-9a-f]{2}",
        "\\\\u[dD][89abAB][0-9a-f]{2}\\\\u[dD][c-fC-F][0-9a-f]{2}",
    ];
    let strings = vec(escape, 0..6).prop_map(|parts| format!("\"{}\"", parts.concat()));
    let words = Union::new(["null", "true", "false"].map(Just)).prop_map(str::to_owned);
    let leaf = prop_oneof![numbers, strings.clone(), words];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        let entry = (strings.clone(), inner.clone()).prop_map(|(k, v)| format!("{k} :{v}"));
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|all| format!("[ {}]", all.join(","))),
            vec(entry, 0..4).prop_map(|all| format!("{{{}\n}}", all.join(", "))),
            (inner, 100..130_usize).prop_map(|(inner, n)| format!(
                "{}{inner}{}",
                "[".repeat(n),
                "]".repeat(n)
            )),
        ]
    })
}
