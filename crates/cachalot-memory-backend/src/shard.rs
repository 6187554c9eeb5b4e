//! One shard: a table that readers visit, and what its writers keep of it under a lock.
//!
//! Of the user's code only `Eq` and `Hash` run in here, before entries, weights or counts change: a panic leaves
//! at most the policy's notes as they are in the midst of a choice. What is taken out is handed to the caller, to
//! be dropped after the locks are released.

use std::hash::Hash;

use ahash::RandomState;
use cachalot_core::Timestamp;
use equivalent::Equivalent;

use crate::life::Life;
use crate::listener::{Cause, Garbage, Gone};
use crate::policy::{Config, Policy, Slot, Victim, WAYS, mix};
use crate::published::Published;
use crate::readers::{Readers, Visit};
use crate::set::{Owner, prefetch, prefetch_behind};
use crate::sync::atomic::{AtomicU16, Ordering};
use crate::sync::{Guard, Lock};
use crate::table::{Begin, Known, New, Ruled, Table};

/// What readers need lies apart from what writers keep.
#[repr(align(128))]
pub(crate) struct Shard<K, T> {
    table: Published<Table<K, T>>,
    /// The epoch of the policy.
    now: AtomicU16,
    kept: Lock<Kept>,
}

/// What writers keep.
struct Kept {
    owner: Owner,
    len: usize,
    weight: u64,
    counts: Counts,
    policy: Policy,
    /// How many entries are not endless.
    timed: usize,
    sweep_at: usize,
    /// What every entry weighs, if that is known.
    each: Option<u64>,
    /// How many entries it is to hold in the end, if that is known.
    part: Option<usize>,
    fences: Fences,
}

/// What happened in a shard since it was made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) inserts: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) rejected: u64,
    pub(crate) revoked: u64,
    pub(crate) removed: u64,
    pub(crate) replaced: u64,
}

impl Counts {
    fn add(&mut self, cause: Cause, entries: u64) {
        let counter = match cause {
            Cause::Evicted => &mut self.evicted,
            Cause::Expired => &mut self.expired,
            Cause::Removed | Cause::Cleared => &mut self.removed,
            Cause::Replaced => &mut self.replaced,
            Cause::Rejected => &mut self.rejected,
        };
        *counter += entries;
    }
}

impl<K, T> Shard<K, T> {
    /// Empty. `each`: what every entry weighs, if that is known. `part`: how many it is to hold in the end, if
    /// that is known; it grows up to there in large steps and from there on in small ones.
    pub(crate) fn new(each: Option<u64>, part: Option<usize>) -> Self {
        let kept = Kept {
            owner: Owner::new(),
            len: 0,
            weight: 0,
            counts: Counts::default(),
            policy: Policy::new(part.unwrap_or(1)),
            timed: 0,
            sweep_at: 0,
            each,
            part,
            fences: Fences::for_entries(part),
        };
        Self { table: Published::new(Table::new(0, each)), now: AtomicU16::new(0), kept: Lock::new(kept) }
    }

    /// The table, for a visitor.
    #[inline]
    pub(crate) fn visited<'a>(&'a self, visit: &'a Visit<'_>) -> &'a Table<K, T> {
        self.table.visited(visit)
    }

    /// The epoch to be noted with a read.
    #[inline]
    pub(crate) fn now(&self) -> u16 {
        self.now.load(Ordering::Relaxed)
    }

    /// Asks for what a writer looks at first.
    #[inline]
    pub(crate) fn warm(&self) {
        prefetch(&self.kept);
    }

    /// The shard, for one writer at a time.
    #[inline]
    pub(crate) fn write<'a>(&'a self, around: Around<'a>) -> Writing<'a, K, T> {
        Writing { kept: self.kept.lock(), shard: self, around }
    }
}

/// What is around a shard.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) readers: &'a Readers,
    pub(crate) hasher: &'a RandomState,
    /// The number of the shard.
    pub(crate) number: usize,
}

/// A shard in the hands of its writer.
pub(crate) struct Writing<'a, K, T> {
    kept: Guard<'a, Kept>,
    shard: &'a Shard<K, T>,
    around: Around<'a>,
}

