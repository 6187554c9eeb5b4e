//! Other projects' caches, each in the settings that serve it best here: `ahash` where a hasher can be chosen,
//! the call that takes a failing load, the policy whose hits are cheapest.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use benches::{CAPACITY, Value};
use hitbox::concurrency::{BroadcastConcurrencyManager, NoopConcurrencyManager};
use hitbox::policy::PolicyConfig;
use hitbox_backend::format::BincodeFormat;
use hitbox_core::DisabledOffload;
use hitbox_moka::MokaBackend;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;

use crate::contender::{Contender, Failed, Loader, Writable};

/// What the source has, to be handed to many.
async fn shared(loader: &Loader, key: u64) -> Result<Value, Failed> {
    loader.bytes(key).await.map(Arc::new)
}

/// A cell per key in a sharded map, without a bound: what coalescing costs at least.
#[derive(Clone)]
pub(crate) struct OnceCells(Arc<dashmap::DashMap<u64, Arc<OnceCell<Value>>, RandomState>>);

impl Contender for OnceCells {
    type Given = Value;

    fn open() -> Self {
        Self(Arc::new(dashmap::DashMap::with_capacity_and_hasher(CAPACITY, RandomState::new())))
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Value, Failed> {
        let known = self.0.get(&key).map(|cell| cell.get().cloned().ok_or_else(|| cell.clone()));
        let cell = match known {
            Some(Ok(value)) => return Ok(value),
            Some(Err(cell)) => cell,
            None => self.0.entry(key).or_default().clone(),
        };
        cell.get_or_try_init(|| shared(loader, key)).await.cloned()
    }
}

#[derive(Clone)]
pub(crate) struct Moka(moka::future::Cache<u64, Value, RandomState>);

impl Contender for Moka {
    type Given = Value;

    fn open() -> Self {
        let builder = moka::future::Cache::builder().max_capacity(CAPACITY as u64);
        Self(builder.build_with_hasher(RandomState::new()))
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Value, Failed> {
        self.0.try_get_with(key, shared(loader, key)).await.map_err(|failed| *failed)
    }
}

impl Writable for Moka {
    async fn remove(&self, key: u64) {
        self.0.invalidate(&key).await;
    }

    async fn insert(&self, key: u64, bytes: [u8; 64]) {
        self.0.insert(key, Arc::new(bytes)).await;
    }

    fn bytes(given: &Value) -> [u8; 64] {
        **given
    }
}

type Unweighted = quick_cache::UnitWeighter;

#[derive(Clone)]
pub(crate) struct QuickCache(Arc<quick_cache::sync::Cache<u64, Value, Unweighted, RandomState>>);

impl Contender for QuickCache {
    type Given = Value;

    fn open() -> Self {
        let (items, weight) = (CAPACITY, CAPACITY as u64);
        Self(Arc::new(quick_cache::sync::Cache::with(
            items,
            weight,
            Unweighted::default(),
            RandomState::new(),
            Default::default(),
        )))
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Value, Failed> {
        self.0.get_or_insert_async(&key, shared(loader, key)).await
    }
}

impl Writable for QuickCache {
    async fn remove(&self, key: u64) {
        self.0.remove(&key);
    }

    async fn insert(&self, key: u64, bytes: [u8; 64]) {
        self.0.insert(key, Arc::new(bytes));
    }

    fn bytes(given: &Value) -> [u8; 64] {
        **given
    }
}

/// S3-FIFO: the policy with which a hit takes no write lock.
#[derive(Clone)]
pub(crate) struct Foyer(foyer_memory::Cache<u64, Value, RandomState>);

impl Contender for Foyer {
    type Given = foyer_memory::CacheEntry<u64, Value, RandomState>;

    fn open() -> Self {
        let builder = foyer_memory::CacheBuilder::new(CAPACITY).with_hash_builder(RandomState::new());
        Self(builder.with_eviction_config(foyer_memory::S3FifoConfig::default()).build())
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Self::Given, Failed> {
        let fetch = || {
            let loader = loader.clone();
            async move { shared(&loader, key).await }
        };
        self.0.get_or_fetch(&key, fetch).await.map_err(|_| Failed)
    }
}

impl Writable for Foyer {
    async fn remove(&self, key: u64) {
        drop(self.0.remove(&key));
    }

    async fn insert(&self, key: u64, bytes: [u8; 64]) {
        drop(self.0.insert(key, Arc::new(bytes)));
    }

    fn bytes(given: &Self::Given) -> [u8; 64] {
        **given.value()
    }
}

/// Its macro keeps one cache per function: those that are opened share it and have keys of their own.
#[derive(Clone)]
pub(crate) struct Cached(u64);

#[cached::macros::cached(max_size = 20_000, key = "u64", convert = "{ key }", sync_writes = "by_key")]
async fn cached_value(key: u64, loader: &Loader) -> Result<Value, Failed> {
    shared(loader, key).await
}

impl Contender for Cached {
    type Given = Value;

    fn open() -> Self {
        static OPENED: AtomicU64 = AtomicU64::new(0);
        Self(OPENED.fetch_add(1, Ordering::Relaxed))
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Value, Failed> {
        cached_value(key ^ (self.0 << 32), loader).await
    }
}

/// What hitbox keeps: bytes, since even its memory tier does.
#[derive(Clone, Debug, Serialize, Deserialize, hitbox_derive::CacheableResponse)]
pub(crate) struct Row {
    bytes: Vec<u8>,
}

#[hitbox_derive::cached(skip(loader))]
async fn hitbox_row(key: u64, loader: Loader) -> Result<Row, Failed> {
    let bytes = loader.bytes(key).await?;
    Ok(Row { bytes: bytes.to_vec() })
}

/// Bincode: its documentation recommends that.
type Backend = MokaBackend<BincodeFormat>;

type Broadcast = BroadcastConcurrencyManager<Result<Row, Failed>>;

/// With one load per key, which it does not do unless asked.
#[derive(Clone)]
pub(crate) struct Hitbox(hitbox_fn::Cache<Backend, Broadcast, DisabledOffload>);

fn backend() -> Backend {
    MokaBackend::builder().max_entries(CAPACITY as u64).value_format(BincodeFormat).build()
}

const TTL: Duration = Duration::from_secs(3600);

impl Contender for Hitbox {
    type Given = Row;

    fn open() -> Self {
        let one = hitbox::policy::ConcurrencyLimit::MIN;
        let policy = PolicyConfig::builder().ttl(TTL).concurrency(one).build();
        let builder = hitbox_fn::Cache::builder().backend(backend()).policy(policy);
        Self(builder.concurrency_manager(Broadcast::new()).build())
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Row, Failed> {
        hitbox_row(key, loader.clone()).cache(&self.0).await
    }
}

/// As it comes.
#[derive(Clone)]
pub(crate) struct HitboxAsItComes(hitbox_fn::Cache<Backend, NoopConcurrencyManager, DisabledOffload>);

impl Contender for HitboxAsItComes {
    type Given = Row;

    fn open() -> Self {
        let policy = PolicyConfig::builder().ttl(TTL).build();
        Self(hitbox_fn::Cache::builder().backend(backend()).policy(policy).build())
    }

    async fn get_or_load(&self, key: u64, loader: &Loader) -> Result<Row, Failed> {
        hitbox_row(key, loader.clone()).cache(&self.0).await
    }
}
