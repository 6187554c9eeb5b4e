//! What a policy knows of the entries of one set: three bytes each.

use crate::set::bits_equal;

/// Entries of a set.
pub(crate) const WAYS: usize = 32;

/// The marks and ages of the entries of a set.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Ways {
    /// State, reads, and bits that are not the policy's.
    marks: [u8; WAYS],
    /// The epoch of the last read if kept, of the first one if on trial.
    epochs: [u16; WAYS],
}

/// Where an entry stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Empty = 0,
    Trial = 1,
    /// On trial again, after it was kept: read once more, it is still no newcomer.
    Demoted = 2,
    Kept = 3,
}

const STATE: u8 = 0b0000_0011;
const READ: u8 = 0b0000_0100;
const READS: u8 = 0b0001_1100;

/// The bits of a mark that others may use.
pub(crate) const FLAGS: u8 = !(STATE | READS);

/// Reads of a kept entry beyond this many are not counted. Each counted one is a reprieve.
const READS_MAX: u8 = 7 * READ;

/// Ages beyond this are cut to it, long before they would look young.
const AGE_MAX: u16 = 60_000;

/// So many reprieves are taken back at one look; the next one goes on from there.
const STEPS_MAX: usize = 2 * WAYS;

impl Default for Ways {
    fn default() -> Self {
        Self { marks: [0; WAYS], epochs: [0; WAYS] }
    }
}

impl Ways {
    #[inline]
    pub(crate) fn mark(&self, way: usize) -> u8 {
        self.marks[way % WAYS]
    }

    /// Sets the bits that are not the policy's.
    pub(crate) fn set_flags(&mut self, way: usize, flags: u8) {
        let mark = &mut self.marks[way % WAYS];
        *mark = *mark & !FLAGS | flags & FLAGS;
    }

    pub(crate) fn state(&self, way: usize) -> State {
        state(self.marks[way % WAYS])
    }

    pub(crate) fn epoch(&self, way: usize) -> u16 {
        self.epochs[way % WAYS]
    }

    /// The entry was read.
    #[inline]
    pub(crate) fn touch(&mut self, way: usize, now: u16) {
        let way = way % WAYS;
        // What is read often is kept, its reads are counted, and this epoch is not its first.
        if self.marks[way] & (STATE | READS) != State::Kept as u8 | READS_MAX {
            self.count(way);
        }
        if self.marks[way] & STATE == State::Kept as u8 && self.epochs[way] != now {
            self.epochs[way] = now;
        }
    }

    fn count(&mut self, way: usize) {
        let mark = self.marks[way];
        if mark & STATE == State::Kept as u8 || mark & READS == 0 {
            self.marks[way] = mark + READ;
        }
    }

    /// Puts the entry into a state, as if it had just come. The other bits stay.
    pub(crate) fn place(&mut self, way: usize, state: State, now: u16) {
        let way = way % WAYS;
        self.marks[way] = self.marks[way] & FLAGS | state as u8;
        self.epochs[way] = now;
    }

    /// As it is in another set, flags apart.
    pub(crate) fn copy(&mut self, way: usize, from: &Self, old: usize) {
        let (way, old) = (way % WAYS, old % WAYS);
        self.marks[way] = from.marks[old] & !FLAGS;
        self.epochs[way] = from.epochs[old];
    }

    pub(crate) fn demote(&mut self, way: usize) {
        let mark = &mut self.marks[way % WAYS];
        *mark = *mark & FLAGS | State::Demoted as u8;
    }

    pub(crate) fn clear(&mut self, way: usize) {
        self.marks[way % WAYS] = 0;
    }

    pub(crate) fn is_full(&self) -> bool {
        bits_equal(&lanes(|way| self.marks[way] & STATE == State::Empty as u8), ALL) == 0
    }

    pub(crate) fn holds_kept(&self) -> bool {
        bits_equal(&self.held(true), ALL) != 0
    }

    /// The oldest of the kept ones that has no reprieve left, and its age.
    pub(crate) fn oldest_kept(&mut self, now: u16, spared: Option<usize>) -> Option<(usize, u16)> {
        for _ in 0..STEPS_MAX {
            let (way, age) = self.oldest(true, now, spared)?;
            if self.marks[way] & READS == 0 {
                return Some((way, age));
            }
            self.marks[way] -= READ;
            self.epochs[way] = now;
        }
        self.oldest(true, now, spared)
    }

    /// The oldest on trial, its age, and whether it was read.
    pub(crate) fn oldest_on_trial(&self, now: u16, spared: Option<usize>) -> Option<(usize, u16, bool)> {
        let (way, age) = self.oldest(false, now, spared)?;
        Some((way, age, self.marks[way] & READS != 0))
    }

