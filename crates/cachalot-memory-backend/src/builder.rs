//! How to build a memory.

use std::fmt;
use std::hash::Hash;
use std::mem::size_of;

use ahash::RandomState;
use cachalot_core::{Clock, Error, ErrorKind, Result};

use crate::Memory;
use crate::listener::{Cause, Listener};
use crate::policy::mix;
use crate::sync::new_hasher;

/// How a [`Memory`] is to be, made by [`Memory::weight_limit`] or [`Memory::entries`].
#[must_use = "nothing exists before `build`"]
pub struct MemoryBuilder<K, T> {
    pub(crate) capacity: u64,
    pub(crate) weigh: Weigh<K, T>,
    pub(crate) clock: Clock,
    pub(crate) shards: Option<usize>,
    pub(crate) listener: Option<Box<Listener<K, T>>>,
    pub(crate) curve: bool,
    pub(crate) hash_seed: Option<u64>,
}

/// What an entry weighs.
pub(crate) enum Weigh<K, T> {
    /// The sizes of key, value and slot, and of so much `behind` the value.
    Shallow {
        behind: u64,
    },
    /// The same for all.
    Each(u64),
    By(Box<Weigher<K, T>>),
}

type Weigher<K, T> = dyn Fn(&K, &T) -> u64 + Send + Sync;

impl<K, T> MemoryBuilder<K, T> {
    pub(crate) fn new(capacity: u64, weigh: Weigh<K, T>) -> Self {
        let clock = Clock::system();
        Self { capacity, weigh, clock, shards: None, listener: None, curve: false, hash_seed: None }
    }

    /// Weighs each entry by `weigh`, once, when it is stored. Any `u64` will do: zero counts as 1, so that
    /// the number of entries is bounded too, and an entry above the capacity is not held. Called without a
    /// lock held; a panic leaves the memory as it was.
    ///
    /// Default: 1 under [`Memory::entries`], the shallow size under [`Memory::weight_limit`].
    pub fn weigher(mut self, weigh: impl Fn(&K, &T) -> u64 + Send + Sync + 'static) -> Self {
        self.weigh = Weigh::By(Box::new(weigh));
        self
    }

    /// Tells the time by `clock`. Default: [`Clock::system`]. As the L1 of a cache the memory takes the
    /// cache's clock instead.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// The number of shards, rounded up to a power of two. More let more threads in at once, and each then
    /// sees a smaller part of the traffic to evict by. Default: 64, or four per core if that is more, and
    /// fewer if a shard would hold less than about 512 entries. The bound is on the sum of all shards in any
    /// case. Chosen for good: [`Memory::resize`] does not change it.
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = Some(shards);
        self
    }

    /// Tells `listener` of each value that leaves, and why: once, after the operation has taken effect and all
    /// locks are released, on the thread of that operation. So it may use the memory, and it takes its
    /// caller's time. Default: none, at no cost.
    ///
    /// Also told are values that never came in, for their weight ([`Cause::Rejected`]) or because their time
    /// was over ([`Cause::Expired`]); not told is a commit whose right had been revoked, nor what is held
    /// when the memory itself is dropped. Different threads' values may be told in another order than they
    /// left in.
    ///
    /// If it panics, the operation has taken effect all the same, everything else that left is told of and
    /// dropped, and then the (first) panic goes to the caller.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU64, Ordering};
    /// use cachalot_memory_backend::{Cause, Memory};
    ///
    /// let evicted = Arc::new(AtomicU64::new(0));
    /// let count = evicted.clone();
    /// let memory: Memory<u64, String> = Memory::entries(2)
    ///     .listener(move |_key, _value, cause| {
    ///         if cause == Cause::Evicted {
    ///             count.fetch_add(1, Ordering::Relaxed);
    ///         }
    ///     })
    ///     .build()?;
    /// (0..5).for_each(|key| assert!(memory.insert(key, "value".to_owned())));
    /// assert_eq!(evicted.load(Ordering::Relaxed), 3);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn listener(mut self, listener: impl Fn(&K, &T, Cause) + Send + Sync + 'static) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }

    /// Whether to watch a sample of the reads for [`Memory::miss_ratio_curve`]. Off by default, and then a
    /// read costs one branch more. On: 1 read in 100 is taken in at about 30 ns, fewer in a memory of more
    /// than 80,000 entries; and about 300 KiB.
    pub fn miss_ratio_curve(mut self, on: bool) -> Self {
        self.curve = on;
        self
    }

    /// Hashes keys by `seed`, so that the same calls in the same order evict the same entries: for simulations
    /// and tests. Who knows the seed can choose keys that slow the memory down. Default: a random one.
    pub fn hash_seed(mut self, seed: u64) -> Self {
        self.hash_seed = Some(seed);
        self
    }

    /// Builds the memory. Allocates little: it grows with what it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for a capacity of zero, or a number of shards of zero or above 65,536.
    pub fn build(self) -> Result<Memory<K, T>>
    where
        K: Hash + Eq,
    {
        if self.capacity == 0 {
            return Err(unfit("building a memory", "a memory of capacity 0 holds nothing"));
        }
        if !(1..=MAX_SHARDS).contains(&self.shard_count()) {
            return Err(unfit("building a memory", "a memory has 1 to 65,536 shards"));
        }
        Ok(Memory::open_with(self))
    }

    /// Not yet rounded.
    pub(crate) fn shard_count(&self) -> usize {
        self.shards.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(4, usize::from);
            let filled = self.capacity / (ENTRIES_PER_SHARD * self.usual_weight());
            // Rounding up must not halve what a shard holds.
            let filled = usize::try_from(filled / 2 + 1).unwrap_or(MAX_SHARDS);
            (4 * cores).max(USUAL_SHARDS).min(filled).min(MAX_SHARDS)
        })
    }

    pub(crate) fn hasher(&self) -> RandomState {
        let seeded = |seed| RandomState::with_seeds(seed, mix(seed), mix(!seed), mix(seed.rotate_left(32)));
        self.hash_seed.map_or_else(new_hasher, seeded)
    }

    /// About how many entries it will hold.
    pub(crate) fn usual_entries(&self) -> u64 {
        self.capacity / self.usual_weight()
    }

    /// A guess for a custom weigher: below most weights in bytes, above most others.
    fn usual_weight(&self) -> u64 {
        match self.weigh {
            Weigh::Shallow { behind } => shallow::<K, T>() + behind,
            Weigh::Each(weight) => weight.max(1),
            Weigh::By(_) => 64,
        }
    }
}

