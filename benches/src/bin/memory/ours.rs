//! Our engine, without deadlines and with one on every entry.

use std::hint::black_box;
use std::time::Duration;

use cachalot_memory_backend::{Memory, MemoryBuilder};

use super::{Data, Key, Kind, Subject};

/// As its users get it, with no setting but the bound.
pub(crate) struct Cachalot<K, V, const TTL: bool>(Memory<K, V>);

impl<K: Key, V: Data, const TTL: bool> Cachalot<K, V, TTL> {
    fn built(builder: MemoryBuilder<K, V>) -> Self {
        match builder.build() {
            Ok(memory) => Self(memory),
            Err(error) => panic!("no memory: {error}"),
        }
    }
}

impl<K: Key, V: Data, const TTL: bool> Subject<K, V> for Cachalot<K, V, TTL> {
    const NAME: &'static str = if TTL { "cachalot ttl" } else { "cachalot" };
    const KIND: Kind = Kind::Ours;

    fn holding(entries: usize) -> Self {
        Self::built(Memory::entries(entries as u64))
    }

    fn weighing(limit: u64, each: u32) -> Self {
        Self::built(Memory::weight_limit(limit).weigher(move |_, _| u64::from(each)))
    }

    #[inline]
    fn read(&self, key: &K) -> bool {
        black_box(self.0.get(key)).is_some()
    }

    #[inline]
    fn write(&self, key: K, value: V) {
        if TTL {
            self.0.insert_with_ttl(key, value, HOUR);
        } else {
            self.0.insert(key, value);
        }
    }
}

/// Longer than any run.
const HOUR: Duration = Duration::from_secs(3600);
