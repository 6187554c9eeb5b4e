//! Many keys in one call.

use std::hash::Hash;

use cachalot_core::{EntryOptions, LoadError, LoaderError, Result, Store};

use crate::cache::{Cache, View};
use crate::cached::Cached;
use crate::confirmed::Invalidation;
use crate::write::{Inserted, Removal};

mod ahead;
pub(crate) use ahead::{Ahead, due_at};
mod load;
pub use load::{IntoLoaded, LoadMany, Unanswered};
mod calls;
mod distinct;
mod flights;
pub(crate) mod pipeline;
pub(crate) use pipeline::pipelined;
mod read;
mod write;

/// The bounds of calls that load many keys.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// How many keys one loader call is given.
    pub(crate) size: usize,
    /// How many loader calls of one batch run at once.
    pub(crate) concurrency: usize,
}

/// How many operations of one call are under way at the shared tier at once.
pub(crate) const AT_ONCE: usize = 64;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// [`get`](Cache::get) of each of `keys`, answers in their order. Never loads, never waits for a load.
    ///
    /// Memory first, then one batched read of the shared tier for all that memory does not have; over Redis
    /// one round trip, and one more for all their tags, if any has some. A fault of the shared tier costs the keys it touches: they are misses.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<Cached<V>>> {
        Box::pin(self.engine.get_many(keys)).await
    }

    /// [`get_or_load`](Cache::get_or_load) of each of `keys`, answers in their order; what no tier has is loaded
    /// together.
    ///
    /// Memory first. Keys that somebody loads already are waited for, not loaded again. The others are read
    /// from the shared tier at once, then leased, and what is missing is handed to `load` as one list; in
    /// several, of at most [`batch_size`](crate::CacheBuilder::batch_size) keys, if there are more, and in one
    /// more if another process was loading a key and failed. Who asks for one of these keys meanwhile waits
    /// for it here, and has it as soon as it is known.
    ///
    /// `load` gives anything that iterates over pairs of key and value, a `HashMap` or a `Vec`, or over pairs of
    /// key and `Result`. An error of its own is the error of all keys it was to load. A key that it does not
    /// answer is an error, [`Unanswered`], and nothing is cached for it; one that nobody asked for is ignored.
    ///
    /// Values that are near their end are refreshed in the same call, if the cache is built to do so; always in
    /// the background.
    ///
    /// Round trips to a shared tier: one for the read, one if what it finds has tags, and for every 64 keys that
    /// are loaded, one for the leases and one to store; one more each where tags are declared or set.
    ///
    /// ```
    /// # use cachalot_core::Entry;
    /// # use cachalot_memory_backend::Memory;
    /// # use cachalot_strategies::Cache;
    /// # use std::{collections::HashMap, sync::Arc};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cache: Cache<u64, u64, Memory<u64, Arc<Entry<u64>>>> =
    /// #     Cache::builder("squares").memory(Memory::entries(10)).build()?;
    /// cache.insert(3, 9).await?;
    /// let squares = cache.get_many_or_load(&[2, 3, 4], |load| async move {
    ///     assert_eq!(load.keys(), [2, 4]);
    ///     Ok(load.keys().iter().map(|n| (*n, n * n)).collect::<HashMap<_, _>>())
    /// });
    /// for (n, square) in [2, 3, 4].into_iter().zip(squares.await) {
    ///     assert_eq!(*square?, n * n);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Per key, as for [`get_or_load`](Cache::get_or_load). A key whose load fails costs no other.
    ///
    /// # Dropping the future
    /// Only this caller leaves; the loads go on.
    pub async fn get_many_or_load<F, T, A, R>(&self, keys: &[K], load: F) -> Vec<Result<Cached<V>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<V>,
    {
        Box::pin(self.engine.load_values(keys, &self.engine.options, load)).await
    }

    /// As [`get_many_or_load`](Cache::get_many_or_load) for values that may be absent: `load` answers each key
    /// with an `Option`, [`LoadMany::or_absent`] helps. Absence is what `load` says, never what it leaves out,
    /// and is cached only if [`negative_ttl`](crate::CacheBuilder::negative_ttl) is set.
    ///
    /// # Errors
    /// As [`get_many_or_load`](Cache::get_many_or_load).
    pub async fn get_many_or_load_opt<F, T, A, R>(
        &self,
        keys: &[K],
        load: F,
    ) -> Vec<Result<Option<Cached<V>>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<Option<V>>,
    {
        Box::pin(self.engine.load_options(keys, &self.engine.options, load)).await
    }

    /// [`insert`](Cache::insert) of each of `pairs`, results in their order; of several values for one key the
    /// last stays.
    ///
    /// Two round trips to a shared tier for every 64 keys; more in a small memory tier, where many keys share
    /// a fence and take turns. Each key is on its own: one that fails holds up no other, and there is no moment
    /// at which all change together.
    ///
    /// # Errors
    /// Per key, as for [`insert`](Cache::insert).
    ///
    /// # Dropping the future
    /// The inserts are done.
    pub async fn insert_many(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Vec<Result<Inserted>> {
        let options = self.engine.options.clone();
        self.insert_many_with(pairs.into_iter().collect(), options).await
    }

    async fn insert_many_with(&self, pairs: Vec<(K, V)>, options: EntryOptions) -> Vec<Result<Inserted>> {
        let count = pairs.len();
        let work = self.engine.clone().insert_many(pairs, options);
        match self.engine.detached("insert_many", work).await {
            Ok(results) => results,
            Err(error) => vec![Err(error); count],
        }
    }

    /// [`remove`](Cache::remove) of each of `keys`, results in their order. Call it after the source has taken
    /// the changes.
    ///
    /// One batched removal at the shared tier, over Redis one round trip for every thousand keys or so; then
    /// memory. A key that the shared tier has not taken is [`Removal::Deferred`]; the others are done.
    ///
    /// # Errors
    /// [`Closed`](cachalot_core::ErrorKind::Closed), and [`Panicked`](cachalot_core::ErrorKind::Panicked) if a
    /// `Drop` of yours did; every key is removed all the same.
    ///
    /// # Dropping the future
    /// The removals are done.
    pub fn remove_many(&self, keys: &[K]) -> Invalidation<'_, Vec<Removal>> {
        self.invalidation("remove_many", Ok(self.engine.clone().remove_many(keys.to_vec())))
    }
}

impl<K, V, S> View<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// [`Cache::get_many_or_load`] with these options.
    ///
    /// # Errors
    /// As there.
    pub async fn get_many_or_load<F, T, A, R>(&self, keys: &[K], load: F) -> Vec<Result<Cached<V>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<V>,
    {
        Box::pin(self.cache.engine.load_values(keys, &self.options, load)).await
    }

    /// [`Cache::get_many_or_load_opt`] with these options.
    ///
    /// # Errors
    /// As there.
    pub async fn get_many_or_load_opt<F, T, A, R>(
        &self,
        keys: &[K],
        load: F,
    ) -> Vec<Result<Option<Cached<V>>, LoadError>>
    where
        F: Fn(LoadMany<K>) -> T + Send + Sync + 'static,
        T: Future<Output = Result<A, LoaderError>> + Send + 'static,
        A: IntoIterator<Item = (K, R)>,
        R: IntoLoaded<Option<V>>,
    {
        Box::pin(self.cache.engine.load_options(keys, &self.options, load)).await
    }

    /// [`Cache::insert_many`] with these options.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_many(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Vec<Result<Inserted>> {
        self.cache.insert_many_with(pairs.into_iter().collect(), self.options.clone()).await
    }
}
