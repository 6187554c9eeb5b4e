//! Stale values: when they are served, to whom, and when never.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Freshness, Tier};
use cachalot_strategies::StaleReason;
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::world::{UsersBuilder, World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn stale_while_revalidate_serves_at_once_and_refreshes_once() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_while_revalidate(secs(30)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());

    pass(secs(59)).await;
    assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);

    pass(secs(11)).await; // t = 70
    let gate = world.source.stop_after_reading();
    for _ in 0..20 {
        let served = world.load(&cache, 1).await.unwrap();
        assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Stale));
        assert!(matches!(served.stale_reason(), Some(StaleReason::Revalidating)));
    }
    gate.open();
    settle().await; // t = 71
    let fresh = world.load(&cache, 1).await.unwrap();
    assert_eq!((&**fresh, fresh.freshness()), ("Augusta", Freshness::Fresh));
    assert_eq!(world.source.loads(), 2);
    assert_eq!(cache.stats().stale_served, 20);
}

#[tokio::test(start_paused = true)]
async fn beyond_its_window_a_stale_value_is_not_served() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_while_revalidate(secs(30)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    pass(secs(90)).await;
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn stale_if_error_serves_the_old_value_when_the_load_fails() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_if_error(secs(3600)).build().unwrap();
    world.load(&cache, 1).await.unwrap();

    pass(secs(70)).await;
    world.source.fail_next(1);
    let served = world.load(&cache, 1).await.unwrap();
    assert_eq!((&**served, served.freshness(), served.age()), ("Ada", Freshness::Stale, secs(70)));
    assert!(matches!(served.stale_reason(), Some(StaleReason::LoadFailed(_))));

    pass(secs(3630)).await; // t = 3,700
    world.source.fail_next(1);
    assert!(world.load(&cache, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn max_stale_of_a_call_is_never_exceeded() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_if_error(secs(3600)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(70)).await;
    for (bound, served) in [(secs(9), false), (secs(10), true)] {
        world.source.fail_next(1);
        let source = world.source.clone();
        let strict = cache.with(|options| options.max_stale(bound));
        let got = strict.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) }).await;
        assert_eq!(got.is_ok(), served, "{bound:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_value_never_comes_back_as_stale_if_error() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_if_error(secs(3600)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(70)).await;
    let gate = world.source.stop_after_reading();
    world.source.fail_next(1);
    let during = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    cache.remove(&1).await.unwrap();
    gate.open();
    assert!(during.await.unwrap().is_err(), "the value was removed while the load ran");
    world.source.fail_next(1);
    assert!(world.load(&cache, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_served_only_when_the_load_fails() {
    let world = World::new();
    let cache = world
        .builder()
        .ttl(secs(60))
        .stale_while_revalidate(secs(30))
        .stale_if_error(secs(100))
        .build()
        .unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    cache.expire(&1).await.unwrap();
    assert!(cache.get(&1).await.is_none());

    world.source.fail_next(1);
    let served = world.load(&cache, 1).await.unwrap();
    assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Invalidated));

    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta", "not served while a refresh would run");
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_is_gone_after_its_window() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_if_error(secs(100)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    cache.expire(&1).await.unwrap();
    pass(secs(100)).await;
    world.source.fail_next(1);
    assert!(world.load(&cache, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_leaves_the_stale_value_for_the_next_reader() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_while_revalidate(secs(300)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(70)).await;
    world.source.fail_next(2);
    for _ in 0..2 {
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        settle().await;
    }
    world.load(&cache, 1).await.unwrap();
    settle().await;
    let fresh = world.load(&cache, 1).await.unwrap();
    assert_eq!((fresh.freshness(), fresh.tier()), (Freshness::Fresh, Tier::Memory));
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_of_the_shared_tier_is_served_while_this_process_loads() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
        builder.ttl(secs(60)).stale_while_revalidate(secs(300)).build().unwrap()
    };
    let (writer, reader) = (build(), build());
    world.load(&writer, 1).await.unwrap();
    pass(secs(70)).await;
    let gate = world.source.stop_after_reading();
    let served = world.load(&reader, 1).await.unwrap();
    assert_eq!((&**served, served.freshness(), served.tier()), ("Ada", Freshness::Stale, Tier::Backend));
    // The lease is the first reader's; the second process is told to wait, and may serve stale as well.
    let elsewhere = world.load(&writer, 1).await.unwrap();
    assert_eq!((&**elsewhere, elsewhere.freshness()), ("Ada", Freshness::Stale));
    assert_eq!(world.source.loads(), 2);
    gate.open();
    settle().await;
    assert_eq!(reader.get_local(&1).unwrap().freshness(), Freshness::Fresh);
}

#[tokio::test(start_paused = true)]
async fn a_strict_caller_is_not_content_with_another_callers_stale_value() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
        builder.ttl(secs(60)).stale_while_revalidate(secs(300)).build().unwrap()
    };
    let (one, two) = (build(), build());
    world.load(&one, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    pass(secs(70)).await;
    let gate = world.source.stop_after_reading();
    assert_eq!(*world.load(&one, 1).await.unwrap(), "Ada");
    let (source, cache) = (world.source.clone(), two.clone());
    let strict = tokio::spawn(async move {
        let strict = cache.with(|options| options.max_stale(Duration::ZERO));
        strict.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) }).await
    });
    settle().await;
    gate.open();
    assert_eq!(*strict.await.unwrap().unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn a_value_removed_elsewhere_while_the_lease_is_asked_for_is_not_served_as_stale() {
    let world = World::new();
    let tier = Arc::new(Faulty::new(world.shared.clone()));
    let build = |builder: UsersBuilder| {
        let builder = builder.ttl(secs(60)).memory_ttl(secs(1));
        builder.stale_while_revalidate(secs(3600)).stale_if_error(secs(3600)).build().unwrap()
    };
    let (reader, remover) =
        (build(world.builder().backend(tier.clone())), build(world.builder().backend(world.shared.clone())));
    world.load(&remover, 1).await.unwrap();
    pass(secs(70)).await;

    tier.next_of(Operation::GetOrLease, Fault::Delay(secs(1)));
    world.source.fail_next(1);
    let load = world.spawn_load(&reader, 1);
    settle().await;
    assert_eq!(tier.calls_of(Operation::GetOrLease), 1, "it has read the stale value and asks for the lease");
    remover.remove(&1).await.unwrap();
    assert!(load.await.unwrap().is_err(), "the stale value it had read is gone for good");
}

#[tokio::test(start_paused = true)]
async fn a_value_removed_elsewhere_during_a_load_that_fails_is_not_served_as_stale() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
        builder.ttl(secs(60)).stale_if_error(secs(3600)).build().unwrap()
    };
    let (reader, remover) = (build(), build());
    world.load(&remover, 1).await.unwrap();
    pass(secs(70)).await;
    for removed in [false, true] {
        let gate = world.source.stop_after_reading();
        world.source.fail_next(1);
        let load = world.spawn_load(&reader, 1);
        gate.reached(gate.arrivals() + 1).await;
        if removed {
            remover.remove(&1).await.unwrap();
        }
        gate.open();
        assert_eq!(load.await.unwrap().is_err(), removed);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_value_of_the_shared_tier_is_kept_for_its_window_however_old_it_was() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
        builder.ttl(secs(3600)).stale_if_error(secs(600)).build().unwrap()
    };
    let (one, two) = (build(), build());
    world.load(&one, 1).await.unwrap();
    pass(secs(1200)).await;
    two.expire(&1).await.unwrap();
    pass(secs(599)).await;
    world.source.fail_next(1);
    assert_eq!(world.load(&one, 1).await.unwrap().freshness(), Freshness::Invalidated);
    pass(secs(1)).await;
    world.source.fail_next(1);
    assert!(world.load(&one, 1).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_read_is_counted_once_whatever_came_of_it() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).stale_while_revalidate(secs(30)).build().unwrap();
    for _ in 0..10 {
        assert!(cache.get(&1).await.is_none());
    }
    world.load(&cache, 1).await.unwrap();
    pass(secs(70)).await;
    let gate = world.source.stop_after_reading();
    for _ in 0..20 {
        world.load(&cache, 1).await.unwrap();
    }
    gate.open();
    settle().await;
    world.load(&cache, 1).await.unwrap();
    let stats = cache.stats();
    let reads = stats.memory_hits + stats.backend_hits + stats.stale_served + stats.misses + stats.coalesced;
    assert_eq!((reads, stats.misses, stats.coalesced, stats.stale_served), (32, 11, 0, 20));
    assert!((stats.hit_ratio() - 21.0 / 32.0).abs() < 1e-9);
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_grows_older_while_it_is_on_offer() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
        builder.ttl(secs(60)).stale_while_revalidate(secs(300)).build().unwrap()
    };
    let (writer, reader) = (build(), build());
    world.load(&writer, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    pass(secs(70)).await;
    let gate = world.source.stop_after_reading();
    assert_eq!(*world.load(&reader, 1).await.unwrap(), "Ada", "stale for 10 s");
    pass(secs(20)).await;
    let (source, cache) = (world.source.clone(), reader.clone());
    let strict = tokio::spawn(async move {
        let strict = cache.with(|options| options.max_stale(secs(15)));
        strict.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) }).await
    });
    settle().await;
    let lax = world.load(&reader, 1).await.unwrap();
    assert_eq!((&**lax, lax.age()), ("Ada", secs(90)), "as old as when it was served");
    gate.open();
    assert_eq!(*strict.await.unwrap().unwrap(), "Augusta", "stale for 30 s by then");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_late_leaves_no_value_beyond_max_stale() {
    for (bound, is_served) in [(secs(29), false), (secs(30), true)] {
        let world = World::new();
        let build = || {
            let builder = world.builder().backend(world.shared.clone()).memory_ttl(secs(1));
            builder.ttl(secs(60)).stale_if_error(secs(3600)).max_stale(bound).build().unwrap()
        };
        let (writer, reader) = (build(), build());
        world.load(&writer, 1).await.unwrap();
        pass(secs(70)).await;
        let _slow = world.source.clone().taking(secs(20));
        world.source.fail_next(1);
        assert_eq!(world.load(&reader, 1).await.is_ok(), is_served, "stale for 10 s at first, then for 30");
    }
}
