//! What a write-behind is built with.

use std::sync::Arc;
use std::time::Duration;

/// Which writes keep their order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Those of one key. Of several that wait only the last is sent.
    #[default]
    PerKey,
    /// All: the source gets each write, in the order in which they were acknowledged, one batch at a time. A write
    /// that fails holds up all that come after it.
    Global,
}

/// What becomes of a write for which there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// It waits for room, at most so long; then it is refused.
    Block(Duration),
    /// It is let in all the same, and its caller waits until the source has it.
    WriteThrough,
    /// It is refused.
    Reject,
}

/// Blocks for a second.
impl Default for Overflow {
    fn default() -> Self {
        Self::Block(Duration::from_secs(1))
    }
}

/// Makes one value of an older one and a newer one.
pub(super) type Merge<V> = Arc<dyn Fn(&V, &V) -> V + Send + Sync>;
/// How many bytes a write takes.
pub(super) type Weigher<K, V> = Arc<dyn Fn(&K, Option<&V>) -> u64 + Send + Sync>;

pub(super) struct Rules<K, V> {
    pub(super) flush_every: Duration,
    pub(super) batch: usize,
    pub(super) concurrency: usize,
    pub(super) order: Order,
    /// Values are deltas.
    pub(super) merge: Option<Merge<V>>,
    pub(super) max_entries: usize,
    pub(super) max_bytes: Option<u64>,
    pub(super) weigher: Option<Weigher<K, V>>,
    pub(super) max_attempts: u32,
    /// The bound of the first pause after a failure, and of every one.
    pub(super) pauses: (Duration, Duration),
}

impl<K, V> Rules<K, V> {
    /// `None`: nothing is weighed.
    pub(super) fn weigh(&self, key: &K, value: Option<&V>) -> Option<u64> {
        self.weigher.as_ref().map(|weigh| weigh(key, value))
    }
}

impl<K, V> Default for Rules<K, V> {
    fn default() -> Self {
        Self {
            flush_every: Duration::from_secs(5),
            batch: 100,
            concurrency: 1,
            order: Order::PerKey,
            merge: None,
            max_entries: 10_000,
            max_bytes: None,
            weigher: None,
            max_attempts: 10,
            pauses: (Duration::from_millis(100), Duration::from_secs(30)),
        }
    }
}

impl<K, V> Clone for Rules<K, V> {
    fn clone(&self) -> Self {
        Self { merge: self.merge.clone(), weigher: self.weigher.clone(), ..*self }
    }
}
