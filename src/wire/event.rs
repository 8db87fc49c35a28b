//! An event's body, in two parts: the tail, which its producer writes, and the head with `seq`,
//! which the writer puts before it once the order is decided.

use std::cell::Cell;
use std::io;

use serde::Serialize;

use super::{frame, strict};
use crate::error::{Error, Result};

const HEAD: &[u8] = b"{\"type\":\"event\",\"seq\":";
/// Digits that `seq` is counted with, whatever its value: those of `u64::MAX`.
const SEQ_DIGITS: usize = 20;
/// What a body has besides its tail, in bytes.
const AROUND_TAIL: usize = HEAD.len() + SEQ_DIGITS + 1;

/// The longest tail in bytes that is stored without an allocation. A queue slot is then 256
/// bytes: this, its length and tag, and the channel's stamp.
const INLINE: usize = 246;
/// The most that a frame takes whose tail is inline, in bytes.
pub(crate) const INLINE_FRAME: usize = frame::PREFIX + AROUND_TAIL + INLINE;
/// The longest tail that is put together in the scratch buffer, in bytes. The buffer doubles as it
/// grows, so that it takes twice as many at most.
const SCRATCH: usize = 32 << 10;

thread_local! {
    /// Where this thread serialises. Taken out while in use, so that a `Serialize` may emit.
    static SCRATCH_BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A serialised event but for its `seq`: `"ts_unix_ns":…,"kind":…,"payload":…}`.
#[expect(clippy::large_enum_variant, reason = "stored inline so that nothing is allocated")]
pub(crate) enum EventTail {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl EventTail {
    /// Serialises an event whose whole body may have `max_body` bytes.
    pub(crate) fn encode<T>(
        kind: &str,
        ts_unix_ns: u64,
        payload: &T,
        max_body: usize,
    ) -> Result<Self>
    where
        T: Serialize + ?Sized,
    {
        // While a thread ends its scratch may be gone; then this one is allocated.
        let mut scratch = SCRATCH_BUFFER.try_with(Cell::take).unwrap_or_default();
        scratch.clear();
        let mut out = Bounded::new(scratch, max_body.saturating_sub(AROUND_TAIL));
        let written = write_tail(&mut out, kind, ts_unix_ns, payload);
        let size = AROUND_TAIL + out.size;
        let tail = match written {
            Ok(()) if size > max_body => Err(Error::PayloadTooLarge { size, max: max_body }),
            Ok(()) => Ok(Self::store(&out.scratch, out.long)),
            Err(e) => Err(e),
        };
        // An Err means that the thread is ending.
        let _ = SCRATCH_BUFFER.try_with(|kept| kept.set(out.scratch));
        tail
    }

    /// Stores the tail that is in `scratch`, or in `long` if it is there.
    fn store(scratch: &[u8], long: Vec<u8>) -> Self {
        if !long.is_empty() {
            Self::Heap(long.into())
        } else if scratch.len() <= INLINE {
            let mut bytes = [0; INLINE];
            bytes[..scratch.len()].copy_from_slice(scratch);
            Self::Inline { len: scratch.len() as u8, bytes }
        } else {
            Self::Heap(scratch.into())
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Heap(bytes) => bytes,
        }
    }

    /// Bytes on the heap: what the byte budget counts.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Inline { .. } => 0,
            Self::Heap(bytes) => bytes.len(),
        }
    }
}

/// Appends the event's frame to `out`, all but its tail, which has `tail` bytes.
pub(crate) fn put_head(out: &mut Vec<u8>, seq: u64, tail: usize) {
    let at = frame::start(out);
    out.extend_from_slice(HEAD);
    out.extend_from_slice(itoa::Buffer::new().format(seq).as_bytes());
    out.push(b',');
    frame::finish(out, at, tail);
}