impl<K, T> Writing<'_, K, T> {
    pub(crate) fn len(&self) -> usize {
        self.kept.len
    }

    pub(crate) fn weight(&self) -> u64 {
        self.kept.weight
    }

    /// How many entries it is to hold, as far as is known.
    pub(crate) fn part(&self) -> usize {
        self.kept.part.unwrap_or(self.kept.len)
    }

    /// Reckons with so many entries from now on, if that is known.
    pub(crate) fn set_part(&mut self, part: Option<usize>) {
        self.kept.part = part;
        self.kept.fences.grow_for(part);
        if let Some(part) = part {
            self.kept.policy.resize(part);
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.kept.counts
    }

    pub(crate) fn counts_mut(&mut self) -> &mut Counts {
        &mut self.kept.counts
    }

    pub(crate) fn fences(&mut self) -> &mut Fences {
        &mut self.kept.fences
    }

    pub(crate) fn table(&self) -> &Table<K, T> {
        self.shard.table.held(&self.kept.owner).0
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.table().bytes() + self.kept.policy.bytes() + size_of_val(&*self.kept.fences.stripes)
    }

    /// Whether it can take no more entries.
    pub(crate) fn is_full(&self) -> bool {
        self.table().is_full(self.len())
    }

    #[inline]
    pub(crate) fn find<Q: Equivalent<K> + ?Sized>(&self, hash: u64, key: &Q) -> Option<Slot> {
        let (table, hold) = self.shard.table.held(&self.kept.owner);
        table.find(hold, hash, |held| key.equivalent(held))
    }

    pub(crate) fn entry(&self, slot: Slot) -> Option<&(K, T)> {
        let (table, hold) = self.shard.table.held(&self.kept.owner);
        table.set(slot.set).entry(hold, slot.way)
    }

    pub(crate) fn weight_of(&self, slot: Slot) -> u64 {
        self.table().weight(slot)
    }

    pub(crate) fn life(&self, slot: Slot) -> Life {
        let table = self.table();
        table.set(slot.set).lock().map_or(Life::ENDLESS, |guard| table.life(&guard, slot))
    }

    pub(crate) fn set_life(&mut self, slot: Slot, life: Life, now: Timestamp) {
        let kept = &mut *self.kept;
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        let Some(mut guard) = table.set(slot.set).lock() else { return };
        let was_timed = !table.life(&guard, slot).is_endless();
        table.set_life(hold, self.around.readers, &mut guard, slot, life, now);
        kept.timed = kept.timed + usize::from(!life.is_endless()) - usize::from(was_timed);
    }

    /// Puts a new value in the place of an old one, which is handed back. The caller has reserved the
    /// difference of the weights.
    pub(crate) fn replace(&mut self, slot: Slot, new: &New, value: T) -> Option<T> {
        let kept = &mut *self.kept;
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        kept.weight = kept.weight - table.weight(slot) + new.weight;
        let epoch = kept.policy.now();
        let (old, known) = table.replace(hold, self.around.readers, slot, new, epoch, value)?;
        kept.timed = kept.timed + usize::from(!new.life.is_endless()) - usize::from(known.is_timed());
        kept.counts.inserts += 1;
        kept.counts.replaced += 1;
        Some(old)
    }

    /// Takes out the entry of a key that hashes to `hash`, and counts it. The caller releases its weight.
    pub(crate) fn take(&mut self, slot: Slot, hash: u64, cause: Cause) -> Option<Gone<K, T>> {
        let (gone, known) = self.lift(slot, hash, cause)?;
        self.kept.policy.removed(known.state);
        Some(gone)
    }

    /// Takes an entry out, apart from what the policy counts.
    fn lift(&mut self, slot: Slot, hash: u64, cause: Cause) -> Option<(Gone<K, T>, Known)> {
        let kept = &mut *self.kept;
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        let weight = table.weight(slot);
        let (entry, known) = table.take(hold, self.around.readers, slot, hash)?;
        kept.len -= 1;
        kept.weight -= weight;
        kept.timed -= usize::from(known.is_timed());
        kept.counts.add(cause, 1);
        Some((Gone { entry, weight, cause }, known))
    }

    /// Asks for what a miss of a key that hashes to `hash` will look at.
    pub(crate) fn warm(&self, hash: u64) {
        let table = self.table();
        if table.sets() == 0 {
            return;
        }
        table.set(table.home(hash)).warm();
        // Of the sets under the hand the one behind was looked at before.
        table.set((self.kept.policy.hand() + 1) % table.sets()).warm();
        self.kept.policy.warm(ghost_hash(hash));
        self.kept.fences.warm(hash);
    }

    /// Hands out everything. The caller releases the weight.
    pub(crate) fn take_all(&mut self) -> Box<Table<K, T>> {
        let kept = &mut *self.kept;
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        table.cool(hold, self.around.readers);
        for set in 0..table.sets() {
            if let Some(guard) = table.set(set).lock() {
                guard.retire(hold, self.around.readers);
            }
        }
        kept.counts.add(Cause::Cleared, kept.len as u64);
        (kept.len, kept.weight, kept.timed, kept.sweep_at) = (0, 0, 0, 0);
        kept.policy = Policy::new(kept.part.unwrap_or(1));
        let empty = Table::new(0, kept.each);
        self.shard.table.replace(&mut kept.owner, self.around.readers, self.around.number, empty)
    }
}

