//! The engine as the typed tier of a cache.

use std::hash::Hash;
use std::mem::size_of;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{
    Clock, Commit, Entry, Fence, Freshness, Glimpse, Hit, Result, SnapshotStore, Store, StoreCursor,
    StoreStats,
};
use equivalent::Equivalent;

use crate::builder::Weigh;
use crate::life::Life;
use crate::memory::Mark;
use crate::read::Standing;
use crate::write::Right;
use crate::{Cursor, Memory, MemoryBuilder};

/// The L1 of a cache. Without a weigher the entry behind the `Arc` is counted at its own size; what the
/// value points to is not seen.
impl<K, V> Store<K, V> for Memory<K, Arc<Entry<V>>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Config = MemoryBuilder<K, Arc<Entry<V>>>;

    fn open(config: Self::Config, clock: Clock) -> Result<Self> {
        config.counting_entries().clock(clock).build()
    }

    #[inline]
    fn get<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let found = self.find(key)?;
        Some(Hit { entry: found.value, freshness: found.freshness, stale_for: found.stale_for, at: found.at })
    }

    #[inline]
    fn get_with<Q, R>(&self, key: &Q, read: impl FnOnce(Glimpse<'_, V>) -> Option<R>) -> Option<R>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.read(key, |entry, standing| {
            let Standing { freshness, stale_for, at } = standing;
            read(Glimpse { entry, freshness, stale_for, at })
        })
    }

    fn begin(&self, key: &K) -> Fence {
        Memory::begin(self, key)
    }

    fn commit(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        let life = Life::new(entry.meta.soft_expiry(), entry.meta.hard_expiry());
        self.store(key, entry, life, Right::Reader(fence))
    }

    fn commit_write(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        let life = Life::new(entry.meta.soft_expiry(), entry.meta.hard_expiry());
        self.store(key, entry, life, Right::Writer(fence))
    }

    fn invalidate<Q>(&self, key: &Q) -> Option<Arc<Entry<V>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.remove(key)
    }

    fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        Memory::expire(self, key, keep)
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        mut test: impl FnMut(&K, &Entry<V>) -> bool,
    ) -> Option<StoreCursor> {
        let from = Cursor::from_parts(from.part(), from.place());
        let next = self.walk(from, SLOTS_PER_PART, |key, entry| !test(key, entry))?;
        let (part, place) = next.parts();
        Some(StoreCursor::new(part, place))
    }

    fn void_all(&self) {
        Memory::void_all(self);
    }

    fn clear(&self) {
        Memory::clear(self);
    }

    fn stats(&self) -> StoreStats {
        let own = Memory::stats(self);
        let mut stats = StoreStats::default();
        stats.entries = own.entries;
        stats.weight = own.weight;
        stats.capacity = own.capacity;
        stats.evicted = own.evicted;
        stats.expired = own.expired;
        stats.rejected = own.rejected;
        stats.revoked = own.revoked;
        stats
    }
}

impl<K, V> SnapshotStore<K, V> for Memory<K, Arc<Entry<V>>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    type Mark = Mark;

    fn see(
        &self,
        from: StoreCursor,
        mut see: impl FnMut(&K, &Arc<Entry<V>>, Freshness),
    ) -> Option<StoreCursor> {
        let from = Cursor::from_parts(from.part(), from.place());
        let see = |key: &K, entry: &Arc<Entry<V>>, life| {
            if let Some(standing) = self.graded(life) {
                see(key, entry, standing.freshness);
            }
        };
        let (part, place) = Memory::see(self, from, SLOTS_PER_PART, see)?.parts();
        Some(StoreCursor::new(part, place))
    }

    fn mark(&self) -> Mark {
        self.mark_fences()
    }

    fn restore(&self, mark: &Mark, key: K, entry: Arc<Entry<V>>) -> Commit {
        let right = Right::Vacant(self.marked_fence(mark, &key));
        let life = Life::new(entry.meta.soft_expiry(), entry.meta.hard_expiry());
        self.store(key, entry, life, right)
    }
}

/// How many slots one part of a walk looks at: some microseconds.
const SLOTS_PER_PART: usize = 1 << 10;

