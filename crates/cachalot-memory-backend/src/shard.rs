//! One shard: a table of indices, the slots they name, the policy and the fences. Runs under a lock.
//!
//! Of the user's code only `Eq` runs in here, in [`Shard::find`], before anything has changed. What is taken
//! out is handed to the caller, to be dropped after the lock is released.

use cachalot_core::{Clock, Timestamp};
use equivalent::Equivalent;
use hashbrown::HashTable;

use crate::policy::Policy;

pub(crate) struct Shard<K, T> {
    table: HashTable<u32>,
    slots: Vec<Option<Held<K, T>>>,
    free: Vec<u32>,
    policy: Policy,
    weight: u64,
    sweep_at: usize,
    pub(crate) fences: Fences,
    pub(crate) counts: Counts,
}

/// An entry in its slot.
pub(crate) struct Held<K, T> {
    pub(crate) key: K,
    pub(crate) value: T,
    pub(crate) life: Life,
    pub(crate) weight: u64,
    pub(crate) hash: u64,
}

/// The times of an entry in this tier.
#[derive(Clone, Copy, Debug)]
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
}

/// What happened in a shard since it was made.
#[derive(Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    pub(crate) inserts: u64,
    pub(crate) evicted: u64,
    pub(crate) expired: u64,
    pub(crate) rejected: u64,
    pub(crate) revoked: u64,
}

impl<K, T> Shard<K, T> {
    pub(crate) fn new() -> Self {
        Self {
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            policy: Policy::default(),
            weight: 0,
            sweep_at: 0,
            fences: Fences::default(),
            counts: Counts::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn weight(&self) -> u64 {
        self.weight
    }

    pub(crate) fn find<Q>(&self, hash: u64, key: &Q) -> Option<u32>
    where
        Q: Equivalent<K> + ?Sized,
    {
        let same = |index: &u32| {
            self.held(*index).is_some_and(|held| held.hash == hash && key.equivalent(&held.key))
        };
        self.table.find(hash, same).copied()
    }

    pub(crate) fn held(&self, index: u32) -> Option<&Held<K, T>> {
        self.slots.get(index as usize)?.as_ref()
    }

    pub(crate) fn held_mut(&mut self, index: u32) -> Option<&mut Held<K, T>> {
        self.slots.get_mut(index as usize)?.as_mut()
    }

    pub(crate) fn touch(&mut self, index: u32) {
        self.policy.touch(index);
    }

    /// Whether every index is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.free.is_empty() && self.slots.len() >= u32::MAX as usize
    }

    /// Adds an entry under a key that is not here. The caller has reserved its weight.
    pub(crate) fn add(&mut self, held: Held<K, T>) {
        debug_assert!(!self.is_full());
        let (hash, weight) = (held.hash, held.weight);
        let index = self.free.pop().unwrap_or(self.slots.len() as u32);
        match self.slots.get_mut(index as usize) {
            Some(slot) => *slot = Some(held),
            None => self.slots.push(Some(held)),
        }
        let slots = &self.slots;
        let rehash = |index: &u32| slots[*index as usize].as_ref().map_or(0, |held| held.hash);
        self.table.insert_unique(hash, index, rehash);
        self.policy.insert(index, hash, weight);
        self.weight += weight;
        debug_assert_eq!(self.policy.weight(), self.weight);
        self.counts.inserts += 1;
    }

    /// Puts a new value in the place of an old one, which is handed back. The caller has reserved the
    /// difference of the weights.
    pub(crate) fn replace(&mut self, index: u32, value: T, life: Life, weight: u64) -> Option<T> {
        let held = self.slots.get_mut(index as usize)?.as_mut()?;
        let old = std::mem::replace(&mut held.value, value);
        let before = std::mem::replace(&mut held.weight, weight);
        held.life = life;
        self.weight = self.weight - before + weight;
        self.policy.reweigh(index, weight);
        debug_assert_eq!(self.policy.weight(), self.weight);
        self.policy.touch(index);
        self.counts.inserts += 1;
        Some(old)
    }

    /// Takes an entry out. The caller releases its weight.
    pub(crate) fn take(&mut self, index: u32) -> Option<Held<K, T>> {
        self.held(index)?;
        self.policy.remove(index);
        self.empty(index)
    }

    /// Takes the entry out that the policy likes least, but not `spared`. The caller releases its weight.
    pub(crate) fn evict(&mut self, now: Timestamp, spared: Option<u32>) -> Option<Held<K, T>> {
        let slots = &self.slots;
        let hash_of = |index: u32| slots[index as usize].as_ref().map_or(0, |held| held.hash);
        let victim = self.policy.evict(spared, hash_of)?;
        let held = self.empty(victim)?;
        if is_over(held.life.hard, now) {
            self.counts.expired += 1;
        } else {
            self.counts.evicted += 1;
        }
        Some(held)
    }

    /// Walks on over at most `steps` slots and hands out what is past its hard expiry. Whether it came to
    /// the last slot; the next walk then starts anew. The caller releases the weights.
    pub(crate) fn sweep(&mut self, now: Timestamp, steps: &mut usize, out: &mut Vec<Held<K, T>>) -> bool {
        while *steps > 0 && self.sweep_at < self.slots.len() {
            *steps -= 1;
            let index = self.sweep_at as u32;
            self.sweep_at += 1;
            if self.held(index).is_some_and(|held| is_over(held.life.hard, now)) {
                self.counts.expired += 1;
                out.extend(self.take(index));
            }
        }
        let done = self.sweep_at >= self.slots.len();
        if done {
            self.sweep_at = 0;
        }
        done
    }

    /// Hands out everything. The caller releases the weight.
    pub(crate) fn take_all(&mut self) -> Vec<Option<Held<K, T>>> {
        self.table = HashTable::new();
        self.free = Vec::new();
        self.policy = Policy::default();
        self.sweep_at = 0;
        self.weight = 0;
        std::mem::take(&mut self.slots)
    }

    /// Empties a slot that the policy has forgotten.
    fn empty(&mut self, index: u32) -> Option<Held<K, T>> {
        let held = self.slots.get_mut(index as usize)?.take()?;
        if let Ok(cell) = self.table.find_entry(held.hash, |at| *at == index) {
            cell.remove();
        }
        self.free.push(index);
        self.weight -= held.weight;
        debug_assert_eq!(self.policy.weight(), self.weight);
        Some(held)
    }
}

/// By a coarse time, so perhaps a tick late: for collecting, not for serving.
fn is_over(hard: Timestamp, now: Timestamp) -> bool {
    hard <= now && hard != Timestamp::NEVER
}

/// Whether `deadline` has come. An entry without one does not ask the clock.
pub(crate) fn has_come(clock: &Clock, coarse: Timestamp, deadline: Timestamp) -> bool {
    deadline != Timestamp::NEVER && clock.coarse_has_reached(coarse, deadline)
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
