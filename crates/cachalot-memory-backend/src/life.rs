//! The times of entries, in few bytes: ticks after a moment that the entries of a set share.

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
#[inline]
pub(crate) fn has_come(clock: &Clock, coarse: Timestamp, deadline: Timestamp) -> bool {
    deadline != Timestamp::NEVER && clock.coarse_has_reached(coarse, deadline)
}

/// How an entry's life is written down: bits of its mark and up to two codes, milliseconds after the base of
/// its set. The first code is of what comes first, and alone tells whether a plain entry is fresh.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coded {
    pub(crate) bits: u8,
    pub(crate) first: u32,
    /// The hard expiry, if the soft one is another.
    pub(crate) second: Option<u32>,
}

/// Has an end, which the first code tells.
pub(crate) const TIMED: u8 = 1 << 5;
/// Soft and hard expiry differ.
const GRADED: u8 = 1 << 6;
const INVALIDATED: u8 = 1 << 7;
/// Kept as it is, elsewhere: longer than 49 days, or begun before the base.
pub(crate) const ODD: u8 = GRADED | INVALIDATED;

/// The bits of a mark that tell of a life. None of them: [`Life::ENDLESS`].
pub(crate) const LIFE: u8 = TIMED | GRADED | INVALIDATED;

impl Coded {
    /// `life` relative to `base`.
    pub(crate) fn new(base: u64, life: Life) -> Self {
        if life.is_endless() {
            return Self { bits: 0, first: 0, second: None };
        }
        let (Some(soft), Some(hard)) = (code(base, life.soft), code(base, life.hard)) else {
            return Self { bits: ODD, first: 0, second: None };
        };
        let graded = life.soft != life.hard || life.invalidated;
        let bits = TIMED | if graded { GRADED } else { 0 } | if life.invalidated { INVALIDATED } else { 0 };
        Self { bits, first: soft, second: graded.then_some(hard) }
    }

    /// The life whose bits are in `mark`; unless it is odd.
    pub(crate) fn life(base: u64, mark: u8, first: u32, second: u32) -> Life {
        if mark & LIFE == 0 {
            return Life::ENDLESS;
        }
        let soft = time(base, first);
        let hard = if mark & GRADED == 0 { soft } else { time(base, second) };
        Life { soft, hard, invalidated: mark & INVALIDATED != 0 }
    }
}

pub(crate) fn is_odd(mark: u8) -> bool {
    mark & LIFE == ODD
}

/// Whether an entry with an end is fresh as long as that has not come.
pub(crate) fn is_readable_by_end(mark: u8) -> bool {
    mark & (TIMED | INVALIDATED) == TIMED
}

pub(crate) fn is_graded(mark: u8) -> bool {
    mark & GRADED != 0
}

/// The base for entries of a set that has none with an end: a minute back, for what has come already.
pub(crate) fn base_at(now: Timestamp) -> u64 {
    now.as_millis().saturating_sub(60_000).max(1)
}

/// Whether a set needs another base, so that new lives go on to fit.
pub(crate) fn is_old(base: u64, now: Timestamp) -> bool {
    now.as_millis().saturating_sub(base) > u64::from(u32::MAX / 2)
}

/// Zero stands for no end.
fn code(base: u64, time: Timestamp) -> Option<u32> {
    if time == Timestamp::NEVER {
        return Some(0);
    }
    let ticks = time.as_millis().checked_sub(base)?;
    u32::try_from(ticks).ok().filter(|ticks| *ticks != 0)
}

#[inline]
pub(crate) fn time(base: u64, code: u32) -> Timestamp {
    if code == 0 { Timestamp::NEVER } else { Timestamp::from_millis(base + u64::from(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_life_that_is_not_odd_is_kept_to_the_millisecond() {
        let base = base_at(at(NOW));
        let near = [NOW - 59_999, NOW - 1, NOW, NOW + 1, NOW + u64::from(u32::MAX / 2), u64::MAX];
        let far = [0, 1, NOW - 60_000, NOW + u64::from(u32::MAX), u64::MAX - 1];
        for soft in near.into_iter().chain(far) {
            for hard in near.into_iter().chain(far) {
                for invalidated in [false, true] {
                    let life = Life { invalidated, ..Life::new(at(soft), at(hard)) };
                    let coded = Coded::new(base, life);
                    assert_eq!(coded.bits == 0, life.is_endless());
                    if !is_odd(coded.bits) {
                        let second = coded.second.unwrap_or(7);
                        assert_eq!(Coded::life(base, coded.bits, coded.first, second), life);
                    } else {
                        assert!([soft.min(hard), hard].iter().any(|time| far.contains(time)));
                    }
                }
            }
        }
    }

    #[test]
    fn a_plain_life_takes_one_code() {
        let life = Life::new(at(NOW + 5), at(NOW + 5));
        assert_eq!(Coded::new(NOW, life), Coded { bits: TIMED, first: 5, second: None });
    }

    #[test]
    fn a_base_grows_old_before_it_is_too_far_away() {
        let day = 24 * 3600 * 1000;
        assert!(!is_old(NOW, at(NOW + 24 * day)));
        assert!(is_old(NOW, at(NOW + 25 * day)));
        assert!(!is_old(NOW, at(0)), "a clock that goes back");
    }
}
