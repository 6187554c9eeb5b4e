//! Hits through `get_or_load`: what the whole cache adds to a bare look-up in its memory.

#![allow(missing_docs, reason = "criterion's macros make public functions")]
#![allow(clippy::expect_used, reason = "a benchmark without its cache has nothing to say")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{CAPACITY, HOT_KEYS, Keys, bytes, memory, runtime, value};
use cachalot_core::units::hours;
use cachalot_core::{Clock, Commit, Entry, Meta, Store, Ttl};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Load};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use tokio::runtime::Runtime;

fn hits(criterion: &mut Criterion) {
    let mut case = criterion.benchmark_group("hit");
    raw(&mut case);
    store(&mut case);
    local(&mut case);
    ours(&mut case);
    #[cfg(feature = "peers")]
    peers::contend(&mut case);
    case.finish();
}

/// The engine alone, in the same loop on the same runtime.
fn raw(case: &mut BenchmarkGroup<'_, WallTime>) {
    contender(
        case,
        "raw_get",
        async || {
            let memory = memory();
            (0..HOT_KEYS).for_each(|key| assert!(memory.insert(key, value(key))));
            memory
        },
        async |memory, each| {
            timed(each, async |key| {
                black_box(memory.get(&key));
            })
            .await
        },
    );
}

/// The engine as the cache uses it: entries that end, and a word on what each is good for.
fn store(case: &mut BenchmarkGroup<'_, WallTime>) {
    contender(
        case,
        "store_get",
        async || entries(),
        async |entries, each| {
            timed(each, async |key| {
                black_box(Store::get(entries, &key));
            })
            .await
        },
    );
}

type Entries = Memory<u64, Arc<Entry<[u8; 64]>>>;

fn entries() -> Entries {
    let entries: Entries = Memory::entries(CAPACITY as u64).build().expect("a memory");
    let clock = Clock::system();
    let meta = Meta::new(clock.now(), hours(1), hours(1), Duration::ZERO);
    for key in 0..HOT_KEYS {
        let entry = Entry::new(Some(bytes(key)), meta);
        let stored = Store::commit(&entries, Store::begin(&entries, &key), key, Arc::new(entry));
        assert_eq!(stored, Commit::Stored);
    }
    entries
}

/// The cache without its asynchronous face.
fn local(case: &mut BenchmarkGroup<'_, WallTime>) {
    contender(case, "cachalot_get_local", filled, async |cache, each| {
        timed(each, async |key| {
            black_box(cache.get_local(&key));
        })
        .await
    });
}

fn ours(case: &mut BenchmarkGroup<'_, WallTime>) {
    contender(case, "cachalot", filled, async |cache, each| {
        // What a loader usually captures: one pointer to the way to its database.
        let source = Arc::new(bytes);
        timed(each, async |key| {
            let load = |load: Load<u64>| {
                let source = source.clone();
                async move { Ok(source(*load.key())) }
            };
            black_box(cache.get_or_load(&key, load).await.is_ok());
        })
        .await
    });
}

type Filled = Cache<u64, [u8; 64], Entries>;

async fn filled() -> Filled {
    let builder = Filled::builder("bench").memory(Memory::entries(CAPACITY as u64));
    let cache = builder.ttl(Ttl::hours(1)).build().expect("a cache");
    for key in 0..HOT_KEYS {
        cache.insert(key, bytes(key)).await.expect("an insert");
    }
    assert!((0..HOT_KEYS).all(|key| cache.get_local(&key).is_some()), "the cache lost a key");
    cache
}

/// Measures `hits`, which does that many and says how long they took, on a cache that `fill` made.
fn contender<C>(
    case: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    fill: impl AsyncFn() -> C,
    hits: impl AsyncFn(&C, u64) -> Duration,
) {
    // Criterion calls the closure for every sample; the cache stays.
    let mut rig: Option<(Runtime, C)> = None;
    case.bench_function(name, |bencher| {
        let (runtime, cache) = rig.get_or_insert_with(|| {
            let runtime = runtime();
            let cache = runtime.block_on(fill());
            (runtime, cache)
        });
        bencher.iter_custom(|each| runtime.block_on(hits(cache, each)));
    });
}

/// The time of `each` operations on hot keys, one after another.
async fn timed(each: u64, operation: impl AsyncFn(u64)) -> Duration {
    let mut keys = Keys::seeded(1);
    let begin = Instant::now();
    for _ in 0..each {
        operation(keys.draw()).await;
    }
    begin.elapsed()
}

#[cfg(feature = "peers")]
mod peers {
    use std::convert::Infallible;

    use benches::Value;
    use criterion::measurement::WallTime;

    use super::{BenchmarkGroup, CAPACITY, HOT_KEYS, black_box, contender, timed, value};

    pub(super) fn contend(case: &mut BenchmarkGroup<'_, WallTime>) {
        quick_cache(case);
        moka(case);
    }

    fn quick_cache(case: &mut BenchmarkGroup<'_, WallTime>) {
        contender(
            case,
            "quick_cache",
            async || {
                let cache = quick_cache::sync::Cache::<u64, Value>::new(CAPACITY);
                (0..HOT_KEYS).for_each(|key| cache.insert(key, value(key)));
                cache
            },
            async |cache, each| {
                timed(each, async |key| {
                    let load = async { Ok::<_, Infallible>(value(key)) };
                    black_box(cache.get_or_insert_async(&key, load).await.is_ok());
                })
                .await
            },
        );
    }

    fn moka(case: &mut BenchmarkGroup<'_, WallTime>) {
        contender(
            case,
            "moka_future",
            async || {
                let builder = moka::future::Cache::<u64, Value>::builder().max_capacity(CAPACITY as u64);
                let cache = builder.build_with_hasher(ahash::RandomState::new());
                for key in 0..HOT_KEYS {
                    cache.insert(key, value(key)).await;
                }
                cache
            },
            async |cache, each| {
                timed(each, async |key| {
                    black_box(cache.get_with(key, async { value(key) }).await);
                })
                .await
            },
        );
    }
}

criterion_group!(benches, hits);
criterion_main!(benches);
