//! The typed tier: shared handles to values in this process.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use equivalent::Equivalent;

use crate::{Clock, Entry, Freshness, Result, Timestamp};

/// A typed in-process tier. Synchronous: a hit is a hash, a shard and a handle clone.
///
/// # The fence
///
/// The right to store is granted before the load and can be revoked. [`begin`](Store::begin) grants it;
/// [`commit`](Store::commit) stores only if nothing revoked it meanwhile; every
/// [`invalidate`](Store::invalidate), [`expire`](Store::expire), [`clear`](Store::clear) and
/// [`void_all`](Store::void_all) revokes it, also for keys that are not stored. Check and insert are one
/// step under the lock that invalidations take. A store may revoke more than asked (a fence may guard many
/// keys), never less.
pub trait Store<K, V>: Send + Sync + Sized + 'static {
    /// How to build one.
    type Config: Send;

    /// Builds the store over `clock`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) if the configuration contradicts itself.
    fn open(config: Self::Config, clock: Clock) -> Result<Self>;

    /// What is held under `key`, unless it is past its hard expiry.
    fn get<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized;

    /// What `read` makes of what is held under `key`, unless it is past its hard expiry. For who looks at an entry before
    /// taking a handle of it, or takes none. If `read` gives none it counts as a hit or as a miss, as the store likes.
    ///
    /// `read` may run under a lock: it must be quick, and not use this store. Default: by [`get`](Store::get).
    fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(Glimpse<'_, V>) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let Hit { entry, freshness, stale_for, at } = self.get(key)?;
        read(Glimpse { entry: &entry, freshness, stale_for, at: Some(at) })
    }

    /// Grants the right to store under `key`. Take it before the first read of any lower tier.
    fn begin(&self, key: &K) -> Fence;

    /// Stores `entry` under `key`, the one `fence` was granted for, until its hard expiry, if nothing
    /// revoked the fence since it began.
    fn commit(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit;

    /// As [`commit`](Store::commit), and revokes every other fence of `key` in the same step: for a writer,
    /// whose entry is newer than whatever a reader is about to store. That holds also for an entry that is
    /// [`Rejected`](Commit::Rejected): an older load must not fill the gap it leaves. If its own fence was
    /// revoked ([`Commit::Revoked`]), nothing else is.
    fn commit_write(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit;

    /// Drops what is held under `key` and revokes the fences of it.
    fn invalidate<Q>(&self, key: &Q) -> Option<Arc<Entry<V>>>
    where
        Q: Hash + Equivalent<K> + ?Sized;

    /// Keeps what is held under `key` for at most `keep` more, as [`Freshness::Invalidated`], and revokes
    /// the fences of it. Whether there was anything.
    fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized;

    /// A bounded part of [invalidating](Store::invalidate) every entry that `test` is true of. Begin at
    /// [`StoreCursor::START`] and go on with what each call gives until it gives none. An entry that is held
    /// throughout is gone then; one that comes meanwhile, perhaps. Allow some microseconds for a part, `test`
    /// not counted: whoever has long to walk lets others run between two.
    ///
    /// Revokes every fence on its way, also of keys that `test` is false of: a load may be in flight for a key
    /// that is not held, and nobody can ask `test` about it. So nothing whose load began before the first part
    /// is stored after the last.
    ///
    /// `test` may run under a lock: it must be quick, and not use this store.
    fn invalidate_if(
        &self,
        from: StoreCursor,
        test: impl FnMut(&K, &Entry<V>) -> bool,
    ) -> Option<StoreCursor>;

    /// Revokes every fence. What is held stays.
    fn void_all(&self);

    /// Drops everything and revokes every fence.
    fn clear(&self);

    /// Figures for people and metrics. May lag behind by the operations in progress.
    fn stats(&self) -> StoreStats;
}

/// A [`Store`] whose entries can be written down and put back: what a snapshot needs.
pub trait SnapshotStore<K, V>: Store<K, V> {
    /// A moment, with the fences as they stood then.
    type Mark: Send + Sync;

    /// A bounded part of seeing every entry. Begin at [`StoreCursor::START`] and go on with what each call gives until
    /// it gives none. An entry that is held throughout is seen once; one that comes or moves meanwhile, perhaps, or
    /// twice. Entries past their hard expiry are not. Removes nothing and revokes nothing. It is no read either: the
    /// policy and the figures take no notice.
    ///
    /// `see` is told what the entry is good for, and may run under a lock: it must be quick, and not use this store.
    fn see(&self, from: StoreCursor, see: impl FnMut(&K, &Arc<Entry<V>>, Freshness)) -> Option<StoreCursor>;

    /// Marks this moment.
    fn mark(&self) -> Self::Mark;

    /// Stores `entry` under `key` if nothing is held there, under the fence that [`begin`](Store::begin) would have given
    /// at `mark`: what has revoked fences of it since has revoked this one, which may be revoked for other reasons too.
    /// That nothing is held is looked at in the same step: what a load has stored meanwhile is newer, and stays. Either
    /// is [`Commit::Revoked`].
    fn restore(&self, mark: &Self::Mark, key: K, entry: Arc<Entry<V>>) -> Commit;
}

/// What [`Store::get`] found.
#[derive(Debug)]
pub struct Hit<V> {
    /// A shared handle to the entry.
    pub entry: Arc<Entry<V>>,
    /// What it is good for, now and in this tier.
    pub freshness: Freshness,
    /// How long it has been stale; zero while fresh.
    pub stale_for: Duration,
    /// The time it was judged by, late by at most a tick of the coarse clock.
    pub at: Timestamp,
}

/// What [`Store::get_with`] shows.
#[derive(Debug)]
pub struct Glimpse<'a, V> {
    /// The entry, to be cloned by who keeps it.
    pub entry: &'a Arc<Entry<V>>,
    /// As in [`Hit`].
    pub freshness: Freshness,
    /// As in [`Hit`].
    pub stale_for: Duration,
    /// As in [`Hit`]. `None`: the entry never ends, so nobody has asked what time it is.
    pub at: Option<Timestamp>,
}

