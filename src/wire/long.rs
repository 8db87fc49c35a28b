//! The text of an event that is too long to be stored inline.

use std::cell::Cell;

/// The longest text, in bytes, that is serialised into the thread's scratch buffer. A scratch buffer doubles
/// its capacity as it grows, so the capacity is at most twice this.
pub(super) const SCRATCH: usize = 32 << 10;

thread_local! {
    static KEPT: Kept = const { Kept { scratch: Cell::new(Vec::new()), last: Cell::new(0) } };
}

/// What a thread keeps between two long texts.
struct Kept {
    /// A buffer for texts for which none is lent. It is taken out while it is in use, so that a
    /// `Serialize` implementation may emit.
    scratch: Cell<Vec<u8>>,
    /// The length of the last long text: the next is probably as long.
    last: Cell<usize>,
}

/// Lends buffers for long texts, so that a complete text need not be copied.
pub(crate) trait Lender {
    /// An empty buffer for texts of `bytes` bytes, if one is free.
    fn lend(&self, bytes: usize) -> Option<Vec<u8>>;
    /// The capacity, in bytes, of a new buffer for texts of `bytes` bytes, so that it can be lent later.
    fn capacity(&self, bytes: usize) -> usize;
    /// Takes a buffer back. It need not be empty.
    fn take_back(&self, buffer: Vec<u8>);
    /// Tells the lender that it does not get a lent buffer back. `bytes` is the buffer's capacity.
    fn write_off(&self, bytes: usize);
}

/// Lends nothing.
pub(crate) struct NoLender;

impl Lender for NoLender {
    fn lend(&self, _: usize) -> Option<Vec<u8>> {
        None
    }

    fn capacity(&self, bytes: usize) -> usize {
        bytes
    }

    fn take_back(&self, _: Vec<u8>) {}

    fn write_off(&self, _: usize) {}
}

/// A text that does not fit inline. It is in a lent buffer or, if none is lent, in the thread's scratch
/// buffer. A text that is longer than [`SCRATCH`] bytes, or probably becomes longer, is in a new buffer
/// instead of the scratch buffer. Dropping the text gives a lent buffer and the scratch buffer back.
#[derive(Default)]
pub(crate) struct LongText<'l> {
    bytes: Vec<u8>,
    /// The lender of the buffer. A lent buffer must not be reallocated.
    lender: Option<&'l dyn Lender>,
}

impl<'l> LongText<'l> {
    /// An empty text that will have at least `bytes` bytes.
    pub(super) fn new(bytes: usize, lender: &'l dyn Lender) -> Self {
        // A thread that is ending has no thread-locals; then this allocates.
        let last = KEPT.try_with(|kept| kept.last.get()).unwrap_or(0);
        let probable = bytes.max(last);
        if let Some(bytes) = lender.lend(probable) {
            return Self { bytes, lender: Some(lender) };
        }
        if probable > SCRATCH {
            return Self { bytes: Vec::with_capacity(lender.capacity(probable)), lender: None };
        }
        let mut bytes = KEPT.try_with(|kept| kept.scratch.take()).unwrap_or_default();
        bytes.clear();
        Self { bytes, lender: None }
    }

    pub(super) fn append(&mut self, bytes: &[u8], lender: &'l dyn Lender) {
        let needed = self.bytes.len() + bytes.len();
        if needed > self.bytes.capacity() && (self.lender.is_some() || needed > SCRATCH) {
            self.move_to_longer(needed, lender);
        }
        self.bytes.extend_from_slice(bytes);
    }

    fn move_to_longer(&mut self, needed: usize, lender: &'l dyn Lender) {
        let probable = needed.max(2 * self.bytes.len());
        let mut longer = match lender.lend(probable) {
            Some(bytes) => Self { bytes, lender: Some(lender) },
            None => Self { bytes: Vec::with_capacity(lender.capacity(probable)), lender: None },
        };
        longer.bytes.extend_from_slice(&self.bytes);
        *self = longer;
    }

    /// Stores the length of a text that is complete, for the next text.
    pub(super) fn finish(&self) {
        let _ = KEPT.try_with(|kept| kept.last.set(self.bytes.len()));
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The buffer. The caller may append to it, but must not change its capacity.
    pub(super) fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Returns the buffer, and whether it was lent. Returns the text instead if the buffer was not lent and
    /// the text has at most [`SCRATCH`] bytes, or if the buffer has more capacity than `at_most` bytes.
    pub(crate) fn into_buffer(mut self, at_most: usize) -> Result<(Vec<u8>, bool), Self> {
        let is_own = self.lender.is_some() || self.bytes.len() > SCRATCH;
        if is_own && self.bytes.capacity() <= at_most {
            let was_lent = self.lender.take().is_some();
            Ok((std::mem::take(&mut self.bytes), was_lent))
        } else {
            Err(self)
        }
    }

    /// Makes a text of a buffer that [`into_buffer`](Self::into_buffer) returned as not lent.
    pub(crate) fn from_buffer(bytes: Vec<u8>) -> Self {
        Self { bytes, lender: None }
    }

    /// Makes a lent buffer the text's own. The producer may block with this text, and a blocked producer must
    /// not hold bytes of the byte budget for which other producers wait.
    pub(crate) fn keep(&mut self) {
        if let Some(lender) = self.lender.take() {
            lender.write_off(self.bytes.capacity());
        }
    }
}

impl Drop for LongText<'_> {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        match self.lender.take() {
            Some(lender) => lender.take_back(bytes),
            None if (1..=2 * SCRATCH).contains(&bytes.capacity()) => {
                // An error means that the thread is ending.
                let _ = KEPT.try_with(|kept| kept.scratch.set(bytes));
            }
            None => {}
        }
    }
}

/// Removes the calling thread's scratch buffer, and returns its capacity.
#[cfg(test)]
pub(super) fn take_scratch() -> usize {
    KEPT.with(|kept| {
        kept.last.set(0);
        kept.scratch.take().capacity()
    })
}
