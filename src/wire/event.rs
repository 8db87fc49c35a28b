//! An event's body, in two parts: the tail, which its producer writes, and the head with `seq`,
//! which the writer puts before it once the order is decided.

use serde::Serialize;

use super::buffer::{Buffer, INLINE, Text};
use super::{frame, json};
use crate::error::{Error, Result};

const HEAD: &[u8] = b"{\"type\":\"event\",\"seq\":";
/// Digits that `seq` is counted with, whatever its value: those of `u64::MAX`.
const SEQ_DIGITS: usize = 20;
/// What a body has besides its tail, in bytes.
const AROUND_TAIL: usize = HEAD.len() + SEQ_DIGITS + 1;

/// The most that a frame takes whose tail is inline, in bytes.
pub(crate) const INLINE_FRAME: usize = frame::PREFIX + AROUND_TAIL + INLINE;

/// A serialised event but for its `seq`: `"ts_unix_ns":…,"kind":…,"payload":…}`.
///
/// A short one travels by value, so that nothing is allocated. It is written where it lies, since
/// to move it costs as much as to serialise a field or two.
///
/// It has cache lines of its own: a slot takes 320 bytes, 64 of them for the channel's stamp. Packed
/// into 256, two producers wrote to the same line whenever their slots met.
#[repr(align(64))]
#[expect(clippy::large_enum_variant, reason = "stored inline so that nothing is allocated")]
pub(crate) enum EventTail {
    Inline { len: u8, bytes: [u8; INLINE] },
    Heap(Box<[u8]>),
}

impl EventTail {
    /// One to be written; not an event yet.
    #[inline]
    pub(crate) fn blank() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE] }
    }

    /// Writes an event into a [`blank`](Self::blank) whose whole body may have `max_body` bytes.
    pub(crate) fn write<T>(
        &mut self,
        kind: &str,
        ts_unix_ns: u64,
        payload: &T,
        max_body: usize,
    ) -> Result<()>
    where
        T: Serialize + ?Sized,
    {
        let Self::Inline { len, bytes } = self else {
            unreachable!("it was written before");
        };
        let mut out = Buffer::new(bytes, max_body.saturating_sub(AROUND_TAIL));
        out.put(b"\"ts_unix_ns\":");
        out.put_few(itoa::Buffer::new().format(ts_unix_ns).as_bytes());
        out.put(b",\"kind\":");
        json::put_string(&mut out, kind);
        out.put(b",\"payload\":");
        let mut out = json::write(out, payload)?;
        out.put(b"}");
        let size = AROUND_TAIL + out.size();
        if size > max_body {
            return Err(Error::PayloadTooLarge { size, max: max_body });
        }
        match out.finish() {
            Text::Inline(size) => *len = size,
            Text::Heap(bytes) => *self = Self::Heap(bytes),
        }
        Ok(())
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

#[cfg(test)]
impl EventTail {
    pub(crate) fn encode<T: Serialize + ?Sized>(
        kind: &str,
        ts_unix_ns: u64,
        payload: &T,
        max_body: usize,
    ) -> Result<Self> {
        let mut tail = Self::blank();
        tail.write(kind, ts_unix_ns, payload, max_body).map(|()| tail)
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
    fn the_limit_holds_to_the_byte() {
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
    }

    #[test]
    fn a_limit_too_small_for_any_event_refuses_all() {
        for max in [0, 10, AROUND_TAIL] {
            let refused = EventTail::encode("k", 1, &(), max).err();
            assert!(matches!(refused, Some(Error::PayloadTooLarge { .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_queue_slot_takes_five_cache_lines() {
        assert_eq!(size_of::<(std::sync::atomic::AtomicU64, EventTail)>(), 5 * 64);
    }
}