impl<K: Hash, T> Writing<'_, K, T> {
    /// Adds an entry under a key that is not here. The caller has reserved its weight. It comes back if the
    /// shard is full. `pressed`: there is hardly any weight left in the memory.
    pub(crate) fn add(
        &mut self,
        new: &New,
        entry: (K, T),
        pressed: bool,
        config: Config,
    ) -> Result<(), (K, T)> {
        let kept = &mut *self.kept;
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        if table.sets() == 0 {
            return Err(entry);
        }
        if kept.part.is_none() && kept.len >= kept.policy.capacity() {
            kept.policy.resize(kept.len + 1);
        }
        let (policy, home) = (&mut kept.policy, table.home(new.hash));
        let mut sets = Ruled::new(table, policy.now());
        let state = policy.admit(&mut sets, home, ghost_hash(new.hash), pressed, config);
        sets.let_go();
        let begins = Begin { state, epoch: policy.now() };
        table.put(hold, self.around.readers, new, begins, entry)?;
        policy.placed(&mut sets, home, state, config);
        drop(sets);
        kept.len += 1;
        kept.weight += new.weight;
        kept.timed += usize::from(!new.life.is_endless());
        kept.counts.inserts += 1;
        self.shard.now.store(kept.policy.now(), Ordering::Relaxed);
        Ok(())
    }

    /// Takes the entry out that the policy likes least, but not `spared`, for one that hashes to `hash`. The
    /// caller releases its weight, and tells the time if it is asked.
    pub(crate) fn evict(
        &mut self,
        hash: u64,
        now: impl FnOnce() -> Timestamp,
        spared: Option<Slot>,
        config: Config,
    ) -> Option<Gone<K, T>> {
        if self.table().sets() == 0 {
            return None;
        }
        let kept = &mut *self.kept;
        if kept.part.is_none() {
            // Were it more than there is, all might be kept and none on trial, and a victim hard to find.
            kept.policy.resize(kept.len);
        }
        let table = self.shard.table.held(&kept.owner).0;
        let mut sets = Ruled::new(table, kept.policy.now());
        let victim = kept.policy.victim(&mut sets, table.home(hash), spared, config)?;
        drop(sets);
        // It is dropped after the locks are released.
        prefetch_behind(&self.entry(victim.slot)?.1);
        let hash = self.hash_at(victim.slot)?;
        let over = self.is_over(victim.slot, now);
        self.evict_victim(&victim, hash, over)
    }

    /// Walks on over about `steps` cells and hands out what is past its hard expiry. Whether it came to the
    /// last cell; the next walk then starts anew. `release` is told each weight.
    pub(crate) fn sweep(
        &mut self,
        now: Timestamp,
        steps: &mut usize,
        out: &mut Garbage<'_, K, T>,
        mut release: impl FnMut(u64),
    ) -> bool {
        // Also a shard without any times costs a look.
        *steps = steps.saturating_sub(WAYS);
        while self.kept.timed > 0 && self.kept.sweep_at < self.table().sets() {
            let set = self.kept.sweep_at;
            let mut over = self.table().over_in(set, now);
            while over != 0 {
                let slot = Slot { set, way: over.trailing_zeros() as usize };
                over &= over - 1;
                let gone = self.hash_at(slot).and_then(|hash| self.take(slot, hash, Cause::Expired));
                if let Some(gone) = gone {
                    release(gone.weight);
                    out.put(gone);
                }
            }
            self.kept.sweep_at += 1;
            if *steps == 0 {
                return false;
            }
            *steps = steps.saturating_sub(WAYS);
        }
        self.kept.sweep_at = 0;
        true
    }

    fn is_over(&self, slot: Slot, now: impl FnOnce() -> Timestamp) -> bool {
        // Most memories either have no times at all or times everywhere.
        if self.kept.timed == 0 {
            return false;
        }
        let now = now();
        self.table().has_any_over(slot.set, now) && self.life(slot).is_over(now)
    }

    fn evict_victim(&mut self, victim: &Victim, hash: u64, over: bool) -> Option<Gone<K, T>> {
        let cause = if over { Cause::Expired } else { Cause::Evicted };
        let (gone, known) = self.lift(victim.slot, hash, cause)?;
        self.kept.policy.evicted(victim, known.state, known.epoch, ghost_hash(hash));
        Some(gone)
    }

    pub(crate) fn hash_at(&self, slot: Slot) -> Option<u64> {
        self.entry(slot).map(|(key, _)| self.around.hasher.hash_one(key))
    }

    /// Moves everything to a larger table if one more entry would make searches long, or to a smaller one
    /// where few heavy entries have taken the place of many: a victim is looked for set by set.
    pub(crate) fn fit_table(&mut self) {
        let (sets, len) = (self.table().sets(), self.len());
        if self.table().is_crowded(len) && !self.is_full() {
            let expected = self.kept.part.map_or(0, Table::<K, T>::sets_for);
            self.move_to(next_size(sets, expected));
        } else if self.kept.part.is_none() && sets > SPARSE * Table::<K, T>::sets_for(len) {
            self.move_to(2 * Table::<K, T>::sets_for(len));
        }
    }

    /// Moves everything to a smaller table if most of the present one lies idle.
    pub(crate) fn shrink_if_sparse(&mut self) {
        let fit = Table::<K, T>::sets_for(self.part().max(self.len()));
        if self.table().sets() > 2 * fit {
            self.move_to(fit);
        }
    }

    /// Moves everything to a table of so many sets, which must be enough.
    pub(crate) fn move_to(&mut self, sets: usize) {
        // The last of the user's code, before anything has changed.
        let slots = self.slots();
        let kept = &mut *self.kept;
        let readers = self.around.readers;
        let next = Table::new(sets, kept.each);
        let mut fresh = Owner::new();
        let (table, hold) = self.shard.table.held_mut(&mut kept.owner);
        table.cool(hold, readers);
        let mut rest = &slots[..];
        for set in 0..table.sets() {
            let (of_set, others) = rest.split_at(rest.partition_point(|(slot, _)| slot.set == set));
            table.hand_over(hold, readers, set, of_set, &next, &mut fresh.hold);
            rest = others;
        }
        kept.sweep_at = 0;
        drop(self.shard.table.replace(&mut kept.owner, readers, self.around.number, next));
    }

    /// All entries, set by set, and their hashes.
    fn slots(&self) -> Vec<(Slot, u64)> {
        let mut slots = Vec::with_capacity(self.len());
        for set in 0..self.table().sets() {
            let taken = self.table().set(set).taken();
            for way in (0..WAYS).filter(|way| taken >> way & 1 != 0) {
                let slot = Slot { set, way };
                slots.extend(self.hash_at(slot).map(|hash| (slot, hash)));
            }
        }
        slots
    }
}

