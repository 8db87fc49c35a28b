//! A stream of frames is read the same way however it comes, and as the protocol has it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wedr_plugin_sdk::fuzzing::contents;

const MAX_BODY: usize = 1 << 20;

/// The bodies at the start of `stream`, and whether what follows is no frame.
fn expected(mut stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let mut bodies = Vec::new();
    while let Some((prefix, rest)) = stream.split_first_chunk() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if length == 0 || length > MAX_BODY {
            return (bodies, true);
        }
        if rest.len() < length {
            break;
        }
        let (body, rest) = rest.split_at(length);
        bodies.push(body.to_vec());
        stream = rest;
    }
    (bodies, false)
}

// The first byte says how long the pieces are.
fuzz_target!(|data: &[u8]| {
    let Some((size, stream)) = data.split_first() else { return };
    let (read, bad) = contents(stream.chunks(usize::from(*size).max(1)));
    assert_eq!((read, bad.is_some()), expected(stream));
});
