//! What this process knows to be the newest version of each key.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, OnceLock, PoisonError};

use cachalot_core::Timestamp;

/// The newest version that was heard of for each key, until it is forgotten: as the floors of a shared tier
/// ([`VersionBackend`](cachalot_core::VersionBackend)), for one process.
///
/// Bounded: of [`MOST`](Floors::MOST) keys each is known by itself. Beyond, the oldest are known together: until the
/// last of them would have ended, no floor of their part of the table is below the highest of theirs. So what is
/// forgotten makes more versions outdated, never fewer.
///
/// Keys are told apart by a hash of 64 bits under a seed of this table's own. Two that meet share the higher floor.
///
/// ```
/// use std::time::Duration;
/// use cachalot_core::ManualClock;
/// use cachalot_invalidation::Floors;
///
/// let (floors, clock) = (Floors::new(), ManualClock::new());
/// let minute = || clock.now() + Duration::from_secs(60);
/// assert_eq!(floors.raise(&"user 7", 3, clock.now(), minute()), 0);
/// assert_eq!(floors.raise(&"user 7", 2, clock.now(), minute()), 3); // 2 is outdated
/// clock.advance(Duration::from_secs(60));
/// assert_eq!(floors.of(&"user 7", clock.now()), 0);
/// ```
#[derive(Default)]
pub struct Floors {
    parts: OnceLock<Box<[Mutex<Part>]>>,
    hasher: RandomState,
}

/// A floor, and when it ends.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    version: u64,
    ends: Timestamp,
}

#[derive(Default)]
struct Part {
    floors: HashMap<u64, Floor>,
    /// By when they were to end as they came; one whose life was prolonged stands here more than once.
    order: VecDeque<(u64, Timestamp)>,
    /// The highest of those that had to go, until the last of these would have ended.
    rest: Floor,
}

impl Floors {
    /// How many keys are known by themselves; about 80 MB of them, taken as they come.
    pub const MOST: usize = PARTS * PER_PART;

    /// None known. Takes no memory before the first.
    pub fn new() -> Self {
        Self::default()
    }

    /// Raises the floor of `key` to `version`, if it is lower, and has it end no sooner than `ends`. The floor
    /// that stood before; 0 if there was none. A `version` of 0 only reads. One lock.
    pub fn raise<Q: Hash + ?Sized>(&self, key: &Q, version: u64, now: Timestamp, ends: Timestamp) -> u64 {
        let print = self.hasher.hash_one(key);
        let parts = self.parts.get_or_init(|| (0..PARTS).map(|_| Mutex::default()).collect());
        let part = &parts[(print % PARTS as u64) as usize];
        part.lock().unwrap_or_else(PoisonError::into_inner).raise(print, version, now, ends)
    }

    /// The floor of `key` itself, as long as it is known by itself; 0 else.
    pub fn known<Q: Hash + ?Sized>(&self, key: &Q, now: Timestamp) -> u64 {
        let Some(parts) = self.parts.get() else { return 0 };
        let print = self.hasher.hash_one(key);
        let part = parts[(print % PARTS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner);
        part.floors.get(&print).filter(|floor| floor.ends > now).map_or(0, |floor| floor.version)
    }

    /// The floor of `key`; 0 if there is none.
    pub fn of<Q: Hash + ?Sized>(&self, key: &Q, now: Timestamp) -> u64 {
        if self.parts.get().is_none() { 0 } else { self.raise(key, 0, now, now) }
    }
}

const PARTS: usize = 64;
const PER_PART: usize = 1 << 14;

impl Part {
    fn raise(&mut self, print: u64, version: u64, now: Timestamp, ends: Timestamp) -> u64 {
        self.forget(now);
        let rest = if self.rest.ends > now { self.rest.version } else { 0 };
        let held = self.floors.get(&print).filter(|held| held.ends > now).copied();
        let held = held.unwrap_or_default();
        if version > 0 {
            let floor = Floor { version: held.version.max(version), ends: held.ends.max(ends) };
            self.floors.insert(print, floor);
            if floor.ends != held.ends {
                self.order.push_back((print, floor.ends));
            }
            while self.floors.len() > PER_PART || self.order.len() > 2 * PER_PART {
                self.drop_oldest();
            }
        }
        held.version.max(rest)
    }

