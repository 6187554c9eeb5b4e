//! The caching layer of Rust services: values in process memory, bytes in Redis behind it, one load per key
//! however many ask, and one promise: **an invalidation is never lost**.
//!
//! ```
//! use cachalot::units::{MIB, hours, minutes};
//! use cachalot::{Cache, Memory, Ttl};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let names: Cache<u64, String> = Cache::builder("names")
//!     .memory(Memory::weight_limit(64 * MIB))
//!     .ttl(Ttl::minutes(5).jitter(0.10))
//!     .stale_while_revalidate(minutes(1))
//!     .stale_if_error(hours(1))
//!     .build()?;
//!
//! let name = names.get_or_load(&7, |load| async move { Ok(format!("user {}", load.key())) }).await?;
//! assert_eq!(*name, "user 7");
//!
//! names.remove(&7).await?;
//! assert!(names.get(&7).await.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! This crate only joins others: [`cachalot-memory-backend`](Memory) is the in-process tier,
//! `cachalot-redis-backend` the shared one and the bus between processes, `cachalot-invalidation` what they say on
//! it, `cachalot-memcached-backend` another shared one, `cachalot-strategies` the engine, `cachalot-core` their contracts.
//!
//! # Features
//!
//! <!-- features:begin -->
//! | feature | default | what it adds |
//! |---|---|---|
//! | `memory` | yes | The bounded in-process map alone: no async runtime, no serde. |
//! | `cache` | yes | `Cache`: single-flight loads over memory, ready for a shared tier. Pulls in tokio and serde. |
//! | `redis` |  | Redis as the shared tier, and as the bus between processes. Pulls in redis and deadpool-redis. Needs Rust 1.88. |
//! | `memcached` |  | Memcached as the shared tier, by its meta protocol. Pulls in sha2. |
//! | `ring` |  | Consistent hashing: which of many nodes holds a key. With `cache` also `Sharded`, one shared tier over many servers. Pulls in nothing by itself. |
//! | `json` |  | Values as JSON. Pulls in serde_json. |
//! | `postcard` |  | Values as postcard, needs a declared schema. Pulls in postcard. |
//! | `bincode` |  | Values as bincode 2, needs a declared schema. Pulls in bincode, unmaintained upstream. |
//! | `uuid` |  | `uuid::Uuid` as a key. Pulls in uuid. |
//! | `full` |  | All of the above but bincode. |
//! <!-- features:end -->
#![cfg_attr(docsrs, feature(doc_cfg))]

#[doc(inline)]
pub use cachalot_core::{
    CacheKey, Clock, Commit, DataClass, Entropy, Entry, EntryOptions, Error, ErrorKind, Event, Fence,
    Freshness, Hit, LoadError, LoadOutcome, LoaderError, ManualClock, Meta, Observer, Recency, Result, Retry,
    SnapshotStore, Spawn, Stamp, Store, StoreCursor, StoreStats, Tag, Tags, Tier, Tiers, Timestamp, Ttl,
    Versioned, units,
};

#[cfg(feature = "memory")]
#[doc(inline)]
pub use cachalot_memory_backend::{Memory, MemoryBuilder};

#[cfg(feature = "cache")]
mod cache {
    use std::sync::Arc;

    use cachalot_core::Entry;
    use cachalot_memory_backend::Memory;

    /// A cache over the memory engine: [`cachalot_strategies::Cache`] with its third parameter filled in.
    pub type Cache<K, V> = cachalot_strategies::Cache<K, V, Memory<K, Arc<Entry<V>>>>;

    /// What builds a [`Cache`].
    pub type CacheBuilder<K, V> = cachalot_strategies::CacheBuilder<K, V, Memory<K, Arc<Entry<V>>>>;
}
#[cfg(feature = "cache")]
mod strategies {
    use std::sync::Arc;

    use cachalot_core::Entry;
    use cachalot_memory_backend::Memory;

