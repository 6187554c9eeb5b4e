//! The suites of cachalot-testkit over this crate.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::units::MIB;
use cachalot_core::{Clock, Commit, Entry, Meta, Store};
use cachalot_memory_backend::Memory;
use cachalot_testkit::store_suite;

type L1 = Memory<String, Arc<Entry<u64>>>;

fn by_entries(clock: Clock) -> L1 {
    L1::open(Memory::entries(1000), clock).unwrap()
}

fn by_weight_in_one_shard(clock: Clock) -> L1 {
    L1::open(Memory::weight_limit(MIB).shards(1), clock).unwrap()
}

/// As the builder of a cache takes its memory.
fn memory<K, V>(config: <Memory<K, Arc<Entry<V>>> as Store<K, V>>::Config) -> Memory<K, Arc<Entry<V>>>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    Memory::open(config, Clock::system()).unwrap()
}

fn weight_of<V: Send + Sync + 'static>(value: V) -> u64 {
    let store = memory::<u64, V>(Memory::weight_limit(MIB));
    let meta = Meta::new(Clock::system().now(), Duration::MAX, Duration::MAX, Duration::ZERO);
    let value = Some(value);
    let committed = Store::commit(&store, Store::begin(&store, &1), 1, Arc::new(Entry::new(value, meta)));
    assert_eq!(committed, Commit::Stored);
    Store::stats(&store).weight
}

#[test]
fn the_entry_behind_the_arc_is_counted() {
    assert!(weight_of([0u8; 1000]) >= 1000);
    assert_eq!(weight_of([0u8; 1800]) - weight_of([0u8; 1000]), 800);
}

#[test]
fn a_weigher_of_the_user_replaces_the_default() {
    let weigher = |_: &u64, entry: &Arc<Entry<String>>| entry.value.as_ref().map_or(1, String::len) as u64;
    let store = memory::<u64, String>(Memory::weight_limit(100).weigher(weigher));
    let put = |text: &str| {
        let meta = Meta::new(Clock::system().now(), Duration::MAX, Duration::MAX, Duration::ZERO);
        let value = Some(text.to_owned());
        Store::commit(&store, Store::begin(&store, &1), 1, Arc::new(Entry::new(value, meta)))
    };
    assert_eq!(put("four"), Commit::Stored);
    assert_eq!(Store::stats(&store).weight, 4);
    assert_eq!(put(&"x".repeat(101)), Commit::Rejected);
    let stats = Store::stats(&store);
    assert_eq!((stats.entries, stats.rejected), (0, 1));
}

store_suite!(store, by_entries);
store_suite!(store_in_one_shard, by_weight_in_one_shard);

#[cfg(feature = "bytes")]
mod bytes {
    use cachalot_core::ManualClock;
    use cachalot_memory_backend::MemoryBackend;
    use cachalot_testkit::{BackendSubject, backend_suite};

    backend_suite!(backend, || async {
        let time = ManualClock::new();
        let backend = MemoryBackend::with_limit(MemoryBackend::DEFAULT_LIMIT, time.clock());
        BackendSubject::manual(backend, time)
    });
}
