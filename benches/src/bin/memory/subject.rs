//! What takes part: one face for every cache.

use std::hash::Hash;

/// A key that every contender takes.
pub(crate) trait Key: Hash + Ord + Clone + Send + Sync + 'static {}

impl<K: Hash + Ord + Clone + Send + Sync + 'static> Key for K {}

/// A value that every contender takes.
pub(crate) trait Data: Clone + Send + Sync + 'static {}

impl<V: Clone + Send + Sync + 'static> Data for V {}

/// What a contender is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Our engine.
    Ours,
    /// A bounded cache of another project.
    Peer,
    /// A map without a bound: what no cache can be expected to pass.
    Floor,
}

/// A cache in its best settings, used as its users would.
pub(crate) trait Subject<K: Key, V: Data>: Send + Sync + Sized + 'static {
    const NAME: &'static str;
    const KIND: Kind;

    /// An empty one for so many entries.
    fn holding(entries: usize) -> Self;

    /// An empty one for entries that weigh `each` and together no more than `limit`.
    fn weighing(limit: u64, each: u32) -> Self {
        Self::holding((limit / u64::from(each)) as usize)
    }

    /// Reads as users do, with a copy or a handle, and drops it. Whether there was a value.
    fn read(&self, key: &K) -> bool;

    /// Stores, whether or not there is a value.
    fn write(&self, key: K, value: V);

    /// Stores after a miss.
    fn fill(&self, key: K, value: V) {
        self.write(key, value);
    }
}

/// Something to be done with each contender.
pub(crate) trait Visitor<K: Key, V: Data> {
    fn visit<S: Subject<K, V>>(&mut self);
}

/// Visits every contender, ours first.
pub(crate) fn for_each<K: Key, V: Data>(visitor: &mut impl Visitor<K, V>) {
    visitor.visit::<super::ours::Cachalot<K, V, false>>();
    visitor.visit::<super::ours::Cachalot<K, V, true>>();
    #[cfg(feature = "peers")]
    super::peers::for_each(visitor);
    visitor.visit::<super::floor::Map<K, V>>();
}
