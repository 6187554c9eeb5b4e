//! The bytes of a segment. Twin of docs/journal.md.

use std::fmt;

use bytes::Bytes;

use super::Logged;

/// How a segment begins.
const MAGIC: [u8; 8] = *b"cachjrnl";
const VERSION: u32 = 1;

/// What stands at the start of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// Its number; the first segment of a folder is 1, each further one higher.
    pub(super) segment: u64,
    /// Up to where the segment before it counts. What follows there failed, and is void.
    pub(super) previous_end: u64,
    /// All sequences that were given out before are below this one.
    pub(super) first: u64,
    pub(super) writer: u128,
}

impl Header {
    pub(super) const LEN: usize = 56;

    pub(super) fn encode(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.segment.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.previous_end.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.first.to_le_bytes());
        bytes[36..52].copy_from_slice(&self.writer.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..52]);
        bytes[52..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Flaw> {
        let mut reader = Reader { bytes };
        let magic = reader.take(8)?;
        let version = reader.u32()?;
        if magic != MAGIC {
            return Err(Flaw("no journal of cachalot"));
        }
        if version != VERSION {
            return Err(Flaw("a journal of another version"));
        }
        let segment = reader.u64()?;
        let previous_end = reader.u64()?;
        let first = reader.u64()?;
        let writer = u128::from_le_bytes(reader.array()?);
        if reader.u32()? != crc32c::crc32c(&bytes[..Self::LEN - 4]) {
            return Err(Flaw("the checksum of the header is wrong"));
        }
        Ok(Self { segment, previous_end, first, writer })
    }
}

/// One record of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    Write(Logged),
    /// Runs of sequences, both ends included.
    Done(Vec<(u64, u64)>),
    Cut(u64),
    Dead {
        sequence: u64,
        /// The last write of the letter that it is a part of, itself mostly.
        letter: u64,
        attempts: u32,
        reason: String,
    },
}

/// Length and checksum.
const FRAME: usize = 8;
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DONE: u8 = 3;
const CUT: u8 = 4;
const DEAD: u8 = 5;
/// Dead, and a part of a letter that ends with a later write.
const PART: u8 = 6;

/// The longest record: what a length in 32 bits can tell.
const LONGEST: usize = u32::MAX as usize;

/// The length of a write's record, frame included; `None` if it is too long for one.
pub(super) fn write_len(key: usize, value: Option<usize>) -> Option<usize> {
    let payload = match value {
        Some(value) => key.checked_add(value)?.checked_add(13)?,
        None => key.checked_add(9)?,
    };
    (payload <= LONGEST).then_some(payload + FRAME)
}

/// Appends the record of a write. Its length was found fit by [`write_len`].
pub(super) fn push_write(out: &mut Vec<u8>, sequence: u64, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => framed(out, PUT, |out| {
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(&(key.len() as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }),
        None => framed(out, DELETE, |out| {
            out.extend_from_slice(&sequence.to_le_bytes());
            out.extend_from_slice(key);
        }),
    }
}

/// Appends the record that these are done, neighbours as one run.
pub(super) fn push_done(out: &mut Vec<u8>, sequences: &[u64]) {
    framed(out, DONE, |out| {
        for run in sequences.chunk_by(|one, next| one.checked_add(1) == Some(*next)) {
            if let [first, .., last] | [first @ last] = run {
                out.extend_from_slice(&first.to_le_bytes());
                out.extend_from_slice(&last.to_le_bytes());
            }
        }
    });
}

pub(super) fn push_cut(out: &mut Vec<u8>, through: u64) {
    framed(out, CUT, |out| out.extend_from_slice(&through.to_le_bytes()));
}

pub(super) fn push_dead(out: &mut Vec<u8>, sequence: u64, letter: u64, attempts: u32, reason: &str) {
    let is_part = sequence != letter;
    framed(out, if is_part { PART } else { DEAD }, |out| {
        out.extend_from_slice(&sequence.to_le_bytes());
        if is_part {
            out.extend_from_slice(&letter.to_le_bytes());
        }
        out.extend_from_slice(&attempts.to_le_bytes());
        out.extend_from_slice(reason.as_bytes());
    });
}

fn framed(out: &mut Vec<u8>, kind: u8, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME]);
    out.push(kind);
    payload(out);
    let body = start + FRAME;
    let len = (out.len() - body) as u32;
    let crc = crc32c::crc32c(&out[body..]);
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
    out[start + 4..body].copy_from_slice(&crc.to_le_bytes());
}

/// The first record of `bytes`, and how many of them it takes. Allocates no more than they hold.
pub(super) fn decode(bytes: &[u8]) -> Result<(Record, usize), Flaw> {
    let mut reader = Reader { bytes };
    let len = reader.u32()? as usize;
    let crc = reader.u32()?;
    // A hole in a file reads as zeros: the length of no record.
    if len == 0 {
        return Err(Flaw("a record without length"));
    }
    let body = reader.take(len)?;
    if crc32c::crc32c(body) != crc {
        return Err(Flaw("the checksum of a record is wrong"));
    }
    let mut reader = Reader { bytes: &body[1..] };
    Ok((reader.record(body[0])?, FRAME + len))
}

