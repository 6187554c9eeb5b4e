//! The bytes of a snapshot, `docs/snapshot.md` tells them one by one.
//!
//! Whatever a file holds, reading it ends, allocates in proportion to it, and gives no record that was not written so.

use std::io::{self, Read, Write};
use std::time::Duration;

use cachalot_core::Timestamp;

const MAGIC: [u8; 8] = *b"cachalot";
const VERSION: u16 = 1;
const HEADER: usize = 24;
const FRAME: usize = 12;
/// No body is longer.
const LONGEST: usize = 1 << 30;
/// The age and the number of tags, and behind the tags the length of the key.
const FIXED: usize = 10;
/// How many tags an entry may have, those of the cache's own included, and more.
const MOST_TAGS: usize = 255;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) schema: u32,
    pub(super) written_at: Timestamp,
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// How old it was when it was written.
    pub(super) age: Duration,
    /// The fingerprints of its tags.
    pub(super) tags: Vec<u64>,
    pub(super) key: Vec<u8>,
    pub(super) envelope: Vec<u8>,
}

/// Why a file is no snapshot that could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Foreign {
    NoSnapshot,
    Version,
}

/// What comes next in a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Record(Record),
    /// A record that is damaged; the next one can be read.
    Damaged,
    /// The end, as it was written: all its records have come by.
    End,
    /// Here the file is torn, or damaged beyond finding the next record.
    Torn,
}

pub(super) struct Writer<W> {
    out: W,
    count: u64,
    bytes: u64,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(mut out: W, header: &Header) -> io::Result<Self> {
        let name = header.name.as_bytes();
        let length = u16::try_from(name.len()).map_err(|_| io::Error::other("a name beyond 65,535 bytes"))?;
        let mut head = Vec::with_capacity(HEADER + name.len() + 4);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&length.to_le_bytes());
        head.extend_from_slice(&header.schema.to_le_bytes());
        head.extend_from_slice(&header.written_at.as_millis().to_le_bytes());
        head.extend_from_slice(name);
        let sum = crc32c::crc32c(&head);
        head.extend_from_slice(&sum.to_le_bytes());
        out.write_all(&head)?;
        Ok(Self { out, count: 0, bytes: head.len() as u64 })
    }

    /// Whether it was short enough to be written.
    pub(super) fn put(&mut self, record: &Record) -> io::Result<bool> {
        let Record { age, tags, key, envelope } = record;
        let length = FIXED + 8 * tags.len() + 4 + key.len() + envelope.len();
        if length > LONGEST || tags.len() > MOST_TAGS {
            return Ok(false);
        }
        let mut body = Vec::with_capacity(length);
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        body.extend_from_slice(&age.to_le_bytes());
        body.extend_from_slice(&(tags.len() as u16).to_le_bytes());
        tags.iter().for_each(|tag| body.extend_from_slice(&tag.to_le_bytes()));
        body.extend_from_slice(&(key.len() as u32).to_le_bytes());
        body.extend_from_slice(key);
        body.extend_from_slice(envelope);
        let mut frame = [0; FRAME];
        frame[..4].copy_from_slice(&(length as u32).to_le_bytes());
        frame[4..8].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        let sum = crc32c::crc32c(&frame[..8]);
        frame[8..].copy_from_slice(&sum.to_le_bytes());
        self.out.write_all(&frame)?;
        self.out.write_all(&body)?;
        self.count += 1;
        self.bytes += (FRAME + length) as u64;
        Ok(true)
    }

    /// Writes the end. What was written to, and how many records and bytes.
    pub(super) fn finish(mut self) -> io::Result<(W, u64, u64)> {
        let mut end = [0; FRAME + 4];
        end[4..FRAME].copy_from_slice(&self.count.to_le_bytes());
        let sum = crc32c::crc32c(&end[..FRAME]);
        end[FRAME..].copy_from_slice(&sum.to_le_bytes());
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok((self.out, self.count, self.bytes + end.len() as u64))
    }
}

