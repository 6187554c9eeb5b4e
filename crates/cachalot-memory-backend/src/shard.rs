//! One shard: the slots, the times, the policy and the fences. Runs under a lock.
//!
//! Of the user's code only `Eq` runs in here, in [`Shard::find`], before anything has changed. What is taken
//! out is handed to the caller, to be dropped after the lock is released.

use cachalot_core::Timestamp;
use equivalent::Equivalent;

use crate::life::{LIFE, Life, Lives, TIMED};
use crate::policy::{POLICY, Policy};
use crate::slots::{Found, Slot, Slots, WAYS};

#[repr(C)]
pub(crate) struct Shard<K, T> {
    // What a hit needs comes first, on one line with the lock.
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    slots: Slots<K, T>,
    pub(crate) counts: Counts,
    lives: Lives,
    policy: Policy,
    sweep_at: usize,
    /// Sets enough for this shard's part of the capacity, zero if unknown.
    expected: usize,
    pub(crate) fences: Fences,
}

/// An entry that was taken out.
pub(crate) struct Gone<K, T> {
    pub(crate) entry: (K, T),
    pub(crate) weight: u64,
}

/// What happened in a shard since it was made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) inserts: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) rejected: u64,
    pub(crate) revoked: u64,
}

impl<K, T> Shard<K, T> {
    /// Empty. `each`: what every entry weighs, if that is known. `entries`: how many it is to hold in the end,
    /// if that is known; it grows up to there in large steps and from there on in small ones.
    pub(crate) fn new(each: Option<u64>, entries: Option<usize>) -> Self {
        Self {
            hits: 0,
            misses: 0,
            slots: Slots::new(each),
            counts: Counts::default(),
            lives: Lives::default(),
            policy: Policy::default(),
            sweep_at: 0,
            expected: entries.map_or(0, sets_for),
            fences: Fences::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.policy.weight()
    }

    #[inline]
    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<Slot>
    where
        Q: Equivalent<K> + ?Sized,
    {
        Some(self.look_up(hash, key)?.slot)
    }

    /// As [`Shard::find`], with the value.
    #[inline]
    pub(crate) fn look_up<Q>(&self, hash: u64, key: &Q) -> Option<Found<'_, T>>
    where
        Q: Equivalent<K> + ?Sized,
    {
        self.slots.find(in_table(hash), |held| key.equivalent(held))
    }

    pub(crate) fn weight_of(&self, slot: Slot) -> u64 {
        self.slots.weight(slot)
    }

    #[inline]
    pub(crate) fn life(&self, slot: Slot) -> Life {
        self.lives.get(slot.cell(), self.slots.mark(slot))
    }

    pub(crate) fn set_life(&mut self, slot: Slot, life: Life, now: Timestamp) {
        let mark = self.slots.mark(slot);
        self.lives.forget(slot.cell(), mark);
        if self.lives.is_old(now) {
            self.rebase(slot, now);
        }
        let bits = self.lives.set(slot.cell(), self.slots.cells(), life, now);
        self.slots.set_mark(slot, mark & POLICY | bits);
    }

    #[inline]
    pub(crate) fn touch(&mut self, slot: Slot, mark: u8) {
        self.policy.touch(&mut self.slots, slot, mark);
    }

    /// Whether it can take no more entries.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.is_full()
    }

    /// Adds an entry under a key that is not here. The caller has reserved its weight. It comes back if the
    /// shard is full.
    pub(crate) fn add(
        &mut self,
        hash: u64,
        weight: u64,
        life: Life,
        now: Timestamp,
        entry: (K, T),
    ) -> Result<(), (K, T)> {
        if self.slots.is_crowded() {
            self.grow();
        }
        let slot = self.slots.put(in_table(hash), weight, entry)?;
        self.policy.insert(&mut self.slots, slot);
        if !life.is_endless() {
            self.set_life(slot, life, now);
        }
        self.counts.inserts += 1;
        Ok(())
    }

