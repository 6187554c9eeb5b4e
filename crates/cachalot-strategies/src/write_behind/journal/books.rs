//! Which writes a journal still owes, and where they lie.

use std::collections::BTreeMap;

/// What is known of the folder without reading it. Holds about 50 bytes for a write that is owed, not its value: a
/// backlog of gigabytes stays on the disk, and is read from there in the rare case that it must move.
#[derive(Debug, Default)]
pub(super) struct Books {
    writes: BTreeMap<u64, Option<Place>>,
    dead: BTreeMap<u64, Dead>,
    cuts: BTreeMap<u64, u64>,
    segments: BTreeMap<u64, Extent>,
    total: u64,
}

/// Where the last copy of a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
    pub(super) len: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dead {
    /// The last write of the letter that it is a part of.
    pub(super) letter: u64,
    pub(super) attempts: u32,
    pub(super) reason: String,
}

/// A segment in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) len: u64,
    /// Of which so many are owed.
    pub(super) live: u64,
}

/// What must be written anew before a segment may go.
#[derive(Debug, Default)]
pub(super) struct Cargo {
    pub(super) writes: Vec<(u64, Place)>,
    pub(super) dead: Vec<(u64, Dead)>,
    pub(super) cuts: Vec<u64>,
}

impl Books {
    /// A write that is on its way to the file, or perhaps the copy of one that is known.
    pub(super) fn begin(&mut self, sequence: u64) {
        self.writes.entry(sequence).or_insert(None);
    }

    /// It lies there now. Nothing happens if it has ended meanwhile.
    pub(super) fn place(&mut self, sequence: u64, place: Place) {
        let Some(known) = self.writes.get_mut(&sequence) else { return };
        if let Some(old) = known.replace(place) {
            weigh(&mut self.segments, old.segment, |live| live.saturating_sub(old.len));
        }
        weigh(&mut self.segments, place.segment, |live| live + place.len);
    }

    /// Done, or void: nothing is owed any more.
    pub(super) fn end(&mut self, sequence: u64) -> bool {
        let Some(place) = self.writes.remove(&sequence) else { return false };
        self.dead.remove(&sequence);
        if let Some(place) = place {
            weigh(&mut self.segments, place.segment, |live| live.saturating_sub(place.len));
        }
        true
    }

    /// All in the run are done.
    pub(super) fn end_run(&mut self, first: u64, last: u64) -> Vec<u64> {
        if first > last {
            return Vec::new();
        }
        let ended: Vec<u64> = self.writes.range(first..=last).map(|(sequence, _)| *sequence).collect();
        for sequence in &ended {
            self.end(*sequence);
        }
        ended
    }

    /// Whether the write was known, and is dead now.
    pub(super) fn bury(&mut self, sequence: u64, dead: Dead) -> bool {
        let known = self.writes.contains_key(&sequence);
        if known {
            self.dead.insert(sequence, dead);
        }
        known
    }

    pub(super) fn dead(&self) -> &BTreeMap<u64, Dead> {
        &self.dead
    }

    pub(super) fn cut(&mut self, through: u64, segment: u64) {
        self.cuts.insert(through, segment);
    }

    /// The cuts that still part writes: the others are forgotten.
    pub(super) fn cuts(&mut self) -> Vec<u64> {
        let dead = &self.dead;
        let first = self.writes.keys().find(|sequence| !dead.contains_key(sequence)).copied();
        self.cuts = first.map_or_else(BTreeMap::new, |first| self.cuts.split_off(&first));
        self.cuts.keys().copied().collect()
    }

    pub(super) fn grow(&mut self, segment: u64, bytes: u64) {
        self.segments.entry(segment).or_default().len += bytes;
        self.total += bytes;
    }

    /// The segment counts only up to there.
    pub(super) fn shorten(&mut self, segment: u64, len: u64) {
        if let Some(extent) = self.segments.get_mut(&segment) {
            self.total -= extent.len.saturating_sub(len);
            extent.len = extent.len.min(len);
        }
    }

    /// What lies in `from` at `offset` or behind it lies in `to`, the offset itself at `to_offset`.
    pub(super) fn move_tail(&mut self, from: u64, offset: u64, to: u64, to_offset: u64) {
        let tail = |place: &Place| place.segment == from && place.offset >= offset;
        let moved: Vec<(u64, Place)> = self
            .writes
            .iter()
            .filter_map(|(sequence, place)| Some((*sequence, place.filter(tail)?)))
            .collect();
        for (sequence, place) in moved {
            self.place(sequence, Place { segment: to, offset: place.offset - offset + to_offset, ..place });
        }
    }

    pub(super) fn forget(&mut self, segment: u64) {
        if let Some(extent) = self.segments.remove(&segment) {
            self.total -= extent.len;
        }
    }

    /// The oldest segment.
    pub(super) fn oldest(&self) -> Option<(u64, Extent)> {
        self.segments.first_key_value().map(|(number, extent)| (*number, *extent))
    }

    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The bytes of all segments.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// The bytes of all that is owed.
    pub(super) fn live(&self) -> u64 {
        self.segments.values().map(|extent| extent.live).sum()
    }

    /// What is still needed of a segment. `is_noted`: what has ended is in the file as such, so cuts may end too.
    pub(super) fn cargo(&mut self, segment: u64, is_noted: bool) -> Cargo {
        if is_noted {
            self.cuts();
        }
        let here = |place: &Place| place.segment == segment;
        let writes: Vec<(u64, Place)> = self
            .writes
            .iter()
            .filter_map(|(sequence, place)| Some((*sequence, place.filter(here)?)))
            .collect();
        let dead = writes
            .iter()
            .filter_map(|(sequence, _)| Some((*sequence, self.dead.get(sequence)?.clone())))
            .collect();
        let cuts = self.cuts.iter().filter(|(_, at)| **at == segment).map(|(through, _)| *through).collect();
        Cargo { writes, dead, cuts }
    }
}

impl Cargo {
    pub(super) fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.cuts.is_empty()
    }
}

fn weigh(segments: &mut BTreeMap<u64, Extent>, segment: u64, change: impl FnOnce(u64) -> u64) {
    if let Some(extent) = segments.get_mut(&segment) {
        extent.live = change(extent.live);
    }
}
