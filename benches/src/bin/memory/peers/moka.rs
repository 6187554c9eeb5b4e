//! moka, synchronous: without expiry, with a time to live, and with entries that all end at one instant.

use std::hint::black_box;
use std::time::{Duration, Instant};

use moka::Expiry;
use moka::sync::{Cache, CacheBuilder};

use super::{Data, Key, Kind, Subject};

/// Hashed by ahash; room for every entry from the start.
pub(crate) struct Moka<K, V, const TTL: bool>(Cache<K, V, ahash::RandomState>);

impl<K: Key, V: Data, const TTL: bool> Moka<K, V, TTL> {
    fn built(builder: CacheBuilder<K, V, Cache<K, V>>) -> Self {
        let builder = if TTL { builder.time_to_live(Duration::from_secs(3600)) } else { builder };
        Self(builder.build_with_hasher(ahash::RandomState::new()))
    }
}

impl<K: Key, V: Data, const TTL: bool> Subject<K, V> for Moka<K, V, TTL> {
    const NAME: &'static str = if TTL { "moka ttl" } else { "moka" };
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        Self::built(Cache::builder().max_capacity(entries as u64).initial_capacity(entries))
    }

    fn weighing(limit: u64, each: u32) -> Self {
        Self::built(Cache::builder().max_capacity(limit).weigher(move |_, _| each))
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        self.0.insert(key, value);
    }
}

/// Room for `entries`; those with a key below `mortal` end at `end`, the others never.
pub(crate) fn dying_at(end: Instant, mortal: u64, entries: usize) -> Cache<u64, u64, ahash::RandomState> {
    let builder = Cache::builder().max_capacity(entries as u64).initial_capacity(entries);
    builder.expire_after(End { end, mortal }).build_with_hasher(ahash::RandomState::new())
}

struct End {
    end: Instant,
    mortal: u64,
}

impl Expiry<u64, u64> for End {
    fn expire_after_create(&self, key: &u64, _: &u64, created_at: Instant) -> Option<Duration> {
        (*key < self.mortal).then(|| self.end.saturating_duration_since(created_at))
    }
}
