//! The byte form of a message, version 1. Byte by byte in `docs/wire-format.md`.

use std::time::Duration;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{Body, Message, PublisherId, Subject};
use crate::{Error, ErrorKind, Key, Namespace, Result};

const MAGIC: [u8; 2] = *b"CB";
const VERSION: u8 = 1;
/// Magic, version, kind; checksum; publisher.
const HEADER: usize = 28;

const INVALIDATIONS: u8 = 1;
const HEARTBEAT: u8 = 2;
const GOODBYE: u8 = 3;
const ACK: u8 = 4;
const LEASES_ENDED: u8 = 5;

const CONFIRM: u8 = 1;

const KEY: u8 = 1;
const TAG: u8 = 2;
const PATTERN: u8 = 3;
const CLEAR: u8 = 4;
const PENDING: u8 = 0x80;

impl Message {
    /// The most bytes that a message may take: 1 MiB.
    pub const MAX_BYTES: usize = 1 << 20;
    /// The most names in one message: 4,096.
    pub const MAX_NAMES: usize = 4096;

    /// Whether it can be sent, without encoding it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it names nothing where it must, more than [`Message::MAX_NAMES`], has the
    /// number 0, or takes more than [`Message::MAX_BYTES`].
    pub fn check(&self) -> Result<()> {
        let names = match &self.body {
            Body::Invalidations { sequence: 0, .. } => return Err(refused("numbers start at 1")),
            Body::Invalidations { subjects, .. } => subjects.len(),
            Body::LeasesEnded { keys } => keys.len(),
            _ => 1,
        };
        if !(1..=Self::MAX_NAMES).contains(&names) {
            return Err(refused("it must hold 1 to 4,096 names"));
        }
        if self.size() > Self::MAX_BYTES {
            return Err(refused("it would take more than 1 MiB"));
        }
        Ok(())
    }

    fn size(&self) -> usize {
        HEADER + 1 + self.namespace.as_str().len() + body_size(&self.body)
    }

    /// Its byte form.
    ///
    /// # Errors
    /// As [`check`](Message::check).
    pub fn encode(&self) -> Result<Bytes> {
        self.check()?;
        let namespace = self.namespace.as_str().as_bytes();
        let mut out = Vec::with_capacity(self.size());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSION, kind(&self.body)]);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(self.publisher.as_bytes());
        // A namespace has at most 64 bytes; what is checked has few and short names.
        out.push(namespace.len() as u8);
        out.extend_from_slice(namespace);
        write_body(&self.body, &mut out);
        let sum = checksum(&out).to_le_bytes();
        out[4..12].copy_from_slice(&sum);
        Ok(out.into())
    }

    /// Reads the byte form. Names share the memory of `bytes`; nothing is allocated in proportion to a number
    /// that stands there, only to bytes that are there.
    ///
    /// # Errors
    /// [`ErrorKind::Decode`] if it is no message: foreign, damaged, too large, or of a kind or version that
    /// this release does not know. A receiver must treat it as a gap: it may have been an invalidation.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        if bytes.len() > Self::MAX_BYTES {
            return Err(bad("more than 1 MiB"));
        }
        let mut input = Input { bytes: &bytes, at: 0 };
        if input.take(2)? != MAGIC {
            return Err(bad("not a message"));
        }
        if input.u8()? != VERSION {
            return Err(bad("another version"));
        }
        let kind = input.u8()?;
        if input.u64()? != checksum(&bytes) {
            return Err(bad("damaged"));
        }
        let publisher = input.publisher()?;
        let length = usize::from(input.u8()?);
        let name = std::str::from_utf8(input.take(length)?).map_err(|_| bad("not a namespace"))?;
        let namespace = Namespace::new(name).map_err(|_| bad("not a namespace"))?;
        let body = input.body(kind)?;
        if input.at != bytes.len() {
            return Err(bad("too long"));
        }
        Ok(Self { publisher, namespace, body })
    }
}

/// Of all bytes but its own, which are 4 to 12.
fn checksum(bytes: &[u8]) -> u64 {
    let (head, rest) = bytes.split_at(bytes.len().min(4));
    let seed = head.iter().rev().fold(0, |seed, byte| seed << 8 | u64::from(*byte));
    xxh3_64_with_seed(rest.get(8..).unwrap_or_default(), seed)
}

fn kind(body: &Body) -> u8 {
    match body {
        Body::Invalidations { .. } => INVALIDATIONS,
        Body::Heartbeat { .. } => HEARTBEAT,
        Body::Goodbye { .. } => GOODBYE,
        Body::Ack { .. } => ACK,
        Body::LeasesEnded { .. } => LEASES_ENDED,
    }
}

