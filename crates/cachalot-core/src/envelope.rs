//! The wire format: what stands around a value in a shared tier.
//!
//! Version 0, which promises nothing yet: a later release may read it as a miss. Byte by byte in
//! `docs/wire-format.md`, the twin of this file. The record around it (leases, nonce, the time it was
//! stored) belongs to the backend.
//!
//! Whatever cannot be decoded is a miss, never another value: the checksum covers every byte and is seeded
//! with the key's fingerprint, so that a value read under the wrong key does not verify either.

use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{Codec, Error, ErrorKind, Key, Result};

const VERSION: u8 = 0;
const HEADER: usize = 40;
const CHECKSUM: std::ops::Range<usize> = 32..40;
const NEGATIVE: u8 = 1;

/// What an envelope says besides its value. Times are durations from the moment it was stored, so that no
/// node's wall clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format of the value.
    pub codec: u8,
    /// The schema that the writer declared; 0 if none.
    pub schema: u32,
    /// Whether it says "known to be absent" and holds no value.
    pub negative: bool,
    /// From being stored to soft expiry; milliseconds on the wire, `Duration::MAX` for ever.
    pub fresh_for: Duration,
    /// From being stored to hard expiry, likewise.
    pub kept_for: Duration,
    /// What the load cost; microseconds on the wire.
    pub compute_time: Duration,
}

/// Encodes `value` (`None`: negative) for `key`.
///
/// # Errors
/// [`ErrorKind::Encode`] if the codec fails.
pub fn encode<V: 'static>(
    key: &Key,
    header: Header,
    value: Option<&V>,
    codec: &dyn Codec<V>,
) -> Result<Bytes> {
    let mut out = Vec::with_capacity(HEADER + 216);
    out.extend_from_slice(&[VERSION, header.codec, u8::from(value.is_none()) * NEGATIVE, 0]);
    out.extend_from_slice(&header.schema.to_le_bytes());
    out.extend_from_slice(&millis(header.fresh_for).to_le_bytes());
    out.extend_from_slice(&millis(header.kept_for).to_le_bytes());
    out.extend_from_slice(&micros(header.compute_time).to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    if let Some(value) = value {
        codec.encode(value, &mut out)?;
    }
    let sum = checksum(key, &out);
    out[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    Ok(out.into())
}

/// Splits `bytes` into header and the bytes of the value, once they have been verified for `key`.
///
/// # Errors
/// [`ErrorKind::Decode`] if they are of another format, damaged, or another key's.
pub fn open<'a>(key: &Key, bytes: &'a [u8]) -> Result<(Header, &'a [u8])> {
    let bad = |detail: &'static str| {
        Error::new(ErrorKind::Decode, "envelope")
            .detail(detail)
            .key(key.as_bytes())
    };
    let (head, value) = bytes.split_at_checked(HEADER).ok_or_else(|| bad("too short"))?;
    if head[0] != VERSION {
        return Err(bad("another format"));
    }
    if u64_at(head, CHECKSUM.start) != checksum(key, bytes) {
        return Err(bad("damaged, or another key's"));
    }
    let negative = head[2] == NEGATIVE;
    if head[2] & !NEGATIVE != 0 || head[3] != 0 || (negative && !value.is_empty()) {
        return Err(bad("unknown flags"));
    }
    let header = Header {
        codec: head[1],
        schema: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        negative,
        fresh_for: from_millis(u64_at(head, 8)),
        kept_for: from_millis(u64_at(head, 16)),
        compute_time: Duration::from_micros(u64_at(head, 24)),
    };
    Ok((header, value))
}

/// The sum of all bytes but the sum's own, for this key.
fn checksum(key: &Key, bytes: &[u8]) -> u64 {
    let head = xxh3_64_with_seed(&bytes[..CHECKSUM.start], key.fingerprint());
    xxh3_64_with_seed(&bytes[HEADER..], head)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// All ones stand for "for ever".
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn from_millis(millis: u64) -> Duration {
    if millis == u64::MAX {
        Duration::MAX
    } else {
        Duration::from_millis(millis)
    }
}

#[cfg(test)]
mod tests;
