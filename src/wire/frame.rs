//! Frames: a `u32` little-endian length, then a content of that many bytes.

use super::MAX_CONTENT;

/// Bytes of the length prefix.
pub(crate) const PREFIX: usize = 4;

/// Starts a frame in `out`; returns what [`finish`] needs.
pub(crate) fn start(out: &mut Vec<u8>) -> usize {
    let at = out.len();
    out.extend_from_slice(&[0; PREFIX]);
    at
}

/// Ends the frame started at `at`, whose content has `beyond` more bytes than `out` holds.
pub(crate) fn finish(out: &mut [u8], at: usize, beyond: usize) {
    let content = out.len() - at - PREFIX + beyond;
    let prefix = u32::try_from(content).expect("a content is shorter than 4 GiB");
    out[at..at + PREFIX].copy_from_slice(&prefix.to_le_bytes());
}

/// Counts the complete frames in the first `written` bytes of a stream that starts with `frames`. Of the
/// last frame, `frames` needs to contain only the length prefix.
pub(crate) fn count_whole(frames: &[u8], written: usize) -> u64 {
    let (mut at, mut count) = (0, 0);
    while let Some(prefix) = frames.get(at..at + PREFIX) {
        let content =
            u32::from_le_bytes(prefix.try_into().expect("a prefix has four bytes")) as usize;
        at += PREFIX + content;
        if at > written {
            break;
        }
        count += 1;
    }
    count
}

/// Why bytes are not a frame. The rest of the stream cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadFrame {
    Empty,
    TooLong(u32),
}

impl std::fmt::Display for BadFrame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => f.write_str("a frame without a content"),
            Self::TooLong(length) => {
                write!(f, "a frame of {length} bytes, where the limit is {MAX_CONTENT}")
            }
        }
    }
}

