//! The wire format: what stands around a value in a shared tier.
//!
//! Version 1, which is frozen: whatever a release wrote under it, each later one reads, or takes for a miss if it
//! says so in its changelog; none takes it for something else. Byte by byte in `docs/wire-format.md`, the twin of
//! this file. The record around it (leases, nonce, the time it was stored) belongs to the backend.
//!
//! Whatever cannot be decoded is a miss, never another value: the checksum covers every byte and is seeded
//! with the key's fingerprint, so that a value read under the wrong key does not verify either. It guards
//! against accidents, not against someone who can write to the tier: whoever can, can also compute it, and
//! the [codecs](crate::codec) bound what such bytes may cost.
//!
//! ```
//! # #[cfg(feature = "msgpack")]
//! # fn main() -> cachalot_core::Result<()> {
//! use std::time::Duration;
//! use cachalot_core::codec::MsgPack;
//! use cachalot_core::envelope::{self, Header};
//! use cachalot_core::{Codec, Key};
//!
//! let header = Header {
//!     codec: Codec::<String>::id(&MsgPack),
//!     schema: 0,
//!     negative: false,
//!     fresh_for: Duration::from_secs(300),
//!     kept_for: Duration::from_secs(3900),
//!     compute_time: Duration::from_millis(12),
//!     version: 0,
//! };
//! let ann = Key::new("users:7");
//! let bytes = envelope::encode(&ann, header, &[], Some(&"Ann".to_owned()), &MsgPack)?;
//!
//! let read = envelope::open(&ann, &bytes)?;
//! assert_eq!(read.header, header);
//! assert_eq!(Codec::<String>::decode(&MsgPack, read.value)?, "Ann");
//! assert!(envelope::open(&Key::new("users:8"), &bytes).is_err());
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "msgpack"))]
//! # fn main() {}
//! ```

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::{Codec, Error, ErrorKind, Key, Result};

mod tagged;
pub use tagged::Tagged;

const VERSION: u8 = 1;
const HEADER: usize = 40;
/// Header and a value of ordinary size, so that the codec need not grow the vector.
const CAPACITY: usize = 512;
const FLAGS: usize = 2;
const CHECKSUM: Range<usize> = 32..40;
const NEGATIVE: u8 = 1;
const TAGGED: u8 = 2;
const VERSIONED: u8 = 4;

/// What an envelope says besides its value. Times are durations from the moment it was stored, so that no
/// node's wall clock counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format of the value: [`Codec::id`]. Set by [`encode`], whatever stands here.
    pub codec: u8,
    /// The schema that the writer declared; 0 if none.
    pub schema: u32,
    /// Whether it says "known to be absent" and holds no value. Set by [`encode`], whatever stands here.
    pub negative: bool,
    /// From being stored to soft expiry; milliseconds on the wire, `Duration::MAX` for ever.
    pub fresh_for: Duration,
    /// From being stored to hard expiry, likewise. Below `fresh_for` it says that reads prolong the value's life: then
    /// it is the time to live from a touch on, and `fresh_for` the maximum age.
    pub kept_for: Duration,
    /// What the load cost; microseconds on the wire.
    pub compute_time: Duration,
    /// Which version of its key the value is; 0 if it has none, and then it takes no bytes.
    pub version: u64,
}

/// What [`open`] finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What it says of its value.
    pub header: Header,
    /// The tags of the value, and what they stood at before it was loaded.
    pub tags: Vec<Tagged>,
    /// The bytes of the value.
    pub value: &'a [u8],
}