    /// Puts a new value in the place of an old one, which is handed back. The caller has reserved the
    /// difference of the weights.
    pub(crate) fn replace(
        &mut self,
        slot: Slot,
        weight: u64,
        life: Life,
        now: Timestamp,
        value: T,
    ) -> Option<T> {
        let (_, held) = self.slots.get_mut(slot)?;
        let old = std::mem::replace(held, value);
        self.policy.reweigh(&mut self.slots, slot, weight);
        if self.slots.mark(slot) & LIFE != 0 || !life.is_endless() {
            self.set_life(slot, life, now);
        }
        self.touch(slot, self.slots.mark(slot));
        self.counts.inserts += 1;
        Some(old)
    }

    /// Takes an entry out. The caller releases its weight.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<Gone<K, T>> {
        if !self.slots.holds(slot) {
            return None;
        }
        self.policy.remove(&mut self.slots, slot);
        self.empty(slot)
    }

    /// Takes the entry out that the policy likes least, but not `spared`. The caller releases its weight, and
    /// tells the time if it is asked.
    pub(crate) fn evict(
        &mut self,
        now: impl FnOnce() -> Timestamp,
        spared: Option<Slot>,
    ) -> Option<Gone<K, T>> {
        let victim = self.policy.evict(&mut self.slots, spared)?;
        let life = self.life(victim);
        if !life.is_endless() && life.is_over(now()) {
            self.counts.expired += 1;
        } else {
            self.counts.evicted += 1;
        }
        self.empty(victim)
    }

    /// Walks on over about `steps` cells and hands out what is past its hard expiry. Whether it came to the
    /// last cell; the next walk then starts anew. The caller releases the weights.
    pub(crate) fn sweep(&mut self, now: Timestamp, steps: &mut usize, out: &mut Vec<Gone<K, T>>) -> bool {
        // Also a shard without any times costs a look.
        *steps = steps.saturating_sub(WAYS);
        while !self.lives.is_empty() && self.sweep_at < self.slots.sets() {
            for slot in self.slots.in_set(self.sweep_at) {
                if self.slots.mark(slot) & TIMED != 0 && self.life(slot).is_over(now) {
                    self.counts.expired += 1;
                    out.extend(self.take(slot));
                }
            }
            self.sweep_at += 1;
            if *steps == 0 {
                return false;
            }
            *steps = steps.saturating_sub(WAYS);
        }
        self.sweep_at = 0;
        true
    }

    /// Hands out everything. The caller releases the weight.
    pub(crate) fn take_all(&mut self) -> Slots<K, T> {
        let empty = self.slots.with_sets(0);
        self.lives = Lives::default();
        self.policy = Policy::default();
        self.sweep_at = 0;
        std::mem::replace(&mut self.slots, empty)
    }

    /// Empties a slot that the policy has forgotten.
    fn empty(&mut self, slot: Slot) -> Option<Gone<K, T>> {
        let (mark, weight) = (self.slots.mark(slot), self.slots.weight(slot));
        self.lives.forget(slot.cell(), mark);
        self.slots.set_mark(slot, mark & POLICY);
        let entry = self.slots.take(slot)?;
        Some(Gone { entry, weight })
    }

    /// Moves everything to a larger table.
    fn grow(&mut self) {
        let sets = next_size(self.slots.sets(), self.expected);
        let larger = self.slots.with_sets(sets);
        let mut old = std::mem::replace(&mut self.slots, larger);
        let emptied = self.lives.emptied();
        let lives = std::mem::replace(&mut self.lives, emptied);
        for slot in self.policy.unqueue(&mut old) {
            self.adopt(&mut old, slot, &lives);
        }
        self.sweep_at = 0;
    }

    fn adopt(&mut self, old: &mut Slots<K, T>, slot: Slot, lives: &Lives) {
        let (hash, weight, mark) = (old.hash(slot), old.weight(slot), old.mark(slot));
        let life = lives.get(slot.cell(), mark);
        let Some(entry) = old.take(slot) else { return };
        // The new table is larger, so there is room.
        let Ok(slot) = self.slots.put(hash, weight, entry) else {
            return;
        };
        self.policy.moved(&mut self.slots, slot, mark);
        let bits = self.lives.carry(slot.cell(), self.slots.cells(), life);
        self.slots.set_mark(slot, self.slots.mark(slot) | bits);
    }

    /// Gives all lives a base near `now`, apart from that of `forgotten`.
    fn rebase(&mut self, forgotten: Slot, now: Timestamp) {
        let lives = std::mem::replace(&mut self.lives, Lives::rebased(now));
        for set in 0..self.slots.sets() {
            for slot in self.slots.in_set(set) {
                let mark = self.slots.mark(slot);
                if slot != forgotten && mark & LIFE != 0 {
                    let life = lives.get(slot.cell(), mark);
                    let bits = self.lives.carry(slot.cell(), self.slots.cells(), life);
                    self.slots.set_mark(slot, mark & POLICY | bits);
                }
            }
        }
    }
}

