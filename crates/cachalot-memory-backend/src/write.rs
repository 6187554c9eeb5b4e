//! How a value is stored: right, room, entry.

use std::hash::Hash;

use cachalot_core::{Commit, Fence, Timestamp};

use crate::budget::Budget;
use crate::life::{Life, has_come};
use crate::listener::{Cause, Garbage, Gone};
use crate::memory::Memory;
use crate::policy::Slot;
use crate::reap::is_due;
use crate::shard::{Fences, Writing};
use crate::sync::atomic::Ordering;
use crate::sync::thread;
use crate::table::New;

/// By what right a value is stored, and whose rights end with it.
pub(crate) enum Right {
    /// Nobody's leave is asked; all fences of the key are revoked.
    Always,
    /// A fence that still stands.
    Reader(Fence),
    /// A fence that still stands; all others of the key are revoked.
    Writer(Fence),
    /// A fence that still stands, as long as nothing is held under the key.
    Vacant(Fence),
}

impl Right {
    fn revoke_others(&self, fences: &mut Fences, hash: u64) {
        if matches!(self, Self::Always | Self::Writer(_)) {
            fences.void(hash);
        }
    }
}

/// One step of a read-modify-write; see [`Memory::update`].
#[cfg(feature = "bytes")]
pub(crate) enum Change<T> {
    Keep,
    Put(T, Timestamp),
    Remove,
}

#[cfg(feature = "bytes")]
impl<K: Hash + Eq + Clone, T> Memory<K, T> {
    /// Decides under the lock of the shard what becomes of `key`. `decide` sees the value and answers
    /// with the change and the result; it runs again if room had to be made meanwhile. It must not use this
    /// memory, and the weigher runs under the lock too.
    pub(crate) fn update<R>(&self, key: &K, mut decide: impl FnMut(Option<&T>) -> (Change<T>, R)) -> R {
        let hash = self.hash(key);
        let mut garbage = self.garbage();
        let mut due = false;
        let mut entry;
        let result = loop {
            let now = self.clock.coarse();
            let mut shard = self.write(self.shard_index(hash));
            let mut slot = shard.find(hash, key);
            if let Some(over) = slot.take_if(|slot| has_come(&self.clock, now, shard.life(*slot).hard)) {
                self.discard(&mut shard, over, hash, Cause::Expired, &mut garbage);
            }
            let (change, result) = decide(slot.and_then(|slot| shard.entry(slot)).map(|(_, value)| value));
            let (value, hard) = match change {
                Change::Put(value, hard) => (value, hard),
                Change::Keep => break result,
                Change::Remove => {
                    if let Some(slot) = slot {
                        self.discard(&mut shard, slot, hash, Cause::Removed, &mut garbage);
                    }
                    break result;
                }
            };
            let weight = self.weigh.of(key, &value);
            if weight > self.budget.capacity() {
                let entry = (key.clone(), value);
                shard.counts_mut().rejected += 1;
                if let Some(slot) = slot {
                    self.discard(&mut shard, slot, hash, Cause::Replaced, &mut garbage);
                }
                garbage.put_entry(entry, Cause::Rejected);
                break result;
            }
            let new = New { hash, weight, life: Life::new(hard, hard), now };
            entry = Some((key.clone(), value));
            if self.place(&mut shard, slot, &new, &mut entry, &mut garbage) {
                due = is_due(&mut shard);
                break result;
            }
            self.make_room(shard, hash, &mut garbage);
        };
        // Before the result is on its way out, as in `remove`.
        drop(garbage);
        if due {
            self.pay();
        }
        result
    }
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// Stores if `right` still stands. The right is looked at, and others are revoked, in the same step as
    /// the value changes.
    pub(crate) fn store(&self, key: K, value: T, life: Life, right: Right) -> Commit {
        // Without an end there is no need for the time.
        let now = if life.is_endless() { Timestamp::default() } else { self.clock.coarse() };
        self.store_at(now, key, value, life, right)
    }

    pub(crate) fn store_at(&self, mut now: Timestamp, key: K, value: T, life: Life, right: Right) -> Commit {
        let (hash, weight) = (self.hash(&key), self.weigh.of(&key, &value));
        // Both are dropped after the guard.
        let mut entry = Some((key, value));
        let mut garbage = self.garbage();
        let due = loop {
            let mut shard = self.write(self.shard_index(hash));
            shard.warm(hash);
            let slot = entry.as_ref().and_then(|(key, _)| shard.find(hash, key));
            if !self.allows(&mut shard, hash, &right) {
                shard.counts_mut().revoked += 1;
                return Commit::Revoked;
            }
            if let (Right::Vacant(_), Some(held)) = (&right, slot)
                && !has_come(&self.clock, self.clock.coarse(), shard.life(held).hard)
            {
                return Commit::Revoked;
            }
            let heavy = weight > self.budget.capacity();
            if heavy || has_come(&self.clock, now, life.hard) {
                shard.counts_mut().rejected += u64::from(heavy);
                right.revoke_others(shard.fences(), hash);
                if let Some(slot) = slot {
                    self.discard(&mut shard, slot, hash, Cause::Replaced, &mut garbage);
                }
                if let Some(entry) = entry {
                    garbage.put_entry(entry, if heavy { Cause::Rejected } else { Cause::Expired });
                }
                return Commit::Rejected;
            }
            if self.place(&mut shard, slot, &New { hash, weight, life, now }, &mut entry, &mut garbage) {
                right.revoke_others(shard.fences(), hash);
                break is_due(&mut shard);
            }
            self.make_room(shard, hash, &mut garbage);
            if !life.is_endless() {
                now = self.clock.coarse();
            }
        };
        self.tuner.observe(hash);
        if due {
            self.pay();
        }
        Commit::Stored
    }

