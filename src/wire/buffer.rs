//! The buffer into which an event is serialised.

use std::io;

use super::long::{Lender, LongText};

/// Bytes that an event stores inline: see [`EventTail`](super::event::EventTail).
pub(super) const INLINE: usize = 246;
const _: () =
    assert!(INLINE <= u8::MAX as usize, "the length of an inline text is stored in one byte");
/// How many bytes one copy moves.
pub(super) const WORD: usize = 8;

/// Counts all bytes of a text, and stores the text while it has at most `max` bytes: inline, or as a
/// [`LongText`] when it is too long for that.
pub(super) struct Buffer<'a, 'l> {
    /// The whole text, as long as it fits.
    inline: &'a mut [u8; INLINE],
    /// Bytes put so far, including those that were not stored.
    size: usize,
    max: usize,
    /// The whole text once it does not fit inline.
    long: LongText<'l>,
    lender: &'l dyn Lender,
}

/// Where a finished text is: inline, with this number of bytes, or in a buffer.
pub(super) enum Text<'l> {
    Inline(u8),
    Long(LongText<'l>),
}

impl<'a, 'l> Buffer<'a, 'l> {
    pub(super) fn new(inline: &'a mut [u8; INLINE], max: usize, lender: &'l dyn Lender) -> Self {
        Self { inline, size: 0, max, long: LongText::default(), lender }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Appends `bytes`. Fast for many bytes, and for a number of bytes that the compiler knows.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.size.saturating_add(bytes.len());
        // Once the text is too long to be inline, `end` is above `INLINE` too.
        if end <= INLINE {
            self.inline[self.size..end].copy_from_slice(bytes);
            self.size = end;
        } else {
            self.put_beyond(bytes);
        }
    }

    /// Lets `put` append words while the text is inline.
    #[inline]
    pub(super) fn put_words(&mut self, put: impl FnOnce(Words<'_>) -> Words<'_>) {
        self.size = put(Words { inline: self.inline, size: self.size }).size;
    }

    /// Appends a few bytes, word by word.
    #[inline]
    pub(super) fn put_few(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        self.put_words(|mut words| {
            while words.have_room() {
                let Some((word, after)) = rest.split_first_chunk() else {
                    words.put(short_word(rest), rest.len());
                    rest = &[];
                    break;
                };
                words.put(u64::from_le_bytes(*word), WORD);
                rest = after;
            }
            words
        });
        if !rest.is_empty() {
            self.put(rest);
        }
    }

    /// Lets `put` append to a long text that is within the limit. Otherwise does nothing.
    #[inline]
    pub(super) fn put_long(&mut self, put: impl FnOnce(Long<'_>) -> Long<'_>) {
        if self.size > INLINE && self.size <= self.max {
            let text = self.long.buffer();
            let end = text.capacity().min(self.max);
            self.size = put(Long { text, end }).text.len();
        }
    }

    #[inline(never)]
    fn put_beyond(&mut self, bytes: &[u8]) {
        let before = self.size;
        self.size = before.saturating_add(bytes.len());
        if self.size > self.max {
            return;
        }
        if before <= INLINE {
            self.long = LongText::new(self.size, self.lender);
            self.long.append(&self.inline[..before], self.lender);
        }
        self.long.append(bytes, self.lender);
    }

    /// Ends a text of at most `max` bytes.
    pub(super) fn finish(mut self) -> Text<'l> {
        if self.size <= INLINE {
            Text::Inline(self.size as u8)
        } else {
            self.long.finish();
            Text::Long(std::mem::take(&mut self.long))
        }
    }
}

/// A long text, to which bytes are appended as long as its buffer has room.
pub(super) struct Long<'t> {
    text: &'t mut Vec<u8>,
    end: usize,
}

impl Long<'_> {
    /// Whether the buffer has room for `bytes` bytes more.
    #[inline]
    pub(super) fn has_room(&self, bytes: usize) -> bool {
        self.text.len() + bytes + WORD <= self.end
    }

    /// Appends the first `n` of `N` bytes. There must be room for all: a copy of a fixed length is faster.
    #[inline]
    pub(super) fn put<const N: usize>(&mut self, bytes: &[u8; N], n: usize) {
        let end = self.text.len() + n;
        self.text.extend_from_slice(bytes);
        self.text.truncate(end);
    }
}

/// The inline text, and its size while words are appended.
pub(super) struct Words<'a> {
    inline: &'a mut [u8; INLINE],
    size: usize,
}

