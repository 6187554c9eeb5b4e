//! cached: its sharded LRU, without and with a time to live.

use std::hint::black_box;
use std::time::Duration;

use cached::{ShardedLruCache, ShardedLruTtlCache};

use super::{Data, Key, Kind, Subject};

/// Hashed by ahash (its feature), 64 shards.
pub(crate) struct Lru<K, V>(ShardedLruCache<K, V>);

/// The same, each entry for an hour.
pub(crate) struct LruTtl<K, V>(ShardedLruTtlCache<K, V>);

const SHARDS: usize = 64;

impl<K: Key, V: Data> Subject<K, V> for Lru<K, V> {
    const NAME: &'static str = "cached";
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        match ShardedLruCache::builder().max_size(entries).shards(SHARDS).build() {
            Ok(cache) => Self(cache),
            Err(error) => panic!("no cached: {error}"),
        }
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        drop(self.0.set(key, value));
    }
}

impl<K: Key, V: Data> Subject<K, V> for LruTtl<K, V> {
    const NAME: &'static str = "cached ttl";
    const KIND: Kind = Kind::Peer;

    fn holding(entries: usize) -> Self {
        let builder = ShardedLruTtlCache::builder().max_size(entries).ttl(Duration::from_secs(3600));
        match builder.shards(SHARDS).build() {
            Ok(cache) => Self(cache),
            Err(error) => panic!("no cached: {error}"),
        }
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        drop(self.0.set(key, value));
    }
}
