//! Write-through: the source first, then the cache, and no moment at which others could keep the old value.

use std::fmt;
use std::hash::Hash;

use cachalot_core::{EntryOptions, Error, ErrorKind, LoadError, Source, Store};
use tokio::sync::oneshot;

use crate::cache::Cache;
use crate::cached::Cached;
use crate::read_through::ReadThrough;
use crate::reading_side::reading_side;
use crate::write::{Inserted, Removal};
use crate::write_error::WriteError;

mod draft;
mod run;

/// A [`ReadThrough`] that writes too: to the source, and on its way to the cache.
///
/// ```
/// use cachalot_core::Entry;
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, WriteThrough};
/// use cachalot_testkit::CountingSource;
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
///     Cache::builder("users").memory(Memory::entries(1_000)).build()?;
/// let source = CountingSource::new();
/// let users = WriteThrough::new(cache, source.clone());
///
/// users.put(7, "Ada".to_owned()).await?;
/// assert_eq!(users.get(&7).await?.as_deref().map(String::as_str), Some("Ada"));
/// assert_eq!((source.stores(), source.loads()), (1, 0));
/// # Ok(())
/// # }
/// ```
///
/// # Consistency
///
/// Before it touches the source a write takes a *hold* in the shared tier: the old value goes, and until the hold ends
/// no loader, in whichever process, gets the right to store. Then the source is written, and the new value is stored
/// only if the hold still stands. Writers that overlap end each other's holds: the source decides who came last, and
/// the key is loaded from there, once the later hold is over. So whoever reads after a write has returned sees it, or
/// what came after, in this process and in the shared tier; other processes' memory when the
/// [bus](crate::CacheBuilder::bus) has told them.
///
/// A process that dies in the middle leaves its hold, which ends by itself after
/// [`hold_term`](crate::CacheBuilder::hold_term): until then the key is loaded by each process for itself and stored
/// nowhere; afterwards it is as the source has it.
///
/// A shared tier that cannot be reached takes no hold. The source is written all the same, and the key is removed there
/// as soon as that is possible ([`Inserted::Deferred`]). A process that dies before that leaves the old value there
/// until its TTL ends.
///
/// From the hold on a source has half of that term to answer. If it does not, the caller gets a
/// [`Timeout`](ErrorKind::Timeout), the write goes on, and what it comes to is left to the source: the key is removed
/// when the hold is over, and again when the source has answered after that.
///
/// # Dropping a future
///
/// Only the caller leaves; the write is done.
pub struct WriteThrough<K, V, S, D> {
    reads: ReadThrough<K, V, S, D>,
}

reading_side!(WriteThrough);

impl<K, V, S, D> WriteThrough<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Writes to `source` and `cache`, and reads through them.
    pub fn new(cache: Cache<K, V, S>, source: D) -> Self {
        Self::from(ReadThrough::new(cache, source))
    }

    /// Stores `value` under `key` in the source, then in the cache, in place of what is there.
    ///
    /// [`Inserted::Stored`] if the cache has it too; anything else says why it has not: the source has it in any case.
    /// Two round trips to a shared tier besides the source's; writes of one key take turns in a process.
    ///
    /// # Errors
    /// [`WriteError::Source`] if the source refused: it has the old value, and the cache has none.
    /// [`WriteError::Cache`]: [`Encode`](ErrorKind::Encode) and [`Config`](ErrorKind::Config) if the cache could never
    /// hold the value, [`Unsupported`](ErrorKind::Unsupported) if the shared tier has no leases,
    /// [`Closed`](ErrorKind::Closed), each before anything is changed; [`Timeout`](ErrorKind::Timeout) and
    /// [`Panicked`](ErrorKind::Panicked) if nobody knows whether the source took it.
    pub async fn put(&self, key: K, value: V) -> Result<Inserted, WriteError<D::Error>> {
        let mut kept = self.write(vec![(key, Some(value))], "put").await?;
        Ok(kept.pop().unwrap_or(Inserted::Dropped))
    }

    /// [`put`](WriteThrough::put) of all `pairs`, by one [`store_many`](Source::store_many); of several values for one
    /// key the last counts. Results in the order of the first mention of each key.
    ///
    /// # Errors
    /// As [`put`](WriteThrough::put), for all of them together. Of what the source refused it may have taken some:
    /// the cache has none of them.
    pub async fn put_many(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<Inserted>, WriteError<D::Error>> {
        self.write(pairs.into_iter().map(|(key, value)| (key, Some(value))).collect(), "put_many").await
    }

    /// Deletes `key` in the source, then forgets it everywhere. That it is absent is cached only if
    /// [`negative_ttl`](EntryOptions::negative_ttl) is set.
    ///
    /// # Errors
    /// As [`put`](WriteThrough::put).
    pub async fn delete(&self, key: &K) -> Result<Removal, WriteError<D::Error>> {
        let mut removed = self.delete_many(std::slice::from_ref(key)).await?;
        Ok(removed.pop().unwrap_or(Removal::Removed))
    }

    /// [`delete`](WriteThrough::delete) of all `keys`, by one [`delete_many`](Source::delete_many). Results as
    /// those of [`put_many`](WriteThrough::put_many).
    ///
    /// # Errors
    /// As [`put`](WriteThrough::put), for all of them together.
    pub async fn delete_many(&self, keys: &[K]) -> Result<Vec<Removal>, WriteError<D::Error>> {
        let kept = self.write(keys.iter().map(|key| (key.clone(), None)).collect(), "delete").await?;
        let removal = |kept| if kept == Inserted::Deferred { Removal::Deferred } else { Removal::Removed };
        Ok(kept.into_iter().map(removal).collect())
    }

    async fn write(
        &self,
        writes: Vec<(K, Option<V>)>,
        operation: &'static str,
    ) -> Result<Vec<Inserted>, WriteError<D::Error>> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let engine = &self.cache().engine;
        let task = engine.admit(operation)?;
        let (answer, answered) = oneshot::channel();
        let (options, source) = (self.reads.options().clone(), self.reads.source().clone());
        engine.detach(task, engine.clone().write_through(writes, options, source, answer));
        answered.await.unwrap_or_else(|_| Err(unknown(ErrorKind::Panicked, operation).into()))
    }
}

/// Whether the source took a write is not known.
fn unknown(kind: ErrorKind, operation: &'static str) -> Error {
    Error::new(kind, operation).detail("whether the source took it is not known")
}
