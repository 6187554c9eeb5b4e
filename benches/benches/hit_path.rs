//! Reads of hot keys that are all in memory: the path a cache exists for.

#![allow(missing_docs, reason = "criterion's macros make public functions")]

use std::hint::black_box;

use benches::{HOT_KEYS, hammer, memory, value};
use cachalot_core::units::hours;
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};

fn hits(criterion: &mut Criterion) {
    for threads in [1, 2] {
        let mut case = Case { group: criterion.benchmark_group(format!("threads_{threads}")), threads };
        ours(&mut case);
        #[cfg(feature = "peers")]
        peers::contend(&mut case);
        case.group.finish();
    }
}

fn ours(case: &mut Case<'_>) {
    case.contender(
        "cachalot",
        memory,
        |memory, key| assert!(memory.insert(key, value(key))),
        |memory, key| black_box(memory.get(&key)).is_some(),
    );
    // Every entry with an end: what expiry costs a hit.
    case.contender(
        "cachalot_ttl",
        memory,
        |memory, key| assert!(memory.insert_with_ttl(key, value(key), hours(1))),
        |memory, key| black_box(memory.get(&key)).is_some(),
    );
}

struct Case<'a> {
    group: BenchmarkGroup<'a, WallTime>,
    threads: usize,
}

impl Case<'_> {
    /// Measures `hit` on a cache that `build` made, if this contender was asked for, and that `insert` filled.
    fn contender<C: Sync>(
        &mut self,
        name: &str,
        build: impl Fn() -> C,
        insert: impl Fn(&C, u64),
        hit: impl Fn(&C, u64) -> bool + Sync,
    ) {
        // Criterion calls the closure for every sample; the cache stays.
        let mut built = None;
        let threads = self.threads;
        self.group.bench_function(name, |bencher| {
            let cache = built.get_or_insert_with(|| {
                let cache = build();
                (0..HOT_KEYS).for_each(|key| insert(&cache, key));
                assert!((0..HOT_KEYS).all(|key| hit(&cache, key)), "{name} lost a key");
                cache
            });
            let cache = &*cache;
            bencher.iter_custom(|each| {
                hammer(threads, each, |key| {
                    black_box(hit(cache, key));
                })
            });
        });
    }
}

#[cfg(feature = "peers")]
mod peers {
    use benches::{CAPACITY, Value, value};

    use super::{Case, black_box};

    pub(super) fn contend(case: &mut Case<'_>) {
        case.contender(
            "quick_cache",
            || quick_cache::sync::Cache::<u64, Value>::new(CAPACITY),
            |cache, key| cache.insert(key, value(key)),
            |cache, key| black_box(cache.get(&key)).is_some(),
        );
        case.contender(
            "moka_sync",
            || {
                let builder = moka::sync::Cache::<u64, Value>::builder().max_capacity(CAPACITY as u64);
                builder.build_with_hasher(ahash::RandomState::new())
            },
            |cache, key| cache.insert(key, value(key)),
            |cache, key| black_box(cache.get(&key)).is_some(),
        );
    }
}

criterion_group!(benches, hits);
criterion_main!(benches);
