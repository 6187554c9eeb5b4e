//! Many keys in one call.

use std::hash::Hash;

use cachalot_core::{EntryOptions, Result, Store};

use crate::cache::{Cache, View};
use crate::cached::Cached;
use crate::write::{Inserted, Removal};

mod distinct;
mod pipeline;
mod read;
mod write;

/// How many operations of one call are under way at the shared tier at once.
const AT_ONCE: usize = 64;

impl<K, V, S> Cache<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// [`get`](Cache::get) of each of `keys`, answers in their order. Never loads, never waits for a load.
    ///
    /// Memory first, then one batched read of the shared tier for all that memory does not have; over Redis
    /// one round trip. A fault of the shared tier costs the keys it touches: they are misses.
    pub async fn get_many(&self, keys: &[K]) -> Vec<Option<Cached<V>>> {
        Box::pin(self.engine.get_many(keys)).await
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
    pub async fn remove_many(&self, keys: &[K]) -> Result<Vec<Removal>> {
        let work = self.engine.clone().remove_many(keys.to_vec());
        self.engine.detached("remove_many", work).await
    }
}

impl<K, V, S> View<'_, K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// [`Cache::insert_many`] with these options.
    ///
    /// # Errors
    /// As there.
    pub async fn insert_many(&self, pairs: impl IntoIterator<Item = (K, V)>) -> Vec<Result<Inserted>> {
        self.cache.insert_many_with(pairs.into_iter().collect(), self.options.clone()).await
    }
}
