//! What a read gives.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entry, Freshness, Hit, LoadError, Tier, Timestamp};
use serde::{Serialize, Serializer};

/// A value out of a cache: a cheap handle that derefs to it and tells where it came from and how old it is.
///
/// It stays what it was when it was read; a later removal does not change it.
pub struct Cached<V> {
    entry: Arc<Entry<V>>,
    at: Timestamp,
    stale: Option<Arc<StaleReason>>,
    tier: Tier,
    freshness: Freshness,
}

/// Why a stale value was served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StaleReason {
    /// A refresh runs in the background, here or in another process.
    Revalidating,
    /// The load took longer than the soft timeout, and goes on.
    SoftTimeout,
    /// The load failed, just now or so recently that its failure is still remembered.
    LoadFailed(LoadError),
}

impl<V> Cached<V> {
    /// The value as served. `None` for a negative entry.
    pub(crate) fn new(found: Found<V>) -> Option<Self> {
        let Found { entry, tier, freshness, at, .. } = found;
        entry.value.is_some().then_some(Self { entry, at, stale: None, tier, freshness })
    }

    /// A fresh value in memory, the hot path: nothing is copied that a caller does not get.
    #[inline]
    pub(crate) fn fresh(hit: Hit<V>) -> Option<Self> {
        let Hit { entry, freshness, at, .. } = hit;
        let serve = freshness == Freshness::Fresh && entry.value.is_some();
        serve.then_some(Self { entry, at, stale: None, tier: Tier::Memory, freshness })
    }

    /// Whether what was found in memory is served as it is: a value, fresh, and not about to expire.
    #[inline]
    pub(crate) fn is_plain(hit: &Hit<V>) -> bool {
        let Entry { value, meta, .. } = &*hit.entry;
        hit.freshness == Freshness::Fresh && value.is_some() && !meta.is_early(hit.at)
    }

    /// What is [plain](Cached::is_plain).
    #[inline]
    pub(crate) fn plain(hit: Hit<V>) -> Self {
        let Hit { entry, at, .. } = hit;
        Self { entry, at, stale: None, tier: Tier::Memory, freshness: Freshness::Fresh }
    }

    /// As [`Cached::new`], for a value served although it is stale.
    pub(crate) fn stale(found: Found<V>, reason: StaleReason) -> Option<Self> {
        Self::new(found).map(|cached| Self { stale: Some(Arc::new(reason)), ..cached })
    }

    /// A write that its source has not taken yet. `None` for a deletion.
    pub(crate) fn pending(entry: Arc<Entry<V>>, at: Timestamp) -> Option<Self> {
        let serve = entry.value.is_some();
        serve.then_some(Self { entry, at, stale: None, tier: Tier::Pending, freshness: Freshness::Fresh })
    }

    /// Where it came from.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// What it was good for when it was served.
    pub fn freshness(&self) -> Freshness {
        self.freshness
    }

    /// Why it was served although it is stale. `None` if it was fresh.
    pub fn stale_reason(&self) -> Option<&StaleReason> {
        self.stale.as_deref()
    }

    /// How old it was when it was served, from the end of its load. In memory it may be off by a few
    /// milliseconds, in a shared tier by the round trip that estimated the server's clock.
    pub fn age(&self) -> Duration {
        self.at.since(self.entry.meta.created_at())
    }

    /// What its load cost; with [`xfetch`](crate::CacheBuilder::xfetch) at most half its TTL.
    pub fn compute_time(&self) -> Duration {
        self.entry.meta.compute_time()
    }

    /// Which version of its key it is; 0 if it has none.
    pub fn version(&self) -> u64 {
        self.entry.stamp.version
    }

    /// The shared entry behind it.
    pub fn arc(&self) -> &Arc<Entry<V>> {
        &self.entry
    }

    /// The value by itself: moved out if this was the last handle, cloned otherwise.
    pub fn into_inner(self) -> V
    where
        V: Clone,
    {
        let value = match Arc::try_unwrap(self.entry) {
            Ok(entry) => entry.value,
            Err(shared) => shared.value.clone(),
        };
        value.unwrap_or_else(|| unreachable!("{NO_VALUE}"))
    }
}

const NO_VALUE: &str = "a handle is made only of an entry with a value";

impl<V> Deref for Cached<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        match &self.entry.value {
            Some(value) => value,
            None => unreachable!("{NO_VALUE}"),
        }
    }
}

impl<V> AsRef<V> for Cached<V> {
    fn as_ref(&self) -> &V {
        self
    }
}

impl<V> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), stale: self.stale.clone(), ..*self }
    }
}

impl<V: fmt::Debug> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached")
            .field("value", &**self)
            .field("tier", &self.tier())
            .field("freshness", &self.freshness())
            .field("age", &self.age())
            .finish()
    }
}

/// Serializes as its value.
impl<V: Serialize> Serialize for Cached<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// An entry that was found, the negative kind included.
pub(crate) struct Found<V> {
    pub(crate) entry: Arc<Entry<V>>,
    pub(crate) tier: Tier,
    pub(crate) freshness: Freshness,
    pub(crate) stale_for: Duration,
    pub(crate) at: Timestamp,
}

impl<V> Found<V> {
    #[inline]
    pub(crate) fn in_memory(hit: Hit<V>) -> Self {
        let Hit { entry, freshness, stale_for, at } = hit;
        Self { entry, tier: Tier::Memory, freshness, stale_for, at }
    }

    /// The same at `now`, some time after it was found: staler by that much.
    pub(crate) fn later(self, now: Timestamp) -> Self {
        let passed = match self.freshness {
            Freshness::Fresh => Duration::ZERO,
            _ => now.since(self.at),
        };
        Self { stale_for: self.stale_for.saturating_add(passed), at: now.max(self.at), ..self }
    }

    pub(crate) fn is_negative(&self) -> bool {
        self.entry.value.is_none()
    }
}

impl<V> Clone for Found<V> {
    fn clone(&self) -> Self {
        Self { entry: self.entry.clone(), ..*self }
    }
}
