//! The user's database.

use std::error::Error;

use async_trait::async_trait;

/// Where values come from and go to. It must read its own writes: a lagging replica behind it hands out
/// old values that no cache can tell from new ones.
#[async_trait]
pub trait Source<K, V>: Send + Sync + 'static
where
    K: Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What goes wrong here.
    type Error: Error + Send + Sync + 'static;

    /// The value of `key`; `None` if there is none.
    async fn load(&self, key: &K) -> Result<Option<V>, Self::Error>;

    /// The values of `keys`, in their order, all or nothing.
    async fn load_many(&self, keys: &[K]) -> Result<Vec<Option<V>>, Self::Error>;

    /// Stores `value` under `key`.
    async fn store(&self, key: &K, value: &V) -> Result<(), Self::Error>;

    /// Stores all of `items`, all or nothing.
    async fn store_many(&self, items: &[(K, V)]) -> Result<(), Self::Error>;

    /// Removes `key`; absent is no error.
    async fn delete(&self, key: &K) -> Result<(), Self::Error>;
}
