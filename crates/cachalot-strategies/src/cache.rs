//! The face of a cache.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Depth, EntryOptions, LoadError, LoaderError, Result, Store, Tags};
use equivalent::Equivalent;

use crate::builder::CacheBuilder;
use crate::cached::Cached;
use crate::confirmed::Invalidation;
use crate::engine::Engine;
use crate::fleet::{Membership, listen};
use crate::flight::LoadFuture;
use crate::load::Load;
use crate::membership::stay_enrolled;
use crate::read::{Read, value_of};
use crate::stats::Stats;
use crate::write::Inserted;

/// A cache of typed values: memory, over an optional shared tier, over a loader.
///
/// A handle is cheap to clone; clones are the same cache. It needs a tokio runtime for everything that is
/// `async`.
///
/// # Dropping a future
///
/// A caller may leave at any await. A load goes on, bounded by
/// [`max_flight_age`](CacheBuilder::max_flight_age), and fills the cache, unless
/// [`on_deserted`](CacheBuilder::on_deserted) says otherwise; an insert or an invalidation is done.
pub struct Cache<K, V, S> {
    pub(crate) engine: Arc<Engine<K, V, S>>,
}

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// Begins to build a cache. `name` names it in shared tiers, errors and metrics; processes that share
    /// values use the same.
    pub fn builder(name: &str) -> CacheBuilder<K, V, S> {
        CacheBuilder::new(name)
    }

    pub(crate) fn over(engine: Engine<K, V, S>) -> Self {
        let engine = Arc::new_cyclic(|me| Engine { me: me.clone(), ..engine });
        if let Some(Membership(fleet)) = &engine.fleet {
            engine.seen.trust_nothing();
            engine.spawn.spawn(Box::pin(fleet.clone().speak()));
            engine.spawn.spawn(Box::pin(listen(Arc::downgrade(&engine), fleet.clone())));
        }
        if let Some(membership) = &engine.membership {
            let enrolment = membership.0.clone();
            engine.spawn.spawn(Box::pin(stay_enrolled(Arc::downgrade(&engine), enrolment)));
        }
        Self { engine }
    }

    /// The name it was built with.
    pub fn name(&self) -> &str {
        &self.engine.name
    }

    /// The fresh value in memory. Synchronous, asks no other tier; tens of nanoseconds.
    #[inline]
    pub fn get_local<Q>(&self, key: &Q) -> Option<Cached<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        self.engine.hit(key)
    }

    /// The fresh value in memory or in the shared tier. Never loads, never waits for a load. A fault of the
    /// shared tier is a miss.
    pub async fn get(&self, key: &K) -> Option<Cached<V>> {
        if let Some(hit) = self.get_local(key) {
            return Some(hit);
        }
        Box::pin(self.engine.get_shared(key)).await
    }

    /// Whether [`get`](Cache::get) would give something. It costs the same, and fills memory likewise.
    pub async fn contains(&self, key: &K) -> bool {
        self.get(key).await.is_some()
    }

    /// The value, from memory, the shared tier, or `load`; at most one load per key runs in this process,
    /// and over a shared tier with leases, in all processes.
    ///
    /// `load` is called only if memory has no fresh value and nobody else is loading, or to refresh one that is
    /// about to expire ([`xfetch`](CacheBuilder::xfetch)); the future it gives is run only if no tier has the
    /// value either. It runs in a task of its own. Read the source in the future, not in the closure: over a shared
    /// tier the right to store is granted in between, and what was read before it may be older than a removal.
    ///
    /// A caller that joins a load gets the value with the life that the load gave it. It is not served from it
    /// what its own options would not take from a tier: an absence where it asked for a value, or a stale value
    /// beyond its bounds. It then waits for the next load, or begins it.
    ///
    /// # Errors
    /// [`LoadError::Loader`] with the loader's own error, shared by all who waited for this load.
    /// [`LoadError::Cache`] if it took longer than the hard timeout, panicked, asked for its own key, or the
    /// cache is shut down. Either tells when the key is loaded again ([`LoadError::retry_at`]), if
    /// [`error_backoff`](CacheBuilder::error_backoff) is set: until then callers get it without a load. Faults of
    /// the shared tier are no errors: the load goes on without it.
    ///
    /// # Dropping the future
    /// Only this caller leaves; the load goes on.
    pub fn get_or_load<'a, F, T>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Cached<V>, LoadError>> + use<'a, K, V, S, F, T>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        let load = |handle| value_of(load(handle));
        Read::new(&self.engine, key, &self.engine.options, load)
    }

    /// As [`get_or_load`](Cache::get_or_load) for values that may be absent. Absence is cached only if
    /// [`negative_ttl`](CacheBuilder::negative_ttl) is set.
    ///
    /// # Errors
    /// As [`get_or_load`](Cache::get_or_load).
    pub fn get_or_load_opt<'a, F, T>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<Cached<V>>, LoadError>> + use<'a, K, V, S, F, T>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<Option<V>, LoaderError>> + Send + 'static,
    {
        let load = |handle| Box::pin(load(handle)) as LoadFuture<V>;
        Read::new(&self.engine, key, &self.engine.options, load)
    }

    /// Stores `value` under `key` in every tier, in place of what is there.
    ///
    /// An insert is an invalidation first: whatever was in flight for the key is not stored. Two round trips
    /// to a shared tier.
    ///
    /// # Errors
    /// [`Encode`](cachalot_core::ErrorKind::Encode): the value has no bytes, or its codec panicked; nothing has
    /// changed.
    /// [`Config`](cachalot_core::ErrorKind::Config): the shared tier can never hold it; the old value is
    /// gone.
    /// [`Unsupported`](cachalot_core::ErrorKind::Unsupported): the shared tier has no leases; nothing has
    /// changed. [`Closed`](cachalot_core::ErrorKind::Closed), and
    /// [`Panicked`](cachalot_core::ErrorKind::Panicked) if a `Drop` of yours did.
    pub async fn insert(&self, key: K, value: V) -> Result<Inserted> {
        let options = self.engine.options.clone();
        self.insert_with(key, value, options).await
    }

    async fn insert_with(&self, key: K, value: V, options: EntryOptions) -> Result<Inserted> {
        let work = self.engine.clone().insert(key, value, options);
        self.engine.detached("insert", work).await?
    }

    /// Forgets `key` in every tier. Whatever is in flight for it, in any process, is not stored.
    ///
    /// Call it after the source has taken the change. Other processes hear of it on the
    /// [`bus`](CacheBuilder::bus); [`confirmed`](Invalidation::confirmed) waits for them.
    ///
    /// # Errors
    /// [`Closed`](cachalot_core::ErrorKind::Closed). A shared tier that cannot be reached is [`Removal::Deferred`](crate::Removal::Deferred).
    pub fn remove<Q>(&self, key: &Q) -> Invalidation<'_>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        self.invalidation("remove", Ok(self.engine.clone().remove(key.to_owned())))
    }

    /// As [`remove`](Cache::remove), but what is there is kept for
    /// [`stale_if_error`](CacheBuilder::stale_if_error) more, to be served if a load fails; never while a
    /// refresh runs.
    ///
    /// # Errors
    /// As [`remove`](Cache::remove).
    pub fn expire<Q>(&self, key: &Q) -> Invalidation<'_>
    where
        Q: ToOwned<Owned = K> + ?Sized,
    {
        self.invalidation("expire", Ok(self.engine.clone().expire(key.to_owned())))
    }

    /// Invalidates everything that has the tag `name`, in every tier and process, in a number of steps that does
    /// not depend on how much that is: one round trip to a shared tier.
    ///
    /// Entries get tags by the options ([`EntryOptions::tags`], through [`with`](Cache::with)) and from their
    /// loader ([`Load::tag`]). What is being loaded meanwhile and turns out to have the tag is not kept either.
    ///
    /// The entries themselves stay where they are until they are replaced, evicted or end; none is served. A
    /// shared tier that loses what it knows of a tag, by eviction say, ends the entries that have it.
    ///
    /// ```
    /// # use cachalot_core::{Entry, Tags};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::sync::Arc;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<u64, String, Memory<u64, Arc<Entry<String>>>> =
    /// #     Cache::builder("products").memory(Memory::entries(10)).build()?;
    /// cache.get_or_load(&1, |load| async move {
    ///     load.tag("category:7");
    ///     Ok("kettle".to_owned())
    /// }).await?;
    /// let tags = Tags::new(["category:7", "new"])?;
    /// cache.with(|options| options.tags(tags)).insert(2, "teapot".to_owned()).await?;
    ///
    /// cache.remove_tag("category:7").await?;
    /// assert!(cache.get_local(&1).is_none() && cache.get_local(&2).is_none());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Config`](cachalot_core::ErrorKind::Config) if `name` is no [`Tag`](cachalot_core::Tag), else as
    /// [`remove`](Cache::remove).
    pub fn remove_tag(&self, name: impl AsRef<[u8]>) -> Invalidation<'_> {
        self.remove_tags([name])
    }

    /// [`remove_tag`](Cache::remove_tag) of each of `names`, 64 at most, in one round trip.
    ///
    /// # Errors
    /// As [`remove_tag`](Cache::remove_tag), and [`Config`](cachalot_core::ErrorKind::Config) if they are too
    /// many.
    pub fn remove_tags<T: AsRef<[u8]>>(&self, names: impl IntoIterator<Item = T>) -> Invalidation<'_> {
        self.end_tags("remove_tags", Tags::new(names), Depth::Remove)
    }

    /// As [`remove_tag`](Cache::remove_tag), but what has the tag may still be served if a load fails, within
    /// [`stale_if_error`](CacheBuilder::stale_if_error) and its own life. If the shared tier cannot be reached,
    /// it is removed. Which loads are about the tag is not known before they end: a caller that joins one from before,
    /// which then fails, may be served so too.
    ///
    /// # Errors
    /// As [`remove_tag`](Cache::remove_tag).
    pub fn expire_tag(&self, name: impl AsRef<[u8]>) -> Invalidation<'_> {
        self.end_tags("expire_tag", Tags::new([name]), Depth::Expire)
    }

    fn end_tags(&self, operation: &'static str, tags: Result<Tags>, depth: Depth) -> Invalidation<'_> {
        let engine = self.engine.clone();
        self.invalidation(operation, tags.map(|tags| engine.remove_tags(tags, depth)))
    }

    /// The same cache with other options for the calls made through the view. The TTLs say how what the call
    /// itself loads or inserts is kept; how stale a value may be, and how long to wait for a fresh one, holds
    /// for whatever the call finds.
    ///
    /// ```
    /// # use cachalot_core::{Entry, Ttl};
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::{sync::Arc, time::Duration};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
    /// #     Cache::builder("squares").memory(Memory::entries(10)).build()?;
    /// let short = cache.with(|options| options.ttl(Ttl::seconds(10)).max_stale(Duration::ZERO));
    /// let four = short.get_or_load(&2, |load| async move { Ok(load.key() * load.key()) }).await?;
    /// # assert_eq!(*four, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn with(&self, change: impl FnOnce(EntryOptions) -> EntryOptions) -> View<'_, K, V, S> {
        View { cache: self, options: change(self.engine.options.clone()) }
    }

    /// Figures since it was built.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Closes the cache and waits until what runs in its background has ended: loads, inserts,
    /// invalidations, replays; then until the [`bus`](CacheBuilder::bus) has taken what it is to tell. Reads of what is in memory still work; everything else is
    /// [`Closed`](cachalot_core::ErrorKind::Closed).
    ///
    /// # Errors
    /// [`Unfinished`] if that takes longer than `deadline`, with what is left.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Unfinished> {
        self.engine.tasks.close();
        let ended = async {
            self.engine.tasks.idle().await;
            self.engine.leave_members().await;
            if let Some(Membership(fleet)) = &self.engine.fleet {
                fleet.leave();
                fleet.gone().await;
            }
        };
        match tokio::time::timeout(deadline, ended).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Unfinished {
                tasks: self.engine.tasks.running(),
                invalidations: self.engine.deferred.len(),
                messages: self.engine.stats().pending_messages as usize,
            }),
        }
    }
}

