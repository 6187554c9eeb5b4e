//! The engine: a bounded concurrent map with expiry and fences.

use std::fmt;
use std::hash::Hash;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ahash::RandomState;
use cachalot_core::{Clock, Commit, Fence, Freshness, Timestamp};
use equivalent::Equivalent;

use crate::budget::Budget;
use crate::builder::{MemoryBuilder, Weigh};
use crate::life::{LIFE, Life, has_come};
use crate::once::Flights;
use crate::shard::{Fences, Gone, STRIPES, Shard};
use crate::slots::{Found as Held, Slot, WAYS};
use crate::stats::Stats;
use crate::sync::{Guard, Lock};

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
    /// Whether any entry ever had an end.
    any_timed: AtomicBool,
    /// What threads load by `get_or_insert_with`.
    pub(crate) flights: Flights<K, T>,
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
        let (each, entries) = (builder.weigh.each(), builder.entries_per_shard(shards));
        Self {
            shards: (0..shards).map(|_| Lock::new(Shard::new(each, entries))).collect(),
            budget: Budget::new(builder.capacity),
            weigh: builder.weigh,
            clock: builder.clock,
            hasher: RandomState::new(),
            evict_at: AtomicUsize::new(0),
            sweep_at: AtomicUsize::new(0),
            any_timed: AtomicBool::new(false),
            flights: Flights::new(),
        }
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.clock
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
            stats.hits += shard.hits;
            stats.misses += shard.misses;
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
            // Without an end there is no time, and no need for one.
            let fresh = at.is_none_or(|at| !life.invalidated && !has_come(&self.clock, at, life.soft));
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
            let at = at.unwrap_or_else(|| self.clock.coarse());
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
        let (gone, life);
        {
            let mut shard = self.shard(hash);
            let slot = shard.find(hash, key);
            shard.fences.void(stripe(hash));
            life = shard.life(slot?);
            gone = self.take(&mut shard, slot?);
        }
        let (key, value) = gone?;
        // Before the value is on its way out: the language forgets a return value if a local's `Drop` panics.
        drop(key);
        let over = !life.is_endless() && has_come(&self.clock, self.clock.coarse(), life.hard);
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
        let slot = shard.find(hash, key);
        shard.fences.void(stripe(hash));
        let Some(slot) = slot else { return false };
        let life = shard.life(slot);
        let lives = !has_come(&self.clock, now, life.hard);
        let life = Life { soft: life.soft.min(now), hard: life.hard.min(now + keep), invalidated: true };
        self.any_timed.store(true, Ordering::Relaxed);
        shard.set_life(slot, life, now);
        if has_come(&self.clock, now, life.hard) {
            shard.counts.expired += 1;
            _gone = self.take(&mut shard, slot);
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
        let mut garbage = Garbage::new();
        let mut due = false;
        let result = loop {
            let mut _old = None;
            let now = self.clock.coarse();
            let mut shard = self.shard(hash);
            let mut slot = shard.find(hash, key);
            if slot.is_some_and(|slot| has_come(&self.clock, now, shard.life(slot).hard)) {
                shard.counts.expired += 1;
                garbage.extend(slot.take().and_then(|slot| self.take(&mut shard, slot)));
            }
            let held = slot.and_then(|_| shard.look_up(hash, key));
            let (change, result) = decide(held.map(|held| held.value));
            let (value, hard) = match change {
                Change::Put(value, hard) => (value, hard),
                Change::Keep => break result,
                Change::Remove => {
                    garbage.extend(slot.and_then(|slot| self.take(&mut shard, slot)));
                    break result;
                }
            };
            let weight = self.weigh.of(key, &value);
            if weight > self.budget.capacity() {
                shard.counts.rejected += 1;
                garbage.extend(slot.and_then(|slot| self.take(&mut shard, slot)));
                break result;
            }
            let new = New { hash, weight, life: Life::new(hard, hard), now, entry: (key.clone(), value) };
            match self.place(&mut shard, slot, new, &mut garbage) {
                Ok(old) => {
                    _old = old;
                    due = is_due(&shard);
                    break result;
                }
                Err(_) => self.make_room(shard, hash, &mut garbage),
            }
        };
        if due {
            self.pay();
        }
        result
    }
}

