//! The times of entries, in few bytes: ticks after a moment that all entries of a shard share.

use std::collections::HashMap;

use cachalot_core::{Clock, Timestamp};

/// The times of an entry in this tier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Life {
    pub(crate) soft: Timestamp,
    pub(crate) hard: Timestamp,
    /// Ended by a call, not by time.
    pub(crate) invalidated: bool,
}

impl Life {
    pub(crate) const ENDLESS: Self =
        Self { soft: Timestamp::NEVER, hard: Timestamp::NEVER, invalidated: false };

    /// Soft expiry never lies behind the hard one.
    pub(crate) fn new(soft: Timestamp, hard: Timestamp) -> Self {
        Self { soft: soft.min(hard), hard, invalidated: false }
    }

    pub(crate) fn is_endless(&self) -> bool {
        self.soft == Timestamp::NEVER && !self.invalidated
    }

    /// By a coarse time, so perhaps a tick late: for collecting, not for serving.
    pub(crate) fn is_over(&self, now: Timestamp) -> bool {
        self.hard <= now && self.hard != Timestamp::NEVER
    }
}

/// Whether `deadline` has come. An entry without one does not ask the clock.
pub(crate) fn has_come(clock: &Clock, coarse: Timestamp, deadline: Timestamp) -> bool {
    deadline != Timestamp::NEVER && clock.coarse_has_reached(coarse, deadline)
}

/// The lives of the entries of one shard, by cell. What an entry's mark says of its life is handed in and
/// out; without any of these bits it is [`Life::ENDLESS`], and nothing is kept here.
///
/// The arrays exist from the first entry on that needs them. A time is four bytes, milliseconds after `base`;
/// lives that do not fit (longer than 49 days, or before the base) are kept whole in a map.
#[derive(Default)]
pub(crate) struct Lives {
    base: u64,
    hard: Box<[u32]>,
    soft: Box<[u32]>,
    odd: HashMap<usize, Life>,
    kept: usize,
}

/// Has times. Set for every life that is not endless.
pub(crate) const TIMED: u8 = 1 << 4;
/// Soft and hard expiry differ.
const GRADED: u8 = 1 << 5;
const INVALIDATED: u8 = 1 << 6;
/// Kept in the map.
const ODD: u8 = 1 << 7;

/// The bits of a mark that tell of a life.
pub(crate) const LIFE: u8 = TIMED | GRADED | INVALIDATED | ODD;

impl Lives {
    /// Whether every life is endless.
    pub(crate) fn is_empty(&self) -> bool {
        self.kept == 0
    }

    /// Whether [`Lives::rebased`] is due, so that new lives go on to fit.
    pub(crate) fn is_old(&self, now: Timestamp) -> bool {
        !self.is_empty() && now.as_millis().saturating_sub(self.base) > u64::from(u32::MAX / 2)
    }

    /// An empty one relative to `now`.
    pub(crate) fn rebased(now: Timestamp) -> Self {
        let base = now.as_millis().saturating_sub(BACK);
        Self { base, ..Self::default() }
    }

    /// An empty one with the same base.
    pub(crate) fn emptied(&self) -> Self {
        Self { base: self.base, ..Self::default() }
    }

    /// Keeps the life of the entry in `cell`, which has none yet, one of `cells`. Returns its bits of the mark.
    pub(crate) fn set(&mut self, cell: usize, cells: usize, life: Life, now: Timestamp) -> u8 {
        if !life.is_endless() && self.is_empty() {
            self.base = Self::rebased(now).base;
        }
        self.carry(cell, cells, life)
    }

    /// As [`Lives::set`], relative to the base as it is.
    pub(crate) fn carry(&mut self, cell: usize, cells: usize, life: Life) -> u8 {
        if life.is_endless() {
            return 0;
        }
        self.kept += 1;
        let (Some(soft), Some(hard)) = (self.code(life.soft), self.code(life.hard)) else {
            self.odd.insert(cell, life);
            return TIMED | ODD;
        };
        let graded = soft != hard;
        write(&mut self.hard, cell, cells, hard);
        if graded {
            write(&mut self.soft, cell, cells, soft);
        }
        TIMED | if graded { GRADED } else { 0 } | if life.invalidated { INVALIDATED } else { 0 }
    }

