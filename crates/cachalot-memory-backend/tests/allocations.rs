//! A hit allocates nothing.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Clock, Entry, Meta, Store};
use cachalot_memory_backend::Memory;

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn neither_hits_nor_misses_of_the_engine_allocate() {
    let memory: Memory<String, Arc<u64>> = Memory::entries(100).build().unwrap();
    memory.insert("endless".to_owned(), Arc::new(1));
    memory.insert_with_ttl("mortal".to_owned(), Arc::new(2), Duration::from_secs(3600));
    let counted = allocations(|| {
        for key in ["endless", "mortal", "absent"] {
            drop(memory.get(key));
            drop(memory.find(key));
            assert_eq!(memory.get_with(key, |_| ()).is_some(), key != "absent");
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn a_hit_of_the_store_allocates_nothing() {
    let store = <Memory<u64, Arc<Entry<String>>> as Store<u64, String>>::open(
        Memory::weight_limit(1 << 20),
        Clock::system(),
    )
    .unwrap();
    let minute = Duration::from_secs(60);
    let meta = Meta::new(Clock::system().now(), minute, minute, Duration::ZERO);
    let value = Some("value".to_owned());
    let fence = Store::begin(&store, &1);
    Store::commit(&store, fence, 1, Arc::new(Entry::new(value, meta)));
    let counted = allocations(|| {
        let hit = Store::get(&store, &1).unwrap();
        assert_eq!(hit.entry.value.as_deref(), Some("value"));
    });
    assert_eq!(counted, 0);
}

#[test]
fn a_value_replaced_in_place_allocates_nothing() {
    let memory: Memory<u64, u64> = Memory::entries(100).build().unwrap();
    memory.insert(1, 0);
    assert_eq!(
        allocations(|| (0..100).for_each(|value| {
            memory.insert(1, value);
        })),
        0
    );
}