/// The part of a hash that slots keep.
fn in_table(hash: u64) -> u32 {
    hash as u32
}

/// Sets that hold so many entries without being crowded, and a little more: no shard has exactly its part.
fn sets_for(entries: usize) -> usize {
    let entries = entries.min(1 << 40);
    (entries + entries / 32) * 8 / 7 / WAYS + 1
}

/// Large steps as long as nobody knows better, small ones beyond what was `expected`.
fn next_size(sets: usize, expected: usize) -> usize {
    let next = sets + sets / 2 + 1;
    if sets >= expected && expected > 0 {
        sets + sets / 8 + 1
    } else if sets < expected && next + next / 2 > expected {
        expected
    } else {
        next
    }
}

/// Generations: a right to store is as good as the generation it was granted at. Many keys share a stripe,
/// so keys that are not here have one too, and a void may revoke more rights than asked, never fewer.
pub(crate) struct Fences {
    all: u64,
    stripes: [u64; STRIPES],
}

/// Stripes per shard: 512 bytes.
pub(crate) const STRIPES: usize = 64;

impl Default for Fences {
    fn default() -> Self {
        Self { all: 0, stripes: [0; STRIPES] }
    }
}

impl Fences {
    /// Both parts only grow, so their sum never returns to a value it has left.
    pub(crate) fn generation(&self, stripe: usize) -> u64 {
        self.all.wrapping_add(self.stripes[stripe % STRIPES])
    }

    pub(crate) fn void(&mut self, stripe: usize) {
        let generation = &mut self.stripes[stripe % STRIPES];
        *generation = generation.wrapping_add(1);
    }

    pub(crate) fn void_all(&mut self) {
        self.all = self.all.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29
    }

    fn life(key: u64, now: Timestamp) -> Life {
        let later = |millis: u64| at(now.as_millis() + millis);
        match key % 5 {
            0 => Life::ENDLESS,
            1 => Life::new(later(key), later(key)),
            2 => Life::new(later(key), later(2 * key)),
            3 => Life::new(later(1 << 40), later(1 << 41)),
            _ => Life { invalidated: true, ..Life::new(now, later(key)) },
        }
    }

    #[test]
    fn an_entry_keeps_all_it_has_while_the_table_grows_and_time_goes_by() {
        let month = 31 * 24 * 3600 * 1000;
        let mut shard: Shard<u64, u64> = Shard::new(None, None);
        let mut born = Vec::new();
        for key in 0..500 {
            let now = at(1_000_000 + key / 100 * month);
            born.push(now);
            assert!(shard.add(hash(key), key + 1, life(key, now), now, (key, 3 * key)).is_ok());
            for (key, now) in (0..).zip(&born) {
                let Found { slot, value, .. } = shard.look_up(hash(key), &key).unwrap();
                assert_eq!(*value, 3 * key);
                assert_eq!((shard.weight_of(slot), shard.life(slot)), (key + 1, life(key, *now)));
            }
        }
        assert_eq!((shard.len(), shard.weight()), (500, 500 * 501 / 2));
        let order: Vec<u64> =
            std::iter::from_fn(|| shard.evict(|| at(0), None)).map(|gone| gone.entry.0).collect();
        assert_eq!(order, (0..500).collect::<Vec<_>>(), "also their order");
        assert!(shard.lives.is_empty());
    }

    #[test]
    fn a_table_ends_near_what_was_expected() {
        for entries in [1, 10, 100, 1000, 15_000] {
            let mut shard: Shard<u64, u64> = Shard::new(Some(1), Some(entries));
            for key in 0..entries as u64 {
                let now = Timestamp::default();
                assert!(shard.add(hash(key), 1, Life::ENDLESS, now, (key, key)).is_ok());
            }
            let spare = shard.slots.cells() - entries;
            assert!(spare <= entries / 5 + 2 * WAYS, "{spare} spare cells for {entries}");
        }
    }
}
