//! Which keys have a tag, for who asks.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use super::{Tag, Tags};
use crate::{Key, Namespace, Result};

/// The keys that have a tag, in a shared tier: to be listed, and to be deleted at once instead of being left to end
/// unread. What is still good is never asked here: that, tokens say. A cache without an index does without all of it.
///
/// A key is added before its value is stored, under the lease or hold of that put. Then no value is ever stored that
/// the index does not know of: a removal takes the value and the right to store one first, and forgets the key last.
#[async_trait]
pub trait TagIndexBackend: fmt::Debug + Send + Sync + 'static {
    /// Whose keys it knows.
    fn namespace(&self) -> &Namespace;

    /// Notes that `key` has `tags` for the next `ttl`, in one round trip.
    ///
    /// # Errors
    /// Unavailable or timeout. It may have been noted for some of the tags.
    async fn add(&self, tags: &Tags, key: &Key, ttl: Duration) -> Result<()>;

    /// The keys that have `tag`, from the first.
    fn keys(&self, tag: &Tag) -> Box<dyn TagWalk<Vec<Key>>>;

    /// The removal of every key that has `tag`, with its leases, and then from the index.
    fn removal(&self, tag: &Tag) -> Box<dyn TagWalk<u64>>;
}

/// A walk over the keys of a tag, page by page. A key that has the tag from the first page to the last is met at
/// least once.
#[async_trait]
pub trait TagWalk<T>: Send {
    /// What the next page came to, perhaps nothing: its keys, or how many of them were there and are gone. `None`
    /// after the last.
    ///
    /// # Errors
    /// Unavailable or timeout. May be called again, and goes on where it was.
    async fn next(&mut self) -> Result<Option<T>>;
}
