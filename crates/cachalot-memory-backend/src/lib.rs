//! A bounded concurrent in-process cache with expiry and fences: the L1 of cachalot, and useful alone.
//!
//! [`Memory`] is the engine. `Memory<K, Arc<Entry<V>>>` is a [`Store`](cachalot_core::Store), the typed tier
//! of a cache; with the feature `bytes`, `MemoryBackend` is the bytes tier over the same engine.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod memory;
pub use memory::{Found, Memory};
mod builder;
pub use builder::MemoryBuilder;
mod stats;
pub use stats::Stats;
#[cfg(feature = "bytes")]
mod bytes;
mod store;
#[cfg(feature = "bytes")]
pub use bytes::{DEFAULT_WEIGHT_LIMIT, MemoryBackend};

mod budget;
mod policy;
mod shard;
mod sync;
