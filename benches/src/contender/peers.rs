//! Other projects' caches, driven by one thread, with one entry a key.

use ahash::RandomState;
use foyer_memory::{CacheBuilder, CacheProperties, EvictionConfig, LfuConfig, S3FifoConfig};

use super::{Contender, Policy, Role};

pub(super) fn all() -> [Contender; 6] {
    let peer = |name, build| Contender { name, role: Role::Peer, build };
    [
        peer("quick_cache", |capacity| Box::new(Quick::new(capacity))),
        peer("moka", |capacity| Box::new(Moka::new(capacity as u64))),
        peer("f-s3fifo", |capacity| Box::new(foyer(capacity, S3FifoConfig::default()))),
        peer("f-wtinylfu", |capacity| Box::new(foyer(capacity, LfuConfig::default()))),
        peer("tinyufo", |capacity| Box::new(Ufo::new(capacity))),
        peer("scc", |capacity| {
            Box::new(Scc::with_capacity_and_hasher(capacity, capacity, RandomState::new()))
        }),
    ]
}

type Quick = quick_cache::sync::Cache<u64, ()>;

impl Policy for Quick {
    fn access(&mut self, key: u64) -> bool {
        let held = self.get(&key).is_some();
        if !held {
            self.insert(key, ());
        }
        held
    }

    fn held(&self) -> usize {
        self.len()
    }
}

type Moka = moka::sync::Cache<u64, ()>;

impl Policy for Moka {
    fn access(&mut self, key: u64) -> bool {
        let held = self.get(&key).is_some();
        if !held {
            self.insert(key, ());
        }
        held
    }

    fn held(&self) -> usize {
        self.run_pending_tasks();
        self.entry_count() as usize
    }
}

type Foyer = foyer_memory::Cache<u64, (), RandomState, CacheProperties>;

/// With as many shards as 64 entries each allow: a shard takes an equal part of the capacity, whatever falls
/// into it.
fn foyer(capacity: usize, policy: impl Into<EvictionConfig>) -> Foyer {
    let builder = CacheBuilder::new(capacity).with_shards((capacity / 64).clamp(1, 8));
    builder.with_eviction_config(policy).with_hash_builder(RandomState::new()).build()
}

impl Policy for Foyer {
    fn access(&mut self, key: u64) -> bool {
        let held = self.get(&key).is_some();
        if !held {
            self.insert(key, ());
        }
        held
    }

    fn held(&self) -> usize {
        self.entries()
    }
}

/// It does not tell how many it holds, but what it evicts.
struct Ufo {
    cache: tinyufo::TinyUfo<u64, ()>,
    held: usize,
}

impl Ufo {
    fn new(capacity: usize) -> Self {
        Self { cache: tinyufo::TinyUfo::new(capacity, capacity), held: 0 }
    }
}

impl Policy for Ufo {
    fn access(&mut self, key: u64) -> bool {
        let held = self.cache.get(&key).is_some();
        if !held {
            self.held += 1;
            self.held = self.held.saturating_sub(self.cache.put(key, (), 1).len());
        }
        held
    }

    fn held(&self) -> usize {
        self.held
    }
}

/// Rounds its capacity up to a power of two, so it may hold more than it was asked to.
type Scc = scc::HashCache<u64, (), RandomState>;

impl Policy for Scc {
    fn access(&mut self, key: u64) -> bool {
        let held = self.read_sync(&key, |_, _| ()).is_some();
        if !held {
            let _ = self.put_sync(key, ());
        }
        held
    }

    fn held(&self) -> usize {
        self.len()
    }
}