    /// Publishes the entry if its weight can be reserved, if need be at the cost of others in this shard. If it
    /// cannot, another shard has to give, and the entry stays where it is. What it replaces, or the key it did
    /// not need, goes to the garbage.
    fn place(
        &self,
        shard: &mut Writing<'_, K, T>,
        slot: Option<Slot>,
        new: &New,
        entry: &mut Option<(K, T)>,
        garbage: &mut Garbage<'_, K, T>,
    ) -> bool {
        if slot.is_none() {
            shard.fit_table();
        }
        let before = slot.map_or(0, |slot| shard.weight_of(slot));
        let mut credit = Credit { budget: &self.budget, before, held: before };
        while shard.is_full() && slot.is_none() || !credit.exchange(new.weight) {
            let now = (!new.life.is_endless()).then_some(new.now);
            let gives = self.has_its_part(shard, slot);
            let Some(gone) = gives.then(|| self.evict(shard, new.hash, slot, now)).flatten() else {
                return false;
            };
            credit.held += gone.weight;
            garbage.put(gone);
        }
        // None of the user's code runs from here on.
        if !new.life.is_endless() && !self.any_timed.load(Ordering::Relaxed) {
            self.any_timed.store(true, Ordering::Relaxed);
        }
        let Some((key, value)) = entry.take() else { return false };
        match slot {
            Some(slot) => {
                if let Some(old) = shard.replace(slot, new, value) {
                    garbage.put_entry((key, old), Cause::Replaced);
                }
            }
            None => *entry = shard.add(new, (key, value), self.budget.is_scarce(), self.tuner.config()).err(),
        }
        if entry.is_some() {
            self.budget.release(new.weight);
        }
        entry.is_none()
    }

    /// Whether a shard is the one to give: it has something besides the slot to be `replaced`, which may hold
    /// the right to replace it, and no less than its part of the weight.
    fn has_its_part(&self, shard: &mut Writing<'_, K, T>, replaced: Option<Slot>) -> bool {
        let has_others = shard.len() > usize::from(replaced.is_some());
        has_others && (shard.weight() >= self.part() || shard.is_full())
    }

    /// A shard's part of the weight.
    fn part(&self) -> u64 {
        // The number of shards is a power of two.
        self.budget.used() >> self.shard_count().trailing_zeros()
    }

    /// Takes one entry out of another shard than that of `hash`. Never waits for a lock while it holds one.
    fn make_room(&self, shard: Writing<'_, K, T>, hash: u64, garbage: &mut Garbage<'_, K, T>) {
        drop(shard);
        let part = self.part();
        let start = self.hands.evict_at.fetch_add(1, Ordering::Relaxed);
        for least in [part.max(1), 1] {
            for step in 0..self.shard_count() {
                let at = start.wrapping_add(step) & (self.shard_count() - 1);
                if at == self.shard_index(hash) {
                    continue;
                }
                let mut other = self.write(at);
                if other.weight() >= least {
                    let Some(gone) = self.evict(&mut other, hash, None, None) else {
                        return;
                    };
                    self.budget.release(gone.weight);
                    return garbage.put(gone);
                }
            }
        }
        // What was there has just left by other hands: the next try finds room, or this shard has its part.
        thread::yield_now();
    }

    /// The weight stays reserved. `hash`: of the entry that needs the room. `now`: the time, if it is known.
    pub(crate) fn evict(
        &self,
        shard: &mut Writing<'_, K, T>,
        hash: u64,
        spared: Option<Slot>,
        now: Option<Timestamp>,
    ) -> Option<Gone<K, T>> {
        self.tuner.evicted(shard.part() * self.shard_count());
        shard.evict(hash, || now.unwrap_or_else(|| self.clock.coarse()), spared, self.tuner.config())
    }

    fn allows(&self, shard: &mut Writing<'_, K, T>, hash: u64, right: &Right) -> bool {
        let (Right::Reader(fence) | Right::Writer(fence) | Right::Vacant(fence)) = right else {
            return true;
        };
        let same_key = fence.slot() == self.fence_slot(shard, hash);
        same_key && fence.generation() == shard.fences().generation(hash)
    }
}

/// Weight that is reserved while room is being made for an entry.
struct Credit<'a> {
    budget: &'a Budget,
    /// What the replaced entry holds.
    before: u64,
    /// Besides that, what victims held.
    held: u64,
}

impl Credit<'_> {
    /// Turns all of it into a reservation of `wanted`, if there is room.
    fn exchange(&mut self, wanted: u64) -> bool {
        let done = self.budget.exchange(self.held, wanted);
        if done {
            self.held = self.before;
        }
        done
    }
}

impl Drop for Credit<'_> {
    fn drop(&mut self) {
        self.budget.release(self.held - self.before);
    }
}