pub(super) struct Reader<R> {
    from: R,
    /// Records that have come by, damaged ones too.
    count: u64,
    is_over: bool,
}

impl<R: Read> Reader<R> {
    pub(super) fn open(mut from: R) -> io::Result<Result<(Self, Header), Foreign>> {
        let Some(mut head) = read(&mut from, HEADER)?.filter(|head| head[..8] == MAGIC) else {
            return Ok(Err(Foreign::NoSnapshot));
        };
        if u16_at(&head, 8) != VERSION {
            return Ok(Err(Foreign::Version));
        }
        let name = usize::from(u16_at(&head, 10));
        let Some(rest) = read(&mut from, name + 4)? else { return Ok(Err(Foreign::NoSnapshot)) };
        head.extend_from_slice(&rest);
        let (whole, sum) = head.split_at(HEADER + name);
        let text = std::str::from_utf8(&whole[HEADER..]);
        let (Ok(text), true) = (text, u32_at(sum, 0) == crc32c::crc32c(whole)) else {
            return Ok(Err(Foreign::NoSnapshot));
        };
        let written_at = Timestamp::from_millis(u64_at(whole, 16));
        let header = Header { name: text.to_owned(), schema: u32_at(whole, 12), written_at };
        Ok(Ok((Self { from, count: 0, is_over: false }, header)))
    }

    pub(super) fn next(&mut self) -> io::Result<Next> {
        if self.is_over {
            return Ok(Next::Torn);
        }
        let Some(frame) = read(&mut self.from, FRAME)? else { return Ok(self.over(Next::Torn)) };
        let length = u32_at(&frame, 0) as usize;
        if length == 0 {
            return self.end(&frame);
        }
        if u32_at(&frame, 8) != crc32c::crc32c(&frame[..8]) || length > LONGEST {
            return Ok(self.over(Next::Torn));
        }
        let Some(body) = read(&mut self.from, length)? else { return Ok(self.over(Next::Torn)) };
        self.count += 1;
        if u32_at(&frame, 4) != crc32c::crc32c(&body) {
            return Ok(Next::Damaged);
        }
        Ok(record(&body).map_or(Next::Damaged, Next::Record))
    }

    fn end(&mut self, frame: &[u8]) -> io::Result<Next> {
        let sum = read(&mut self.from, 4)?;
        let is_whole = sum.is_some_and(|sum| u32_at(&sum, 0) == crc32c::crc32c(frame));
        let is_all = u64_at(frame, 4) == self.count;
        Ok(self.over(if is_whole && is_all { Next::End } else { Next::Torn }))
    }

    fn over(&mut self, last: Next) -> Next {
        self.is_over = true;
        last
    }
}

/// So many bytes, if there are as many. The buffer grows with what is there, not with what is asked for.
fn read(from: &mut impl Read, length: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    from.by_ref().take(length as u64).read_to_end(&mut bytes)?;
    Ok((bytes.len() == length).then_some(bytes))
}

