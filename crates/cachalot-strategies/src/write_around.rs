//! Write-around: the source is written, and the cache forgets.

use std::fmt;
use std::hash::Hash;
use std::time::Duration;

use cachalot_core::{EntryOptions, Error, ErrorKind, LoadError, Source, Store};
use cachalot_stampede::guard;

use crate::cache::Cache;
use crate::cached::Cached;
use crate::read_through::ReadThrough;
use crate::reading_side::reading_side;
use crate::write::Removal;
use crate::write_error::WriteError;

/// A [`ReadThrough`] that writes to the source alone: the cache forgets what was written, and loads it when somebody
/// asks. For what is written more often than it is read.
///
/// ```
/// use cachalot_core::Entry;
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, WriteAround};
/// use cachalot_testkit::CountingSource;
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
///     Cache::builder("users").memory(Memory::entries(1_000)).build()?;
/// let users = WriteAround::new(cache, CountingSource::new());
///
/// users.put(7, "Ada".to_owned()).await?;
/// assert!(users.cache().get(&7).await.is_none());
/// assert_eq!(users.get(&7).await?.as_deref().map(String::as_str), Some("Ada"));
/// # Ok(())
/// # }
/// ```
///
/// # Consistency
///
/// Whoever reads after a write has returned sees it, as after [`Cache::remove`]. Between the source's write and the
/// removal readers may still be served the old value; a process that dies there leaves it cached until its TTL ends.
/// [`WriteThrough`](crate::WriteThrough) closes that gap, for two round trips to the shared tier instead of one. A shared
/// tier that cannot be reached gives up the key when it can ([`Removal::Deferred`]); a process that dies before that
/// leaves the old value there until its TTL ends, as a write-through does.
///
/// # Dropping a future
///
/// Only the caller leaves; the write and its removal are done.
pub struct WriteAround<K, V, S, D> {
    reads: ReadThrough<K, V, S, D>,
}

reading_side!(WriteAround);

impl<K, V, S, D> WriteAround<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Writes to `source`, reads through `cache`.
    pub fn new(cache: Cache<K, V, S>, source: D) -> Self {
        Self::from(ReadThrough::new(cache, source))
    }

    /// Stores `value` under `key` in the source, then forgets the key everywhere.
    ///
    /// # Errors
    /// [`WriteError::Source`] if the source refused; the cache keeps what it has. [`WriteError::Cache`]:
    /// [`Closed`](ErrorKind::Closed) before anything is done, [`Panicked`](ErrorKind::Panicked) if the source did:
    /// whether it took the write is not known, and the key is forgotten.
    pub async fn put(&self, key: K, value: V) -> Result<Removal, WriteError<D::Error>> {
        let source = self.reads.source().clone();
        let removed = self.write(vec![key.clone()], async move { source.store(&key, &value).await }).await?;
        Ok(removed.first().copied().unwrap_or(Removal::Removed))
    }

    /// [`put`](WriteAround::put) of all `pairs`, by one [`store_many`](Source::store_many), in their order; a result
    /// for each.
    ///
    /// # Errors
    /// As [`put`](WriteAround::put). The source may have taken some of them: then all keys are forgotten.
    pub async fn put_many(
        &self,
        pairs: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Vec<Removal>, WriteError<D::Error>> {
        let source = self.reads.source().clone();
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        let keys = pairs.iter().map(|(key, _)| key.clone()).collect();
        let store = async move {
            let pairs: Vec<(&K, &V)> = pairs.iter().map(|(key, value)| (key, value)).collect();
            source.store_many(&pairs).await
        };
        self.write(keys, store).await
    }

    /// Deletes `key` in the source, then forgets it everywhere.
    ///
    /// # Errors
    /// As [`put`](WriteAround::put).
    pub async fn delete(&self, key: &K) -> Result<Removal, WriteError<D::Error>> {
        let (source, key) = (self.reads.source().clone(), key.clone());
        let removed = self.write(vec![key.clone()], async move { source.delete(&key).await }).await?;
        Ok(removed.first().copied().unwrap_or(Removal::Removed))
    }

    /// Runs `store`, then removes `keys`, whoever waits for it.
    async fn write(
        &self,
        keys: Vec<K>,
        store: impl Future<Output = Result<(), D::Error>> + Send + 'static,
    ) -> Result<Vec<Removal>, WriteError<D::Error>> {
        let engine = self.cache().engine.clone();
        let work = async move {
            let stored = guard(Box::pin(store), Duration::MAX).await;
            if keys.len() == 1 && matches!(stored, Ok(Err(_))) {
                return (stored, Vec::new());
            }
            (stored, engine.remove_many(keys).await)
        };
        let (stored, removed) = self.cache().engine.detached("write_around", work).await?;
        match stored {
            Ok(Ok(())) => Ok(removed),
            Ok(Err(error)) => Err(WriteError::Source(error)),
            Err(_) => {
                let error = Error::new(ErrorKind::Panicked, "write_around");
                Err(error.detail("whether the source took it is not known").into())
            }
        }
    }
}
