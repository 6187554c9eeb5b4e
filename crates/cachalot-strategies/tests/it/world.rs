//! A source, an optional shared tier, and caches over them, all in tokio's paused time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot_core::{Backend, Clock, Entropy, Entry, LoadError};
use cachalot_memory_backend::{Memory, MemoryBackend};
use cachalot_strategies::{Cache, CacheBuilder, Cached};
use cachalot_testkit::{CountingSource, tokio_clock};

pub(crate) type Users = Cache<u64, String, Memory<u64, Arc<Entry<String>>>>;
pub(crate) type UsersBuilder = CacheBuilder<u64, String, Memory<u64, Arc<Entry<String>>>>;

/// The database of the tests: user 1 is Ada.
pub(crate) fn source() -> CountingSource<u64, String> {
    CountingSource::with([(1, "Ada".to_owned())])
}

pub(crate) struct World {
    pub(crate) source: CountingSource<u64, String>,
    pub(crate) clock: Clock,
    pub(crate) shared: Arc<MemoryBackend>,
    /// Each process draws its own tokens.
    pub(crate) nodes: AtomicU64,
}

impl World {
    /// Must be made inside the runtime whose time it follows.
    pub(crate) fn new() -> Self {
        let clock = tokio_clock();
        let shared = Arc::new(MemoryBackend::with_limit(1 << 20, clock.clone()));
        Self { source: source(), clock, shared, nodes: AtomicU64::new(1) }
    }

    pub(crate) fn builder(&self) -> UsersBuilder {
        Cache::builder("users")
            .memory(Memory::entries(1000).hash_seed(1))
            .clock(self.clock.clone())
            .entropy(Entropy::seeded(self.nodes.fetch_add(1, Ordering::Relaxed)))
    }

    /// A cache with memory alone.
    pub(crate) fn alone(&self) -> Users {
        self.builder().ttl(Duration::from_secs(60)).build().unwrap()
    }

    /// One process of a fleet over the shared tier.
    pub(crate) fn node(&self) -> Users {
        self.over(self.shared.clone())
    }

    pub(crate) fn over(&self, backend: impl Backend) -> Users {
        self.builder().ttl(Duration::from_secs(60)).backend(backend).build().unwrap()
    }

    pub(crate) async fn load(&self, cache: &Users, key: u64) -> Result<Cached<String>, LoadError> {
        let source = self.source.clone();
        cache.get_or_load(&key, |load| async move { Ok(source.fetch(load.key()).await?) }).await
    }

    /// The same in a task of its own.
    pub(crate) fn spawn_load(
        &self,
        cache: &Users,
        key: u64,
    ) -> tokio::task::JoinHandle<Result<Cached<String>, LoadError>> {
        let (source, cache) = (self.source.clone(), cache.clone());
        tokio::spawn(async move {
            cache.get_or_load(&key, |load| async move { Ok(source.fetch(load.key()).await?) }).await
        })
    }

    /// What the shared tier has for `key` as another process would read it.
    pub(crate) async fn in_shared(&self, key: u64) -> Option<String> {
        let stranger = self.node();
        stranger.get(&key).await.map(Cached::into_inner)
    }
}

/// Walks the same timeline over memory alone and over memory with a shared tier.
pub(crate) async fn on_both(build: impl Fn(UsersBuilder) -> UsersBuilder, walk: impl AsyncFn(World, Users)) {
    for is_tiered in [false, true] {
        let world = World::new();
        let builder = build(world.builder());
        let builder = if is_tiered { builder.backend(world.shared.clone()) } else { builder };
        walk(world, builder.build().unwrap()).await;
    }
}

pub(crate) fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) async fn pass(time: Duration) {
    tokio::time::advance(time).await;
    // What the time has woken, runs.
    settle().await;
}

/// Lets every task run until it waits for time or for somebody else.
pub(crate) async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}