    /// Lets go of what has ended, as far as it stands in front.
    fn forget(&mut self, now: Timestamp) {
        while let Some((print, ends)) = self.order.front().copied().filter(|(_, ends)| *ends <= now) {
            self.order.pop_front();
            if self.floors.get(&print).is_some_and(|floor| floor.ends == ends) {
                self.floors.remove(&print);
            }
        }
    }

    fn drop_oldest(&mut self) {
        let Some((print, ends)) = self.order.pop_front() else { return };
        // Else it stands further behind too.
        if self.floors.get(&print).is_some_and(|floor| floor.ends == ends)
            && let Some(gone) = self.floors.remove(&print)
        {
            self.rest.version = self.rest.version.max(gone.version);
            self.rest.ends = self.rest.ends.max(gone.ends);
        }
    }
}

impl fmt::Debug for Floors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Floors").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_floor_never_goes_down_and_its_life_is_never_cut() {
        let floors = Floors::new();
        assert_eq!(floors.of(&1, at(0)), 0);
        assert_eq!(floors.raise(&1, 5, at(0), at(100)), 0);
        assert_eq!(floors.raise(&1, 3, at(1), at(50)), 5);
        assert_eq!(floors.raise(&1, u64::MAX, at(2), at(50)), 5);
        assert_eq!((floors.of(&1, at(99)), floors.of(&2, at(99))), (u64::MAX, 0));
        assert_eq!(floors.of(&1, at(100)), 0);
        assert_eq!(floors.raise(&1, 1, at(100), at(200)), 0);
        floors.raise(&1, 1, at(150), at(300));
        assert_eq!((floors.of(&1, at(299)), floors.of(&1, at(300))), (1, 0));
    }

    #[test]
    fn what_is_forgotten_makes_older_versions_outdated_and_no_newer_one() {
        let mut part = Part::default();
        let many = PER_PART as u64;
        for print in 0..=many {
            part.raise(print, 7 + print % 2, at(0), at(1000 + print));
        }
        assert_eq!(part.floors.len(), PER_PART);
        // The first had to go; nothing of this part is below its version as long as it would have lasted.
        assert_eq!(part.raise(0, 0, at(999), at(0)), 7);
        assert_eq!(part.raise(many + 7, 0, at(999), at(0)), 7);
        assert_eq!(part.raise(1, 0, at(999), at(0)), 8, "what is known by itself and higher stays");
        assert_eq!(part.raise(0, 0, at(1000), at(0)), 0);
        assert_eq!(part.raise(many, 0, at(1000), at(0)), 7);
    }

    #[test]
    fn a_key_that_is_named_all_the_time_takes_one_place() {
        let mut part = Part::default();
        part.raise(1, 1, at(0), at(10_000_000));
        for n in 0..4 * PER_PART as u64 {
            part.raise(2, n + 1, at(n), at(n + 1_000_000));
        }
        assert!(part.floors.len() <= 2 && part.order.len() <= 2 * PER_PART);
        assert!(part.raise(1, 0, at(1_000_000), at(0)) >= 1);
        assert_eq!(part.raise(2, 0, at(1_000_000), at(0)), 4 * PER_PART as u64);
    }

    #[test]
    fn what_has_ended_takes_no_place() {
        let mut part = Part::default();
        for n in 0..2 * PER_PART as u64 {
            part.raise(n, 1, at(n), at(n + 10));
        }
        assert!(part.floors.len() <= 11 && part.order.len() <= 11);
        assert_eq!(part.rest.version, 0, "nobody had to go");
    }

    proptest! {
        /// Against a list of all that was raised: never below the highest that has not ended.
        #[test]
        fn no_floor_is_below_what_was_raised(
            steps in proptest::collection::vec((0u64..4, 0u64..9, 0u64..40, 0u64..20), 1..60),
        ) {
            let (mut part, mut raised, mut now) = (Part::default(), Vec::new(), 0);
            for (print, version, life, passes) in steps {
                now += passes;
                let live = raised.iter().filter(|(other, _, ends)| *other == print && *ends > now);
                let least = live.map(|(_, version, _)| *version).max().unwrap_or(0);
                prop_assert!(part.raise(print, version, at(now), at(now + life)) >= least);
                if version > 0 {
                    raised.push((print, version, now + life));
                }
            }
        }
    }
}
