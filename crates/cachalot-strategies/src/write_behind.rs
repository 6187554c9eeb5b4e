//! Write-behind: writes are acknowledged at once, and the source gets them later, many together.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::{LoadError, Source, Store};

use crate::cache::Cache;
use crate::cached::Cached;
use crate::write_error::WriteError;

mod builder;
pub use builder::WriteBehindBuilder;
mod rules;
pub use rules::{Order, Overflow};
mod letters;
pub use letters::DeadLetter;
mod stats;
pub use stats::{Unflushed, WriteBehindStats};
mod admission;
mod bounds;
use bounds::{Key, Value};
mod ends;
mod enter;
mod flush;
mod graves;
mod inner;
use inner::Inner;
mod journal;
pub use journal::{FileJournal, Fsync};
mod journaled;
mod locked;
pub use journaled::JournaledBuilder;
mod queue;
mod read;
#[cfg(test)]
mod tests;

/// A [`Cache`] bound to a [`Source`] that gets its writes later: [`put`](WriteBehind::put) returns once the write is
/// queued, and a task of its own gives the source many at once, every 5 seconds or as soon as 100 keys wait.
///
/// Of several writes of one key that wait, the source gets the last; what is counted up can be
/// [merged](WriteBehindBuilder::merge) instead. The writes of a key reach the source in their order, never two at the
/// same time. What waits is what a read gives, whatever becomes of the key in the cache: nothing that the source does
/// not have yet is evicted or expires. After each flush the keys are removed from every tier and every process.
///
/// A clone is cheap and is the same.
///
/// ```
/// use cachalot_core::{Entry, FnSource};
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, WriteBehind};
/// use std::sync::{Arc, Mutex};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let rows = Arc::new(Mutex::new(std::collections::HashMap::new()));
/// # let (reads, writes, deletes) = (rows.clone(), rows.clone(), rows.clone());
/// let source = FnSource::new(
///     move |id: u64| {
///         let row: Option<String> = reads.lock().unwrap().get(&id).cloned();
///         async move { Ok::<_, std::io::Error>(row) }
///     },
///     // ...
/// #     move |id, row| {
/// #         writes.lock().unwrap().insert(id, row);
/// #         async { Ok(()) }
/// #     },
/// #     move |id| {
/// #         deletes.lock().unwrap().remove(&id);
/// #         async { Ok(()) }
/// #     },
/// );
/// let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
///     Cache::builder("notes").memory(Memory::entries(1_000)).build()?;
/// let notes = WriteBehind::builder(cache, source).build()?;
///
/// notes.put(1, "milk".to_owned()).await?;
/// notes.put(1, "milk and bread".to_owned()).await?;
/// assert_eq!(notes.get(&1).await?.as_deref().map(String::as_str), Some("milk and bread"));
/// assert!(rows.lock().unwrap().is_empty());
///
/// notes.flush().await;
/// assert_eq!(rows.lock().unwrap()[&1], "milk and bread");
/// # Ok(())
/// # }
/// ```
///
/// # Consistency
///
/// Who reads through this handle, or a clone, sees every write that was acknowledged. Other processes, and who reads
/// the cache or the source directly, see it after its flush.
///
/// # When the source fails
///
/// Nothing is lost and nothing is dropped: what it has not taken is tried again after a pause, what it refuses while
/// it takes other writes is found by halving and becomes a [dead letter](WriteBehind::dead_letters). When it is down,
/// writes wait, up to the [bounds](WriteBehindBuilder::max_entries), and then callers do
/// ([`Overflow`]).
///
/// # When the process dies
///
/// Without a journal all that waits is lost: at most what was written in the time that a write waits, which is
/// [`flush_every`](WriteBehindBuilder::flush_every) and the call of the source, or since the source is down.
///
/// # Dropping the last handle
///
/// What waits is sent in the background as long as the runtime lives, retries included. If it ends before that is
/// done, [`Event::WritesLost`](cachalot_core::Event::WritesLost) says so. [`shutdown`](WriteBehind::shutdown) waits
/// instead, and says what is left.
pub struct WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    handle: Arc<Handle<K, V, S, D>>,
}

