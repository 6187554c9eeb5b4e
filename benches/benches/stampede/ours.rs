//! cachalot, and its single flight alone.

use std::sync::Arc;

use benches::{CAPACITY, Value};
use cachalot_core::{Entry, Ttl};
use cachalot_memory_backend::Memory;
use cachalot_stampede::SingleFlight;
use cachalot_strategies::{Cache, Cached};

use crate::contender::{Contender, Failed, Loader, Writable};

/// As it comes, but for the TTL.
#[derive(Clone)]
pub(crate) struct Cachalot(Cache<u64, [u8; 64], Entries>);

type Entries = Memory<u64, Arc<Entry<[u8; 64]>>>;

impl Contender for Cachalot {
    type Given = Cached<[u8; 64]>;

    fn open() -> Self {
        let cache =
            Cache::builder("bench").memory(Memory::entries(CAPACITY as u64)).ttl(Ttl::hours(1)).build();
        Self(cache.unwrap_or_else(|error| panic!("no cache: {error}")))
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Self::Given, Failed> {
        let load = |_| {
            let loader = loader.clone();
            async move { Ok(loader.bytes(key).await?) }
        };
        self.0.get_or_load(&key, load).await.map_err(|_| Failed)
    }
}

impl Writable for Cachalot {
    async fn remove(&self, key: u64) {
        assert!(self.0.remove(&key).await.is_ok(), "memory takes every removal");
    }

    async fn insert(&self, key: u64, bytes: [u8; 64]) {
        assert!(self.0.insert(key, bytes).await.is_ok(), "memory takes every value");
    }

    fn bytes(given: &Self::Given) -> [u8; 64] {
        **given
    }
}

/// Coalesces and keeps nothing.
#[derive(Clone)]
pub(crate) struct Alone(SingleFlight<u64, Value>);

impl Contender for Alone {
    type Given = Value;

    fn open() -> Self {
        Self(SingleFlight::new())
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Value, Failed> {
        let load = || {
            let loader = loader.clone();
            async move { Ok(Arc::new(loader.bytes(key).await?)) }
        };
        self.0.run(&key, load).await.map_err(|_| Failed)
    }
}
