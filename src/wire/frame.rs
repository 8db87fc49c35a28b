//! Frames: a `u32` little-endian length, then a body of that many bytes.

use super::MAX_BODY;

/// Bytes of the length prefix.
pub(crate) const PREFIX: usize = 4;

/// Starts a frame in `out`; returns what [`finish`] needs.
pub(crate) fn start(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    at
}

/// Ends the frame started at `at`, whose body has `beyond` more bytes than `out` holds.
pub(crate) fn finish(out: &mut [u8], at: usize, beyond: usize) {
    let body = out.len() - at - PREFIX + beyond;
    let prefix = u32::try_from(body).expect("a body is at most 1 MiB");
    out[at..at + PREFIX].copy_from_slice(&prefix.to_le_bytes());
}

/// Counts the whole frames within the first `written` bytes of a stream that starts with
/// `frames`; of the last one, `frames` needs to hold the length prefix alone.
pub(crate) fn count_whole(frames: &[u8], written: usize) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(prefix) = frames.get(at..at + PREFIX) {
        let body = u32::from_le_bytes(prefix.try_into().expect("four bytes")) as usize;
        at += PREFIX + body;
        if at > written {
            break;
        }
        count += 1;
    }
    count
}

/// Why bytes are no frame. The stream cannot be read on from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFrame {
    Empty,
    TooLong(u32),
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("a frame without a body"),
            Self::TooLong(length) => {
                write!(f, "a frame of {length} bytes, where the limit is {MAX_BODY}")
            }
        }
    }
}

/// Takes frames out of a stream of bytes, however it is cut up.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    bytes: Vec<u8>,
    /// Where the first frame that was not yet taken starts.
    start: usize,
}

impl FrameReader {
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole body, if there is one. Memory follows what was fed, never what a length
    /// prefix announces.
    pub(crate) fn next_body(&mut self) -> Result<Option<&[u8]>, BadFrame> {
        let rest = &self.bytes[self.start..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*prefix);
        let length = announced as usize;
        if length == 0 {
            return Err(BadFrame::Empty);
        }
        if length > MAX_BODY {
            return Err(BadFrame::TooLong(announced));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let body = self.start + PREFIX;
        self.start = body + length;
        Ok(Some(&self.bytes[body..self.start]))
    }

    /// What was fed and not taken: the beginning of a frame, if one has begun.
    #[cfg(feature = "test-util")]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn framed(bodies: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for body in bodies {
            let at = start(&mut out);
            out.extend_from_slice(body);
            finish(&mut out, at, 0);
        }
        out
    }

    #[test]
    fn frames_are_read_however_the_stream_is_cut_up() {
        let stream = framed(&[b"{}", b"[1,2]", b"x"]);
        for cut in 1..=stream.len() {
            let mut reader = FrameReader::default();
            let mut bodies = Vec::new();
            for piece in stream.chunks(cut) {
                reader.feed(piece);
                while let Some(body) = reader.next_body().unwrap() {
                    bodies.push(body.to_vec());
                }
            }
            assert_eq!(bodies, [b"{}".to_vec(), b"[1,2]".to_vec(), b"x".to_vec()]);
        }
    }

    #[test]
    fn bad_lengths_are_refused_before_anything_is_stored() {
        let mut reader = FrameReader::default();
        reader.feed(&[0, 0, 0, 0]);
        assert_eq!(reader.next_body(), Err(BadFrame::Empty));
        let mut reader = FrameReader::default();
        reader.feed(&u32::MAX.to_le_bytes());
        assert_eq!(reader.next_body(), Err(BadFrame::TooLong(u32::MAX)));
        let mut reader = FrameReader::default();
        reader.feed(&(MAX_BODY as u32).to_le_bytes());
        assert_eq!(reader.next_body(), Ok(None));
    }

    #[test]
    fn whole_frames_are_counted_up_to_the_byte() {
        let stream = framed(&[b"ab", b"cde", b"f"]);
        let ends = [6, 13, 18];
        for written in 0..=stream.len() {
            let whole = ends.iter().filter(|end| **end <= written).count() as u64;
            assert_eq!(count_whole(&stream, written), whole, "{written} bytes");
            // The last body may lie elsewhere.
            assert_eq!(count_whole(&stream[..17], written), whole, "{written} bytes");
        }
    }

    /// What a reader makes of `stream`, cut up: the bodies, and what stopped it.
    fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Option<BadFrame>) {
        let mut reader = FrameReader::default();
        let (mut bodies, mut rest, mut cuts) = (Vec::new(), stream, cuts.iter().cycle());
        loop {
            let (piece, next) =
                rest.split_at(cuts.next().map_or(usize::MAX, |n| *n).min(rest.len()));
            reader.feed(piece);
            rest = next;
            loop {
                match reader.next_body() {
                    Ok(Some(body)) => bodies.push(body.to_vec()),
                    Ok(None) => break,
                    Err(bad) => return (bodies, Some(bad)),
                }
            }
            if rest.is_empty() {
                return (bodies, None);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_bodies_come_out_as_they_went_in(
            bodies in vec(vec(any::<u8>(), 1..200), 0..20),
            cuts in vec(1..300_usize, 0..8),
        ) {
            let framed = framed(&bodies.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(read(&framed, &cuts), (bodies, None));
        }

        #[test]
        fn any_bytes_give_the_same_bodies_however_they_are_cut_up(
            // Low bytes, so that many are lengths of frames.
            stream in vec(prop_oneof![0..6_u8, any::<u8>()], 0..200),
            cuts in vec(1..20_usize, 1..8),
        ) {
            prop_assert_eq!(read(&stream, &cuts), read(&stream, &[]));
        }
    }
}
