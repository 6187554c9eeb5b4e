//! Reading a folder from its first segment to its last.

use std::collections::BTreeMap;
use std::path::Path;

use cachalot_core::{Error, ErrorKind, Result};

use super::books::{Books, Dead, Place};
use super::disk::{number_of, path_of};
use super::format::{Flaw, Header, Record, decode};
use super::{Logged, LoggedDead, Recovered};

/// What a folder holds.
pub(super) struct Found {
    pub(super) books: Books,
    pub(super) recovered: Recovered,
    pub(super) last: Last,
}

/// Where the last segment ends.
pub(super) struct Last {
    pub(super) segment: u64,
    /// What comes behind this is torn.
    pub(super) end: u64,
}

/// `None`: there is no segment.
pub(super) fn replay(folder: &Path) -> Result<Option<Found>> {
    let mut numbers = numbers(folder)?;
    numbers.sort_unstable();
    let mut reading = Reading::default();
    for number in &numbers {
        reading.segment(folder, *number)?;
    }
    reading.finish()
}

fn numbers(folder: &Path) -> Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unread(folder, error))? {
        let entry = entry.map_err(|error| unread(folder, error))?;
        numbers.extend(entry.file_name().to_str().and_then(number_of));
    }
    Ok(numbers)
}

#[derive(Default)]
struct Reading {
    books: Books,
    /// The bytes of what is owed.
    writes: BTreeMap<u64, Logged>,
    next: u64,
    /// The segment whose end is not known before the next one is opened.
    open: Option<Open>,
}

struct Open {
    header: Header,
    bytes: Vec<u8>,
}

impl Reading {
    fn segment(&mut self, folder: &Path, number: u64) -> Result<()> {
        let path = path_of(folder, number);
        let bytes = std::fs::read(&path).map_err(|error| unread(&path, error))?;
        let header = Header::decode(&bytes).map_err(|flaw| corrupt(&path, 0, &flaw))?;
        if header.segment != number {
            return Err(corrupt(&path, 0, &"the name is that of another segment"));
        }
        if let Some(open) = self.open.take() {
            let before = path_of(folder, open.header.segment);
            if open.header.segment.checked_add(1) != Some(number) {
                return Err(corrupt(&path, 0, &format!("the segment after {} is missing", before.display())));
            }
            if open.header.writer != header.writer {
                return Err(corrupt(&path, 0, &"it is of another journal"));
            }
            self.whole(&before, &open, header.previous_end)?;
        }
        self.open = Some(Open { header, bytes });
        Ok(())
    }

    /// A segment that has a successor, which knows where it ends: every byte up to there counts.
    fn whole(&mut self, path: &Path, open: &Open, end: u64) -> Result<()> {
        let end = usize::try_from(end).unwrap_or(usize::MAX);
        let Some(bytes) = open.bytes.get(..end) else {
            return Err(corrupt(path, open.bytes.len(), &format!("it should have {end} bytes")));
        };
        match self.records(open.header, bytes) {
            (_, None) => Ok(()),
            (at, Some(flaw)) => Err(corrupt(path, at, &flaw)),
        }
    }

    /// Takes in the records up to the first that is not whole; where that is, and what is wrong with it.
    fn records(&mut self, header: Header, bytes: &[u8]) -> (usize, Option<Flaw>) {
        self.next = self.next.max(header.first);
        self.books.grow(header.segment, Header::LEN as u64);
        let mut at = Header::LEN;
        while at < bytes.len() {
            match decode(&bytes[at..]) {
                Ok((record, len)) => {
                    self.books.grow(header.segment, len as u64);
                    self.record(
                        record,
                        Place { segment: header.segment, offset: at as u64, len: len as u64 },
                    );
                    at += len;
                }
                Err(flaw) => return (at, Some(flaw)),
            }
        }
        (at, None)
    }

    // A done record comes after every copy of its write, so records can be taken in as they come.
    fn record(&mut self, record: Record, place: Place) {
        match record {
            Record::Write(write) => {
                self.next = self.next.max(write.sequence.saturating_add(1));
                self.books.begin(write.sequence);
                self.books.place(write.sequence, place);
                self.writes.insert(write.sequence, write);
            }
            Record::Done(runs) => {
                for (first, last) in runs {
                    for sequence in self.books.end_run(first, last) {
                        self.writes.remove(&sequence);
                    }
                }
            }
            Record::Cut(through) => self.books.cut(through, place.segment),
            Record::Dead { sequence, letter, attempts, reason } => {
                self.books.bury(sequence, Dead { letter, attempts, reason });
            }
        }
    }

    fn finish(mut self) -> Result<Option<Found>> {
        let Some(open) = self.open.take() else { return Ok(None) };
        let (end, _) = self.records(open.header, &open.bytes);
        let dead = self.books.dead().iter().filter_map(|(sequence, dead)| {
            let write = self.writes.remove(sequence)?;
            let (letter, attempts, reason) = (dead.letter, dead.attempts, dead.reason.clone());
            Some(LoggedDead { write, letter, attempts, reason })
        });
        let recovered = Recovered {
            writer: open.header.writer,
            next_sequence: self.next,
            dead: dead.collect(),
            writes: self.writes.into_values().collect(),
            cuts: self.books.cuts(),
            torn_bytes: (open.bytes.len() - end) as u64,
        };
        let last = Last { segment: open.header.segment, end: end as u64 };
        Ok(Some(Found { books: self.books, recovered, last }))
    }
}

fn unread(path: &Path, error: std::io::Error) -> Error {
    Error::new(ErrorKind::Unavailable, "journal open").detail(path.display().to_string()).caused_by(error)
}

fn corrupt(path: &Path, offset: usize, what: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Decode, "journal open")
        .detail(format!("{} is corrupt at byte {offset}: {what}; nothing was changed", path.display()))
}