impl<K: Hash + Eq, T> Memory<K, T> {
    /// What `read` makes of an entry before its hard expiry; `None` from it counts as a miss. It gets the time
    /// if the entry has an end.
    #[inline]
    fn read<Q, R>(&self, key: &Q, read: impl FnOnce(&T, &Life, Option<Timestamp>) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hash(key);
        // Declared before the guard, so dropped after it.
        let _gone;
        let mut shard = self.shard(hash);
        let Some(Held { slot, mark, value }) = shard.look_up(hash, key) else {
            shard.misses += 1;
            return None;
        };
        let result = if mark & LIFE == 0 {
            read(value, &Life::ENDLESS, None)
        } else {
            let (life, now) = (shard.life(slot), self.clock.coarse());
            if has_come(&self.clock, now, life.hard) {
                shard.counts.expired += 1;
                shard.misses += 1;
                _gone = self.take(&mut shard, slot);
                return None;
            }
            read(value, &life, Some(now))
        };
        if result.is_some() {
            shard.hits += 1;
            shard.touch(slot, mark);
        } else {
            shard.misses += 1;
        }
        result
    }

    /// Stores if `right` still stands. The right is looked at, and others are revoked, in the same step as
    /// the value changes.
    pub(crate) fn store(&self, key: K, value: T, life: Life, right: Right) -> Commit {
        // Without an end there is no need for the time.
        let now = if life.is_endless() { Timestamp::default() } else { self.clock.coarse() };
        self.store_at(now, key, value, life, right)
    }

    fn store_at(&self, mut now: Timestamp, key: K, value: T, life: Life, right: Right) -> Commit {
        let (hash, weight) = (self.hash(&key), self.weigh.of(&key, &value));
        // All three are dropped after the guard.
        let mut entry = (key, value);
        let mut garbage = Garbage::new();
        let mut _old = None;
        let due = loop {
            let mut shard = self.shard(hash);
            let slot = shard.find(hash, &entry.0);
            if !self.allows(&shard, hash, &right) {
                shard.counts.revoked += 1;
                return Commit::Revoked;
            }
            let heavy = weight > self.budget.capacity();
            if heavy || has_come(&self.clock, now, life.hard) {
                shard.counts.rejected += u64::from(heavy);
                right.revoke_others(&mut shard.fences, hash);
                garbage.extend(slot.and_then(|slot| self.take(&mut shard, slot)));
                return Commit::Rejected;
            }
            match self.place(&mut shard, slot, New { hash, weight, life, now, entry }, &mut garbage) {
                Ok(old) => {
                    right.revoke_others(&mut shard.fences, hash);
                    _old = old;
                    break is_due(&shard);
                }
                Err(back) => entry = back,
            }
            self.make_room(shard, hash, &mut garbage);
            if !life.is_endless() {
                now = self.clock.coarse();
            }
        };
        if due {
            self.pay();
        }
        Commit::Stored
    }

    /// Publishes an entry if its weight can be reserved, if need be at the cost of others in this shard; hands
    /// it back if another shard has to give. What it replaces, or the key it did not need, is handed out to be
    /// dropped.
    fn place(
        &self,
        shard: &mut Shard<K, T>,
        slot: Option<Slot>,
        new: New<K, T>,
        garbage: &mut Garbage<K, T>,
    ) -> Result<Option<(K, T)>, (K, T)> {
        let before = slot.map_or(0, |slot| shard.weight_of(slot));
        // What is held of the reservations: that of the replaced, and those of victims.
        let mut credit = before;
        while shard.is_full() && slot.is_none() || !self.budget.exchange(credit, new.weight) {
            let now = (!new.life.is_endless()).then_some(new.now);
            let victim = if self.has_its_part(shard, slot) { self.evict(shard, slot, now) } else { None };
            let Some(gone) = victim else {
                self.budget.release(credit - before);
                return Err(new.entry);
            };
            credit += gone.weight;
            garbage.extend(Some(gone.entry));
        }
        let New { hash, weight, life, now, entry } = new;
        if !life.is_endless() && !self.any_timed.load(Ordering::Relaxed) {
            self.any_timed.store(true, Ordering::Relaxed);
        }
        let Some(slot) = slot else {
            return shard.add(hash, weight, life, now, entry).map(|()| None);
        };
        let (key, value) = entry;
        Ok(shard.replace(slot, weight, life, now, value).map(|old| (key, old)))
    }

