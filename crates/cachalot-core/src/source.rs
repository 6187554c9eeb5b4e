//! The user's database.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;

mod functions;
pub use functions::{FnSource, LoadFn, ReadOnly};

/// Where values come from and go to. It must read its own writes: a lagging replica behind it hands out
/// old values that no cache can tell from new ones.
///
/// To load, store and delete one key is all that it must know; what is about many keys does so one by one, unless
/// it says how to do better. [`FnSource`] and [`LoadFn`] make one of closures, and an `Arc` of one is one, also of an
/// `Arc<dyn Source<K, V, Error = E>>`.
///
/// An error of a write means that it was not done, and that it will not be done later either: a source that gives up
/// waiting for its database's answer should not answer at all. What has no answer in time is taken for unknown, and
/// nothing is cached meanwhile.
#[async_trait]
pub trait Source<K, V>: Send + Sync + 'static
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What goes wrong here.
    type Error: Error + Send + Sync + 'static;

    /// The value of `key`; `None` if there is none.
    async fn load(&self, key: &K) -> Result<Option<V>, Self::Error>;

    /// The values of `keys`, in their order, all or nothing. Default: one by one.
    async fn load_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, Self::Error> {
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            values.push(self.load(key).await?);
        }
        Ok(values)
    }

    /// Stores `value` under `key`, in place of what is there.
    async fn store(&self, key: &K, value: &V) -> Result<(), Self::Error>;

    /// Stores all of `items`, in their order. Best all or nothing, by one transaction; default: one by one, and an
    /// error leaves those before it stored.
    async fn store_many(&self, items: &[(&K, &V)]) -> Result<(), Self::Error> {
        for (key, value) in items {
            self.store(key, value).await?;
        }
        Ok(())
    }

    /// Removes `key`; absent is no error.
    async fn delete(&self, key: &K) -> Result<(), Self::Error>;

    /// Removes all of `keys`, as [`store_many`](Source::store_many) stores. Default: one by one.
    async fn delete_many(&self, keys: &[&K]) -> Result<(), Self::Error> {
        for key in keys {
            self.delete(key).await?;
        }
        Ok(())
    }

    /// Does what a write-behind has collected, in its order. It may come twice: after an error, and after a crash. To
    /// store what was stored is harmless; what adds up should be done only if its
    /// [`sequence`](Write::sequence) is above that of the last write of the same [`writer`](Write::writer) to the
    /// key, which the same transaction notes.
    ///
    /// Default: each run of stores by [`store_many`](Source::store_many), each run of deletions by
    /// [`delete_many`](Source::delete_many).
    async fn apply(&self, writes: &[Write<'_, K, V>]) -> Result<(), Self::Error> {
        for run in writes.chunk_by(|one, next| one.value.is_some() == next.value.is_some()) {
            let stores: Vec<(&K, &V)> =
                run.iter().filter_map(|write| write.value.map(|value| (write.key, value))).collect();
            if stores.is_empty() {
                let keys: Vec<&K> = run.iter().map(|write| write.key).collect();
                self.delete_many(&keys).await?;
            } else {
                self.store_many(&stores).await?;
            }
        }
        Ok(())
    }
}

/// One write that is to be done by a [`Source`].
#[derive(Debug, PartialEq, Eq)]
pub struct Write<'a, K, V> {
    /// Of which key.
    pub key: &'a K,
    /// `None`: delete it.
    pub value: Option<&'a V>,
    /// Its place among the writes of its writer: each is above all that came before.
    pub sequence: u64,
    /// Who collected it. A journal keeps its name, and goes on counting after a restart; without one each start is
    /// another writer.
    pub writer: u128,
}

impl<K, V> Clone for Write<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for Write<'_, K, V> {}

#[async_trait]
impl<K, V, T> Source<K, V> for Arc<T>
where
    K: Send + Sync + 'static,
    V: Send + Sync + 'static,
    T: Source<K, V> + ?Sized,
{
    type Error = T::Error;

    async fn load(&self, key: &K) -> Result<Option<V>, T::Error> {
        (**self).load(key).await
    }

    async fn load_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, T::Error> {
        (**self).load_many(keys).await
    }

    async fn store(&self, key: &K, value: &V) -> Result<(), T::Error> {
        (**self).store(key, value).await
    }

    async fn store_many(&self, items: &[(&K, &V)]) -> Result<(), T::Error> {
        (**self).store_many(items).await
    }

    async fn delete(&self, key: &K) -> Result<(), T::Error> {
        (**self).delete(key).await
    }

    async fn delete_many(&self, keys: &[&K]) -> Result<(), T::Error> {
        (**self).delete_many(keys).await
    }

    async fn apply(&self, writes: &[Write<'_, K, V>]) -> Result<(), T::Error> {
        (**self).apply(writes).await
    }
}
