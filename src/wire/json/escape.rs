//! JSON's strings.
//!
//! A short string is searched for bytes that must be escaped, and written, in words of eight bytes. Most
//! strings of an event have one or two words, for which a call of `memcpy` costs more than the copy. A long
//! string is searched and written in blocks.

use std::fmt;

use crate::wire::buffer::{Buffer, WORD, short_word};

/// Bytes of a long string that are searched and written at once.
const BLOCK: usize = 32;
/// The most bytes of one escape.
const LONGEST_ESCAPE: usize = 6;

/// Writes `text` as a JSON string.
#[inline]
pub(in crate::wire) fn put_string(out: &mut Buffer<'_, '_>, text: &str) {
    out.put(b"\"");
    put_escaped(out, text);
    out.put(b"\"");
}

fn put_escaped(out: &mut Buffer<'_, '_>, text: &str) {
    let mut rest = put_short_escaped(out, text.as_bytes());
    while !rest.is_empty() {
        let before = rest.len();
        rest = put_long_escaped(out, rest);
        if rest.len() == before {
            // No block was written: the text is still inline, its buffer has no room for a block, or the rest is
            // shorter than a block.
            let clean = clean_run(rest);
            out.put(&rest[..clean]);
            rest = &rest[clean..];
            if let Some((byte, after)) = rest.split_first() {
                put_escape(out, *byte);
                rest = after;
            }
        }
    }
}

/// Writes blocks while the long text's buffer has room for a block. Returns the rest: all of `text` if the
/// text is still inline.
fn put_long_escaped<'t>(out: &mut Buffer<'_, '_>, text: &'t [u8]) -> &'t [u8] {
    let mut rest = text;
    out.put_long(|mut long| {
        while let Some(block) = rest.first_chunk() {
            if !long.has_room(BLOCK + LONGEST_ESCAPE) {
                break;
            }
            let clean = clean_part(block);
            long.put(block, clean);
            rest = &rest[clean..];
            if clean < BLOCK {
                let (escape, n) = escape(rest[0]);
                long.put(&escape, n);
                rest = &rest[1..];
            }
        }
        long
    });
    rest
}

/// Writes as much as fits inline, word by word, at most up to a control character. Returns the rest.
#[inline]
fn put_short_escaped<'t>(out: &mut Buffer<'_, '_>, text: &'t [u8]) -> &'t [u8] {
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

/// How many bytes precede the first byte that must be escaped.
fn clean_run(bytes: &[u8]) -> usize {
    let mut at = 0;
    while let Some(block) = bytes[at..].first_chunk() {
        let clean = clean_part(block);
        at += clean;
        if clean < BLOCK {
            return at;
        }
    }
    at + bytes[at..].iter().take_while(|b| !matches!(b, b'"' | b'\\' | ..0x20)).count()
}

/// How many bytes of a block precede the first byte that must be escaped.
#[inline]
fn clean_part(block: &[u8; BLOCK]) -> usize {
    // Without a branch for each byte, so that the compiler uses vector instructions.
    let special_bytes = block
        .iter()
        .fold(0, |any, b| any | u8::from(*b < b' ') | u8::from(*b == b'"') | u8::from(*b == b'\\'));
    if special_bytes == 0 {
        return BLOCK;
    }
    let mut clean = 0;
    while let Some(word) = block[clean..].first_chunk() {
        match special(u64::from_le_bytes(*word)) {
            0 => clean += WORD,
            special => return clean + (special.trailing_zeros() / 8) as usize,
        }
    }
    clean
}

/// A mask of the bytes that must be escaped: quotes, backslashes and control characters. The lowest bit that is
/// set is the high bit of the first such byte. Zero if there is none.
#[inline]
fn special(word: u64) -> u64 {
    const ONES: u64 = u64::from_ne_bytes([1; WORD]);
    // Each subtraction borrows from the high bit of a byte that is below a space, or equal to the searched
    // byte.
    let control = word.wrapping_sub(ONES * 0x20);
    let quote = (word ^ (ONES * u64::from(b'"'))).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * u64::from(b'\\'))).wrapping_sub(ONES);
    (control | quote | backslash) & !word & (ONES << 7)
}

#[cold]
fn put_escape(out: &mut Buffer<'_, '_>, byte: u8) {
    let (escape, n) = escape(byte);
    out.put(&escape[..n]);
}

/// The escape of a byte, and how many bytes it has.
fn escape(byte: u8) -> ([u8; LONGEST_ESCAPE], usize) {
    let short = match byte {
        b'"' | b'\\' => byte,
        0x08 => b'b',
        b'\t' => b't',
        b'\n' => b'n',
        0x0c => b'f',
        b'\r' => b'r',
        _ => {
            let digit = |n: u8| b"0123456789abcdef"[usize::from(n)];
            return (
                [b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 0xf)],
                LONGEST_ESCAPE,
            );
        }
    };
    ([b'\\', short, 0, 0, 0, 0], 2)
}

/// Escapes the text that is written to it.
pub(super) struct Escaped<'a, 'b, 'l>(pub(super) &'a mut Buffer<'b, 'l>);

impl fmt::Write for Escaped<'_, '_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        put_escaped(self.0, text);
        Ok(())
    }
}
