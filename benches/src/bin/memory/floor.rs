//! A sharded map without bound or eviction: the practical floor.

use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::{Data, Key, Kind, Subject};

#[cfg(feature = "peers")]
type Hasher = ahash::RandomState;
#[cfg(not(feature = "peers"))]
type Hasher = std::hash::RandomState;

/// Many more shards than threads.
const SHARDS: usize = 64;

/// `RwLock<HashMap>`, 64 times; a key is hashed once for both.
pub(crate) struct Map<K, V> {
    shards: Vec<Shard<K, V>>,
    hasher: Hasher,
}

type Shard<K, V> = Padded<RwLock<HashTable<(K, V)>>>;

#[repr(align(128))]
struct Padded<T>(T);

impl<K: Key, V> Map<K, V> {
    #[inline]
    fn hash(&self, key: &K) -> u64 {
        BuildHasher::hash_one(&self.hasher, key)
    }

    #[inline]
    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<(K, V)>> {
        self.shard(hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<(K, V)>> {
        self.shard(hash).write().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn shard(&self, hash: u64) -> &RwLock<HashTable<(K, V)>> {
        // Bits that the tables within use least.
        &self.shards[(hash >> 40) as usize % SHARDS].0
    }
}

impl<K: Key, V: Data> Subject<K, V> for Map<K, V> {
    const NAME: &'static str = "map";
    const KIND: Kind = Kind::Floor;

    fn holding(entries: usize) -> Self {
        let shard = || Padded(RwLock::new(HashTable::with_capacity(entries / SHARDS + 1)));
        Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher: Hasher::default() }
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        let hash = self.hash(key);
        let value = self.read(hash).find(hash, |(held, _)| held == key).map(|(_, value)| value.clone());
        black_box(value).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        let hash = self.hash(&key);
        let mut shard = self.write(hash);
        let rehash = |(key, _): &(K, V)| self.hash(key);
        let old = match shard.entry(hash, |(held, _)| *held == key, rehash) {
            Entry::Occupied(mut held) => Some(std::mem::replace(&mut held.get_mut().1, value)),
            Entry::Vacant(place) => {
                place.insert((key, value));
                None
            }
        };
        drop(shard);
        drop(old);
    }
}
