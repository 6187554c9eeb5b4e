//! Caches over a server, and what they hold.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entry, Tags, Ttl};
use cachalot_memory_backend::Memory;
use cachalot_redis_backend::Redis;
use cachalot_strategies::{Cache, CacheBuilder};
use tokio::runtime::Runtime;

pub(crate) type Key = String;
pub(crate) type Value = [u8; 32];
pub(crate) type Entries<K> = Memory<K, Arc<Entry<Value>>>;
pub(crate) type Named = Cache<Key, Value, Entries<Key>>;
pub(crate) type Builder = CacheBuilder<Key, Value, Entries<Key>>;

/// The name of every cache here.
pub(crate) const NAME: &str = "bench";
pub(crate) const VALUE: Value = [7; 32];
/// How many are inserted in one call.
const BATCH: usize = 10_000;

/// Ours, with `options`, but that memory keeps nothing.
pub(crate) fn without_memory(runtime: &Runtime, url: &str, options: fn(Builder) -> Builder) -> Named {
    runtime.block_on(async {
        let redis = Redis::builder(url).connections(1).connect().await;
        let redis = redis.unwrap_or_else(|error| panic!("no connection: {error}"));
        let builder = Cache::builder(NAME).memory(Memory::entries(100));
        built(options(builder.backend(redis).memory_ttl(Duration::ZERO)))
    })
}

pub(crate) fn built<K, V, S>(builder: CacheBuilder<K, V, S>) -> Cache<K, V, S>
where
    K: std::hash::Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: cachalot_core::Store<K, V>,
{
    // Nothing ends by itself meanwhile.
    builder.ttl(Ttl::hours(10)).build().unwrap_or_else(|error| panic!("no cache: {error}"))
}

pub(crate) fn tags<T: AsRef<[u8]>>(names: impl IntoIterator<Item = T>) -> Tags {
    Tags::new(names).unwrap_or_else(|error| panic!("no tags: {error}"))
}

/// Inserts `keys` under `tags`.
pub(crate) async fn fill(cache: &Named, keys: impl Iterator<Item = Key>, tags: &Tags) {
    let tagged = cache.with(|options| options.tags(tags.clone()));
    let mut keys = keys.peekable();
    while keys.peek().is_some() {
        let batch: Vec<_> = keys.by_ref().take(BATCH).map(|key| (key, VALUE)).collect();
        for inserted in tagged.insert_many(batch).await {
            inserted.unwrap_or_else(|error| panic!("not inserted: {error}"));
        }
    }
}
