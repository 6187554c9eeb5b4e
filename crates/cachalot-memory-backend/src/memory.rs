//! The engine: a bounded concurrent map with expiry and fences.

use std::fmt;
use std::hash::Hash;
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use cachalot_core::{Clock, Commit, Fence, Freshness, Timestamp};
use equivalent::Equivalent;

use crate::budget::Budget;
use crate::builder::{MemoryBuilder, Weigh};
use crate::shard::{Fences, Held, Life, STRIPES, Shard, has_come};
use crate::stats::Stats;
use crate::sync::Lock;

/// A bounded concurrent cache: values `T` under keys `K`, each with its own times.
///
/// - **Bound**: the weights of all entries never exceed the capacity, at no moment and under any storm of
///   writes. The rarely read leave first.
/// - **Time**: an entry is *fresh* until its soft expiry, *stale* until its hard one, then gone: never
///   served, and collected by later operations on any key, each of which does a bounded part of it. There
///   is no thread.
/// - **Fences**: [`begin`](Memory::begin) grants the right to store before a load, and every removal or
///   insert of that key revokes it, so a slow load never brings an old value back.
///
/// Look-ups take any form of the key that hashes alike: `&str` for `String`. A hit allocates nothing.
///
/// # Panics
/// None of its own. If `Hash`, `Eq`, `Clone` or `Drop` of a key or value, the weigher or a closure panics,
/// the panic goes to the caller and the memory stays usable: what was stored before stays stored, and the
/// bound holds. Old values, evicted values and keys are dropped after all locks are released, so their
/// `Drop` may use the memory.
///
/// ```
/// use std::time::Duration;
/// use cachalot_memory_backend::Memory;
///
/// let sessions: Memory<String, u64> = Memory::entries(10_000).build()?;
/// sessions.insert_with_ttl("ada".to_owned(), 7, Duration::from_secs(60));
/// assert_eq!(sessions.get("ada"), Some(7));
///
/// let fence = sessions.begin("ada");
/// sessions.remove("ada");
/// let late = sessions.commit(fence, "ada".to_owned(), 7, None);
/// assert_eq!(late, cachalot_core::Commit::Revoked);
/// # Ok::<_, cachalot_core::Error>(())
/// ```
pub struct Memory<K, T> {
    shards: Box<[Lock<Shard<K, T>>]>,
    budget: Budget,
    weigh: Weigh<K, T>,
    clock: Clock,
    hasher: RandomState,
    /// Where the next eviction beyond the own shard looks first.
    evict_at: AtomicUsize,
    /// The shard in which expired entries are being collected.
    sweep_at: AtomicUsize,
    /// Writes so far, about: every few of them pay for a part of a sweep.
    writes: AtomicUsize,
}

/// A value with what it is good for, as [`Memory::find`] gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found<T> {
    /// The value.
    pub value: T,
    /// What it is good for now.
    pub freshness: Freshness,
    /// How long it has been stale; zero while fresh.
    pub stale_for: Duration,
    /// The time it was judged by, late by at most a tick of the coarse clock.
    pub at: Timestamp,
}

impl<K, T> Memory<K, T> {
    /// A memory for entries that together weigh at most `limit`, by default in bytes: the size of key and
    /// value plus about 96 for the slot. What they point to (the text of a `String`, the items of a `Vec`)
    /// is not seen; give a [`weigher`](MemoryBuilder::weigher) that counts it, if it counts.
    pub fn weight_limit(limit: u64) -> MemoryBuilder<K, T> {
        MemoryBuilder::new(limit, Weigh::Shallow { behind: 0 })
    }

    /// A memory for at most `limit` entries.
    pub fn entries(limit: u64) -> MemoryBuilder<K, T> {
        MemoryBuilder::new(limit, Weigh::Each(1))
    }

