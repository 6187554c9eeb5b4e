//! Any bytes as a bus message are read or refused; with a checksum that fits, what is read has these bytes as
//! its one byte form; damage is noticed.
#![no_main]

use bytes::Bytes;
use cachalot_core::Message;
use libfuzzer_sys::fuzz_target;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Magic, version, kind; checksum; publisher.
const HEADER: usize = 28;

fuzz_target!(|bytes: &[u8]| {
    let _ = Message::decode(Bytes::copy_from_slice(bytes));
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let mut sealed = vec![b'C', b'B', 1, kind % 8];
    sealed.extend_from_slice(&[0; 8]);
    sealed.extend_from_slice(&[7; HEADER - 12]);
    sealed.extend_from_slice(b"\x05users");
    sealed.extend_from_slice(rest);
    let seed = u32::from_le_bytes([sealed[0], sealed[1], sealed[2], sealed[3]]);
    let sum = xxh3_64_with_seed(&sealed[12..], seed.into());
    sealed[4..12].copy_from_slice(&sum.to_le_bytes());
    let sealed = Bytes::from(sealed);
    let Ok(message) = Message::decode(sealed.clone()) else {
        return;
    };
    assert_eq!(message.encode().expect("what was read"), sealed);

    let mut damaged = sealed.to_vec();
    let at = rest.len() % damaged.len();
    damaged[at] ^= kind | 1;
    assert!(Message::decode(damaged.into()).is_err());
    assert!(Message::decode(sealed.slice(..at)).is_err());
});