    /// A [`Cache`](crate::Cache) that knows where its values come from: [`cachalot_strategies::ReadThrough`] over
    /// the memory engine. `D` is the [`Source`](crate::Source).
    pub type ReadThrough<K, V, D> = cachalot_strategies::ReadThrough<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// Writes to the source, then to the cache: [`cachalot_strategies::WriteThrough`] over the memory engine. `D` is
    /// the [`Source`](crate::Source).
    pub type WriteThrough<K, V, D> = cachalot_strategies::WriteThrough<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// Writes to the source, and the cache forgets: [`cachalot_strategies::WriteAround`] over the memory engine. `D`
    /// is the [`Source`](crate::Source).
    pub type WriteAround<K, V, D> = cachalot_strategies::WriteAround<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// Read-through whose reads prolong the life of what they hit: [`cachalot_strategies::Sliding`] over the memory
    /// engine. `D` is the [`Source`](crate::Source).
    pub type Sliding<K, V, D> = cachalot_strategies::Sliding<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// Acknowledges a write at once, and gives the source many together: [`cachalot_strategies::WriteBehind`] over the
    /// memory engine. `D` is the [`Source`](crate::Source).
    pub type WriteBehind<K, V, D> = cachalot_strategies::WriteBehind<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// What builds a [`WriteBehind`].
    pub type WriteBehindBuilder<K, V, D> =
        cachalot_strategies::WriteBehindBuilder<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// Keeps a set of keys warm: [`cachalot_strategies::RefreshAhead`] over the memory engine. `D` is the
    /// [`Source`](crate::Source).
    pub type RefreshAhead<K, V, D> = cachalot_strategies::RefreshAhead<K, V, Memory<K, Arc<Entry<V>>>, D>;

    /// What builds a [`RefreshAhead`].
    pub type RefreshAheadBuilder<K, V, D> =
        cachalot_strategies::RefreshAheadBuilder<K, V, Memory<K, Arc<Entry<V>>>, D>;
}
#[cfg(feature = "cache")]
#[doc(inline)]
pub use cachalot_core::{
    Backend, BackendInfo, Body, Bus, BusEvent, BusGap, BusInfo, Codec, Depth, Enrolled, Expired, FnSource,
    Held, Holder, Key, KeyPattern, LeaseBackend, LeaseReply, LoadFn, Member, MemberBackend, Message,
    Namespace, Nonce, Pattern, PublisherId, Put, PutReply, ReadOnly, Record, Removed, Roll, Source, Subject,
    Subscription, SweepCursor, Swept, TagBackend, TagIndexBackend, TagToken, TagWalk, Token, VersionBackend,
    Write, codec,
};
#[cfg(feature = "cache")]
#[doc(inline)]
pub use cachalot_invalidation::LocalBus;
#[cfg(feature = "cache")]
#[doc(inline)]
pub use cachalot_memory_backend::MemoryBackend;
#[cfg(feature = "cache")]
#[doc(inline)]
pub use cachalot_strategies::{
    Cached, Confirmation, ConfirmedInvalidation, DeadLetter, FileJournal, Fsync, Inserted, IntoLoaded,
    Invalidation, JournaledBuilder, KeysOfTag, Load, LoadMany, OnDeserted, Order, Overflow,
    RefreshAheadStats, RefreshMode, Refused, Registration, Removal, Restored, Snapshot, SnapshotFile,
    StaleReason, Stats, TokioSpawn, Unanswered, Unfinished, Unflushed, View, WarmUp, WarmUpProgress,
    WarmedUp, WriteBehindStats, WriteError,
};
#[cfg(feature = "cache")]
pub use cache::{Cache, CacheBuilder};
#[cfg(feature = "cache")]
pub use strategies::{
    ReadThrough, RefreshAhead, RefreshAheadBuilder, Sliding, WriteAround, WriteBehind, WriteBehindBuilder,
    WriteThrough,
};

#[cfg(feature = "redis")]
#[doc(inline)]
pub use cachalot_redis_backend::{
    PlainBackend, PlainBuilder, PlainBus, PlainForm, Recovery, Redis, RedisBackend, RedisBuilder, RedisBus,
    RedisBusBuilder, RedisCluster, RedisPatterns, RedisStreamBus, TagIndex, patterns,
};

#[cfg(feature = "memcached")]
#[doc(inline)]
pub use cachalot_memcached_backend::{Memcached, MemcachedBackend, MemcachedBuilder};

#[cfg(feature = "ring")]
#[doc(inline)]
pub use cachalot_ring as ring;

#[cfg(all(feature = "cache", feature = "ring"))]
#[doc(inline)]
pub use cachalot_ring::{Failover, Shard, ShardHealth, Sharded, ShardedBuilder};

/// The README's example, compiled.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../../../README.md")]
struct ReadmeExamples;
