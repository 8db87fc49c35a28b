//! Lends empty buffers to producers that serialise a long event.

use super::thread::{self, Inside};
use super::{Queue, pool};
use crate::wire::event::Lender;

impl Queue {
    /// Lends buffers for long texts.
    pub(crate) fn lender(&self) -> &dyn Lender {
        self
    }

    /// Admits producers after this thread has freed bytes, because the writer does not see the free bytes.
    fn admit_to_freed_bytes(&self) {
        if self.gate.has_waiters() {
            let _inside = Inside::enter();
            self.admit();
        }
    }
}

/// Lends the empty buffers of the calling thread's lane.
impl Lender for Queue {
    fn lend(&self, bytes: usize) -> Option<Vec<u8>> {
        // The bytes of empty buffers belong to producers that wait for bytes. And a thread that is inside
        // the queue could not admit a producer when it gives the buffer back.
        if self.gate.has_byte_waiters() || thread::is_inside() {
            return None;
        }
        // While this thread serialises, it may emit, or wait for a thread that emits. So the lent buffers
        // leave enough bytes for any event.
        let leave = pool::cost(self.limits.max_content);
        self.pool.lend(self.home(), bytes, leave)
    }

    fn capacity(&self, bytes: usize) -> usize {
        pool::cost(bytes)
    }

    fn take_back(&self, buffer: Vec<u8>) {
        self.pool.take_back(self.home(), buffer);
        self.admit_to_freed_bytes();
    }

    fn write_off(&self, bytes: usize) {
        self.pool.write_off(bytes);
        self.admit_to_freed_bytes();
    }
}