    /// The oldest, among the kept or among those on trial, and its age. Of two equally old the first.
    ///
    /// Loops without branches over lanes of one size: the compiler does eight or sixteen of them at a time.
    #[inline]
    #[allow(clippy::needless_range_loop, reason = "one index for three arrays")]
    pub(crate) fn oldest(&self, kept: bool, now: u16, spared: Option<usize>) -> Option<(usize, u16)> {
        let mut asked = self.held(kept);
        if let Some(spared) = spared {
            asked[spared % WAYS] = 0;
        }
        let any = bits_equal(&asked, ALL);
        if any == 0 {
            return None;
        }
        let (mut ages, mut most) = ([i16::MIN; WAYS], i16::MIN);
        for way in 0..WAYS {
            let lane = i16::from(asked[way].cast_signed());
            ages[way] = signed(now.wrapping_sub(self.epochs[way])) & lane | i16::MIN & !lane;
        }
        for age in ages {
            most = most.max(age);
        }
        let oldest = any & bits_equal(&lanes(|way| ages[way] == most), ALL);
        Some((oldest.trailing_zeros() as usize, unsigned(most)))
    }

    /// [`ALL`] where a way is kept, or on trial; 0 elsewhere.
    #[inline]
    fn held(&self, kept: bool) -> [u8; WAYS] {
        let state = |way: usize| self.marks[way] & STATE;
        if kept {
            lanes(|way| state(way) == State::Kept as u8)
        } else {
            lanes(|way| (state(way) != State::Kept as u8) & (state(way) != State::Empty as u8))
        }
    }

    /// Makes what is very old look a little younger, so that it never looks new: epochs wrap.
    pub(crate) fn cap_ages(&mut self, now: u16) {
        for epoch in &mut self.epochs {
            let age = now.wrapping_sub(*epoch);
            *epoch = now.wrapping_sub(if age < AGE_MAX { age } else { AGE_MAX });
        }
    }
}

const ALL: u8 = u8::MAX;

/// [`ALL`] for each way of which that is true, 0 for the others. A loop, since that is what the compiler does
/// many at a time.
#[inline(always)]
fn lanes(is: impl Fn(usize) -> bool) -> [u8; WAYS] {
    let mut lanes = [0; WAYS];
    for (way, lane) in lanes.iter_mut().enumerate() {
        *lane = if is(way) { ALL } else { 0 };
    }
    lanes
}

/// In the same order, with zero the least: the processors compare signed numbers.
fn signed(age: u16) -> i16 {
    (age ^ 0x8000).cast_signed()
}

fn unsigned(age: i16) -> u16 {
    age.cast_unsigned() ^ 0x8000
}

fn state(mark: u8) -> State {
    match mark & STATE {
        0 => State::Empty,
        1 => State::Trial,
        2 => State::Demoted,
        _ => State::Kept,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_found_among_its_kind_whatever_the_epoch() {
        for now in [0, 7, 60_000, u16::MAX] {
            let mut ways = Ways::default();
            assert_eq!(ways.oldest(true, now, None), None);
            for way in 0..WAYS {
                let state = if way % 2 == 0 { State::Kept } else { State::Trial };
                ways.place(way, state, now.wrapping_sub(way as u16));
            }
            assert_eq!(ways.oldest(true, now, None), Some((30, 30)));
            assert_eq!(ways.oldest(false, now, None), Some((31, 31)));
            assert_eq!(ways.oldest(false, now, Some(31)), Some((29, 29)));
            assert!(ways.is_full() && ways.holds_kept());
        }
    }

    #[test]
    fn each_counted_read_is_a_reprieve() {
        let mut ways = Ways::default();
        ways.place(0, State::Kept, 0);
        ways.place(1, State::Kept, 1);
        (0..9).for_each(|_| ways.touch(0, 0));
        for now in 2..9 {
            assert_eq!(ways.oldest_kept(now, None), Some((1, 1)));
            ways.place(1, State::Kept, now);
        }
        assert_eq!(ways.oldest_kept(9, None).map(|(way, _)| way), Some(0), "seven were counted");
    }

    #[test]
    fn a_read_on_trial_changes_no_age() {
        let mut ways = Ways::default();
        ways.place(3, State::Trial, 5);
        ways.touch(3, 9);
        ways.touch(3, 9);
        assert_eq!(ways.oldest_on_trial(9, None), Some((3, 4, true)));
    }

    #[test]
    fn an_old_entry_never_looks_young() {
        let mut ways = Ways::default();
        ways.place(0, State::Trial, 0);
        for now in (0..=u16::MAX).step_by(1000).chain((0..=u16::MAX).step_by(1000)) {
            ways.place(1, State::Trial, now);
            ways.cap_ages(now);
            let oldest = ways.oldest_on_trial(now, None).map(|(way, ..)| way);
            assert!(oldest == Some(0) || now == 0);
        }
    }

    #[test]
    fn flags_of_others_survive_what_the_policy_does() {
        let mut ways = Ways::default();
        ways.place(2, State::Trial, 0);
        ways.set_flags(2, FLAGS);
        ways.touch(2, 1);
        ways.place(2, State::Kept, 1);
        ways.demote(2);
        assert_eq!((ways.mark(2) & FLAGS, ways.state(2)), (FLAGS, State::Demoted));
    }
}