impl<K, V, S, D> WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Begins to build one that reads `cache`, and loads from and writes to `source`.
    pub fn builder(cache: Cache<K, V, S>, source: D) -> WriteBehindBuilder<K, V, S, D> {
        WriteBehindBuilder::new(cache, source)
    }

    fn over(inner: Inner<K, V, S, D>) -> Self {
        Self { handle: Arc::new(Handle { inner: Arc::new(inner) }) }
    }

    fn inner(&self) -> &Arc<Inner<K, V, S, D>> {
        &self.handle.inner
    }

    /// The cache, to read and to invalidate in. What it serves may lack what waits here.
    pub fn cache(&self) -> &Cache<K, V, S> {
        self.inner().reads.cache()
    }

    /// The source. It lacks what waits here.
    pub fn source(&self) -> &Arc<D> {
        self.inner().reads.source()
    }

    /// Writes `value` under `key`; with [`merge`](WriteBehindBuilder::merge), adds it to what is there.
    ///
    /// Returns once it is acknowledged: queued, and as durable as the journal promises. If there is no room it does
    /// what [`overflow`](WriteBehindBuilder::overflow) says.
    ///
    /// # Errors
    /// [`WriteError::Cache`]; nothing was written. [`Unavailable`](cachalot_core::ErrorKind::Unavailable): no room.
    /// [`Closed`](cachalot_core::ErrorKind::Closed): it is shut down. [`Config`](cachalot_core::ErrorKind::Config): the
    /// write alone is heavier than all that may wait. [`Conflict`](cachalot_core::ErrorKind::Conflict), only where
    /// the caller waits for the source: that refuses it, and it is a dead letter. And what the journal says.
    ///
    /// # Dropping the future
    /// The write may still be done.
    pub async fn put(&self, key: K, value: V) -> Result<(), WriteError<D::Error>> {
        let entry = self.inner().entry(Some(value));
        Ok(self.inner().enter("put", key, entry).await?.given("put").await?)
    }

    /// Deletes `key`: from now on a read gives nothing.
    ///
    /// # Errors
    /// As [`put`](WriteBehind::put).
    ///
    /// # Dropping the future
    /// The write may still be done.
    pub async fn delete(&self, key: &K) -> Result<(), WriteError<D::Error>> {
        let entry = self.inner().entry(None);
        Ok(self.inner().enter("delete", key.clone(), entry).await?.given("delete").await?)
    }

    /// [`put`](WriteBehind::put) of each of `pairs`, results in their order. Each is on its own; with a journal they
    /// become durable together.
    ///
    /// # Errors
    /// Per pair, as [`put`](WriteBehind::put).
    ///
    /// # Dropping the future
    /// Some may be done.
    pub async fn put_many(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Vec<Result<(), WriteError<D::Error>>> {
        let mut acks = Vec::new();
        for (key, value) in pairs.into_iter().collect::<Vec<_>>() {
            let entry = self.inner().entry(Some(value));
            acks.push(self.inner().enter("put_many", key, entry).await);
        }
        let mut results = Vec::with_capacity(acks.len());
        for ack in acks {
            results.push(match ack {
                Ok(ack) => ack.given("put_many").await.map_err(WriteError::Cache),
                Err(error) => Err(WriteError::Cache(error)),
            });
        }
        results
    }

    /// The value of `key`: what waits for the source ([`Tier::Pending`](cachalot_core::Tier::Pending)), else from a
    /// tier or the source. `None` if there is none, or if it waits to be deleted.
    ///
    /// With [`merge`](WriteBehindBuilder::merge) it is the source's value with what waits; while a write of the key is
    /// at the source, that is waited for.
    ///
    /// # Errors
    /// As [`ReadThrough::get`](crate::ReadThrough::get).
    ///
    /// # Dropping the future
    /// Only this caller leaves; a load goes on.
    pub async fn get(&self, key: &K) -> Result<Option<Cached<V>>, LoadError> {
        self.inner().get(key).await
    }

    /// [`get`](WriteBehind::get) of each of `keys`, answers in their order. What neither waits nor is in a tier is asked
    /// of the source together.
    ///
    /// # Errors
    /// Per key, as [`get`](WriteBehind::get).
    ///
    /// # Dropping the future
    /// Only this caller leaves; loads go on.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Cached<V>>, LoadError>> {
        Box::pin(self.inner().get_many(keys)).await
    }

    /// What waits for `key`, else the fresh value in memory. Synchronous. `None` if that does not tell: also if the key
    /// waits to be deleted, and if values are merged and memory has none to merge with.
    pub fn get_local(&self, key: &K) -> Option<Cached<V>> {
        self.inner().get_local(key)
    }
}

impl<K, V, S, D> Clone for WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    fn clone(&self) -> Self {
        Self { handle: self.handle.clone() }
    }
}

impl<K, V, S, D> fmt::Debug for WriteBehind<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteBehind")
            .field("cache", self.cache())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// What callers hold; tasks hold what is in it.
struct Handle<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> {
    inner: Arc<Inner<K, V, S, D>>,
}

impl<K: Key, V: Value, S: Store<K, V>, D: Source<K, V>> Drop for Handle<K, V, S, D> {
    fn drop(&mut self) {
        self.inner.desert();
    }
}