/// Encodes `value` (`None`: negative) for `key`, under `tags`, 255 at most. Parts of a millisecond, of the
/// compute time parts of a microsecond, are dropped. Adds 40 bytes, 8 for a version, for each tag its name and 34, and about
/// 25 ns to what the codec takes for 150 bytes.
///
/// # Errors
/// [`ErrorKind::Encode`] if the codec fails, or there are too many tags.
pub fn encode<V: 'static>(
    key: &Key,
    header: Header,
    tags: &[Tagged],
    value: Option<&V>,
    codec: &dyn Codec<V>,
) -> Result<Bytes> {
    let header = Header { codec: codec.id(), negative: value.is_none(), ..header };
    let mut out = Vec::with_capacity(CAPACITY);
    out.extend_from_slice(&[0; HEADER]);
    if header.version != 0 {
        out.extend_from_slice(&header.version.to_le_bytes());
    }
    tagged::write(tags, &mut out)?;
    if let Some(value) = value {
        codec.encode(value, &mut out)?;
    }
    let Some((place, value)) = out.split_first_chunk_mut::<HEADER>() else {
        return Err(Error::new(ErrorKind::Encode, "envelope").detail("the codec took bytes away"));
    };
    let mut head = head(&header);
    head[FLAGS] |= if tags.is_empty() { 0 } else { TAGGED };
    let sum = checksum(key, head, value);
    head[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    *place = head;
    Ok(out.into())
}

/// Splits `bytes` into header, tags and the bytes of the value, once they have been verified for `key`.
/// Whether codec and schema are the reader's own, whether it still is fresh, and whether its tags still stand
/// at what they stood, is for the caller to ask. About 25 ns for 150 bytes; no allocation unless it has tags
/// or fails.
///
/// # Errors
/// [`ErrorKind::Decode`] if they are of another format, damaged, or another key's.
pub fn open<'a>(key: &Key, bytes: &'a [u8]) -> Result<Opened<'a>> {
    let bad =
        |detail: &'static str| Error::new(ErrorKind::Decode, "envelope").detail(detail).key(key.as_bytes());
    let (head, rest) = bytes.split_first_chunk::<HEADER>().ok_or_else(|| bad("too short"))?;
    if head[0] != VERSION {
        return Err(bad("another format"));
    }
    if u64_at(head, CHECKSUM.start) != checksum(key, *head, rest) {
        return Err(bad("damaged, or another key's"));
    }
    let has = |flag: u8| head[FLAGS] & flag != 0;
    if has(!(NEGATIVE | TAGGED | VERSIONED)) || head[3] != 0 {
        return Err(bad("unknown flags"));
    }
    let (version, rest) = match has(VERSIONED) {
        true => version(rest).ok_or_else(|| bad("a version that cannot be read"))?,
        false => (0, rest),
    };
    let (tags, value) = match has(TAGGED) {
        true => tagged::read(rest).ok_or_else(|| bad("tags that cannot be read"))?,
        false => (Vec::new(), rest),
    };
    let negative = has(NEGATIVE);
    if negative && !value.is_empty() {
        return Err(bad("a value that is said to be absent"));
    }
    let header = Header {
        codec: head[1],
        schema: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
        negative,
        fresh_for: from_millis(u64_at(head, 8)),
        kept_for: from_millis(u64_at(head, 16)),
        compute_time: Duration::from_micros(u64_at(head, 24)),
        version,
    };
    Ok(Opened { header, tags, value })
}

/// Whether `bytes` say that they have tags, not verified: whether [`open`] is worth it for them. One byte is
/// looked at.
pub fn is_tagged(bytes: &[u8]) -> bool {
    bytes.get(FLAGS).is_some_and(|flags| flags & TAGGED != 0)
}

/// The version at the start of `rest`, and what follows it. None is 0: that is said by the flag.
fn version(rest: &[u8]) -> Option<(u64, &[u8])> {
    let (version, rest) = rest.split_first_chunk()?;
    let version = u64::from_le_bytes(*version);
    (version != 0).then_some((version, rest))
}

/// The bytes of `header`, its checksum zero. By whole words: they are read again at once, by words.
fn head(header: &Header) -> [u8; HEADER] {
    let flags = (u8::from(header.negative) * NEGATIVE) | (u8::from(header.version != 0) * VERSIONED);
    let kind = u64::from(VERSION)
        | u64::from(header.codec) << 8
        | u64::from(flags) << 16
        | u64::from(header.schema) << 32;
    let words = [kind, millis(header.fresh_for), millis(header.kept_for), micros(header.compute_time)];
    let mut head = [0; HEADER];
    for (place, word) in head.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    head
}

/// The sum of all bytes but the sum's own, for this key: the header's, seeded with the key's fingerprint,
/// with the value's own sum in the place of this one. The value's is not seeded, which would cost a long
/// one twice the time.
fn checksum(key: &Key, mut head: [u8; HEADER], value: &[u8]) -> u64 {
    head[CHECKSUM].copy_from_slice(&xxh3_64(value).to_le_bytes());
    xxh3_64_with_seed(&head, key.fingerprint())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

/// All ones stand for "for ever".
fn millis(duration: Duration) -> u64 {
    let whole = duration.as_secs().checked_mul(1000);
    whole.and_then(|whole| whole.checked_add(duration.subsec_millis().into())).unwrap_or(u64::MAX)
}

fn micros(duration: Duration) -> u64 {
    let whole = duration.as_secs().checked_mul(1_000_000);
    whole.and_then(|whole| whole.checked_add(duration.subsec_micros().into())).unwrap_or(u64::MAX)
}

fn from_millis(millis: u64) -> Duration {
    if millis == u64::MAX { Duration::MAX } else { Duration::from_millis(millis) }
}

#[cfg(test)]
mod tests;