/// Takes frames out of a stream of bytes, which may arrive in pieces of any size.
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

    /// The content of the next complete frame, if there is one. The memory depends on the bytes that were
    /// fed, and never on the length that a prefix announces.
    pub(crate) fn next_content(&mut self) -> Result<Option<&[u8]>, BadFrame> {
        let rest = &self.bytes[self.start..];
        let Some((prefix, rest)) = rest.split_first_chunk::<PREFIX>() else {
            return Ok(None);
        };
        let announced = u32::from_le_bytes(*prefix);
        let length = announced as usize;
        if length == 0 {
            return Err(BadFrame::Empty);
        }
        if length > MAX_CONTENT {
            return Err(BadFrame::TooLong(announced));
        }
        if rest.len() < length {
            return Ok(None);
        }
        let content = self.start + PREFIX;
        self.start = content + length;
        Ok(Some(&self.bytes[content..self.start]))
    }

    /// The bytes that were fed and not taken: the beginning of the next frame, if any.
    #[cfg(feature = "test-util")]
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    fn framed(contents: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for content in contents {
            let at = start(&mut out);
            out.extend_from_slice(content);
            finish(&mut out, at, 0);
        }
        out
    }

    #[test]
    fn frames_are_read_from_pieces_of_any_size() {
        let stream = framed(&[b"{}", b"[1,2]", b"x"]);
        for cut in 1..=stream.len() {
            let mut reader = FrameReader::default();
            let mut contents = Vec::new();
            for piece in stream.chunks(cut) {
                reader.feed(piece);
                while let Some(content) = reader.next_content().unwrap() {
                    contents.push(content.to_vec());
                }
            }
            assert_eq!(contents, [b"{}".to_vec(), b"[1,2]".to_vec(), b"x".to_vec()]);
        }
    }

    #[test]
    fn bad_lengths_are_refused_before_anything_is_stored() {
        let mut reader = FrameReader::default();
        reader.feed(&[0, 0, 0, 0]);
        assert_eq!(reader.next_content(), Err(BadFrame::Empty));
        let mut reader = FrameReader::default();
        reader.feed(&u32::MAX.to_le_bytes());
        assert_eq!(reader.next_content(), Err(BadFrame::TooLong(u32::MAX)));
        let mut reader = FrameReader::default();
        reader.feed(&(MAX_CONTENT as u32).to_le_bytes());
        assert_eq!(reader.next_content(), Ok(None));
    }

    #[test]
    fn count_whole_counts_a_frame_at_its_last_byte() {
        let stream = framed(&[b"ab", b"cde", b"f"]);
        let ends = [6, 13, 18];
        for written in 0..=stream.len() {
            let whole = ends.iter().filter(|end| **end <= written).count() as u64;
            assert_eq!(count_whole(&stream, written), whole, "{written} bytes");
            // The last content may be in another place in memory.
            assert_eq!(count_whole(&stream[..17], written), whole, "{written} bytes");
        }
    }

    /// The contents that a reader takes out of the pieces of `stream`, and the error that ended it.
    fn read(stream: &[u8], cuts: &[usize]) -> (Vec<Vec<u8>>, Option<BadFrame>) {
        let mut reader = FrameReader::default();
        let (mut contents, mut rest, mut cuts) = (Vec::new(), stream, cuts.iter().cycle());
        loop {
            let (piece, next) =
                rest.split_at(cuts.next().map_or(usize::MAX, |n| *n).min(rest.len()));
            reader.feed(piece);
            rest = next;
            loop {
                match reader.next_content() {
                    Ok(Some(content)) => contents.push(content.to_vec()),
                    Ok(None) => break,
                    Err(bad) => return (contents, Some(bad)),
                }
            }
            if rest.is_empty() {
                return (contents, None);
            }
        }
    }

    /// Calls `check` with random generators. The second argument grows from 1 to 20 and bounds the size of
    /// the input, so that the first failure has a small input. The last printed seed is that of the failure.
    fn with_random_input(check: impl Fn(&mut Rng, usize)) {
        for round in 0..1000 {
            let seed = fastrand::u64(..);
            println!("seed {seed}, round {round}");
            check(&mut Rng::with_seed(seed), 1 + round / 50);
        }
    }

    fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
        (0..count).map(|_| rng.u8(..)).collect()
    }

    /// Short frames, some of them without a content. Sometimes an extra byte precedes a frame, so that the
    /// reader finds the next length prefix at the wrong place.
    fn stream(rng: &mut Rng, frames: usize) -> Vec<u8> {
        let mut stream = Vec::new();
        for _ in 0..frames {
            if rng.u8(..8) == 0 {
                stream.push(rng.u8(..));
            }
            let length = if rng.u8(..16) == 0 { 0 } else { rng.u8(1..9) };
            stream.extend_from_slice(&u32::from(length).to_le_bytes());
            stream.extend(bytes(rng, length.into()));
        }
        stream
    }

    fn lengths(rng: &mut Rng, count: usize, most: usize) -> Vec<usize> {
        (0..count).map(|_| rng.usize(1..=most)).collect()
    }

    #[test]
    fn any_contents_are_read_as_they_were_framed() {
        with_random_input(|rng, size| {
            let count = rng.usize(..=size);
            let lengths_of_contents = lengths(rng, count, 10 * size);
            let contents: Vec<_> = lengths_of_contents.into_iter().map(|n| bytes(rng, n)).collect();
            let pieces = rng.usize(..8);
            let cuts = lengths(rng, pieces, 15 * size);
            let framed = framed(&contents.iter().map(Vec::as_slice).collect::<Vec<_>>());
            assert_eq!(read(&framed, &cuts), (contents, None), "cut into {cuts:?}");
        });
    }

    #[test]
    fn any_bytes_give_the_same_contents_at_every_cut() {
        with_random_input(|rng, size| {
            let stream = stream(rng, size);
            let pieces = rng.usize(1..8);
            let cuts = lengths(rng, pieces, size);
            assert_eq!(read(&stream, &cuts), read(&stream, &[]), "{stream:?}, cut into {cuts:?}");
        });
    }
}