    pub(crate) fn open_with(builder: MemoryBuilder<K, T>) -> Self {
        let shards = builder.shard_count().next_power_of_two();
        Self {
            shards: (0..shards).map(|_| Lock::new(Shard::new())).collect(),
            budget: Budget::new(builder.capacity),
            weigh: builder.weigh,
            clock: builder.clock,
            hasher: RandomState::new(),
            evict_at: AtomicUsize::new(0),
            sweep_at: AtomicUsize::new(0),
            writes: AtomicUsize::new(0),
        }
    }

    /// The weight of what is held, expired entries not yet collected included. Never above the capacity.
    pub fn weight(&self) -> u64 {
        self.budget.used()
    }

    /// The bound on the weight.
    pub fn capacity(&self) -> u64 {
        self.budget.capacity()
    }

    /// The number of entries, expired ones not yet collected included. Takes each shard's lock in turn.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether it holds nothing. As [`Memory::len`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures for people and metrics. Takes each shard's lock in turn.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { capacity: self.capacity(), ..Stats::default() };
        for shard in &self.shards {
            let shard = shard.lock();
            let counts = shard.counts;
            stats.entries += shard.len() as u64;
            stats.weight += shard.weight();
            stats.hits += counts.hits;
            stats.misses += counts.misses;
            stats.inserts += counts.inserts;
            stats.evicted += counts.evicted;
            stats.expired += counts.expired;
            stats.rejected += counts.rejected;
            stats.revoked += counts.revoked;
        }
        stats
    }

    /// Drops everything and revokes every fence. What others insert meanwhile may stay.
    pub fn clear(&self) {
        let mut garbage = Vec::with_capacity(self.shards.len());
        for shard in &self.shards {
            let mut shard = shard.lock();
            let weight = shard.weight();
            shard.fences.void_all();
            garbage.push(shard.take_all());
            self.budget.release(weight);
        }
    }

    /// Revokes every fence. What is held stays.
    pub fn void_all(&self) {
        for shard in &self.shards {
            shard.lock().fences.void_all();
        }
    }
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// A copy of the fresh value under `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<T>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        T: Clone,
    {
        self.get_with(key, T::clone)
    }

    /// What `read` makes of the fresh value under `key`, without a copy. `read` runs under the lock of a
    /// shard: it must be quick, and it must not use this memory, or it waits for itself.
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&T) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.read(key, |value, life, at| {
            let fresh = !life.invalidated && !has_come(&self.clock, at, life.soft);
            fresh.then(|| read(value))
        })
    }

    /// A copy of the value under `key`, fresh or not, unless it is past its hard expiry.
    pub fn find<Q>(&self, key: &Q) -> Option<Found<T>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        T: Clone,
    {
        self.read(key, |value, life, at| {
            let freshness = if life.invalidated {
                Freshness::Invalidated
            } else if has_come(&self.clock, at, life.soft) {
                Freshness::Stale
            } else {
                Freshness::Fresh
            };
            Some(Found { value: value.clone(), freshness, stale_for: at.since(life.soft), at })
        })
    }

    /// Whether there is a fresh value under `key`. Counts as a read.
    pub fn contains<Q>(&self, key: &Q) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.get_with(key, |_| ()).is_some()
    }

    /// Stores `value` under `key`, for as long as there is room, and revokes the fences of `key`. Whether it
    /// is held: an entry heavier than the whole capacity is not, and then the old value is gone too.
    pub fn insert(&self, key: K, value: T) -> bool {
        self.store(key, value, Life::ENDLESS, Right::Always) == Commit::Stored
    }

    /// As [`Memory::insert`], for `ttl` from now. Below a millisecond it is not held.
    pub fn insert_with_ttl(&self, key: K, value: T, ttl: Duration) -> bool {
        let end = self.clock.now() + ttl;
        self.insert_until(key, value, end, end)
    }

    /// As [`Memory::insert`]: fresh until `soft`, stale from then until `hard`. A `soft` behind `hard` counts
    /// as `hard`; with a `hard` that has come it is not held.
    pub fn insert_until(&self, key: K, value: T, soft: Timestamp, hard: Timestamp) -> bool {
        self.store(key, value, Life::new(soft, hard), Right::Always) == Commit::Stored
    }

    /// Takes out what is held under `key` and revokes the fences of `key`. `None` if there was nothing
    /// before its hard expiry.
    pub fn remove<Q>(&self, key: &Q) -> Option<T>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let held;
        {
            let mut shard = self.shard(hash);
            let index = shard.find(hash, key);
            shard.fences.void(stripe(hash));
            held = self.take(&mut shard, index?);
        }
        let Held { key, value, life, .. } = held?;
        // Before the value is on its way out: the language forgets a return value if a local's `Drop` panics.
        drop(key);
        let over = has_come(&self.clock, self.clock.coarse(), life.hard);
        (!over).then_some(value)
    }

    /// Keeps what is held under `key` for at most `keep` more, as [`Freshness::Invalidated`], and revokes
    /// the fences of `key`. Whether there was anything before its hard expiry.
    pub fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (hash, now) = (self.hash(key), self.clock.now());
        let _gone;
        let mut shard = self.shard(hash);
        let index = shard.find(hash, key);
        shard.fences.void(stripe(hash));
        let Some(index) = index else { return false };
        let Some(held) = shard.held_mut(index) else {
            return false;
        };
        let lives = !has_come(&self.clock, now, held.life.hard);
        held.life =
            Life { soft: held.life.soft.min(now), hard: held.life.hard.min(now + keep), invalidated: true };
        if has_come(&self.clock, now, held.life.hard) {
            shard.counts.expired += 1;
            _gone = self.take(&mut shard, index);
        }
        lives
    }

    /// Grants the right to store under `key`, to be used by [`Memory::commit`] after a load. Also for keys
    /// that are not held.
    pub fn begin<Q>(&self, key: &Q) -> Fence
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        let generation = self.shard(hash).fences.generation(stripe(hash));
        Fence::new(self.fence_slot(hash), generation)
    }

    /// Stores `value` under `key`, the one `fence` was granted for, unless the fence was revoked meanwhile
    /// by an insert, a removal or a void. `until` is soft and hard expiry; `None` means no end.
    ///
    /// Fences are kept for many keys together, so one may be revoked by what happens to another key.
    pub fn commit(&self, fence: Fence, key: K, value: T, until: Option<(Timestamp, Timestamp)>) -> Commit {
        let life = until.map_or(Life::ENDLESS, |(soft, hard)| Life::new(soft, hard));
        self.store(key, value, life, Right::Reader(fence))
    }

    /// Revokes the fences of `key`. What is held stays.
    pub fn void<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        self.shard(hash).fences.void(stripe(hash));
    }
}

