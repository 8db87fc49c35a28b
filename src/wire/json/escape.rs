//! JSON's strings.
//!
//! Searched for what must be escaped eight bytes at a time, and written word by word: most strings
//! of an event are a word or two, for which a call that copies costs more than the copy.

use std::fmt;

use crate::wire::buffer::{Buffer, WORD, short_word};

/// Writes `text` as a JSON string.
#[inline]
pub(in crate::wire) fn put_string(out: &mut Buffer<'_>, text: &str) {
    out.put(b"\"");
    put_escaped(out, text);
    out.put(b"\"");
}

fn put_escaped(out: &mut Buffer<'_>, text: &str) {
    let mut rest = put_short_escaped(out, text.as_bytes());
    while !rest.is_empty() {
        let clean = clean_run(rest);
        out.put(&rest[..clean]);
        rest = &rest[clean..];
        if let Some((byte, after)) = rest.split_first() {
            put_escape(out, *byte);
            rest = after;
        }
    }
}

/// Puts as much as fits inline, word by word; returns the rest. It saves a call for every piece,
/// and most strings are a word or two.
#[inline]
fn put_short_escaped<'t>(out: &mut Buffer<'_>, text: &'t [u8]) -> &'t [u8] {
    let mut rest = text;
    out.put_words(|mut words| {
        while words.have_room() {
            let (word, n) = match rest.first_chunk() {
                Some(word) => (u64::from_le_bytes(*word), WORD),
                None => (short_word(rest), rest.len()),
            };
            let special = special(word);
            if special == 0 {
                words.put(word, n);
                rest = &rest[n..];
                if n < WORD {
                    break;
                }
                continue;
            }
            let clean = (special.trailing_zeros() / 8) as usize;
            words.put(word, clean);
            let byte = rest[clean];
            if !matches!(byte, b'"' | b'\\') {
                rest = &rest[clean..];
                break;
            }
            words.put(u64::from(b'\\') | u64::from(byte) << 8, 2);
            rest = &rest[clean + 1..];
        }
        words
    });
    rest
}

/// How many bytes come before the first that must be escaped.
fn clean_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(word) = bytes[at..].first_chunk() {
        let special = special(u64::from_le_bytes(*word));
        if special != 0 {
            return at + (special.trailing_zeros() / 8) as usize;
        }
        at += WORD;
    }
    at + bytes[at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | ..0x20)).count()
}

/// Has the high bit set of the first byte that must be escaped, a quote, a backslash or a control
/// character, and of none before it; zero if there is none.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    // Each borrows from the high bit of a byte that is less than a space, or equal to the other.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word & (ONES << 7)
}

#[cold]
fn put_escape(out: &mut Buffer<'_>, byte: u8) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
            out.put(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)]);
            return;
        }
    };
    out.put(&[b'\\', short]);
}

/// What goes through it is escaped.
pub(super) struct Escaped<'a, 'b>(pub(super) &'a mut Buffer<'b>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        put_escaped(self.0, text);
        Ok(())
    }
}
