//! The engine: a bounded concurrent map with expiry and fences.

use std::fmt;
use std::hash::Hash;
use std::sync::Mutex;
use std::time::Duration;

use ahash::RandomState;
use cachalot_core::{Clock, Commit, Fence, Freshness, Timestamp};
use equivalent::Equivalent;

use crate::budget::Budget;
use crate::builder::{MemoryBuilder, Weigh};
use crate::curve::{Curve, CurveSampler};
use crate::life::{Life, has_come};
use crate::listener::{Cause, Garbage, Gone, Listener, tell_each};
use crate::once::Flights;
use crate::policy::Slot;
use crate::read::{ENDLESS, Standing};
use crate::readers::Readers;
use crate::shard::{Around, STRIPES_MAX, Shard, Writing};
use crate::stats::Stats;
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::tuner::Tuner;
use crate::write::Right;

/// A bounded concurrent cache: values `T` under keys `K`, each with its own times.
///
/// - **Bound**: the weights of all entries never exceed the capacity, at no moment and under any storm of
///   writes. The rarely read leave first.
/// - **Time**: an entry is *fresh* until its soft expiry, *stale* until its hard one, then gone: never
///   served, and collected by later writes of any key, each of which does a bounded part of it. There is no
///   thread; [`reap`](Memory::reap) is for one's own.
/// - **Fences**: [`begin`](Memory::begin) grants the right to store before a load, and every removal or
///   insert of that key revokes it, so a slow load never brings an old value back.
///
/// Look-ups take any form of the key that hashes alike: `&str` for `String`. A hit allocates nothing.
///
/// # Panics
/// None of its own. If `Hash`, `Eq`, `Clone` or `Drop` of a key or value, the weigher, the listener or a closure
/// panics, the panic goes to the caller and the memory stays usable: what was stored before stays stored, and the
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
    shards: Box<[Shard<K, T>]>,
    hasher: RandomState,
    pub(crate) clock: Clock,
    pub(crate) readers: Readers,
    pub(crate) tuner: Tuner,
    pub(crate) budget: Budget,
    pub(crate) weigh: Weigh<K, T>,
    pub(crate) listener: Option<Box<Listener<K, T>>>,
    pub(crate) hands: Hands,
    /// Whether any entry ever had an end.
    pub(crate) any_timed: AtomicBool,
    /// What threads load by `get_or_insert_with`.
    pub(crate) flights: Flights<K, T>,
    pub(crate) curve: Option<CurveSampler>,
    /// Held by the one who changes the capacity.
    pub(crate) resizing: Mutex<()>,
}

/// Where writers go on; apart from what readers look at.
#[derive(Default)]
#[repr(align(128))]
pub(crate) struct Hands {
    /// Where the next eviction beyond the own shard looks first.
    pub(crate) evict_at: AtomicUsize,
    /// The shard in which expired entries are being collected.
    pub(crate) sweep_at: AtomicUsize,
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
        let (each, entries) =
            (builder.weigh.each(), builder.weigh.entries_per_shard(builder.capacity, shards));
        Self {
            shards: (0..shards).map(|_| Shard::new(each, entries)).collect(),
            hasher: builder.hasher(),
            curve: builder.curve.then(|| CurveSampler::new(builder.usual_entries())),
            clock: builder.clock,
            readers: Readers::new(),
            tuner: Tuner::new(),
            budget: Budget::new(builder.capacity),
            weigh: builder.weigh,
            listener: builder.listener,
            hands: Hands::default(),
            any_timed: AtomicBool::new(false),
            flights: Flights::new(),
            resizing: Mutex::new(()),
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
        self.each_shard().map(|shard| shard.len()).sum()
    }

