//! Who takes part in the comparison of hit ratios: policies, our engine, and with `peers` other caches.

use cachalot_memory_backend::Memory;

use crate::policy::{Adaptive, ArcCache, Clock, Fifo, Lru, Policy, S3Fifo, Sieve};

/// A way to decide what to hold.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What tables call it.
    pub name: &'static str,
    /// An empty one for so many keys.
    pub build: fn(usize) -> Box<dyn Policy>,
}

/// Everybody: the policies by the book, ours simulated over sets and over rings, then whole caches.
pub fn all() -> Vec<Contender> {
    let all = vec![
        Contender { name: "adaptive", build: |capacity| Box::new(Adaptive::in_sets(capacity)) },
        Contender { name: "rings", build: |capacity| Box::new(Adaptive::in_rings(capacity)) },
        Contender { name: "fifo", build: |capacity| Box::new(Fifo::new(capacity)) },
        Contender { name: "lru", build: |capacity| Box::new(Lru::new(capacity)) },
        Contender { name: "clock", build: |capacity| Box::new(Clock::new(capacity)) },
        Contender { name: "sieve", build: |capacity| Box::new(Sieve::new(capacity)) },
        Contender { name: "s3-fifo", build: |capacity| Box::new(S3Fifo::new(capacity)) },
        Contender { name: "arc", build: |capacity| Box::new(ArcCache::new(capacity)) },
        Contender { name: "Memory", build: |capacity| Box::new(Engine::new(capacity)) },
    ];
    #[cfg(feature = "peers")]
    let all = [all, peers::all().to_vec()].concat();
    all
}

/// Our engine as its users get it, with one entry a key.
#[derive(Debug)]
struct Engine(Memory<u64, ()>);

impl Engine {
    fn new(capacity: usize) -> Self {
        match Memory::entries(capacity as u64).build() {
            Ok(memory) => Self(memory),
            Err(error) => panic!("no memory: {error}"),
        }
    }
}

impl Policy for Engine {
    fn access(&mut self, key: u64) -> bool {
        let held = self.0.contains(&key);
        if !held {
            self.0.insert(key, ());
        }
        held
    }

    fn held(&self) -> usize {
        self.0.len()
    }
}

#[cfg(feature = "peers")]
mod peers {
    use super::{Contender, Policy};

    pub(super) fn all() -> [Contender; 2] {
        [
            Contender { name: "quick_cache", build: |capacity| Box::new(Quick::new(capacity)) },
            Contender { name: "moka", build: |capacity| Box::new(Moka::new(capacity)) },
        ]
    }

    struct Quick(quick_cache::sync::Cache<u64, ()>);

    impl Quick {
        fn new(capacity: usize) -> Self {
            Self(quick_cache::sync::Cache::new(capacity))
        }
    }

    impl Policy for Quick {
        fn access(&mut self, key: u64) -> bool {
            let held = self.0.get(&key).is_some();
            if !held {
                self.0.insert(key, ());
            }
            held
        }

        fn held(&self) -> usize {
            self.0.len()
        }
    }

    struct Moka(moka::sync::Cache<u64, ()>);

    impl Moka {
        fn new(capacity: usize) -> Self {
            Self(moka::sync::Cache::new(capacity as u64))
        }
    }

    impl Policy for Moka {
        fn access(&mut self, key: u64) -> bool {
            let held = self.0.get(&key).is_some();
            if !held {
                self.0.insert(key, ());
            }
            held
        }

        fn held(&self) -> usize {
            self.0.run_pending_tasks();
            self.0.entry_count() as usize
        }
    }
}