impl<K, T> Weigh<K, T> {
    #[inline]
    pub(crate) fn of(&self, key: &K, value: &T) -> u64 {
        match self {
            Self::By(weigh) => weigh(key, value).max(1),
            _ => self.each().unwrap_or(1),
        }
    }

    /// How many entries each of so many shards is to hold, if that is known.
    pub(crate) fn entries_per_shard(&self, capacity: u64, shards: usize) -> Option<usize> {
        let entries = self.entries(capacity)?;
        // Not one more than there is room for: then small memories would have nobody on trial.
        usize::try_from(entries.div_ceil(shards as u64).max(1)).ok()
    }

    /// How many entries fit, if that is known.
    pub(crate) fn entries(&self, capacity: u64) -> Option<u64> {
        Some(capacity / self.each()?.max(1))
    }

    /// What every entry weighs, if that is known.
    #[inline]
    pub(crate) fn each(&self) -> Option<u64> {
        match self {
            Self::Shallow { behind } => Some(shallow::<K, T>() + behind),
            Self::Each(weight) => Some(*weight),
            Self::By(_) => None,
        }
    }
}

/// The size of a key, a value and the slot around them.
const fn shallow<K, T>() -> u64 {
    (size_of::<K>() + size_of::<T>() + SLOT_OVERHEAD) as u64
}

const MAX_SHARDS: usize = 1 << 16;

const USUAL_SHARDS: usize = 64;

const ENTRIES_PER_SHARD: u64 = 512;

/// Bytes per entry besides key and value, on the safe side: tag, mark, trace and ghost (13), times (up to 8),
/// a weight (8, if weighed), a fifth of all that and of the entry for spare cells, and what the allocator adds
/// behind values; a table that grows is there twice for a moment.
const SLOT_OVERHEAD: usize = 96;

pub(crate) fn unfit(what: &'static str, why: &'static str) -> Error {
    Error::new(ErrorKind::Config, what).detail(why)
}

impl<K, T> fmt::Debug for MemoryBuilder<K, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBuilder")
            .field("capacity", &self.capacity)
            .field("clock", &self.clock)
            .field("shards", &self.shards)
            .finish_non_exhaustive()
    }
}