impl Words<'_> {
    /// Whether two words fit: a piece of a string and the escape after it, both moved as words.
    #[inline]
    pub(super) fn have_room(&self) -> bool {
        self.size <= INLINE - 2 * WORD
    }

    /// Appends the first `n` bytes of a word, the lowest first. There must be room for all eight: a copy of a
    /// fixed length is faster.
    #[inline]
    pub(super) fn put(&mut self, word: u64, n: usize) {
        self.inline[self.size..self.size + WORD].copy_from_slice(&word.to_le_bytes());
        self.size += n;
    }
}

/// A word that begins with these bytes, fewer than eight, and ends with spaces.
#[inline]
pub(super) fn short_word(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    let word = match (bytes.first_chunk(), bytes.last_chunk()) {
        // The two overlap in the middle.
        (Some(first), Some(last)) => {
            u64::from(u32::from_le_bytes(*first))
                | u64::from(u32::from_le_bytes(*last)) << (8 * (n - 4))
        }
        _ => match bytes {
            [] => 0,
            [a] => u64::from(*a),
            [a, b] => u64::from(u16::from_le_bytes([*a, *b])),
            [a, b, c, ..] => u64::from(u32::from_le_bytes([*a, *b, *c, 0])),
        },
    };
    let padding = u64::from_ne_bytes([b' '; WORD]) << (8 * n);
    word | padding
}

impl io::Write for Buffer<'_, '_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.put(bytes);
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.put(bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::long::{NoLender, SCRATCH, take_scratch};

    const MAX: usize = 1 << 20;

    /// The text that `put` puts; `None` if it is longer than `max` bytes.
    fn text(max: usize, put: impl FnOnce(&mut Buffer<'_, '_>)) -> Option<Vec<u8>> {
        let mut inline = [0; INLINE];
        let mut buffer = Buffer::new(&mut inline, max, &NoLender);
        put(&mut buffer);
        if buffer.size() > max {
            return None;
        }
        Some(match buffer.finish() {
            Text::Inline(size) => inline[..usize::from(size)].to_vec(),
            Text::Long(text) => text.as_bytes().to_vec(),
        })
    }

    #[test]
    fn text_is_complete_for_pieces_of_any_size() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for size in
            [0, 1, INLINE - 1, INLINE, INLINE + 1, SCRATCH - 1, SCRATCH, SCRATCH + 1, 99_999]
        {
            for cut in [1, 7, INLINE, INLINE + 1, SCRATCH, SCRATCH + 1, 100_000] {
                let put = |out: &mut Buffer<'_, '_>| {
                    bytes[..size].chunks(cut).for_each(|piece| out.put(piece));
                };
                assert_eq!(
                    text(MAX, put).as_deref(),
                    Some(&bytes[..size]),
                    "{size} bytes in pieces of {cut}"
                );
            }
        }
    }

    #[test]
    fn put_few_stores_the_same_bytes_as_put() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for start in INLINE - 20..INLINE + 4 {
            for n in 0..20 {
                let put = |out: &mut Buffer<'_, '_>| {
                    out.put(&bytes[..start]);
                    out.put_few(&bytes[start..start + n]);
                    out.put(&bytes[start + n..]);
                };
                assert_eq!(text(MAX, put).as_deref(), Some(&bytes[..]), "{n} bytes at {start}");
            }
        }
    }

    #[test]
    fn short_word_is_filled_with_spaces() {
        for n in 0..WORD {
            let word = short_word(&b"abcdefg"[..n]).to_le_bytes();
            assert_eq!((&word[..n], &word[n..]), (&b"abcdefg"[..n], &b"        "[n..]));
        }
    }

    #[test]
    fn bytes_beyond_the_limit_are_counted_but_not_stored() {
        for max in [0, 10, INLINE, 1000, SCRATCH, 100_000] {
            let mut inline = [0; INLINE];
            let mut buffer = Buffer::new(&mut inline, max, &NoLender);
            (0..MAX / 64).for_each(|_| buffer.put(&[7; 64]));
            assert_eq!(buffer.size(), MAX);
            assert!(buffer.long.as_bytes().len() <= max, "{max}");
            drop(buffer);
            let fits = vec![7; max];
            assert_eq!(text(max, |out| out.put(&fits)), Some(fits));
        }
    }

    #[test]
    fn scratch_stays_small_and_is_used_again() {
        for size in [SCRATCH - 100, SCRATCH, SCRATCH + 1, 100_000, MAX] {
            let bytes = vec![7; size];
            let put = |out: &mut Buffer<'_, '_>| bytes.chunks(100).for_each(|piece| out.put(piece));
            assert_eq!(text(MAX, put).as_ref(), Some(&bytes));
            assert!((1..=2 * SCRATCH).contains(&take_scratch()), "{size} bytes");
        }
    }
}