fn body_size(body: &Body) -> usize {
    match body {
        Body::Invalidations { subjects, .. } => {
            11 + subjects.iter().map(|subject| 5 + subject.name().len()).sum::<usize>()
        }
        Body::Heartbeat { .. } => 13,
        Body::Goodbye { .. } => 8,
        Body::Ack { .. } => 24,
        Body::LeasesEnded { keys } => 2 + keys.iter().map(|key| 4 + key.as_bytes().len()).sum::<usize>(),
    }
}

fn write_body(body: &Body, out: &mut Vec<u8>) {
    match body {
        Body::Invalidations { sequence, confirm, subjects } => {
            out.extend_from_slice(&sequence.to_le_bytes());
            out.push(u8::from(*confirm) * CONFIRM);
            out.extend_from_slice(&(subjects.len() as u16).to_le_bytes());
            for subject in subjects {
                out.push(subject_kind(subject));
                write_name(subject.name(), out);
            }
        }
        Body::Heartbeat { last, every, confirm } => {
            let every = u32::try_from(every.as_millis()).unwrap_or(u32::MAX);
            out.extend_from_slice(&last.to_le_bytes());
            out.extend_from_slice(&every.to_le_bytes());
            out.push(u8::from(*confirm) * CONFIRM);
        }
        Body::Goodbye { last } => out.extend_from_slice(&last.to_le_bytes()),
        Body::Ack { of, up_to } => {
            out.extend_from_slice(of.as_bytes());
            out.extend_from_slice(&up_to.to_le_bytes());
        }
        Body::LeasesEnded { keys } => {
            out.extend_from_slice(&(keys.len() as u16).to_le_bytes());
            keys.iter().for_each(|key| write_name(key.as_bytes(), out));
        }
    }
}

fn write_name(name: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(name);
}

fn subject_kind(subject: &Subject) -> u8 {
    let kind = match subject {
        Subject::Key { .. } => KEY,
        Subject::Tag { .. } => TAG,
        Subject::Pattern { .. } => PATTERN,
        Subject::Clear { .. } => CLEAR,
    };
    if subject.is_pending() { kind | PENDING } else { kind }
}

/// What is still to be read.
struct Input<'a> {
    bytes: &'a Bytes,
    at: usize,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = rest.get(..length).ok_or_else(|| bad("too short"))?;
        self.at += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| bad("too short"))
    }

    fn u8(&mut self) -> Result<u8> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    fn publisher(&mut self) -> Result<PublisherId> {
        Ok(PublisherId::from_bytes(self.array()?))
    }

    fn confirm(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            CONFIRM => Ok(true),
            _ => Err(bad("unknown flags")),
        }
    }

    fn name(&mut self) -> Result<Bytes> {
        let length = u32::from_le_bytes(self.array()?);
        let start = self.at;
        let taken = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
        Ok(self.bytes.slice(start..start + taken.len()))
    }

    /// As many as are said to be there, each by `read`, which takes at least `least` bytes.
    fn many<T>(&mut self, least: usize, read: impl Fn(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if !(1..=Message::MAX_NAMES).contains(&count) || count * least > self.bytes.len() - self.at {
            return Err(bad("no such number of names"));
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn body(&mut self, kind: u8) -> Result<Body> {
        Ok(match kind {
            INVALIDATIONS => {
                let (sequence, confirm) = (self.u64()?, self.confirm()?);
                if sequence == 0 {
                    return Err(bad("numbers start at 1"));
                }
                Body::Invalidations { sequence, confirm, subjects: self.many(5, Self::subject)? }
            }
            HEARTBEAT => {
                let (last, every) = (self.u64()?, u32::from_le_bytes(self.array()?));
                let every = Duration::from_millis(every.into());
                Body::Heartbeat { last, every, confirm: self.confirm()? }
            }
            GOODBYE => Body::Goodbye { last: self.u64()? },
            ACK => Body::Ack { of: self.publisher()?, up_to: self.u64()? },
            LEASES_ENDED => Body::LeasesEnded { keys: self.many(4, |input| input.name().map(Key::new))? },
            _ => return Err(bad("unknown kind")),
        })
    }

    fn subject(&mut self) -> Result<Subject> {
        let kind = self.u8()?;
        let pending = kind & PENDING != 0;
        let name = self.name()?;
        match kind & !PENDING {
            KEY => Ok(Subject::Key { key: Key::new(name), pending }),
            TAG => Ok(Subject::Tag { tag: name, pending }),
            PATTERN => Ok(Subject::Pattern { pattern: name, pending }),
            CLEAR if name.is_empty() => Ok(Subject::Clear { pending }),
            _ => Err(bad("unknown subject")),
        }
    }
}

fn bad(detail: &'static str) -> Error {
    Error::new(ErrorKind::Decode, "bus message").detail(detail)
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::Config, "bus message").detail(detail)
}

#[cfg(test)]
mod tests;