impl<K, V, S> Clone for Cache<K, V, S> {
    fn clone(&self) -> Self {
        Self { engine: self.engine.clone() }
    }
}

impl<K, V, S> fmt::Debug for Cache<K, V, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cache").field("name", &self.engine.name).finish_non_exhaustive()
    }
}

/// What a [`Cache::shutdown`] had to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Background tasks that still run.
    pub tasks: usize,
    /// Keys whose invalidation the shared tier has not taken. Other processes may serve their old values
    /// until these expire.
    pub invalidations: usize,
    /// Invalidations that the [`bus`](CacheBuilder::bus) has not taken. Other processes may serve the old values
    /// until they notice that this one is silent.
    pub messages: usize,
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { tasks, invalidations, messages } = self;
        write!(f, "{tasks} tasks still run, {invalidations} invalidations are not taken, {messages} not told")
    }
}

impl std::error::Error for Unfinished {}

/// A cache with other options, made by [`Cache::with`].
pub struct View<'a, K, V, S> {
    pub(crate) cache: &'a Cache<K, V, S>,
    pub(crate) options: EntryOptions,
}

impl<'c, K, V, S> View<'c, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// [`Cache::get_or_load`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load<'a, F, T>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Cached<V>, LoadError>> + use<'a, 'c, K, V, S, F, T>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<V, LoaderError>> + Send + 'static,
    {
        let load = |handle| value_of(load(handle));
        Read::new(&self.cache.engine, key, &self.options, load)
    }

    /// [`Cache::get_or_load_opt`] with these options.
    ///
    /// # Errors
    /// As there.
    pub fn get_or_load_opt<'a, F, T>(
        &'a self,
        key: &'a K,
        load: F,
    ) -> impl Future<Output = Result<Option<Cached<V>>, LoadError>> + use<'a, 'c, K, V, S, F, T>
    where
        F: FnOnce(Load<K>) -> T,
        T: Future<Output = Result<Option<V>, LoaderError>> + Send + 'static,
    {
        let load = |handle| Box::pin(load(handle)) as LoadFuture<V>;
        Read::new(&self.cache.engine, key, &self.options, load)
    }

    /// [`Cache::insert`] with these options.
    ///
    /// # Errors
    /// As there.
    pub async fn insert(&self, key: K, value: V) -> Result<Inserted> {
        self.cache.insert_with(key, value, self.options.clone()).await
    }
}
