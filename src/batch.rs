//! The events that the writer sends with one call.

use crate::wire::event::{EventTail, INLINE_FRAME, put_head};
use crate::wire::frame;

/// The most bytes gathered before they are written.
const BATCH: usize = 64 << 10;

/// Whole frames of events, and how much of them is written. Memory stays at [`BATCH`] bytes and
/// one tail.
pub(crate) struct Batch {
    /// Frames one after another; of the last, the tail may be in `overhang`.
    bytes: Vec<u8>,
    /// A tail that would not fit, and is not copied.
    overhang: Option<EventTail>,
    events: u64,
    written: usize,
}

impl Batch {
    pub(crate) fn new() -> Self {
        Self { bytes: Vec::with_capacity(BATCH), overhang: None, events: 0, written: 0 }
    }

    pub(crate) fn is_full(&self) -> bool {
        self.overhang.is_some() || self.bytes.len() + INLINE_FRAME > BATCH
    }

    /// Adds an event; the batch must not be full.
    pub(crate) fn push(&mut self, seq: u64, tail: EventTail) {
        let length = tail.as_bytes().len();
        put_head(&mut self.bytes, seq, length);
        if self.bytes.len() + length <= BATCH {
            self.bytes.extend_from_slice(tail.as_bytes());
        } else {
            self.overhang = Some(tail);
        }
        self.events += 1;
    }

    /// What is to be written next; empty once all is.
    pub(crate) fn rest(&self) -> &[u8] {
        match self.bytes.get(self.written..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &self.overhang()[self.written - self.bytes.len()..],
        }
    }

    pub(crate) fn advance(&mut self, written: usize) {
        self.written += written;
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len() + self.overhang().len()
    }

    /// The events whose frames are written whole.
    pub(crate) fn events_written(&self) -> u64 {
        if self.written == self.len() {
            self.events
        } else {
            frame::count_whole(&self.bytes, self.written)
        }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.overhang = None;
        self.events = 0;
        self.written = 0;
    }

    fn overhang(&self) -> &[u8] {
        self.overhang.as_ref().map_or(&[], EventTail::as_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MAX_BODY;

    fn tail(bytes: usize) -> EventTail {
        EventTail::encode("k", 1, &"x".repeat(bytes), MAX_BODY).unwrap()
    }

    /// Fills a batch and writes it `step` bytes at a time; returns its frames and, for each step,
    /// how many events it called written.
    fn written(sizes: &[usize], step: usize) -> (Vec<u8>, Vec<u64>) {
        let mut batch = Batch::new();
        for (seq, size) in sizes.iter().enumerate() {
            assert!(!batch.is_full());
            batch.push(seq as u64, tail(*size));
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
    fn a_batch_is_the_same_bytes_however_it_is_written() {
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
            batch.push(0, tail(size));
        }
        assert!(batch.is_full());
        batch.clear();
        let mut seq = 0;
        while !batch.is_full() {
            batch.push(seq, tail(150));
            seq += 1;
        }
        assert!(batch.len() > BATCH - 2 * INLINE_FRAME);
        assert_eq!(batch.bytes.capacity(), BATCH);
    }
}
