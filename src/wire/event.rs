//! An event's content, in two parts. The producer writes the tail. The writer adds the head, with `seq`,
//! when the order of the events is decided.

use serde::Serialize;

use super::buffer::{Buffer, INLINE, Text};
use super::long::NoLender;
pub(crate) use super::long::{Lender, LongText};
use super::{frame, json};
use crate::error::{Error, Result};

const HEAD: &[u8] = b"{\"type\":\"event\",\"seq\":";
/// The size of an event counts `seq` with this many digits, those of `u64::MAX`, whatever its value.
const SEQ_DIGITS: usize = 20;
/// The bytes of a content outside its tail: the head, `seq` and a comma.
const AROUND_TAIL: usize = HEAD.len() + SEQ_DIGITS + 1;

/// The size of the largest frame whose tail is inline, in bytes.
pub(crate) const INLINE_FRAME: usize = frame::PREFIX + AROUND_TAIL + INLINE;

/// A serialised event except for its `seq`: `"ts_unix_ns":…,"kind":…,"payload":…}`.
///
/// A short event is passed by value, so that nothing is allocated. It is serialised into its final place,
/// because moving it costs as much as serialising one or two fields.
#[expect(clippy::large_enum_variant, reason = "stored inline so that nothing is allocated")]
pub(crate) enum EventTail {
    Inline {
        len: u8,
        bytes: [u8; INLINE],
    },
    Long {
        bytes: Vec<u8>,
        /// The lane to which the buffer returns, so that its producers use the buffer again.
        home: u8,
    },
}

impl EventTail {
    /// An empty tail to be written into.
    #[inline]
    pub(crate) fn blank() -> Self {
        Self::Inline { len: 0, bytes: [0; INLINE] }
    }

    /// Writes an event into a [`blank`](Self::blank) tail. The event's whole content may have at most
    /// `max_content` bytes. Returns the text if it does not fit inline.
    pub(crate) fn write<'l, T>(
        &mut self,
        kind: &str,
        ts_unix_ns: u64,
        payload: &T,
        max_content: usize,
        lender: &'l dyn Lender,
    ) -> Result<Option<LongText<'l>>>
    where
        T: Serialize + ?Sized,
    {
        let Self::Inline { len, bytes } = self else {
            unreachable!("the tail is blank");
        };
        let mut out = Buffer::new(bytes, max_content.saturating_sub(AROUND_TAIL), lender);
        out.put(b"\"ts_unix_ns\":");
        out.put_few(itoa::Buffer::new().format(ts_unix_ns).as_bytes());
        out.put(b",\"kind\":");
        json::put_string(&mut out, kind);
        out.put(b",\"payload\":");
        let mut out = json::write(out, payload)?;
        out.put(b"}");
        let size = AROUND_TAIL + out.size();
        if size > max_content {
            return Err(Error::PayloadTooLarge { size, max: max_content });
        }
        match out.finish() {
            Text::Inline(size) => {
                *len = size;
                Ok(None)
            }
            Text::Long(text) => Ok(Some(text)),
        }
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { len, bytes } => &bytes[..usize::from(*len)],
            Self::Long { bytes, .. } => bytes,
        }
    }
}

#[cfg(test)]
impl EventTail {
    pub(crate) fn encode<T: Serialize + ?Sized>(
        kind: &str,
        ts_unix_ns: u64,
        payload: &T,
        max_content: usize,
    ) -> Result<Self> {
        let mut tail = Self::blank();
        let text = tail.write(kind, ts_unix_ns, payload, max_content, &NoLender)?;
        Ok(match text {
            None => tail,
            Some(text) => Self::Long { bytes: text.as_bytes().to_vec(), home: 0 },
        })
    }
}

/// The frame of a whole event. Its content may have at most `max_content` bytes.
pub(crate) fn frame<T: Serialize + ?Sized>(
    seq: u64,
    kind: &str,
    ts_unix_ns: u64,
    payload: &T,
    max_content: usize,
) -> Result<Vec<u8>> {
    let mut tail = EventTail::blank();
    let text = tail.write(kind, ts_unix_ns, payload, max_content, &NoLender)?;
    let tail = text.as_ref().map_or(tail.as_bytes(), LongText::as_bytes);
    let mut out = Vec::with_capacity(frame::PREFIX + AROUND_TAIL + tail.len());
    put_head(&mut out, seq, tail.len());
    out.extend_from_slice(tail);
    Ok(out)
}

/// Appends the event's frame to `out`, except for its tail, which has `tail` bytes.
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
    use crate::wire::MAX_CONTENT;
    use crate::wire::message::{Event, PluginMessage, to_frame};
    use serde_json::json;

    fn framed(seq: u64, tail: &EventTail) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(&mut out, seq, tail.as_bytes().len());
        out.extend_from_slice(tail.as_bytes());
        out
    }

    #[test]
    fn event_has_the_same_frame_as_with_serde_json() {
        for text in ["", "short", &"long".repeat(500)] {
            let payload = json!({ "text": text, "n": [1, 2.5, null] });
            let tail = EventTail::encode("acme.\"x\"\n", 17, &payload, MAX_CONTENT).unwrap();
            let kind = "acme.\"x\"\n".into();
            let message = PluginMessage::Event(Event { seq: 3, ts_unix_ns: 17, kind, payload });
            assert_eq!(framed(3, &tail), to_frame(&message));
        }
    }

    #[test]
    fn limit_is_exact_to_the_byte() {
        let limit = 1000;
        let content = |n: usize| EventTail::encode("k", 1, &"x".repeat(n), limit);
        let fits = (0..limit).rev().find(|n| content(*n).is_ok()).unwrap();
        let frame = framed(u64::MAX, &content(fits).unwrap());
        assert_eq!(frame.len(), frame::PREFIX + limit);
        let over = content(fits + 1);
        assert!(
            matches!(over, Err(Error::PayloadTooLarge { size: 1001, max: 1000 })),
            "{:?}",
            over.err()
        );
    }

    #[test]
    fn limit_below_the_smallest_event_refuses_all() {
        for max in [0, 10, AROUND_TAIL] {
            let refused = EventTail::encode("k", 1, &(), max).err();
            assert!(matches!(refused, Some(Error::PayloadTooLarge { .. })), "{refused:?}");
        }
    }
}
