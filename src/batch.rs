//! The events that the writer sends with one call.

use crate::wire::event::{EventTail, INLINE_FRAME, put_head};
use crate::wire::frame;

/// The most bytes gathered before they are written.
const BATCH: usize = 64 << 10;

/// Whole frames of events, and how many of their bytes are written. It holds at most [`BATCH`] bytes and the
/// buffer of one tail.
pub(crate) struct Batch {
    /// Frames, one after another. The tail of the last one may be in `unbatched`.
    bytes: Vec<u8>,
    /// The buffer of a tail that did not fit and is not copied; empty if there is none.
    unbatched: Vec<u8>,
    /// The lane that this buffer goes back to.
    home: u8,
    events: u64,
    written: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::with_capacity(BATCH),
            unbatched: Vec::new(),
            home: 0,
            events: 0,
            written: 0,
        }
    }

    pub(crate) fn is_full(&self) -> bool {
        !self.unbatched.is_empty() || self.bytes.len() + INLINE_FRAME > BATCH
    }

    /// Adds an event. The batch must not be full. If the tail does not fit, this takes its buffer.
    pub(crate) fn push(&mut self, seq: u64, tail: &mut EventTail) {
        let length = tail.as_bytes().len();
        put_head(&mut self.bytes, seq, length);
        match tail {
            EventTail::Long { bytes, home } if self.bytes.len() + length > BATCH => {
                self.unbatched = std::mem::take(bytes);
                self.home = *home;
            }
            _ => self.bytes.extend_from_slice(tail.as_bytes()),
        }
        self.events += 1;
    }

    /// The bytes to write next; empty when everything is written.
    pub(crate) fn rest(&self) -> &[u8] {
        match self.bytes.get(self.written..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.unbatched[self.written - self.bytes.len()..],
        }
    }

    pub(crate) fn advance(&mut self, written: usize) {
        self.written += written;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.unbatched.len()
    }

    /// The events whose frames are written whole.
    pub(crate) fn events_written(&self) -> u64 {
        if self.written == self.len() {
            self.events
        } else {
            frame::count_whole(&self.bytes, self.written)
        }
    }

    /// Empties the batch. Returns the buffer of a tail that was not copied, and the lane that it goes
    /// back to.
    pub(crate) fn clear(&mut self) -> Option<(u8, Vec<u8>)> {
        self.bytes.clear();
        self.events = 0;
        self.written = 0;
        let buffer = std::mem::take(&mut self.unbatched);
        (buffer.capacity() > 0).then_some((self.home, buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MAX_CONTENT;

    fn tail(bytes: usize) -> EventTail {
        EventTail::encode("k", 1, &"x".repeat(bytes), MAX_CONTENT).unwrap()
    }

    /// Fills a batch and writes it `step` bytes at a time. Returns its frames, and for each step the value of
    /// `events_written`.
    fn written(sizes: &[usize], step: usize) -> (Vec<u8>, Vec<u64>) {
        let mut batch = Batch::new();
        for (seq, size) in sizes.iter().enumerate() {
            assert!(!batch.is_full());
            batch.push(seq as u64, &mut tail(*size));
        }
        let (mut out, mut counts) = (Vec::new(), vec![batch.events_written()]);
        while !batch.rest().is_empty() {
            let rest = batch.rest();
            let n = rest.len().min(step);
            out.extend_from_slice(&rest[..n]);
            batch.advance(n);
            counts.push(batch.events_written());
        }
        assert_eq!(out.len(), batch.len());
        (out, counts)
    }

    #[test]
    fn written_bytes_do_not_depend_on_the_steps() {
        let sizes = [10, 0, 300, 40_000, 700_000];
        let (whole, _) = written(&sizes, usize::MAX);
        let (pieces, counts) = written(&sizes, 7919);
        assert_eq!(whole, pieces);
        assert!(counts.is_sorted());
        assert_eq!((counts[0], counts[counts.len() - 1]), (0, 5));
    }

    #[test]
    fn memory_stays_within_the_batch() {
        let mut batch = Batch::new();
        for size in [60_000, 1_000_000] {
            batch.push(0, &mut tail(size));
        }
        assert!(batch.is_full());
        batch.clear();
        let mut seq = 0;
        while !batch.is_full() {
            batch.push(seq, &mut tail(150));
            seq += 1;
        }
        assert!(batch.len() > BATCH - 2 * INLINE_FRAME);
        assert_eq!(batch.bytes.capacity(), BATCH);
    }
}