/// Why bytes are not what they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flaw(&'static str);

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or(Flaw("ends too early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Flaw> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u32(&mut self) -> Result<u32, Flaw> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, Flaw> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn rest(&mut self) -> Bytes {
        Bytes::copy_from_slice(std::mem::take(&mut self.bytes))
    }

    fn record(&mut self, kind: u8) -> Result<Record, Flaw> {
        match kind {
            PUT => {
                let sequence = self.u64()?;
                let key_len = self.u32()? as usize;
                let key = Bytes::copy_from_slice(self.take(key_len)?);
                Ok(Record::Write(Logged { sequence, key, value: Some(self.rest()) }))
            }
            DELETE => Ok(Record::Write(Logged { sequence: self.u64()?, key: self.rest(), value: None })),
            DONE => {
                let mut runs = Vec::with_capacity(self.bytes.len() / 16);
                while !self.bytes.is_empty() {
                    runs.push((self.u64()?, self.u64()?));
                }
                Ok(Record::Done(runs))
            }
            CUT => {
                let through = self.u64()?;
                if self.bytes.is_empty() {
                    Ok(Record::Cut(through))
                } else {
                    Err(Flaw("a cut that is too long"))
                }
            }
            DEAD | PART => {
                let sequence = self.u64()?;
                let letter = if kind == PART { self.u64()? } else { sequence };
                let attempts = self.u32()?;
                let reason = String::from_utf8_lossy(std::mem::take(&mut self.bytes)).into_owned();
                Ok(Record::Dead { sequence, letter, attempts, reason })
            }
            _ => Err(Flaw("a record of an unknown type")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn crc32c_is_the_one_of_castagnoli() {
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn the_header_has_the_documented_bytes() {
        let header = Header {
            segment: 2,
            previous_end: 0x1000,
            first: 9,
            writer: 0x0f0e_0d0c_0b0a_0908_0706_0504_0302_0100,
        };
        let bytes = header.encode();
        assert_eq!(
            hex(&bytes[..52]),
            concat!(
                "636163686a726e6c", // cachjrnl
                "01000000",
                "0200000000000000",
                "0010000000000000",
                "0900000000000000",
                "000102030405060708090a0b0c0d0e0f",
            )
        );
        assert_eq!(bytes[52..], crc32c::crc32c(&bytes[..52]).to_le_bytes());
        assert_eq!(Header::decode(&bytes), Ok(header));
    }

    #[test]
    fn records_have_the_documented_bytes() {
        let mut out = Vec::new();
        push_write(&mut out, 7, b"k", Some(b"vw"));
        push_write(&mut out, 8, b"k", None);
        push_done(&mut out, &[7, 8, 11]);
        push_cut(&mut out, 8);
        push_dead(&mut out, 11, 11, 3, "no");
        push_dead(&mut out, 10, 11, 3, "no");
        assert_eq!(hex(&out), include_str!("golden.hex").split_whitespace().collect::<String>());
        assert_eq!(write_len(1, Some(2)), Some(24));
        assert_eq!(write_len(1, None), Some(18));
    }

    #[test]
    fn what_is_too_long_for_a_record_is_seen_before_it_is_written() {
        assert_eq!(write_len(0, Some(u32::MAX as usize - 13)), Some(u32::MAX as usize + 8));
        assert_eq!(write_len(0, Some(u32::MAX as usize - 12)), None);
        assert_eq!(write_len(usize::MAX, Some(usize::MAX)), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            sequence: u64, key: Vec<u8>, value: Option<Vec<u8>>, mut done: Vec<u64>, reason: String,
        ) {
            let mut out = Vec::new();
            push_write(&mut out, sequence, &key, value.as_deref());
            prop_assert_eq!(Some(out.len()), write_len(key.len(), value.as_ref().map(Vec::len)));
            let write = Logged { sequence, key: key.into(), value: value.map(Bytes::from) };
            prop_assert_eq!(decode(&out), Ok((Record::Write(write), out.len())));

            done.sort_unstable();
            done.dedup();
            out.clear();
            push_done(&mut out, &done);
            let (record, _) = decode(&out).unwrap();
            let Record::Done(runs) = record else { panic!("{record:?}") };
            let ends: Vec<u64> = runs.iter().flat_map(|(first, last)| [*first, *last]).collect();
            prop_assert!(ends.iter().all(|end| done.contains(end)));
            prop_assert_eq!(done.len() as u64, runs.iter().map(|(first, last)| last - first + 1).sum::<u64>());

            for letter in [sequence, sequence.saturating_add(1)] {
                out.clear();
                push_dead(&mut out, sequence, letter, 5, &reason);
                let dead = Record::Dead { sequence, letter, attempts: 5, reason: reason.clone() };
                prop_assert_eq!(decode(&out).unwrap().0, dead);
            }
        }

        #[test]
        fn any_bytes_are_a_record_or_a_flaw(bytes: Vec<u8>, kind in 0..8u8) {
            let _ = decode(&bytes);
            let _ = Header::decode(&bytes);
            // With a checksum that is right, so that the payload is looked at.
            let mut out = Vec::new();
            framed(&mut out, kind, |out| out.extend_from_slice(&bytes));
            if let Ok((_, len)) = decode(&out) {
                prop_assert_eq!(len, out.len());
            }
        }

        #[test]
        fn no_flipped_bit_passes(at: prop::sample::Index, bit in 0..8u32) {
            let mut out = Vec::new();
            push_write(&mut out, 7, b"key", Some(b"value"));
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            prop_assert!(decode(&out).is_err());
        }
    }
}