impl<K, V> MemoryBuilder<K, Arc<Entry<V>>> {
    /// Counts the entry that the `Arc` points to as well, and the two counters beside it.
    fn counting_entries(mut self) -> Self {
        if let Weigh::Shallow { behind } = &mut self.weigh {
            *behind = (size_of::<Entry<V>>() + 2 * size_of::<usize>()) as u64;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::{ManualClock, Meta};

    use super::*;

    type Typed = Memory<u64, Arc<Entry<u64>>>;

    fn entry(value: u64) -> Arc<Entry<u64>> {
        let meta =
            Meta::new(cachalot_core::Timestamp::from_millis(1), Duration::MAX, Duration::MAX, Duration::ZERO);
        Arc::new(Entry::new(Some(value), meta))
    }

    fn store() -> Typed {
        Store::open(Memory::entries(100_000).hash_seed(1), ManualClock::new().clock()).unwrap()
    }

    #[test]
    fn a_walk_sees_every_entry_once_and_revokes_nothing() {
        let store = store();
        for key in 0..20_000 {
            let fence = Store::begin(&store, &key);
            assert_eq!(Store::commit(&store, fence, key, entry(key)), Commit::Stored);
        }
        let fence = Store::begin(&store, &7);
        let (mut seen, mut parts) = (Vec::new(), 0);
        let mut from = Some(StoreCursor::START);
        while let Some(cursor) = from {
            from = SnapshotStore::see(&store, cursor, |key, entry, freshness| {
                assert_eq!((entry.value, freshness), (Some(*key), Freshness::Fresh));
                seen.push(*key);
            });
            parts += 1;
        }
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..20_000) && parts > 10, "{parts}");
        assert_eq!(Store::commit(&store, fence, 7, entry(8)), Commit::Stored);
    }

    #[test]
    fn what_a_walk_sees_is_told_with_what_it_is_good_for() {
        let time = ManualClock::new();
        let store: Typed = Store::open(Memory::entries(100).hash_seed(1), time.clock()).unwrap();
        let (short, long) = (Duration::from_secs(10), Duration::from_secs(60));
        for (key, fresh_for, kept_for) in
            [(1, long, long), (2, short, long), (3, short, short), (4, long, long)]
        {
            let meta = Meta::new(time.clock().now(), fresh_for, kept_for, Duration::ZERO);
            let fence = Store::begin(&store, &key);
            let entry = Arc::new(Entry::new(Some(key), meta));
            assert_eq!(Store::commit(&store, fence, key, entry), Commit::Stored);
        }
        assert!(Store::expire(&store, &4, long));
        time.advance(Duration::from_secs(20));
        let (mut seen, mut from) = (Vec::new(), Some(StoreCursor::START));
        while let Some(cursor) = from {
            from = SnapshotStore::see(&store, cursor, |key, _, freshness| seen.push((*key, freshness)));
        }
        seen.sort_unstable_by_key(|(key, _)| *key);
        assert_eq!(seen, [(1, Freshness::Fresh), (2, Freshness::Stale), (4, Freshness::Invalidated)]);
        assert_eq!(Memory::stats(&store).hits, 0, "no read");
    }

    #[test]
    fn a_mark_gives_the_fences_of_its_moment() {
        for how in 0..6 {
            let store = store();
            let mark = SnapshotStore::mark(&store);
            match how {
                1 => drop(Store::invalidate(&store, &7)),
                2 => Store::void_all(&store),
                3 => Store::clear(&store),
                4 => {
                    let mut from = Some(StoreCursor::START);
                    while let Some(cursor) = from {
                        from = Store::invalidate_if(&store, cursor, |_, _| false);
                    }
                }
                5 => {
                    let fence = Store::begin(&store, &7);
                    assert_eq!(Store::commit_write(&store, fence, 7, entry(1)), Commit::Stored);
                }
                _ => {}
            }
            let expected = if how == 0 { Commit::Stored } else { Commit::Revoked };
            assert_eq!(store.restore(&mark, 7, entry(2)), expected, "{how}");
            drop(Store::invalidate(&store, &7));
            let later = SnapshotStore::mark(&store);
            assert_eq!(store.restore(&later, 7, entry(3)), Commit::Stored, "{how}");
        }
    }

    #[test]
    fn a_restore_does_not_replace_what_a_load_has_stored_since_its_mark() {
        let store = store();
        let mark = SnapshotStore::mark(&store);
        let fence = Store::begin(&store, &7);
        assert_eq!(Store::commit(&store, fence, 7, entry(1)), Commit::Stored);
        assert_eq!(store.restore(&mark, 7, entry(2)), Commit::Revoked);
        assert_eq!(Store::get(&store, &7).unwrap().entry.value, Some(1));
    }
}