    /// Whether it holds nothing. As [`Memory::len`].
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures for people and metrics. Takes each shard's lock in turn.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats { capacity: self.capacity(), ..Stats::default() };
        (stats.hits, stats.misses) = self.readers.counts();
        for shard in self.each_shard() {
            let counts = shard.counts();
            stats.entries += shard.len() as u64;
            stats.weight += shard.weight();
            stats.inserts += counts.inserts;
            stats.evicted += counts.evicted;
            stats.expired += counts.expired;
            stats.rejected += counts.rejected;
            stats.revoked += counts.revoked;
            stats.removed += counts.removed;
            stats.replaced += counts.replaced;
        }
        stats
    }

    /// What the hit ratio would be at other capacities, estimated from a sample of all reads since the memory
    /// was built. `None` unless [`MemoryBuilder::miss_ratio_curve`] asked for it.
    ///
    /// The curve is that of an LRU with as many entries: the policy here is at least as good on most traffic,
    /// so it tells better what more room would bring than what the hit ratio is. Entries are taken to weigh
    /// what those held now weigh in the mean. After a [`resize`](Memory::resize) far enough the next call
    /// still tells of the old sample, and begins a new one.
    ///
    /// Takes each shard's lock in turn, and allocates 64 KiB.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(20_000).miss_ratio_curve(true).build()?;
    /// for read in 0..400_000 {
    ///     let key = read % 50_000;
    ///     if memory.get(&key).is_none() {
    ///         memory.insert(key, key);
    ///     }
    /// }
    /// let curve = memory.miss_ratio_curve().expect("it is on");
    /// assert!(curve.hit_ratio_at(1.0) < 0.05, "an LRU has nothing of a longer loop");
    /// assert!(curve.hit_ratio_at(4.0) > 0.8, "but all of it at four times the capacity");
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn miss_ratio_curve(&self) -> Option<Curve> {
        let sampler = self.curve.as_ref()?;
        let stats = self.stats();
        let mean = stats.weight.checked_div(stats.entries).unwrap_or(0).max(1);
        let entries = self.weigh.entries(stats.capacity).unwrap_or(stats.capacity / mean);
        Some(sampler.curve(stats.hits + stats.misses, entries))
    }

    /// Drops everything and revokes every fence. What others insert meanwhile may stay.
    pub fn clear(&self) {
        let mut tables = Vec::with_capacity(self.shards.len());
        for mut shard in self.each_shard() {
            let weight = shard.weight();
            shard.fences().void_all();
            tables.push(shard.take_all());
            self.budget.release(weight);
        }
        if let Some(listener) = self.listener.as_deref() {
            tell_each(listener, Cause::Cleared, |tell| {
                tables.into_iter().for_each(|mut table| table.drain(&mut *tell));
            });
        }
    }

    /// Revokes every fence. What is held stays.
    pub fn void_all(&self) {
        for mut shard in self.each_shard() {
            shard.fences().void_all();
        }
    }

    /// The shards, one after the other, each for its writer.
    pub(crate) fn each_shard(&self) -> impl Iterator<Item = Writing<'_, K, T>> {
        (0..self.shards.len()).map(|at| self.write(at))
    }

    /// A shard, for its writer. Never asked for by one who has another.
    #[inline]
    pub(crate) fn write(&self, at: usize) -> Writing<'_, K, T> {
        // Readers know it by its true number.
        let number = at & (self.shards.len() - 1);
        self.nth(at).write(Around { readers: &self.readers, hasher: &self.hasher, number })
    }

    #[inline]
    pub(crate) fn nth(&self, at: usize) -> &Shard<K, T> {
        // The number of shards is a power of two.
        &self.shards[at & (self.shards.len() - 1)]
    }

    pub(crate) fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Bits that the tables within a shard use least.
    #[inline]
    pub(crate) fn shard_index(&self, hash: u64) -> usize {
        (hash >> 40) as usize & (self.shards.len() - 1)
    }

    pub(crate) fn fence_slot(&self, shard: &mut Writing<'_, K, T>, hash: u64) -> usize {
        self.shard_index(hash) * STRIPES_MAX + shard.fences().stripe(hash)
    }

    #[inline]
    pub(crate) fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// The generations of all stripes at one moment, shard by shard.
pub struct Mark(Box<[Box<[u64]>]>);

impl<K: Hash + Eq, T> Memory<K, T> {
    /// A copy of the fresh value under `key`.
    #[inline]
    pub fn get<Q>(&self, key: &Q) -> Option<T>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        T: Clone,
    {
        self.get_with(key, T::clone)
    }

