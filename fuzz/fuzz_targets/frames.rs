//! The reader finds the frames that the protocol defines, whatever the pieces in which the stream arrives.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedr_plugin_sdk::fuzzing::contents;

const MAX_CONTENT: usize = 1 << 20;

/// The contents of the frames at the start of `stream`, and whether an invalid frame follows them.
fn expected(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut found = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if length == 0 || length > MAX_CONTENT {
            return (found, true);
        }
        if rest.len() < length {
            break;
        }
        let (content, rest) = rest.split_at(length);
        found.push(content.to_vec());
        stream = rest;
    }
    (found, false)
}

// The first byte is the length of the pieces.
fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let (read, bad) = contents(stream.chunks(usize::from(*size).max(1)));
    assert_eq!((read, bad.is_some()), expected(stream));
});
