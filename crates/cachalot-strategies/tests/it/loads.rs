//! One load per key, whoever asks and whoever leaves.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use cachalot_core::{ErrorKind, Event, Observer, Tier};
use cachalot_testkit::SourceError;

use crate::world::{World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn ten_thousand_callers_of_a_cold_key_share_one_load() {
    let world = World::new();
    let cache = world.alone();
    let gate = world.source.stop_after_reading();
    let callers: Vec<_> = (0..10_000).map(|_| world.spawn_load(&cache, 1)).collect();
    gate.reached(1).await;
    settle().await;
    gate.open();
    for caller in callers {
        assert_eq!(*caller.await.unwrap().unwrap(), "Ada");
    }
    assert_eq!(world.source.loads(), 1);
    let stats = cache.stats();
    assert_eq!((stats.misses, stats.loads, stats.coalesced), (1, 1, 9_999));
    assert_eq!((stats.flights, stats.memory.entries), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn the_closure_is_not_called_on_a_hit() {
    let world = World::new();
    let cache = world.alone();
    world.load(&cache, 1).await.unwrap();
    let hit =
        cache.get_or_load(&1, |_| -> std::future::Ready<_> { panic!("called on a hit") }).await.unwrap();
    assert_eq!(hit.tier(), Tier::Memory);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_disturbs_nobody() {
    let world = World::new();
    let cache = world.alone();
    let gate = world.source.stop_after_reading();
    let first = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    let second = world.spawn_load(&cache, 1);
    settle().await;
    first.abort();
    settle().await;
    gate.open();
    assert_eq!(*second.await.unwrap().unwrap(), "Ada");
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn ten_impatient_callers_still_fill_the_cache() {
    let world = World::new();
    let cache = world.alone();
    let source = world.source.clone().taking(std::time::Duration::from_millis(120));
    for _ in 0..10 {
        let patience = std::time::Duration::from_millis(11);
        let load = |load: cachalot_strategies::Load<u64>| {
            let source = source.clone();
            async move { Ok(source.fetch(load.key()).await?) }
        };
        assert!(tokio::time::timeout(patience, cache.get_or_load(&1, load)).await.is_err());
    }
    pass(secs(1)).await;
    assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_failing_load_is_one_call_and_its_error_can_be_had_back() {
    let world = World::new();
    let cache = world.alone();
    world.source.fail_next(1);
    let gate = world.source.stop_after_reading();
    let callers: Vec<_> = (0..50).map(|_| world.spawn_load(&cache, 1)).collect();
    settle().await;
    gate.open();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert_eq!(error.downcast_ref::<SourceError>(), Some(&SourceError::Told));
    }
    assert_eq!(world.source.loads(), 1);
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "the failure is not cached");
}

#[tokio::test(start_paused = true)]
async fn a_panicking_loader_releases_everything() {
    let world = World::new();
    let cache = world.alone();
    let in_future = cache.get_or_load(&1, |_| async { panic!("in the future") }).await.unwrap_err();
    assert_eq!(in_future.cache_kind(), Some(ErrorKind::Panicked));
    assert!(in_future.to_string().contains("in the future"));
    let at_once =
        cache.get_or_load(&1, |_| -> std::future::Ready<_> { panic!("at once") }).await.unwrap_err();
    assert_eq!(at_once.cache_kind(), Some(ErrorKind::Panicked));
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_loader_holds_the_key_no_longer_than_the_hard_timeout() {
    let world = World::new();
    let cache = world.builder().hard_timeout(secs(3)).build().unwrap();
    let hang = cache.get_or_load(&1, |_| std::future::pending()).await.unwrap_err();
    assert_eq!(hang.cache_kind(), Some(ErrorKind::Timeout));
    settle().await;
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_its_own_key_fails_at_once() {
    let world = World::new();
    let cache = world.alone();
    let inner = cache.clone();
    let error = cache
        .get_or_load(&1, |_| async move {
            Ok((*inner.get_or_load(&1, |_| async { Ok("never".to_owned()) }).await?).clone())
        })
        .await
        .unwrap_err();
    let inner = error.downcast_ref::<cachalot_core::LoadError>().expect("the inner load's error");
    assert_eq!(inner.cache_kind(), Some(ErrorKind::Reentrant));
}

#[tokio::test(start_paused = true)]
async fn a_cycle_of_loaders_across_caches_fails_at_once() {
    let world = World::new();
    let (one, two) = (world.alone(), world.alone());
    let (one_too, two_too) = (one.clone(), two.clone());
    let error = one
        .get_or_load(&1, |_| async move {
            let through = two_too
                .get_or_load(&2, |_| async move {
                    Ok((*one_too.get_or_load(&1, |_| async { Ok(String::new()) }).await?).clone())
                })
                .await?;
            Ok((*through).clone())
        })
        .await
        .unwrap_err();
    assert!(error.to_string().contains("asked for the key it is loading"), "{error}");
    assert_eq!((one.stats().flights, two.stats().flights), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn absence_is_cached_only_with_a_negative_ttl() {
    let world = World::new();
    let plain = world.alone();
    let knowing = world.builder().negative_ttl(secs(10)).build().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    for cache in [&plain, &plain, &knowing, &knowing] {
        let calls = calls.clone();
        let found = cache
            .get_or_load_opt(&9, |_| async move {
                calls.fetch_add(1, Ordering::SeqCst);
                Ok(None)
            })
            .await
            .unwrap();
        assert!(found.is_none());
    }
    assert_eq!(calls.load(Ordering::SeqCst), 3, "twice without, once with");
    assert!(knowing.get(&9).await.is_none());
    pass(secs(10)).await;
    let back = knowing.get_or_load_opt(&9, |_| async { Ok(Some("late".to_owned())) }).await.unwrap();
    assert_eq!(*back.unwrap(), "late");
}

#[tokio::test(start_paused = true)]
async fn known_absence_does_not_answer_a_caller_that_brings_a_value() {
    let world = World::new();
    let cache = world.builder().negative_ttl(secs(10)).build().unwrap();
    assert!(cache.get_or_load_opt(&1, |_| async { Ok(None) }).await.unwrap().is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_a_value_outlives_a_flight_that_found_none() {
    let world = World::new();
    let cache = world.alone();
    let (found_none, wait) = tokio::sync::oneshot::channel::<()>();
    let absent = {
        let cache = cache.clone();
        tokio::spawn(async move {
            let load = |_| async move {
                let _ = wait.await;
                Ok(None)
            };
            cache.get_or_load_opt(&1, load).await
        })
    };
    settle().await;
    let present = world.spawn_load(&cache, 1);
    settle().await;
    found_none.send(()).unwrap();
    assert!(absent.await.unwrap().unwrap().is_none());
    assert_eq!(*present.await.unwrap().unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn the_loader_may_decide_the_ttl() {
    let world = World::new();
    let cache = world.alone();
    cache
        .get_or_load(&1, |load| async move {
            load.ttl(secs(5));
            Ok("short".to_owned())
        })
        .await
        .unwrap();
    pass(secs(5)).await;
    assert!(cache.get_local(&1).is_none());
    cache
        .get_or_load(&2, |load| async move {
            load.ttl(std::time::Duration::ZERO);
            Ok("not stored".to_owned())
        })
        .await
        .unwrap();
    assert!(cache.get_local(&2).is_none());
}

#[tokio::test(start_paused = true)]
async fn no_residue_after_a_hundred_thousand_keys() {
    let world = World::new();
    let cache = world.alone();
    for key in 0..100_000 {
        let _ = cache.get_or_load(&key, |load| async move { Ok(load.key().to_string()) }).await.unwrap();
    }
    let stats = cache.stats();
    assert_eq!(stats.flights, 0);
    assert!(stats.memory.entries <= 1000, "{} entries", stats.memory.entries);
    cache.shutdown(secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn shutdown_waits_for_loads_and_then_refuses_new_ones() {
    let world = World::new();
    let cache = world.alone();
    let gate = world.source.stop_after_reading();
    let caller = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    let unfinished = cache.shutdown(secs(1)).await.unwrap_err();
    assert_eq!((unfinished.tasks, unfinished.invalidations), (1, 0));
    gate.open();
    cache.shutdown(secs(1)).await.unwrap();
    assert_eq!(*caller.await.unwrap().unwrap(), "Ada");
    assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
    assert_eq!(world.load(&cache, 2).await.unwrap_err().cache_kind(), Some(ErrorKind::Closed));
    assert_eq!(cache.remove(&1).await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn an_observer_sees_what_happens() {
    struct Log(Arc<Mutex<Vec<String>>>);
    impl Observer for Log {
        fn on_event(&self, event: &Event<'_>) {
            self.0.lock().unwrap().push(format!("{event:?}"));
        }
    }
    let world = World::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let cache = world.builder().observer(Log(log.clone())).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.load(&cache, 1).await.unwrap();
    let seen = log.lock().unwrap().join("; ");
    assert_eq!(seen, "Load { outcome: Ok, took: 0ns }; Miss; Hit { tier: Memory }");
}