    /// Whether a shard is the one to give: it has something besides the slot to be `replaced`, which may hold
    /// the right to replace it, and no less than its part of the weight.
    fn has_its_part(&self, shard: &Shard<K, T>, replaced: Option<Slot>) -> bool {
        let has_others = shard.len() > usize::from(replaced.is_some());
        has_others && (shard.weight() >= self.part() || shard.is_full())
    }

    /// A shard's part of the weight.
    fn part(&self) -> u64 {
        // The number of shards is a power of two.
        self.budget.used() >> self.shards.len().trailing_zeros()
    }

    /// Takes one entry out of another shard than that of `hash`. Never waits for a lock while it holds one.
    fn make_room(&self, shard: Guard<'_, Shard<K, T>>, hash: u64, garbage: &mut Garbage<K, T>) {
        drop(shard);
        let part = self.part();
        let start = self.evict_at.fetch_add(1, Ordering::Relaxed);
        for least in [part.max(1), 1] {
            for step in 0..self.shards.len() {
                let at = start.wrapping_add(step) & (self.shards.len() - 1);
                if at == self.shard_index(hash) {
                    continue;
                }
                let mut other = self.nth(at).lock();
                if other.weight() >= least {
                    let Some(gone) = self.evict(&mut other, None, None) else {
                        return;
                    };
                    self.budget.release(gone.weight);
                    return garbage.extend(Some(gone.entry));
                }
            }
        }
        // What was there has just left by other hands: the next try finds room, or this shard has its part.
        std::thread::yield_now();
    }

    /// The weight stays reserved. `now`: the time, if it is known.
    fn evict(
        &self,
        shard: &mut Shard<K, T>,
        spared: Option<Slot>,
        now: Option<Timestamp>,
    ) -> Option<Gone<K, T>> {
        shard.evict(|| now.unwrap_or_else(|| self.clock.coarse()), spared)
    }

    fn take(&self, shard: &mut Shard<K, T>, slot: Slot) -> Option<(K, T)> {
        let gone = shard.take(slot)?;
        self.budget.release(gone.weight);
        Some(gone.entry)
    }

    /// A write's part in collecting expired entries: a bounded walk every few writes, shard after shard.
    #[cold]
    fn pay(&self) {
        if !self.any_timed.load(Ordering::Relaxed) {
            return;
        }
        let (now, mut steps) = (self.clock.coarse(), SWEEP_STEPS);
        // Dropped after the guard.
        let mut garbage = Vec::new();
        for _ in 0..self.shards.len() {
            let at = self.sweep_at.load(Ordering::Relaxed);
            let mut shard = self.nth(at).lock();
            let collected = garbage.len();
            let done = shard.sweep(now, &mut steps, &mut garbage);
            let weight = garbage[collected..].iter().map(|gone| gone.weight).sum();
            self.budget.release(weight);
            if done {
                self.sweep_at.store(at.wrapping_add(1), Ordering::Relaxed);
            }
            if steps == 0 {
                break;
            }
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

    #[inline]
    fn shard(&self, hash: u64) -> Guard<'_, Shard<K, T>> {
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

/// An entry to be published, and the time if it has an end.
struct New<K, T> {
    hash: u64,
    weight: u64,
    life: Life,
    now: Timestamp,
    entry: (K, T),
}

/// What is to be dropped after all locks are released. The first one needs no allocation.
struct Garbage<K, T> {
    first: Option<(K, T)>,
    more: Vec<(K, T)>,
}

impl<K, T> Garbage<K, T> {
    fn new() -> Self {
        Self { first: None, more: Vec::new() }
    }

    fn extend(&mut self, entry: Option<(K, T)>) {
        if self.first.is_none() {
            self.first = entry;
        } else {
            self.more.extend(entry);
        }
    }
}

/// Bits that choose neither the shard nor the place within it.
fn stripe(hash: u64) -> usize {
    (hash >> 34) as usize % STRIPES
}

/// Whether a write to this shard is one that pays.
fn is_due<K, T>(shard: &Shard<K, T>) -> bool {
    shard.counts.inserts % SWEEP_EVERY == 0
}

/// Every so many writes one walk over so many cells: eight a write, so all cells are seen while a seventh as
/// many entries are written.
const SWEEP_EVERY: u64 = 8;
const SWEEP_STEPS: usize = 4 * WAYS;

impl<K, T> fmt::Debug for Memory<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory")
            .field("weight", &self.weight())
            .field("capacity", &self.capacity())
            .field("shards", &self.shards.len())
            .finish_non_exhaustive()
    }
}
