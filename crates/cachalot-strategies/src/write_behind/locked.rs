//! The queue under its lock.

use std::hash::Hash;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::MutexGuard;

use super::queue::{Queue, Waste};

/// Holds the lock of a queue. What left the queue meanwhile is dropped after the lock is free: destructors of values
/// are the user's, and may panic, or write behind themselves.
pub(super) struct Locked<'a, K, V>
where
    K: Hash + Eq + Clone,
{
    /// Declared before the waste, and dropped before it.
    queue: MutexGuard<'a, Queue<K, V>>,
    waste: Swept<V>,
}

/// Dropped one by one: what panics takes nothing else with it.
struct Swept<V>(Waste<V>);

impl<V> Drop for Swept<V> {
    fn drop(&mut self) {
        for entry in self.0.drain(..) {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(entry)));
        }
    }
}

impl<'a, K, V> Locked<'a, K, V>
where
    K: Hash + Eq + Clone,
{
    pub(super) fn new(queue: MutexGuard<'a, Queue<K, V>>) -> Self {
        Self { queue, waste: Swept(Waste::new()) }
    }
}

impl<K, V> Drop for Locked<'_, K, V>
where
    K: Hash + Eq + Clone,
{
    fn drop(&mut self) {
        self.waste.0 = self.queue.take_waste();
    }
}

impl<K, V> Deref for Locked<'_, K, V>
where
    K: Hash + Eq + Clone,
{
    type Target = Queue<K, V>;

    fn deref(&self) -> &Self::Target {
        &self.queue
    }
}

impl<K, V> DerefMut for Locked<'_, K, V>
where
    K: Hash + Eq + Clone,
{
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.queue
    }
}
