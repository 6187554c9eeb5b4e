//! After millions of keys nothing is left of any: no flight, no task, no memory that grows.

use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use allocation_counter::measure;
use cachalot::{Cache, LoaderError, ManualClock, Memory};
use cachalot_strategies::LoadMany;
use cachalot_testkit::block_on;
use tokio::task::yield_now;

type Numbers = Cache<u64, u64>;

/// Ten millions where the compiler does its best, which `cargo xtask nightly` asks for.
const PASSING: u64 = if cfg!(debug_assertions) { 300_000 } else { 10_000_000 };
const CAPACITY: u64 = 1_000;
const MANY: u64 = 8;

/// Loads `keys` in all ways: one by one, absent, failing, with nobody waiting, many at once, then removed.
async fn pass(cache: &Numbers, clock: &ManualClock, keys: std::ops::Range<u64>) {
    for key in keys.step_by(2 * MANY as usize) {
        for key in key..key + MANY {
            match key % 4 {
                0 => drop(cache.get_or_load(&key, |_| async move { Ok(key) }).await.unwrap()),
                1 => drop(cache.get_or_load_opt(&key, |_| async { Ok(None) }).await.unwrap()),
                2 => drop(cache.get_or_load(&key, |_| fails()).await.unwrap_err()),
                _ => leave(cache.get_or_load(&key, |_| async move { Ok(key) })),
            }
        }
        let many: Vec<u64> = (key + MANY..key + 2 * MANY).collect();
        let load = |load: LoadMany<u64>| {
            let rows: Vec<_> = load.keys().iter().map(|key| (*key, *key)).collect();
            async move { Ok(rows) }
        };
        assert!(cache.get_many_or_load(&many, load).await.iter().all(Result::is_ok));
        cache.remove(&key).await.unwrap();
        // A failure is remembered for a minute.
        clock.advance(Duration::from_millis(50));
    }
    // What callers have left behind ends.
    while cache.stats().flights > 0 {
        yield_now().await;
    }
}

async fn fails() -> Result<u64, LoaderError> {
    Err(LoaderError::new("down"))
}

/// Calls, and goes before there is an answer.
fn leave(call: impl Future) {
    let mut call = std::pin::pin!(call);
    assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[test]
fn millions_of_keys_leave_nothing_behind() {
    let clock = ManualClock::new();
    let cache: Numbers = Cache::builder("numbers")
        .memory(Memory::entries(CAPACITY))
        .clock(clock.clock())
        .error_backoff(Duration::from_millis(1), Duration::from_millis(1))
        .build()
        .unwrap();
    // On one thread, so that every allocation is counted. The first half fills all that is to be filled.
    let half = |keys: std::ops::Range<u64>| measure(|| block_on(pass(&cache, &clock, keys)));
    half(0..PASSING / 2);
    let taken = half(PASSING / 2..PASSING);
    assert!(taken.bytes_current <= 64 << 10, "{} bytes more than before", taken.bytes_current);
    let stats = cache.stats();
    assert_eq!((stats.flights, stats.pending_invalidations, stats.task_panics), (0, 0, 0));
    assert!(stats.memory.entries <= CAPACITY, "{} entries", stats.memory.entries);
    block_on(cache.shutdown(Duration::ZERO)).unwrap();
}