fn record(body: &[u8]) -> Option<Record> {
    let (fixed, rest) = body.split_at_checked(FIXED)?;
    let count = usize::from(u16_at(fixed, 8));
    let (tags, rest) = rest.split_at_checked(8 * count)?;
    let (length, rest) = rest.split_at_checked(4)?;
    let (key, envelope) = rest.split_at_checked(u32_at(length, 0) as usize)?;
    (count <= MOST_TAGS).then(|| Record {
        age: Duration::from_millis(u64_at(fixed, 0)),
        tags: tags.chunks_exact(8).map(|tag| u64_at(tag, 0)).collect(),
        key: key.to_vec(),
        envelope: envelope.to_vec(),
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { name: "users".into(), schema: 3, written_at: Timestamp::from_millis(1_700_000_000_000) }
    }

    fn written(records: &[Record]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &header()).unwrap();
        records.iter().for_each(|record| assert!(writer.put(record).unwrap()));
        let (bytes, count, length) = writer.finish().unwrap();
        assert_eq!((count, length), (records.len() as u64, bytes.len() as u64));
        bytes
    }

    /// All that can be read, and what came last.
    fn all(bytes: &[u8]) -> Option<(Header, Vec<Next>)> {
        let (mut reader, header) = Reader::open(bytes).unwrap().ok()?;
        let mut found = Vec::new();
        loop {
            found.push(reader.next().unwrap());
            if matches!(found.last(), Some(Next::End | Next::Torn)) {
                return Some((header, found));
            }
        }
    }

    fn some(count: usize) -> Vec<Record> {
        (0..count)
            .map(|n| Record {
                age: Duration::from_millis(n as u64),
                tags: (0..n as u64 % 3).collect(),
                key: n.to_string().into_bytes(),
                envelope: vec![n as u8; n],
            })
            .collect()
    }

    #[test]
    fn what_is_written_is_read() {
        let (read, found) = all(&written(&some(9))).unwrap();
        assert_eq!(read, header());
        let mut expected: Vec<Next> = some(9).into_iter().map(Next::Record).collect();
        expected.push(Next::End);
        assert_eq!(found, expected);
    }

    #[test]
    fn of_a_file_that_is_torn_anywhere_what_is_whole_before_is_read() {
        let (records, whole) = (some(5), written(&some(5)));
        let mut most = 0;
        for length in 0..whole.len() {
            let Some((_, found)) = all(&whole[..length]) else { continue };
            assert_eq!(found.last(), Some(&Next::Torn), "at {length}");
            for (found, record) in found.iter().zip(&records) {
                assert!(*found == Next::Torn || *found == Next::Record(record.clone()));
            }
            assert!(found.len() > most || found.len() == most.max(1));
            most = most.max(found.len());
        }
        assert_eq!(most, 6);
    }

    #[test]
    fn a_flipped_bit_costs_its_record_or_what_follows_and_nothing_is_read_that_was_not_written() {
        let (records, whole) = (some(5), written(&some(5)));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            let Some((_, found)) = all(&bytes) else { continue };
            let read = |found: &Next| matches!(found, Next::Record(_));
            assert!(found.iter().filter(|found| read(found)).count() < 5 || found.last() != Some(&Next::End));
            for found in found {
                if let Next::Record(record) = found {
                    assert!(records.contains(&record), "at {at}");
                }
            }
        }
    }

    #[test]
    fn another_version_is_told_from_what_is_no_snapshot() {
        let mut bytes = written(&[]);
        bytes[8] = 2;
        assert_eq!(Reader::open(&bytes[..]).unwrap().err(), Some(Foreign::Version));
        bytes[0] = 0;
        assert_eq!(Reader::open(&bytes[..]).unwrap().err(), Some(Foreign::NoSnapshot));
        assert_eq!(Reader::open(&[][..]).unwrap().err(), Some(Foreign::NoSnapshot));
    }

    #[test]
    fn a_length_of_a_gigabyte_allocates_what_is_there() {
        let mut bytes = written(&[]);
        bytes.truncate(bytes.len() - FRAME - 4);
        let mut frame = Vec::from((LONGEST as u32).to_le_bytes());
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(&crc32c::crc32c(&frame).to_le_bytes());
        bytes.extend_from_slice(&frame);
        bytes.extend_from_slice(&[7; 100]);
        assert_eq!(all(&bytes).unwrap().1, [Next::Torn]);
    }

    proptest! {
        #[test]
        fn any_bytes_end_and_give_nothing_that_was_not_summed(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut file = written(&[]);
            file.truncate(file.len() - FRAME - 4);
            file.extend_from_slice(&bytes);
            if let Some((_, found)) = all(&file) {
                prop_assert!(found.len() <= bytes.len() / FRAME + 1);
            }
            let _ = all(&bytes);
            // Whatever a body says of itself.
            let _ = record(&bytes);
        }
    }
}
