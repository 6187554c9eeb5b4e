//! Any bytes as what a memcached says: replies, or a refusal, and the same ones however the bytes were split.
#![no_main]

use bytes::BytesMut;
use cachalot_memcached_backend::codec::{Malformed, Parser, Reply};
use libfuzzer_sys::fuzz_target;

/// Replies to `bytes`, which come in parts of so many, and how they ended.
fn read(bytes: &[u8], part: usize) -> (Vec<Reply>, Option<Malformed>) {
    let (mut parser, mut input, mut replies) = (Parser::new(1 << 16), BytesMut::new(), Vec::new());
    for part in bytes.chunks(part) {
        input.extend_from_slice(part);
        loop {
            match parser.next(&mut input) {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) => break,
                Err(malformed) => return (replies, Some(malformed)),
            }
        }
    }
    (replies, None)
}

fuzz_target!(|bytes: &[u8]| {
    let Some((part, bytes)) = bytes.split_first() else {
        return;
    };
    let (whole, split) = (read(bytes, bytes.len().max(1)), read(bytes, usize::from(*part).max(1)));
    // A line that is too long is noticed the sooner the more comes at once.
    assert_eq!(whole.0, split.0);
    assert_eq!(whole.1.is_some(), split.1.is_some());
});
