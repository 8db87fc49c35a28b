//! Where an event is put together.

use std::cell::Cell;
use std::io;

/// What is stored inline in bytes: see [`EventTail`](super::event::EventTail).
pub(super) const INLINE: usize = 254;
const _: () = assert!(INLINE <= u8::MAX as usize, "an inline text has its length in a byte");
/// The longest text that is put together in the thread's scratch, in bytes. Scratch doubles as it
/// grows, so that it takes twice as many at most.
const SCRATCH: usize = 32 << 10;

/// Bytes that are moved at once.
pub(super) const WORD: usize = 8;

thread_local! {
    /// What this thread puts longer events together in. Taken out while in use, so that a
    /// `Serialize` may emit.
    static SCRATCH_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Counts everything, and stores what fits into `max` bytes: a short text on the stack, a longer
/// one in the thread's scratch, and a very long one in memory that is allocated once.
pub(super) struct Buffer<'a> {
    /// The whole text, as long as it fits.
    inline: &'a mut [u8; INLINE],
    /// Bytes put so far, those that were not stored included.
    size: usize,
    max: usize,
    /// The whole text once it does not fit inline, up to [`SCRATCH`] bytes.
    scratch: Vec<u8>,
    /// The whole text once it does not fit there either.
    long: Vec<u8>,
}

/// Where a finished text is: inline, with so many bytes, or on the heap.
pub(super) enum Text {
    Inline(u8),
    Heap(Box<[u8]>),
}

impl<'a> Buffer<'a> {
    pub(super) fn new(inline: &'a mut [u8; INLINE], max: usize) -> Self {
        Self { inline, size: 0, max, scratch: Vec::new(), long: Vec::new() }
    }

    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Appends `bytes`. Best for many, or a number known beforehand.
    #[inline]
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let end = self.size.saturating_add(bytes.len());
        // Not after the text has outgrown it: its end lies beyond then.
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

    #[inline(never)]
    fn put_beyond(&mut self, bytes: &[u8]) {
        let before = self.size;
        self.size = before.saturating_add(bytes.len());
        if self.size > self.max {
            return;
        }
        if self.size > SCRATCH {
            if self.long.is_empty() {
                self.long.reserve_exact(self.max);
                let inline = self.inline.get(..before);
                self.long.extend_from_slice(inline.unwrap_or(&self.scratch));
            }
            self.long.extend_from_slice(bytes);
            return;
        }
        if before <= INLINE {
            // While a thread ends its scratch may be gone; then this one is allocated.
            self.scratch = SCRATCH_BUFFER.try_with(Cell::take).unwrap_or_default();
            self.scratch.clear();
            self.scratch.extend_from_slice(&self.inline[..before]);
        }
        self.scratch.extend_from_slice(bytes);
    }

    /// Ends a text of at most `max` bytes.
    pub(super) fn finish(mut self) -> Text {
        if self.size <= INLINE {
            Text::Inline(self.size as u8)
        } else if self.long.is_empty() {
            Text::Heap(self.scratch.as_slice().into())
        } else {
            Text::Heap(std::mem::take(&mut self.long).into())
        }
    }
}

/// The inline text. The size is kept here while words are put, and not looked up for each.
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

    /// Appends the first `n` bytes of a word, the lowest first, for which there must be room. Eight
    /// are moved, which costs less than to look how many.
    #[inline]
    pub(super) fn put(&mut self, word: u64, n: usize) {
        self.inline[self.size..self.size + WORD].copy_from_slice(&word.to_le_bytes());
        self.size += n;
    }
}

/// A word that begins with these bytes, fewer than eight, and goes on with spaces.
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

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        if self.scratch.capacity() > 0 {
            // An Err means that the thread is ending.
            let _ = SCRATCH_BUFFER.try_with(|kept| kept.set(std::mem::take(&mut self.scratch)));
        }
    }
}

impl io::Write for Buffer<'_> {
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

    const MAX: usize = 1 << 20;

    fn kept() -> usize {
        SCRATCH_BUFFER.take().capacity()
    }

    /// The text that `put` puts; `None` if it is longer than `max` bytes.
    fn text(max: usize, put: impl FnOnce(&mut Buffer<'_>)) -> Option<Vec<u8>> {
        let mut inline = [0; INLINE];
        let mut buffer = Buffer::new(&mut inline, max);
        put(&mut buffer);
        if buffer.size() > max {
            return None;
        }
        Some(match buffer.finish() {
            Text::Inline(size) => inline[..usize::from(size)].to_vec(),
            Text::Heap(bytes) => bytes.into(),
        })
    }

    #[test]
    fn a_text_is_whole_however_it_is_cut_up() {
        let bytes: Vec<u8> = (0..=255).cycle().take(100_000).collect();
        for size in
            [0, 1, INLINE - 1, INLINE, INLINE + 1, SCRATCH - 1, SCRATCH, SCRATCH + 1, 99_999]
        {
            for cut in [1, 7, INLINE, INLINE + 1, SCRATCH, SCRATCH + 1, 100_000] {
                let put = |out: &mut Buffer<'_>| {
                    bytes[..size].chunks(cut).for_each(|piece| out.put(piece));
                };
                assert_eq!(text(MAX, put).as_deref(), Some(&bytes[..size]), "{size}, {cut}");
            }
        }
    }

    #[test]
    fn words_are_put_like_any_bytes() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1000).collect();
        for start in INLINE - 20..INLINE + 4 {
            for n in 0..20 {
                let put = |out: &mut Buffer<'_>| {
                    out.put(&bytes[..start]);
                    out.put_few(&bytes[start..start + n]);
                    out.put(&bytes[start + n..]);
                };
                assert_eq!(text(MAX, put).as_deref(), Some(&bytes[..]), "{n} at {start}");
            }
        }
    }

    #[test]
    fn a_short_word_is_filled_with_spaces() {
        for n in 0..WORD {
            let word = short_word(&b"abcdefg"[..n]).to_le_bytes();
            assert_eq!((&word[..n], &word[n..]), (&b"abcdefg"[..n], &b"        "[n..]));
        }
    }

    #[test]
    fn beyond_the_limit_everything_is_counted_and_nothing_is_stored() {
        for max in [0, 10, INLINE, 1000, SCRATCH, 100_000] {
            let mut inline = [0; INLINE];
            let mut buffer = Buffer::new(&mut inline, max);
            (0..MAX / 64).for_each(|_| buffer.put(&[7; 64]));
            assert_eq!(buffer.size(), MAX);
            assert!(buffer.scratch.len() <= max && buffer.long.len() <= max, "{max}");
            let fits = vec![7; max];
            assert_eq!(text(max, |out| out.put(&fits)), Some(fits));
        }
    }

    #[test]
    fn scratch_stays_small_and_is_used_again() {
        for size in [SCRATCH - 100, SCRATCH, SCRATCH + 1, 100_000, MAX] {
            let bytes = vec![7; size];
            let put = |out: &mut Buffer<'_>| bytes.chunks(100).for_each(|piece| out.put(piece));
            assert_eq!(text(MAX, put).as_ref(), Some(&bytes));
            assert!((1..=2 * SCRATCH).contains(&kept()), "{size} bytes");
        }
    }
}
