//! What a read-through adds to a bare `get_or_load`.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use benches::{CAPACITY, Figure, HOT_KEYS, Keys, Sheet, bytes, rounds, runtime};
use cachalot_core::units::hours;
use cachalot_core::{Entry, Source};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, ReadThrough};

use crate::Scale;

type Value = [u8; 64];
type Entries = Memory<u64, Arc<Entry<Value>>>;
type Filled = Cache<u64, Value, Entries>;

const HIT: &str = "a hit";
const MISS: &str = "a miss, without a database";
const BARE: &str = "get_or_load";
const TIME: Figure = Figure::new("time", "ns");
const RATIO: Figure = Figure::new("time / get_or_load", "ratio");

/// Answers at once: what is measured is the way to it.
struct Instantly;

#[async_trait]
impl Source<u64, Value> for Instantly {
    type Error = Infallible;

    async fn load(&self, key: &u64) -> Result<Option<Value>, Infallible> {
        Ok(Some(bytes(*key)))
    }

    async fn store(&self, _: &u64, _: &Value) -> Result<(), Infallible> {
        Ok(())
    }

    async fn delete(&self, _: &u64) -> Result<(), Infallible> {
        Ok(())
    }
}

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let runtime = runtime();
    let cache = runtime.block_on(filled());
    let through = ReadThrough::new(cache.clone(), Instantly);
    // Keys that nobody has asked for before.
    let mut unknown = HOT_KEYS..;
    rounds(scale.rounds, "strategies  reads", &mut [false, true], |is_through| {
        let name = if *is_through { "read-through" } else { BARE };
        let mut keys = Keys::seeded(1);
        let hits = runtime.block_on(timed(scale.reads, || keys.draw(), &cache, &through, *is_through));
        sheet.add(HIT, name, TIME, hits);
        let mut next = || unknown.next().unwrap_or_default();
        let misses = scale.reads / 10;
        sheet.add(
            MISS,
            name,
            TIME,
            runtime.block_on(timed(misses, &mut next, &cache, &through, *is_through)),
        );
        runtime.block_on(refill(&cache));
    });
    for case in [HIT, MISS] {
        sheet.compare(case, TIME.metric, BARE, RATIO);
    }
}

/// Nanoseconds each.
async fn timed(
    reads: u32,
    mut key: impl FnMut() -> u64,
    cache: &Filled,
    through: &ReadThrough<u64, Value, Entries, Instantly>,
    is_through: bool,
) -> f64 {
    let source = through.source();
    let began = Instant::now();
    if is_through {
        for _ in 0..reads {
            assert!(black_box(through.get(&key()).await).is_ok());
        }
    } else {
        for _ in 0..reads {
            // What somebody writes who has no read-through: the same source, called by hand.
            let load = |load: cachalot_strategies::Load<u64>| {
                let source = source.clone();
                async move { Ok(source.load(load.key()).await?) }
            };
            assert!(black_box(cache.get_or_load_opt(&key(), load).await).is_ok());
        }
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(reads)
}

async fn filled() -> Filled {
    let builder = Filled::builder("bench").memory(Memory::entries(CAPACITY as u64)).ttl(hours(1));
    let Ok(cache) = builder.build() else { panic!("no cache") };
    refill(&cache).await;
    cache
}

/// Every hot key, and nothing else.
async fn refill(cache: &Filled) {
    assert!(cache.clear().await.is_ok());
    for key in 0..HOT_KEYS {
        assert!(cache.insert(key, bytes(key)).await.is_ok());
    }
}