    /// What `read` makes of the fresh value under `key`, without a copy. `read` runs under the lock of a few
    /// entries, or while those who change them wait: it must be quick, and it must not use this memory, or it
    /// may wait for itself.
    #[inline]
    pub fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(&T) -> R) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.read(key, |value, standing| (standing.freshness == Freshness::Fresh).then(|| read(value)))
    }

    /// A copy of the value under `key`, fresh or not, unless it is past its hard expiry.
    #[inline]
    pub fn find<Q>(&self, key: &Q) -> Option<Found<T>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
        T: Clone,
    {
        // Besides the value: what is small goes through the read in registers.
        let mut stands = ENDLESS;
        let value = self.read(key, |value, standing| {
            stands = standing;
            Some(value.clone())
        })?;
        let Standing { freshness, stale_for, at } = stands;
        Some(Found { value, freshness, stale_for, at: at.unwrap_or_else(|| self.clock.coarse()) })
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
        let now = self.clock.now();
        let end = now + ttl;
        self.store_at(now, key, value, Life::new(end, end), Right::Always) == Commit::Stored
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
        let gone = {
            let mut shard = self.shard(hash);
            let slot = shard.find(hash, key);
            shard.fences().void(hash);
            let cause = if self.is_over(shard.life(slot?)) { Cause::Expired } else { Cause::Removed };
            self.take(&mut shard, slot?, hash, cause)?
        };
        let (key, value) = gone.entry;
        if let Some(listener) = &self.listener {
            listener(&key, &value, gone.cause);
        }
        // Before the value is on its way out: the language forgets a return value if a local's `Drop` panics.
        drop(key);
        (gone.cause == Cause::Removed).then_some(value)
    }

    /// Keeps what is held under `key` for at most `keep` more, as [`Freshness::Invalidated`], and revokes
    /// the fences of `key`. Whether there was anything before its hard expiry.
    pub fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let (hash, now) = (self.hash(key), self.clock.now());
        let mut garbage = self.garbage();
        let mut shard = self.shard(hash);
        let slot = shard.find(hash, key);
        shard.fences().void(hash);
        let Some(slot) = slot else { return false };
        let life = shard.life(slot);
        let lives = !has_come(&self.clock, now, life.hard);
        let life = Life { soft: life.soft.min(now), hard: life.hard.min(now + keep), invalidated: true };
        self.any_timed.store(true, Ordering::Relaxed);
        shard.set_life(slot, life, now);
        if has_come(&self.clock, now, life.hard) {
            self.discard(&mut shard, slot, hash, Cause::Expired, &mut garbage);
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
        let mut shard = self.shard(hash);
        let generation = shard.fences().generation(hash);
        Fence::new(self.fence_slot(&mut shard, hash), generation)
    }

    /// All fences as they stand now, shard by shard: at most 32 KiB each.
    pub(crate) fn mark_fences(&self) -> Mark {
        Mark((0..self.shard_count()).map(|at| self.write(at).fences().generations()).collect())
    }

    /// What [`begin`](Memory::begin) would have granted at the mark.
    pub(crate) fn marked_fence(&self, mark: &Mark, key: &K) -> Fence {
        let hash = self.hash(key);
        let at = self.shard_index(hash);
        let mut shard = self.write(at);
        let slot = self.fence_slot(&mut shard, hash);
        match mark.0.get(at).and_then(|marked| shard.fences().marked(marked, hash)) {
            Some(generation) => Fence::new(slot, generation),
            // There are more stripes now, and all rights of then are gone.
            None => Fence::new(usize::MAX, 0),
        }
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
        self.shard(hash).fences().void(hash);
    }
}

impl<K, T> Memory<K, T> {
    /// The shard of a hash, for its writer.
    fn shard(&self, hash: u64) -> Writing<'_, K, T> {
        self.write(self.shard_index(hash))
    }

    /// Takes an entry out and releases its weight.
    fn take(&self, shard: &mut Writing<'_, K, T>, slot: Slot, hash: u64, cause: Cause) -> Option<Gone<K, T>> {
        let gone = shard.take(slot, hash, cause)?;
        self.budget.release(gone.weight);
        Some(gone)
    }

    /// Takes an entry out, to be told of and dropped.
    pub(crate) fn discard(
        &self,
        shard: &mut Writing<'_, K, T>,
        slot: Slot,
        hash: u64,
        cause: Cause,
        garbage: &mut Garbage<'_, K, T>,
    ) {
        if let Some(gone) = self.take(shard, slot, hash, cause) {
            garbage.put(gone);
        }
    }

    /// What leaves goes here, declared before the guard.
    #[inline]
    pub(crate) fn garbage(&self) -> Garbage<'_, K, T> {
        Garbage::new(self.listener.as_deref())
    }

    /// Whether a life has come to its end. Without an end there is no need for the time.
    pub(crate) fn is_over(&self, life: Life) -> bool {
        !life.is_endless() && has_come(&self.clock, self.clock.coarse(), life.hard)
    }
}

impl<K, T> fmt::Debug for Memory<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
