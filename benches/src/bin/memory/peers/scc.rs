//! scc's `HashCache`: small, a pseudo-LRU in each bucket of 32. Rounds its capacity up to a power of two.

use std::hint::black_box;

use scc::HashCache;
use scc::hash_cache::Entry;

use super::{Data, Key, Kind, Subject};

/// Hashed by ahash; room for every entry from the start.
pub(crate) struct Scc<K, V>(HashCache<K, V, ahash::RandomState>);

impl<K: Key, V: Data> Subject<K, V> for Scc<K, V> {
    const NAME: &'static str = "scc";
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        Self(HashCache::with_capacity_and_hasher(entries, entries, ahash::RandomState::new()))
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        // Cheaper than its `get`, which locks the entry.
        black_box(self.0.read_sync(key, |_, value| value.clone())).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        match self.0.entry_sync(key) {
            Entry::Occupied(mut held) => drop(held.put(value)),
            Entry::Vacant(place) => drop(place.put_entry(value)),
        }
    }

    #[inline]
    fn fill(&self, key: K, value: V) {
        // Refuses to replace, and needs not look for an entry first.
        let _ = self.0.put_sync(key, value);
    }
}
