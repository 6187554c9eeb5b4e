//! The record under a key: our header, the time and the era it was stored in, the payload. `lua/prelude.lua` draws it.

use std::ops::Range;
use std::time::Duration;

use bytes::{Buf, Bytes};
use cachalot_core::{Nonce, Record};

use crate::era::Era;

const MAGIC: &[u8] = b"CW\x01";
const FLAGS: usize = 3;
const VALUE: u8 = 1;
const INVALIDATED: u8 = 2;
const NONCE: Range<usize> = 28..44;
const STORED_AT: Range<usize> = 48..56;
const ERA: Range<usize> = 56..64;
const PAYLOAD: usize = 64;

/// The value in `bytes`, seen when the server's clock stood at `now_ms`, on a connection of `era`. `None` if there
/// is none: foreign bytes, a lease alone, or what another era stored. Copies nothing.
pub(crate) fn decode(bytes: Vec<u8>, now_ms: u64, era: Era) -> Option<Record> {
    let head = bytes.get(..PAYLOAD)?;
    if !head.starts_with(MAGIC) || head[FLAGS] & VALUE == 0 || !era.has_stored(&head[ERA]) {
        return None;
    }
    let nonce = Nonce::from_bytes(array(&head[NONCE])?);
    let stored_at = u64::from_be_bytes(array(&head[STORED_AT])?);
    let invalidated = head[FLAGS] & INVALIDATED != 0;
    let mut payload = Bytes::from(bytes);
    payload.advance(PAYLOAD);
    Some(Record { payload, nonce, age: Duration::from_millis(now_ms.saturating_sub(stored_at)), invalidated })
}

fn array<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(flags: u8) -> Vec<u8> {
        let mut bytes = b"CW\x01".to_vec();
        bytes.push(flags);
        bytes.extend_from_slice(&[7; 16]);
        bytes.extend_from_slice(&[0; 8]);
        bytes.extend_from_slice(&[9; 16]);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&1_000u64.to_be_bytes());
        bytes.extend_from_slice(Era::NONE.as_bytes());
        bytes.extend_from_slice(b"payload");
        bytes
    }

    #[test]
    fn a_value_is_read_with_its_nonce_age_and_mark() {
        let read = decode(record(VALUE | INVALIDATED), 1_250, Era::NONE).unwrap();
        assert_eq!(&read.payload[..], b"payload");
        assert_eq!(read.nonce, Nonce::from_bytes([9; 16]));
        assert_eq!(read.age, Duration::from_millis(250));
        assert!(read.invalidated);
    }

    #[test]
    fn a_value_from_the_future_is_new() {
        assert_eq!(decode(record(VALUE), 999, Era::NONE).unwrap().age, Duration::ZERO);
    }

    #[test]
    fn a_lease_alone_and_foreign_bytes_are_no_value() {
        assert_eq!(decode(record(4), 1_000, Era::NONE), None);
        assert_eq!(decode(b"{\"foreign\": true}".to_vec(), 1_000, Era::NONE), None);
        assert_eq!(decode(vec![b'x'; 100], 1_000, Era::NONE), None);
        let mut other_version = record(VALUE);
        other_version[2] = 2;
        assert_eq!(decode(other_version, 1_000, Era::NONE), None);
    }

    #[test]
    fn what_another_era_stored_is_no_value() {
        let mut bytes = record(VALUE);
        assert_eq!(decode(bytes.clone(), 1_000, Era::of("a")), None);
        bytes[ERA].copy_from_slice(Era::of("a").as_bytes());
        assert!(decode(bytes.clone(), 1_000, Era::of("a")).is_some());
        assert_eq!(decode(bytes.clone(), 1_000, Era::of("b")), None);
        assert_eq!(decode(bytes, 1_000, Era::NONE), None);
    }

    #[test]
    fn a_cut_record_is_no_value_and_never_panics() {
        let whole = record(VALUE);
        for length in 0..PAYLOAD {
            assert_eq!(decode(whole[..length].to_vec(), 1_000, Era::NONE), None, "{length}");
        }
        assert!(decode(whole[..PAYLOAD].to_vec(), 1_000, Era::NONE).unwrap().payload.is_empty());
    }
}
