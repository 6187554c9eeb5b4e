//! Read-through: a cache that knows where its values come from.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;

use cachalot_core::{EntryOptions, LoadError, LoaderError, Source, Store};

use crate::batch::LoadMany;
use crate::cache::Cache;
use crate::cached::Cached;
use crate::flight::LoadFuture;
use crate::load::Load;
use crate::read::Read;

/// A [`Cache`] bound to a [`Source`]: who asks for a key gets its value, from a tier or from the source, and need not
/// know how it is loaded.
///
/// All that the cache is built with holds: one load per key, leases, early refresh, stale values, negative entries. A
/// clone is cheap and is the same.
///
/// ```
/// use cachalot_core::{Entry, LoadFn};
/// use cachalot_memory_backend::Memory;
/// use cachalot_strategies::{Cache, ReadThrough};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
///     Cache::builder("squares").memory(Memory::entries(1_000)).build()?;
/// let squares = ReadThrough::new(cache, LoadFn::new(|n| async move { Ok::<_, std::io::Error>(Some(n * n)) }));
///
/// assert_eq!(squares.get(&3).await?.as_deref(), Some(&9));
/// # Ok(())
/// # }
/// ```
///
/// # Consistency
///
/// What changes in the source is the cache's to be told: [`Cache::remove`] after the change, or write through
/// [`WriteThrough`](crate::WriteThrough). Until then, or until its TTL ends, the old value is served.
pub struct ReadThrough<K, V, S, D> {
    cache: Cache<K, V, S>,
    source: Arc<D>,
    options: EntryOptions,
    mark: Option<Mark<K, V>>,
}

/// Says what is to be known of a value besides its options.
type Mark<K, V> = Arc<dyn Fn(&Load<K>, &V) + Send + Sync>;

impl<K, V, S, D> ReadThrough<K, V, S, D>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
    D: Source<K, V>,
{
    /// Reads `cache`, and loads what it has not from `source`.
    pub fn new(cache: Cache<K, V, S>, source: D) -> Self {
        Self { options: cache.engine.options.clone(), cache, source: Arc::new(source), mark: None }
    }

    /// Calls `mark` with each value that is loaded, to set what it decides: its TTL, its tags, its version.
    ///
    /// ```
    /// # use cachalot_core::{Entry, LoadFn};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::{Cache, ReadThrough};
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
    /// #     Cache::builder("squares").memory(Memory::entries(1_000)).build()?;
    /// # let source = LoadFn::new(|n: u64| async move { Ok::<_, std::io::Error>(Some(n * n)) });
    /// let squares = ReadThrough::new(cache, source)
    ///     .marked_by(|load, square| load.tag(if square % 2 == 0 { "even" } else { "odd" }));
    /// squares.get(&3).await?;
    /// squares.cache().remove_tag("odd").await?;
    /// assert!(squares.get_local(&3).is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn marked_by(mut self, mark: impl Fn(&Load<K>, &V) + Send + Sync + 'static) -> Self {
        self.mark = Some(Arc::new(mark));
        self
    }

    /// The same with other options, as [`Cache::with`].
    #[must_use]
    pub fn with(&self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> Self {
        Self { options: change(self.options.clone()), ..self.clone() }
    }

    /// The cache, to invalidate in.
    pub fn cache(&self) -> &Cache<K, V, S> {
        &self.cache
    }

    /// The source.
    pub fn source(&self) -> &Arc<D> {
        &self.source
    }

    /// The options of what it loads.
    pub(crate) fn options(&self) -> &EntryOptions {
        &self.options
    }

    /// [`Cache::get_local`].
    pub fn get_local(&self, key: &K) -> Option<Cached<V>> {
        self.cache.get_local(key)
    }

    /// The value of `key`, from a tier or the source; `None` if there is none, which is cached only if
    /// [`negative_ttl`](crate::CacheBuilder::negative_ttl) is set.
    ///
    /// # Errors
    /// As [`Cache::get_or_load`]; the source's own error is found by
    /// [`downcast_ref`](cachalot_core::LoadError::downcast_ref).
    ///
    /// # Dropping the future
    /// Only this caller leaves; the load goes on.
    pub fn get<'a>(
        &'a self,
        key: &'a K,
    ) -> impl Future<Output = Result<Option<Cached<V>>, LoadError>> + use<'a, K, V, S, D> {
        let load = |handle| Box::pin(self.loader(handle)) as LoadFuture<V>;
        Read::new(&self.cache.engine, key, &self.options, load)
    }

    fn loader(
        &self,
        load: Load<K>,
    ) -> impl Future<Output = Result<Option<V>, LoaderError>> + Send + use<K, V, S, D> {
        let (source, mark) = (self.source.clone(), self.mark.clone());
        async move {
            let value = source.load(load.key()).await?;
            if let (Some(mark), Some(value)) = (&mark, &value) {
                mark(&load, value);
            }
            Ok(value)
        }
    }

    /// [`get`](ReadThrough::get) of each of `keys`, answers in their order. What no tier has is asked of the source
    /// together, by [`load_many`](Source::load_many).
    ///
    /// # Errors
    /// Per key, as for [`get`](ReadThrough::get). If the source answers fewer keys than it was asked for, the others
    /// are [`Unanswered`](crate::Unanswered).
    ///
    /// # Dropping the future
    /// Only this caller leaves; the loads go on.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Result<Option<Cached<V>>, LoadError>> {
        let this = self.clone();
        let load = move |load: LoadMany<K>| this.clone().load_together(load);
        Box::pin(self.cache.engine.load_options(keys, &self.options, load)).await
    }

    /// What the source has for the keys of `load`.
    pub(crate) async fn load_together(self, load: LoadMany<K>) -> Result<Vec<(K, Option<V>)>, LoaderError> {
        let values = self.source.load_many(load.keys()).await?;
        let answers: Vec<_> = load.keys().iter().cloned().zip(values).collect();
        for (key, value) in &answers {
            if let (Some(mark), Some(value)) = (&self.mark, value) {
                load.mark(key, |one| mark(one, value));
            }
        }
        Ok(answers)
    }
}

impl<K, V, S, D> Clone for ReadThrough<K, V, S, D> {
    fn clone(&self) -> Self {
        Self {
            cache: self.cache.clone(),
            source: self.source.clone(),
            options: self.options.clone(),
            mark: self.mark.clone(),
        }
    }
}

impl<K, V, S, D> fmt::Debug for ReadThrough<K, V, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadThrough").field("cache", &self.cache).finish_non_exhaustive()
    }
}
