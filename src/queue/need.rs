//! What a producer needs from the queue.

/// What events need: a slot each, and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Need {
    pub(super) slots: usize,
    pub(super) bytes: usize,
}

impl Need {
    /// The bytes alone.
    pub(super) fn only_bytes(self) -> Self {
        Self { slots: 0, ..self }
    }

    /// What one event needs.
    pub(super) const fn event(bytes: usize) -> Self {
        Self { slots: 1, bytes }
    }

    pub(super) fn add(&mut self, other: Self) {
        self.slots += other.slots;
        self.bytes += other.bytes;
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.slots -= other.slots;
        self.bytes -= other.bytes;
    }
}
