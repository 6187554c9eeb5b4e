//! cachalot.

use std::sync::Arc;

use benches::CAPACITY;
use cachalot_core::{Entry, Ttl};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Cached};

use crate::contender::{Contender, Failed, Loader};

/// As it comes, but for the TTL.
#[derive(Clone)]
pub(crate) struct Cachalot(Cache<u64, [u8; 64], Memory<u64, Arc<Entry<[u8; 64]>>>>);

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
