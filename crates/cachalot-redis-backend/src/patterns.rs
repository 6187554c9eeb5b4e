//! What Redis is good for beside a cache: objects, leaderboards, queues, topics, counters, limits, batches.
//!
//! Each is a thin handle with types, made of [`RedisPatterns`], which uses the connections of a
//! [`RedisBackend`] or a [`RedisCluster`]:
//!
//! | handle | in the server | one step each |
//! |---|---|---|
//! | [`Hashes`] | a hash for each key | set an object with its time to live; update one field and keep that time |
//! | [`Leaderboard`] | a sorted set | set, increment, top, rank, around |
//! | [`Queue`] | a list | push many, pop with a wait; what is popped by who dies is lost |
//! | [`ReliableQueue`] | lists | take, acknowledge, recover: at least once |
//! | [`Topic`] | a channel | publish, subscribe; gaps are told |
//! | [`CappedCounter`] | a number for each key | increment up to a cap |
//! | [`RateLimit`] | a string for each key | so many in any window, by the server's clock |
//! | [`Batch`] | a string for each key | get or set many in one round trip |
//!
//! # Keys
//! A key is called as a cache's is, `namespace:key` behind the key prefix; keys of more than 512 bytes as there. Give
//! patterns a namespace that no cache has: removing what a pattern of keys matches takes numbers, limits and batches
//! with it, and a batch overwrites records. A key that holds another type of value is left alone, and the operation
//! fails with [`ErrorKind::Unsupported`](cachalot_core::ErrorKind::Unsupported); [`Batch::set`] alone replaces whatever
//! is there.
//!
//! # Errors
//! All operations end within the deadline of the backend, and of what they were asked to wait.
//! [`Unavailable`](cachalot_core::ErrorKind::Unavailable) and [`Timeout`](cachalot_core::ErrorKind::Timeout) as there;
//! reads and removals are sent once more if the connection breaks under them, other writes are not and may have
//! happened. What is larger than the backend's largest payload is refused with
//! [`Config`](cachalot_core::ErrorKind::Config) before anything is sent.
//!
//! # Dropping a future
//! The command may still happen; the connection stays good for all others. What more there is to say stands with
//! [`Queue::pop`] and [`Consumer::take`].
//!
//! # Redis Cluster
//! All but [`Topic`] work there: each operation touches one slot. The keys of a [`ReliableQueue`] have a hash tag, which
//! keeps them together.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{CacheKey, Codec, Namespace, Result};

use crate::{RedisBackend, RedisCluster};

mod batch;
pub use batch::Batch;
mod counter;
pub use counter::CappedCounter;
mod hash;
pub use hash::{HashObject, Hashes};
mod leaderboard;
pub use leaderboard::{Leaderboard, Ranked};
mod publish;
pub use publish::{Topic, TopicEvent, TopicSubscription};
mod queue;
pub use queue::Queue;
mod rate_limit;
pub use rate_limit::{Admission, RateLimit};
mod reliable_queue;
pub use reliable_queue::{Consumer, ReliableQueue, Taken};

mod coding;
mod read;
mod script;
mod way;
use coding::Coding;
use way::Way;

/// Makes handles of patterns. From [`RedisBackend::patterns`] or [`RedisCluster::patterns`]; clones share the
/// connections.
///
/// ```no_run
/// use cachalot_core::Namespace;
/// use cachalot_redis_backend::Redis;
/// use cachalot_redis_backend::patterns::Leaderboard;
///
/// # async fn example() -> cachalot_core::Result<()> {
/// let redis = Redis::connect("redis://127.0.0.1:6379").await?;
/// let scores: Leaderboard = redis.patterns().leaderboard(&Namespace::new("scores")?, "2024");
/// scores.add("ann", 31.0).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct RedisPatterns {
    way: Way,
}

impl RedisPatterns {
    /// Objects in `namespace`, whose fields `codec` turns into bytes.
    pub fn hashes<C>(&self, namespace: &Namespace, codec: C) -> Hashes<C> {
        Hashes::new(self.way.clone(), namespace.clone(), Arc::new(codec))
    }

    /// The leaderboard under `key` of `namespace`.
    pub fn leaderboard<M>(&self, namespace: &Namespace, key: &(impl CacheKey + ?Sized)) -> Leaderboard<M> {
        Leaderboard::new(self.way.clone(), namespace.key(key))
    }

    /// The simple queue under `key` of `namespace`.
    pub fn queue<V: 'static>(
        &self,
        namespace: &Namespace,
        key: &(impl CacheKey + ?Sized),
        codec: impl Codec<V>,
    ) -> Queue<V> {
        Queue::new(self.way.clone(), namespace.key(key), Coding::new(codec))
    }

    /// The reliable queue under `key` of `namespace`.
    pub fn reliable_queue<V: 'static>(
        &self,
        namespace: &Namespace,
        key: &(impl CacheKey + ?Sized),
        codec: impl Codec<V>,
    ) -> ReliableQueue<V> {
        ReliableQueue::new(self.way.clone(), namespace.key(key), Coding::new(codec))
    }

    /// The topic under `key` of `namespace`. Channels are shared by all databases of a server.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](cachalot_core::ErrorKind::Unsupported) on a cluster.
    pub fn topic<V: 'static>(
        &self,
        namespace: &Namespace,
        key: &(impl CacheKey + ?Sized),
        codec: impl Codec<V>,
    ) -> Result<Topic<V>> {
        Topic::new(&self.way, namespace.key(key), Coding::new(codec))
    }

    /// Counters in `namespace` that end at `cap`, each `ttl` after its first increment.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cachalot_core::ErrorKind::Config) if `cap` is above 2⁵³ or `ttl` below a millisecond.
    pub fn capped_counter(&self, namespace: &Namespace, cap: u64, ttl: Duration) -> Result<CappedCounter> {
        CappedCounter::new(self.way.clone(), namespace.clone(), cap, ttl)
    }

    /// Lets through `limit` in any `window`, for each key of `namespace`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cachalot_core::ErrorKind::Config) if `limit` is not from 1 to 100,000, or `window` not
    /// from a millisecond to 366 days.
    pub fn rate_limit(&self, namespace: &Namespace, limit: u32, window: Duration) -> Result<RateLimit> {
        RateLimit::new(self.way.clone(), namespace.clone(), limit, window)
    }

    /// Values in `namespace`, many at a time.
    pub fn batch<V: 'static>(&self, namespace: &Namespace, codec: impl Codec<V>) -> Batch<V> {
        Batch::new(self.way.clone(), namespace.clone(), Coding::new(codec))
    }
}

impl RedisBackend {
    /// Objects, leaderboards, queues and more in the same server, by the same connections and with the same key
    /// prefix. Commands that wait have connections of their own, at most 128.
    pub fn patterns(&self) -> RedisPatterns {
        RedisPatterns { way: Way::One(self.clone()) }
    }
}

impl RedisCluster {
    /// As [`RedisBackend::patterns`], over all nodes; there are no topics.
    pub fn patterns(&self) -> RedisPatterns {
        RedisPatterns { way: Way::Cluster(self.clone()) }
    }
}

impl fmt::Debug for RedisPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisPatterns").field("node", &self.way.node()).finish_non_exhaustive()
    }
}