    /// The life of the entry in `cell`, whose mark is `mark`.
    #[inline]
    pub(crate) fn get(&self, cell: usize, mark: u8) -> Life {
        match mark & LIFE {
            0 => Life::ENDLESS,
            TIMED => {
                let end = self.time(self.hard[cell]);
                Life { soft: end, hard: end, invalidated: false }
            }
            _ => self.uncommon(cell, mark),
        }
    }

    /// Forgets the life of the entry in `cell`.
    pub(crate) fn forget(&mut self, cell: usize, mark: u8) {
        self.kept -= usize::from(mark & TIMED != 0);
        if mark & ODD != 0 {
            self.odd.remove(&cell);
        }
    }

    fn uncommon(&self, cell: usize, mark: u8) -> Life {
        if mark & ODD != 0 {
            return self.odd.get(&cell).copied().unwrap_or(Life::ENDLESS);
        }
        let hard = self.time(self.hard[cell]);
        let soft = if mark & GRADED != 0 { self.time(self.soft[cell]) } else { hard };
        Life { soft, hard, invalidated: mark & INVALIDATED != 0 }
    }

    /// Zero stands for no end.
    fn code(&self, time: Timestamp) -> Option<u32> {
        if time == Timestamp::NEVER {
            return Some(0);
        }
        let ticks = time.as_millis().checked_sub(self.base)?;
        u32::try_from(ticks).ok().filter(|ticks| *ticks != 0)
    }

    #[inline]
    fn time(&self, code: u32) -> Timestamp {
        if code == 0 { Timestamp::NEVER } else { Timestamp::from_millis(self.base + u64::from(code)) }
    }
}

/// The base lies a minute before the time it was chosen at: for soft expiries that have come.
const BACK: u64 = 60_000;

fn write(array: &mut Box<[u32]>, cell: usize, cells: usize, code: u32) {
    if array.is_empty() {
        *array = vec![0; cells].into_boxed_slice();
    }
    array[cell] = code;
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn every_life_is_kept_to_the_millisecond() {
        let times =
            [0, 1, NOW - BACK, NOW - 1, NOW, NOW + 1, NOW + u64::from(u32::MAX), u64::MAX - 1, u64::MAX];
        let mut lives = Lives::default();
        for soft in times {
            for hard in times {
                for invalidated in [false, true] {
                    let life = Life { invalidated, ..Life::new(at(soft), at(hard)) };
                    let mark = lives.set(3, 10, life, at(NOW));
                    assert_eq!(lives.get(3, mark), life);
                    assert_eq!(mark == 0, life.is_endless());
                    lives.forget(3, mark);
                    assert!(lives.is_empty() && lives.odd.is_empty());
                }
            }
        }
    }

    #[test]
    fn endless_lives_take_no_room() {
        let mut lives = Lives::default();
        assert_eq!(lives.set(3, 10, Life::ENDLESS, at(NOW)), 0);
        assert!(lives.hard.is_empty() && lives.soft.is_empty());
    }

    #[test]
    fn a_base_grows_old_before_it_is_too_far_away() {
        let mut lives = Lives::default();
        lives.set(0, 1, Life::new(at(NOW + 1), at(NOW + 1)), at(NOW));
        let day = 24 * 3600 * 1000;
        assert!(!lives.is_old(at(NOW + 24 * day)));
        assert!(lives.is_old(at(NOW + 25 * day)));
        assert!(!lives.is_old(at(0)), "a clock that goes back");
        assert!(!Lives::rebased(at(NOW + 25 * day)).is_old(at(NOW + 25 * day)));
    }
}
