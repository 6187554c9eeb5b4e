//! What a memory takes, in bytes.

use std::mem::size_of;

use crate::memory::Memory;
use crate::shard::Shard;

impl<K, T> Memory<K, T> {
    /// How many bytes this has allocated for itself: the tables with keys, values and spare slots, the memory of
    /// evicted keys, the places of readers and what watches the traffic. Exact to a few percent; what the
    /// allocator adds, the threads that wait for a load, and what keys and values point to are not in it.
    ///
    /// It grows in steps, with what is held, and falls only by [`resize`](Memory::resize) and
    /// [`clear`](Memory::clear). Takes each shard's lock in turn.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(100_000).build()?;
    /// let empty = memory.footprint();
    /// (0..100_000).for_each(|key| assert!(memory.insert(key, key)));
    /// let per_entry = (memory.footprint() - empty) / 100_000;
    /// assert!((16..60).contains(&per_entry), "{per_entry}");
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn footprint(&self) -> u64 {
        let shards = self.shard_count() * size_of::<Shard<K, T>>();
        let tables: usize = self.each_shard().map(|shard| shard.bytes()).sum();
        let watchers = self.tuner.bytes() + self.curve.as_ref().map_or(0, |curve| curve.bytes());
        (shards + tables + watchers + self.readers.bytes() + self.flights.bytes()) as u64
    }
}
