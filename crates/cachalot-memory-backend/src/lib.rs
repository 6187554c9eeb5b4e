//! A bounded concurrent in-process cache with expiry and fences: the L1 of cachalot, and useful alone.
//!
//! [`Memory`] is the engine. `Memory<K, Arc<Entry<V>>>` is a [`Store`](cachalot_core::Store), the typed tier
//! of a cache; with the feature `bytes`, `MemoryBackend` is the bytes tier over the same engine.
//!
//! ```
//! use cachalot_core::units::MIB;
//! use cachalot_memory_backend::Memory;
//!
//! let thumbnails: Memory<u64, Vec<u8>> = Memory::weight_limit(64 * MIB)
//!     .weigher(|_id, image: &Vec<u8>| 150 + image.len() as u64)
//!     .build()?;
//! thumbnails.insert(7, vec![0; 1000]);
//! assert_eq!(thumbnails.get_with(&7, |image| image.len()), Some(1000));
//! assert_eq!(thumbnails.weight(), 1150);
//! # Ok::<_, cachalot_core::Error>(())
//! ```
//!
//! # Features
//!
//! `bytes`: `MemoryBackend`, a bounded [`Backend`](https://docs.rs/cachalot-core) with leases.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod memory;
pub use memory::{Found, Memory};
mod curve;
pub use curve::{Curve, CurveSampler};
mod once;
pub use once::TryInsertError;
mod builder;
pub use builder::MemoryBuilder;
mod walk;
pub use walk::{Cursor, Iter};
mod reap;
pub use reap::Reaped;
mod listener;
pub use listener::Cause;
mod stats;
pub use stats::Stats;
#[cfg(feature = "bytes")]
mod bytes;
mod store;
#[cfg(feature = "bytes")]
pub use bytes::MemoryBackend;

mod budget;
mod footprint;
mod life;
mod policy;
#[allow(unsafe_code, reason = "a table is replaced while readers are in it")]
mod published;
mod read;
mod readers;
mod resize;
#[allow(unsafe_code, reason = "keys and values lie inline, and some are read without a lock")]
mod set;
mod shard;
#[allow(unsafe_code, reason = "an unlock is a plain store")]
mod sync;
mod table;
mod tuner;
mod write;

#[cfg(test)]
mod tests;
