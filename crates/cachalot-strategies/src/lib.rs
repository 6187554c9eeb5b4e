//! The engine of cachalot: [`Cache`], memory and a shared tier joined into one.
//!
//! ```
//! use cachalot_core::{Entry, Ttl};
//! use cachalot_memory_backend::Memory;
//! use cachalot_strategies::Cache;
//! use std::sync::Arc;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let squares: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> = Cache::builder("squares")
//!     .memory(Memory::entries(1_000))
//!     .ttl(Ttl::minutes(5).jitter(0.10))
//!     .build()?;
//!
//! let nine = squares.get_or_load(&3, |load| async move { Ok(load.key() * load.key()) }).await?;
//! assert_eq!(*nine, 9);
//! squares.remove(&3).await?;
//! assert!(squares.get(&3).await.is_none());
//! # Ok(())
//! # }
//! ```
//!
//! # The life of a read
//!
//! A fresh value in memory is handed out at once. Otherwise the caller joins the flight of the key, or
//! opens it: one task that asks the shared tier for the value or for the right to load it, runs the loader,
//! stores what it gave under that right, first in the shared tier, then in memory, and hands it to all who
//! joined. Callers may come and go; the flight goes on.
//!
//! A value that is near its end may be refreshed by a read that does not wait for it
//! ([`CacheBuilder::xfetch`], [`CacheBuilder::early_refresh`]); one that is past its end may be served while
//! it is refreshed ([`CacheBuilder::stale_while_revalidate`]), when that takes long
//! ([`CacheBuilder::soft_timeout`]) or fails ([`CacheBuilder::stale_if_error`]). What fails may be left alone
//! for a while ([`CacheBuilder::error_backoff`]). Each of them has its timeline in its docs.
//!
//! # A shared tier that fails
//!
//! No step of it is waited for longer than [`CacheBuilder::backend_timeout`]; whatever it does, the load goes
//! on. A tier without leases is read and invalidated, but never filled, and loads are one a process then.
//!
//! Many keys go the same way together: [`Cache::get_many_or_load`] opens or joins the flights of all its keys,
//! asks the shared tier once, and hands the loader one list of what is missing. Each key keeps its own flight,
//! right to store and result, so a batch promises of each key what a single call does.
//!
//! # What an invalidation promises
//!
//! When [`Cache::remove`] returns [`Removal::Removed`], no later read in this process, and no read of the
//! shared tier from anywhere, sees a value from before it; whatever was in flight never brings the old value
//! back. When the shared tier cannot be reached it returns [`Removal::Deferred`]; the promise starts with the
//! replay, and until then the key bypasses both tiers in this process. However long the outage lasts none is
//! dropped: beyond [`CacheBuilder::deferred_limit`] a clear takes the place of all that wait.
//!
//! In every other process the same holds from the moment it hears of the invalidation on the
//! [bus](CacheBuilder::bus), or, whatever the bus loses, repeats or reorders, from the moment it notices that it
//! has missed something: after a heartbeat at most, or when its subscription is confirmed anew. Until then it may
//! serve the copy in its memory. Without a bus it may do so for [`CacheBuilder::memory_ttl`].
//!
//! [`confirmed`](Invalidation::confirmed) waits until every process has given up the old value, if all of them are
//! [members](CacheBuilder::membership): for one that has died or hangs it waits until its registration ends.
//!
//! What is invalidated is a [key](Cache::remove), all that has a [tag](Cache::remove_tag), all that
//! [matches](Cache::remove_pattern), or [everything](Cache::clear); the promise is the same. With a key ends what
//! [depends](CacheBuilder::dependencies) on it.
//!
//! Not covered: a server that forgets an acknowledged write (a fail-over to a lagging replica, a restart from
//! an old snapshot), and a source that reads from a lagging replica.

mod cache;
pub use cache::{Cache, Unfinished, View};
mod builder;
pub use builder::CacheBuilder;
mod cached;
pub use cached::{Cached, StaleReason};
mod load;
pub use load::Load;
mod versions;
mod write;
pub use write::{Inserted, Removal};
mod confirmed;
pub use confirmed::{Confirmation, ConfirmedInvalidation, Invalidation};
mod batch;
pub use batch::{IntoLoaded, LoadMany, Unanswered};
mod read_through;
mod reading_side;
pub use read_through::ReadThrough;
mod write_around;
pub use write_around::WriteAround;
mod write_through;
pub use write_through::WriteThrough;
mod write_behind;
pub use write_behind::{
    DeadLetter, FileJournal, Fsync, JournaledBuilder, Order, Overflow, Unflushed, WriteBehind,
    WriteBehindBuilder, WriteBehindStats,
};
mod refresh_ahead;
pub use refresh_ahead::{RefreshAhead, RefreshAheadBuilder, RefreshAheadStats, Registration};
mod sliding;
pub use sliding::Sliding;
mod write_error;
pub use write_error::WriteError;
mod stats;
pub use stats::Stats;
mod early;
pub use early::RefreshMode;
mod engine;
pub use engine::OnDeserted;
mod backoff;
mod both;
mod bounded;
mod dependencies;
mod failover;
mod fleet;
mod flight;
mod index;
pub use index::KeysOfTag;
mod membership;
mod names;
mod old_versions;
mod read;
mod replay;
mod shared;
mod slide;
mod snapshot;
pub use snapshot::{Refused, Restored, Snapshot, SnapshotFile};
mod spawn;
mod tags;
pub use spawn::TokioSpawn;
mod sweep;
mod warm_up;
pub use warm_up::{WarmUp, WarmUpProgress, WarmedUp};