/// The right to store under one key, as it stood when it was granted. Only the store that granted it can
/// read it.
#[derive(Debug)]
#[must_use = "a fence is the right to commit"]
pub struct Fence {
    slot: usize,
    generation: u64,
}

impl Fence {
    /// For stores: a fence that guards `slot` at `generation`.
    pub fn new(slot: usize, generation: u64) -> Self {
        Self { slot, generation }
    }

    /// For stores: what it guards.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// For stores: the generation at which it was granted.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Where [`Store::invalidate_if`] goes on. Only the store that gave it can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreCursor {
    part: u64,
    place: u64,
}

impl StoreCursor {
    /// Before the first entry.
    pub const START: Self = Self { part: 0, place: 0 };

    /// For stores: a `place` within a `part`. Zeros are the start.
    pub fn new(part: u64, place: u64) -> Self {
        Self { part, place }
    }

    /// For stores: the part.
    pub fn part(&self) -> u64 {
        self.part
    }

    /// For stores: the place within the part.
    pub fn place(&self) -> u64 {
        self.place
    }
}

/// What became of a [`Store::commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// Stored.
    Stored,
    /// The right was revoked meanwhile; nothing changed.
    Revoked,
    /// The entry cannot be held (too heavy, or already past its life). What was held before is gone, so
    /// that an old value never outlives a newer one.
    Rejected,
}

/// Figures of a [`Store`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Entries held, expired ones not yet collected included.
    pub entries: u64,
    /// Their weight.
    pub weight: u64,
    /// The bound on the weight.
    pub capacity: u64,
    /// Entries the policy dropped to stay within the bound.
    pub evicted: u64,
    /// Entries that time ended.
    pub expired: u64,
    /// Entries too heavy to hold.
    pub rejected: u64,
    /// Commits whose right had been revoked.
    pub revoked: u64,
}