fn write_tail<T>(out: &mut Bounded, kind: &str, ts_unix_ns: u64, payload: &T) -> Result<()>
where
    T: Serialize + ?Sized,
{
    out.put(b"\"ts_unix_ns\":");
    out.put(itoa::Buffer::new().format(ts_unix_ns).as_bytes());
    out.put(b",\"kind\":");
    serde_json::to_writer(&mut *out, kind)?;
    out.put(b",\"payload\":");
    strict::write(&mut *out, payload)?;
    out.put(b"}");
    Ok(())
}

/// Counts everything, and stores what fits into `max` bytes: in scratch, or all of it in a buffer
/// of its own, which is allocated once and then becomes the tail.
struct Bounded {
    scratch: Vec<u8>,
    long: Vec<u8>,
    max: usize,
    /// The most that goes into scratch.
    short: usize,
    size: usize,
}

impl Bounded {
    fn new(scratch: Vec<u8>, max: usize) -> Self {
        Self { scratch, long: Vec::new(), max, short: max.min(SCRATCH), size: 0 }
    }

    #[inline]
    fn put(&mut self, bytes: &[u8]) {
        self.size += bytes.len();
        if self.size <= self.short {
            self.scratch.extend_from_slice(bytes);
        } else {
            self.put_long(bytes);
        }
    }

    #[cold]
    fn put_long(&mut self, bytes: &[u8]) {
        if self.size <= self.max {
            if self.long.is_empty() {
                self.long.reserve_exact(self.max);
                self.long.extend_from_slice(&self.scratch);
            }
            self.long.extend_from_slice(bytes);
        }
    }
}

impl io::Write for Bounded {
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
    use crate::wire::MAX_BODY;
    use crate::wire::message::{Event, PluginMessage, to_frame};
    use serde_json::json;

    fn framed(seq: u64, tail: &EventTail) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, seq, tail.as_bytes().len());
        out.extend_from_slice(tail.as_bytes());
        out
    }

    #[test]
    fn an_event_is_framed_as_serde_json_would() {
        for text in ["", "short", &"long".repeat(500)] {
            let payload = json!({ "text": text, "n": [1, 2.5, null] });
            let tail = EventTail::encode("acme.\"x\"\n", 17, &payload, MAX_BODY).unwrap();
            let kind = "acme.\"x\"\n".into();
            let message = PluginMessage::Event(Event { seq: 3, ts_unix_ns: 17, kind, payload });
            assert_eq!(framed(3, &tail), to_frame(&message));
        }
    }

    #[test]
    fn the_limit_holds_to_the_byte_and_nothing_beyond_it_is_stored() {
        let limit = 1000;
        let body = |n: usize| EventTail::encode("k", 1, &"x".repeat(n), limit);
        let fits = (0..limit).rev().find(|n| body(*n).is_ok()).unwrap();
        let frame = framed(u64::MAX, &body(fits).unwrap());
        assert_eq!(frame.len(), frame::PREFIX + limit);
        let over = body(fits + 1);
        assert!(
            matches!(over, Err(Error::PayloadTooLarge { size: 1001, max: 1000 })),
            "{:?}",
            over.err()
        );
        assert!(SCRATCH_BUFFER.take().capacity() <= limit);
    }

    #[test]
    fn a_limit_too_small_for_any_event_refuses_all() {
        for max in [0, 10, AROUND_TAIL] {
            let refused = EventTail::encode("k", 1, &(), max).err();
            assert!(matches!(refused, Some(Error::PayloadTooLarge { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_long_event_takes_its_own_memory_and_leaves_scratch_small() {
        for n in [SCRATCH - 100, SCRATCH, SCRATCH + 1, 100_000, MAX_BODY - 100] {
            let text = "x".repeat(n);
            let tail = EventTail::encode("k", 1, &text, MAX_BODY).unwrap();
            let expected = format!(r#""ts_unix_ns":1,"kind":"k","payload":"{text}"}}"#);
            assert!(tail.as_bytes() == expected.as_bytes(), "{n} bytes");
            assert!(SCRATCH_BUFFER.take().capacity() <= 2 * SCRATCH);
        }
    }

    #[test]
    fn a_queue_slot_is_256_bytes() {
        assert_eq!(size_of::<EventTail>() + size_of::<usize>(), 256);
    }
}
