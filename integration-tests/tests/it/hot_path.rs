//! What a hit in memory costs: no allocation, and a small future.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot::{Cache, Load, LoaderError, ManualClock, Memory, MemoryBackend};
use cachalot_core::BoxFuture;
use cachalot_testkit::block_on;

type Users = Cache<u64, String>;

/// A cache that has user 1 in memory, over a shared tier.
fn warm() -> Users {
    let builder = Cache::builder("users").memory(Memory::entries(100)).backend(MemoryBackend::new());
    let cache: Users = builder.build().unwrap();
    block_on(async { cache.get_or_load(&1, |_| async { Ok("Ada".to_owned()) }).await.unwrap() });
    cache
}

/// What a future gives that has nothing to wait for.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("a hit has nothing to wait for"),
    }
}

/// A loader as callers write it: it captures one pointer to what it loads from.
fn loader(table: &Arc<String>) -> impl FnOnce(Load<u64>) -> LoadFuture + use<> {
    let table = table.clone();
    move |_| Box::pin(async move { Ok((*table).clone()) })
}

type LoadFuture = BoxFuture<'static, Result<String, LoaderError>>;

fn allocations(run: impl FnOnce()) -> u64 {
    allocation_counter::measure(run).count_total
}

#[test]
fn a_hit_of_get_or_load_allocates_nothing() {
    let cache = warm();
    let table = Arc::new("Ada".to_owned());
    let counted = allocations(|| {
        for _ in 0..100 {
            let hit = at_once(cache.get_or_load(&1, loader(&table)));
            assert_eq!(*hit.unwrap(), "Ada");
        }
    });
    assert_eq!(counted, 0);
    assert_eq!(cache.stats().memory_hits, 100);
}

#[test]
fn a_hit_of_a_value_that_is_refreshed_early_some_day_allocates_nothing() {
    // So eager that every read draws, with a chance of exp(-20).
    let time = ManualClock::new();
    let builder = Cache::builder("users").memory(Memory::entries(100)).clock(time.clock());
    let cache: Users = builder.ttl(Duration::from_secs(20)).xfetch(20.0).build().unwrap();
    let slow = time.clone();
    let load = |_| async move {
        slow.advance(Duration::from_millis(50));
        Ok("Ada".to_owned())
    };
    block_on(async { cache.get_or_load(&1, load).await.unwrap() });
    time.advance(Duration::from_millis(10));
    let table = Arc::new("Ada".to_owned());
    let counted = allocations(|| {
        for _ in 0..100 {
            assert_eq!(*at_once(cache.get_or_load(&1, loader(&table))).unwrap(), "Ada");
        }
    });
    assert_eq!((counted, cache.stats().early_refreshes), (0, 0));
}

#[test]
fn a_hit_of_get_local_and_get_allocates_nothing() {
    let cache = warm();
    let counted = allocations(|| {
        for _ in 0..100 {
            assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
            assert_eq!(*at_once(cache.get(&1)).unwrap(), "Ada");
        }
    });
    assert_eq!(counted, 0);
}

#[test]
fn a_miss_of_get_local_allocates_nothing() {
    let cache = warm();
    assert_eq!(allocations(|| assert!(cache.get_local(&2).is_none())), 0);
}

#[test]
fn the_counter_counts() {
    assert!(allocations(|| drop(std::hint::black_box(Box::new(1)))) > 0);
}

#[test]
fn the_future_of_get_or_load_with_a_one_pointer_loader_is_at_most_64_bytes() {
    let cache = warm();
    let load = loader(&Arc::new("Ada".to_owned()));
    assert_eq!(size_of_val(&load), size_of::<usize>());
    let future = cache.get_or_load(&1, load);
    assert!(size_of_val(&future) <= 64, "{} bytes", size_of_val(&future));
}

#[test]
fn who_joins_a_load_and_waits_for_it_allocates_nothing() {
    let cache: Users = Cache::builder("users").memory(Memory::entries(100)).build().unwrap();
    let call = || cache.get_or_load(&1, |_| std::future::pending());
    block_on(async {
        let (mut leader, mut follower, mut another) = (pin!(call()), pin!(call()), pin!(call()));
        let mut context = Context::from_waker(Waker::noop());
        // By then the list of those to be woken has room for a few.
        assert!(leader.as_mut().poll(&mut context).is_pending());
        assert!(follower.as_mut().poll(&mut context).is_pending());
        assert_eq!(allocations(|| assert!(another.as_mut().poll(&mut context).is_pending())), 0);
    });
}