/// By what right a value is stored, and whose rights end with it.
pub(crate) enum Right {
    /// Nobody's leave is asked; all fences of the key are revoked.
    Always,
    /// A fence that still stands.
    Reader(Fence),
    /// A fence that still stands; all others of the key are revoked.
    Writer(Fence),
}

impl Right {
    fn revoke_others(&self, fences: &mut Fences, hash: u64) {
        if !matches!(self, Self::Reader(_)) {
            fences.void(stripe(hash));
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
        let mut garbage = Vec::new();
        let result = loop {
            let mut _old = None;
            let now = self.clock.coarse();
            let mut shard = self.shard(hash);
            let mut index = shard.find(hash, key);
            if index.is_some_and(|index| self.is_over(&shard, index, now)) {
                shard.counts.expired += 1;
                garbage.extend(index.take().and_then(|index| self.take(&mut shard, index)));
            }
            let held = index.and_then(|index| shard.held(index));
            let (change, result) = decide(held.map(|held| &held.value));
            let (value, hard) = match change {
                Change::Put(value, hard) => (value, hard),
                Change::Keep => break result,
                Change::Remove => {
                    garbage.extend(index.and_then(|index| self.take(&mut shard, index)));
                    break result;
                }
            };
            let weight = self.weigh.of(key, &value);
            if weight > self.budget.capacity() {
                shard.counts.rejected += 1;
                garbage.extend(index.and_then(|index| self.take(&mut shard, index)));
                break result;
            }
            let life = Life::new(hard, hard);
            match self.place(&mut shard, index, hash, weight, life, (key.clone(), value)) {
                Ok(old) => {
                    _old = old;
                    break result;
                }
                Err(_) => self.make_room(shard, hash, index, &mut garbage),
            }
        };
        self.pay(&mut garbage);
        result
    }

    fn is_over(&self, shard: &Shard<K, T>, index: u32, now: Timestamp) -> bool {
        shard.held(index).is_some_and(|held| has_come(&self.clock, now, held.life.hard))
    }
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// What `read` makes of an entry before its hard expiry; `None` from it counts as a miss.
    fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&T, &Life, Timestamp) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (hash, now) = (self.hash(key), self.clock.coarse());
        // Declared before the guard, so dropped after it.
        let _gone;
        let mut shard = self.shard(hash);
        let Some(index) = shard.find(hash, key) else {
            shard.counts.misses += 1;
            return None;
        };
        let held = shard.held(index)?;
        if has_come(&self.clock, now, held.life.hard) {
            shard.counts.expired += 1;
            shard.counts.misses += 1;
            _gone = self.take(&mut shard, index);
            return None;
        }
        let result = read(&held.value, &held.life, now);
        if result.is_some() {
            shard.counts.hits += 1;
            shard.touch(index);
        } else {
            shard.counts.misses += 1;
        }
        result
    }

    /// Stores if `right` still stands. The right is looked at, and others are revoked, in the same step as
    /// the value changes.
    pub(crate) fn store(&self, key: K, value: T, life: Life, right: Right) -> Commit {
        let (hash, weight) = (self.hash(&key), self.weigh.of(&key, &value));
        // All three are dropped after the guard.
        let mut entry = (key, value);
        let mut garbage = Vec::new();
        let mut _old = None;
        loop {
            let now = self.clock.coarse();
            let mut shard = self.shard(hash);
            let index = shard.find(hash, &entry.0);
            if !self.allows(&shard, hash, &right) {
                shard.counts.revoked += 1;
                return Commit::Revoked;
            }
            let heavy = weight > self.budget.capacity();
            if heavy || has_come(&self.clock, now, life.hard) {
                shard.counts.rejected += u64::from(heavy);
                right.revoke_others(&mut shard.fences, hash);
                garbage.extend(index.and_then(|index| self.take(&mut shard, index)));
                return Commit::Rejected;
            }
            match self.place(&mut shard, index, hash, weight, life, entry) {
                Ok(old) => {
                    right.revoke_others(&mut shard.fences, hash);
                    _old = old;
                    break;
                }
                Err(back) => entry = back,
            }
            self.make_room(shard, hash, index, &mut garbage);
        }
        self.pay(&mut garbage);
        Commit::Stored
    }

    /// Publishes an entry if its weight can be reserved; hands it back if not. What it replaces, or the key
    /// it did not need, is handed out to be dropped.
    fn place(
        &self,
        shard: &mut Shard<K, T>,
        index: Option<u32>,
        hash: u64,
        weight: u64,
        life: Life,
        (key, value): (K, T),
    ) -> Result<Option<(K, T)>, (K, T)> {
        if let Some(index) = index {
            let before = shard.held(index).map_or(0, |held| held.weight);
            if !self.budget.exchange(before, weight) {
                return Err((key, value));
            }
            return Ok(shard.replace(index, value, life, weight).map(|old| (key, old)));
        }
        if shard.is_full() || !self.budget.exchange(0, weight) {
            return Err((key, value));
        }
        shard.add(Held { key, value, life, weight, hash });
        Ok(None)
    }

    /// Takes one entry out, never the one to be `replaced`: it may hold the right to replace it. One of this
    /// shard if it holds its part of the weight, else one of another. Never waits for a lock while it holds
    /// one.
    fn make_room(
        &self,
        mut shard: MutexGuard<'_, Shard<K, T>>,
        hash: u64,
        replaced: Option<u32>,
        garbage: &mut Vec<Held<K, T>>,
    ) {
        let part = self.budget.used() / self.shards.len() as u64;
        let has_others = shard.len() > usize::from(replaced.is_some());
        if has_others && (shard.weight() >= part || shard.is_full()) {
            return garbage.extend(self.evict(&mut shard, replaced));
        }
        drop(shard);
        let start = self.evict_at.fetch_add(1, Ordering::Relaxed);
        for least in [part.max(1), 1] {
            for step in 0..self.shards.len() {
                let at = start.wrapping_add(step) & (self.shards.len() - 1);
                if at == self.shard_index(hash) {
                    continue;
                }
                let mut other = self.nth(at).lock();
                if other.weight() >= least {
                    return garbage.extend(self.evict(&mut other, None));
                }
            }
        }
        // What was there has just left by other hands: the next try finds room, or this shard has its part.
        std::thread::yield_now();
    }

    fn evict(&self, shard: &mut Shard<K, T>, spared: Option<u32>) -> Option<Held<K, T>> {
        let held = shard.evict(self.clock.coarse(), spared)?;
        self.budget.release(held.weight);
        Some(held)
    }

    fn take(&self, shard: &mut Shard<K, T>, index: u32) -> Option<Held<K, T>> {
        let held = shard.take(index)?;
        self.budget.release(held.weight);
        Some(held)
    }

    /// A write's part in collecting expired entries: a bounded walk every few writes, shard after shard.
    fn pay(&self, garbage: &mut Vec<Held<K, T>>) {
        if self.writes.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY != 0 {
            return;
        }
        let (now, mut steps) = (self.clock.coarse(), SWEEP_STEPS);
        for _ in 0..self.shards.len() {
            let at = self.sweep_at.load(Ordering::Relaxed);
            let mut shard = self.nth(at).lock();
            let collected = garbage.len();
            let done = shard.sweep(now, &mut steps, garbage);
            let weight = garbage[collected..].iter().map(|held| held.weight).sum();
            self.budget.release(weight);
            if !done {
                break;
            }
            self.sweep_at.store(at.wrapping_add(1), Ordering::Relaxed);
        }
    }

    fn allows(&self, shard: &Shard<K, T>, hash: u64, right: &Right) -> bool {
        let (Right::Reader(fence) | Right::Writer(fence)) = right else {
            return true;
        };
        let same_key = fence.slot() == self.fence_slot(hash);
        same_key && fence.generation() == shard.fences.generation(stripe(hash))
    }

    fn fence_slot(&self, hash: u64) -> usize {
        self.shard_index(hash) * STRIPES + stripe(hash)
    }

    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, T>> {
        self.nth(self.shard_index(hash)).lock()
    }

    /// Bits that the tables within a shard use least.
    fn shard_index(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    fn nth(&self, at: usize) -> &Lock<Shard<K, T>> {
        // The number of shards is a power of two.
        &self.shards[at & (self.shards.len() - 1)]
    }
}

/// Bits that choose neither the shard nor, in tables of usual size, the place within it.
fn stripe(hash: u64) -> usize {
    (hash >> 34) as usize % STRIPES
}

/// Every so many writes one walk over so many slots: four a write, so all slots are seen while a quarter as
/// many entries are written.
const SWEEP_EVERY: usize = 8;
const SWEEP_STEPS: usize = 32;

impl<K, T> fmt::Debug for Memory<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
