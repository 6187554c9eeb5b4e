//! The bound, changed while everything is in use.

use std::hash::Hash;
use std::sync::PoisonError;
use std::thread;

use cachalot_core::Result;

use crate::builder::unfit;
use crate::memory::Memory;
use crate::policy::mix;
use crate::sync::atomic::Ordering;

impl<K: Hash + Eq, T> Memory<K, T> {
    /// Changes the capacity to `capacity`, in the unit it was built with: entries, or weight. When this returns
    /// the weight is within it, and stays so; entries heavier than that are rejected.
    ///
    /// If it falls, entries leave as the policy likes, a few under one shard's lock at a time, until the rest
    /// fits; others may read and write meanwhile, and what they write takes the place of as much. If it rises,
    /// the room is there at once. The number of shards stays; tables that lie mostly idle are made smaller, each
    /// under the lock of its shard, and what the policy had learned of the traffic is forgotten. If it rises far,
    /// the fences that were granted are revoked, since there will be more of them.
    ///
    /// Costs about as much as evicting what has to leave, and moving what stays if it is much less.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](cachalot_core::ErrorKind::Config) for a capacity of zero. Nothing has changed.
    ///
    /// # Panics
    /// If the listener, or `Hash` or `Drop` of what leaves, does. The new bound is in force then too, and later
    /// writes do the rest.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(1000).build()?;
    /// (0..1000).for_each(|key| assert!(memory.insert(key, key)));
    /// memory.resize(10)?;
    /// assert_eq!((memory.len(), memory.capacity()), (10, 10));
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn resize(&self, capacity: u64) -> Result<()> {
        if capacity == 0 {
            return Err(unfit("resizing a memory", "a memory of capacity 0 holds nothing"));
        }
        self.adopt(capacity);
        while self.budget.is_over() {
            if !self.shrink() {
                // Some of the weight is in the hands of others, who will release it.
                thread::yield_now();
            }
        }
        for at in 0..self.shard_count() {
            self.write(at).shrink_if_sparse();
        }
        Ok(())
    }

    /// Puts a capacity in force. Afterwards nobody is left who reckons with the one before.
    fn adopt(&self, capacity: u64) {
        let _one_at_a_time = self.resizing.lock().unwrap_or_else(PoisonError::into_inner);
        self.budget.set_capacity(capacity);
        let part = self.weigh.entries_per_shard(capacity, self.shard_count());
        for at in 0..self.shard_count() {
            self.write(at).set_part(part);
        }
        self.tuner.rest();
    }

    /// Lets a few entries of a shard go that has more than its part of the capacity. Whether there was one.
    pub(crate) fn shrink(&self) -> bool {
        let part = self.budget.capacity() >> self.shard_count().trailing_zeros();
        for _ in 0..self.shard_count() {
            let at = self.hands.evict_at.fetch_add(1, Ordering::Relaxed);
            let mut garbage = self.garbage();
            let mut shard = self.write(at);
            let before = shard.len();
            for step in 0..STEPS {
                if shard.weight() <= part || !self.budget.is_over() {
                    break;
                }
                // No key asks for the room, so any place will do.
                let hash = mix((at as u64) << 8 | step);
                let Some(gone) = self.evict(&mut shard, hash, None, None) else { break };
                self.budget.release(gone.weight);
                garbage.put(gone);
            }
            if shard.len() < before {
                return true;
            }
        }
        false
    }
}

/// At most so many entries leave under one lock.
const STEPS: u64 = 32;
