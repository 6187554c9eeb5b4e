//! foyer's cache in memory, with the two policies of its that do best.

use std::hint::black_box;

use foyer_memory::{Cache, CacheBuilder, CacheProperties, EvictionConfig, LfuConfig, S3FifoConfig};

use super::{Data, Key, Kind, Subject};

type Foyer<K, V> = Cache<K, V, ahash::RandomState, CacheProperties>;

/// Hashed by ahash, 64 shards.
pub(crate) struct S3Fifo<K: Key, V: Data>(Foyer<K, V>);

/// The same under W-TinyLFU.
pub(crate) struct TinyLfu<K: Key, V: Data>(Foyer<K, V>);

fn built<K: Key, V: Data>(capacity: usize, each: usize, policy: impl Into<EvictionConfig>) -> Foyer<K, V> {
    // A shard of foyer takes an equal part of the capacity, whatever falls into it.
    let shards = (capacity / each / 64).clamp(1, 64);
    let builder = CacheBuilder::new(capacity).with_shards(shards).with_eviction_config(policy);
    let builder = builder.with_hash_builder(ahash::RandomState::new());
    builder.with_weighter(move |_: &K, _: &V| each).build()
}

macro_rules! subject {
    ($type:ident, $name:literal, $policy:expr) => {
        impl<K: Key, V: Data> Subject<K, V> for $type<K, V> {
            const NAME: &'static str = $name;
            const KIND: Kind = Kind::Peer;

            fn holding(entries: usize) -> Self {
                Self(built(entries, 1, $policy))
            }

            fn weighing(limit: u64, each: u32) -> Self {
                Self(built(limit as usize, each as usize, $policy))
            }

            #[inline]
            fn read(&self, key: &K) -> bool {
                // A handle, which is how its users see a value.
                black_box(self.0.get(key)).is_some()
            }

            #[inline]
            fn write(&self, key: K, value: V) {
                self.0.insert(key, value);
            }
        }
    };
}

subject!(S3Fifo, "foyer s3fifo", S3FifoConfig::default());
subject!(TinyLfu, "foyer w-tinylfu", LfuConfig::default());