/// A table of unknown extent may be this many times larger than it must be.
const SPARSE: usize = 16;

/// What the ghost knows a key by; other bits than those that choose its set.
fn ghost_hash(hash: u64) -> u64 {
    mix(hash)
}

/// Large steps as long as nobody knows better, small ones beyond what was `expected`.
fn next_size(sets: usize, expected: usize) -> usize {
    let next = sets + sets / 2 + 1;
    if sets >= expected && expected > 0 {
        sets + sets / 16 + 1
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
    stripes: Box<[u64]>,
}

/// No shard has more stripes, nor fewer: 4 KiB.
pub(crate) const STRIPES_MAX: usize = 1 << 12;
const STRIPES_MIN: usize = 1 << 9;

impl Fences {
    /// For a shard that is to hold so many entries: a stripe for every sixteen, half a byte an entry.
    fn for_entries(entries: Option<usize>) -> Self {
        Self { all: 0, stripes: vec![0; stripes_for(entries)].into() }
    }

    /// For more entries than before, if need be at the price of all rights that were granted.
    fn grow_for(&mut self, entries: Option<usize>) {
        let stripes = stripes_for(entries);
        if stripes > self.stripes.len() {
            let latest = self.stripes.iter().fold(0, |latest, stripe| latest.max(*stripe));
            // Beyond every generation there has been.
            self.all = self.all.wrapping_add(latest).wrapping_add(1);
            self.stripes = vec![0; stripes].into();
        }
    }

    /// Bits that choose neither the shard nor, much, the set.
    pub(crate) fn stripe(&self, hash: u64) -> usize {
        hash as usize & (self.stripes.len() - 1)
    }

    /// Asks for what a void of the hash changes.
    fn warm(&self, hash: u64) {
        prefetch(&self.stripes[self.stripe(hash)]);
    }

    /// Both parts only grow, so their sum never returns to a value it has left.
    pub(crate) fn generation(&self, hash: u64) -> u64 {
        self.all.wrapping_add(self.stripes[self.stripe(hash)])
    }

    /// Of every stripe.
    pub(crate) fn generations(&self) -> Box<[u64]> {
        self.stripes.iter().map(|stripe| self.all.wrapping_add(*stripe)).collect()
    }

    /// That of the hash among [`generations`](Fences::generations), if there were as many stripes then.
    pub(crate) fn marked(&self, generations: &[u64], hash: u64) -> Option<u64> {
        let is_same = generations.len() == self.stripes.len();
        is_same.then(|| generations[self.stripe(hash)])
    }

    pub(crate) fn void(&mut self, hash: u64) {
        let stripe = self.stripe(hash);
        self.stripes[stripe] = self.stripes[stripe].wrapping_add(1);
    }

    pub(crate) fn void_all(&mut self) {
        self.all = self.all.wrapping_add(1);
    }
}

fn stripes_for(entries: Option<usize>) -> usize {
    let stripes = entries.map_or(STRIPES_MIN, |entries| entries / 16);
    stripes.next_power_of_two().clamp(STRIPES_MIN, STRIPES_MAX)
}

#[cfg(test)]
mod tests {
    use crate::Memory;

    /// Full of light entries that were read, then of heavy ones.
    fn drifted(heavy: u64, count: u64) -> Memory<u64, u64> {
        let builder = Memory::weight_limit(20_000).weigher(|_, weight: &u64| *weight).shards(1);
        let memory = builder.build().unwrap();
        for key in 0..20_000 {
            memory.insert(key, 1);
            memory.get(&key);
        }
        (0..count).for_each(|key| assert!(memory.insert(1 << 32 | key, heavy)));
        memory
    }

    #[test]
    fn some_are_on_trial_however_weights_change() {
        for count in [10, 20, 40, 80] {
            let memory = drifted(200, count);
            let shard = memory.write(0);
            let on_trial = shard.kept.policy.on_trial();
            assert!(on_trial * 100 > shard.len(), "{on_trial} of {} after {count}", shard.len());
        }
    }

    #[test]
    fn a_table_shrinks_when_few_heavy_entries_have_taken_the_place_of_many() {
        let memory = drifted(2000, 3000);
        let shard = memory.write(0);
        let (len, sets) = (shard.len(), shard.table().sets());
        assert!(
            len < 1000 && sets <= super::SPARSE * super::Table::<u64, u64>::sets_for(len),
            "{len} in {sets} sets"
        );
    }
}
