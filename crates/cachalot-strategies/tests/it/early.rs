//! Values that are refreshed before their time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::task::{Context, Waker};
use std::time::Duration;

use cachalot_core::units::millis;
use cachalot_core::{Clock, ErrorKind, Freshness, LoaderError};
use cachalot_strategies::{LoadMany, RefreshMode};

use crate::world::{Users, UsersBuilder, World, on_both, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn xfetch_refreshes_a_busy_key_before_its_end_and_nobody_waits() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).xfetch(1.0);
    on_both(build, async |world, cache| {
        let _slow = world.source.clone().taking(secs(1));
        world.load(&cache, 1).await.unwrap(); // t = 0
        pass(secs(39)).await;
        for _ in 0..1000 {
            world.load(&cache, 1).await.unwrap();
        }
        settle().await;
        assert_eq!((world.source.loads(), cache.stats().early_refreshes), (1, 0), "too early at t = 39");
        while world.source.loads() == 1 {
            let began = world.clock.now();
            let served = world.load(&cache, 1).await.unwrap();
            assert_eq!(served.freshness(), Freshness::Fresh);
            assert_eq!(world.clock.now(), began, "nobody waits");
            assert!(served.age() < secs(60), "the refresh came too late");
            pass(millis(10)).await;
        }
        pass(secs(1)).await;
        assert!(world.load(&cache, 1).await.unwrap().age() <= millis(10));
        let stats = cache.stats();
        assert_eq!((world.source.loads(), stats.early_refreshes, stats.misses), (2, 1, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_refreshes_of_one_process_are_one_load() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9);
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(55)).await;
        let gate = world.source.stop_after_reading();
        for _ in 0..100 {
            assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);
            settle().await;
        }
        gate.open();
        settle().await;
        assert_eq!((world.source.loads(), cache.stats().early_refreshes), (2, 1));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_ratio_refreshes_on_the_first_read_after_its_share_of_the_ttl() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9);
    on_both(build, async |world, cache| {
        let _slow = world.source.clone().taking(secs(1));
        world.load(&cache, 1).await.unwrap(); // t = 0
        world.source.set(1, "Augusta".into());
        pass(secs(53)).await;
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        settle().await;
        assert_eq!(world.source.loads(), 1);
        pass(secs(2)).await; // t = 55
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "the caller does not wait");
        settle().await;
        assert_eq!(world.source.loads(), 2);
        pass(secs(1)).await; // t = 56
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
        pass(secs(53)).await; // t = 109
        assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);
        settle().await;
        assert_eq!(world.source.loads(), 2);
        pass(secs(7)).await; // t = 116
        assert!(cache.get(&1).await.is_none(), "not read after its nine tenths");
    })
    .await;
}

/// Processes that keep their copies as long as the value lives.
fn fleet(world: &World, size: usize, build: impl Fn(UsersBuilder) -> UsersBuilder) -> Vec<Users> {
    let node = |_| {
        let builder = world.builder().backend(world.shared.clone()).memory_ttl(Duration::MAX);
        build(builder.ttl(secs(60))).build().unwrap()
    };
    (0..size).map(node).collect()
}

#[tokio::test(start_paused = true)]
async fn the_refreshes_of_a_fleet_are_one_load() {
    let world = World::new();
    let nodes = fleet(&world, 10, |builder| builder.early_refresh(0.9));
    for node in &nodes {
        world.load(node, 1).await.unwrap();
    }
    pass(secs(55)).await;
    let gate = world.source.stop_after_reading();
    for _ in 0..3 {
        for node in &nodes {
            assert_eq!(world.load(node, 1).await.unwrap().freshness(), Freshness::Fresh);
        }
        settle().await;
    }
    assert_eq!(world.source.loads(), 2);
    world.source.set(1, "Augusta".into());
    gate.open();
    pass(secs(1)).await;
    for _ in 0..2 {
        for node in &nodes {
            world.load(node, 1).await.unwrap();
        }
        settle().await;
    }
    assert_eq!(world.source.loads(), 2, "the others read what the one has stored");
    assert!(nodes.iter().all(|node| node.get_local(&1).unwrap().age() <= secs(1)));
}

#[tokio::test(start_paused = true)]
async fn a_value_found_near_its_end_in_the_shared_tier_is_refreshed_too() {
    for memory_ttl in [secs(10), Duration::ZERO] {
        let world = World::new();
        let build = || {
            let builder = world.builder().backend(world.shared.clone()).memory_ttl(memory_ttl);
            builder.ttl(secs(60)).early_refresh(0.9).build().unwrap()
        };
        let (one, two) = (build(), build());
        world.load(&one, 1).await.unwrap();
        world.source.set(1, "Augusta".into());
        pass(secs(55)).await;
        let gate = world.source.stop_after_reading();
        for _ in 0..5 {
            let served = world.load(&two, 1).await.unwrap();
            assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Fresh));
            settle().await;
        }
        gate.open();
        settle().await;
        assert_eq!(world.source.loads(), 2);
        assert_eq!(*world.load(&two, 1).await.unwrap(), "Augusta");
        assert_eq!(two.stats().flights, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_token_of_the_budget_no_refresh_begins_before_the_value_is_stale() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9).refresh_budget(1, 3);
    on_both(build, async |world, cache| {
        for key in 0..100 {
            world.source.set(key, "Ada".into());
            world.load(&cache, key).await.unwrap();
        }
        pass(secs(55)).await;
        for key in 0..100 {
            assert_eq!(world.load(&cache, key).await.unwrap().freshness(), Freshness::Fresh);
        }
        settle().await;
        let stats = cache.stats();
        assert_eq!((stats.early_refreshes, stats.refreshes_refused), (3, 97));
        assert_eq!(world.source.loads(), 103);
        pass(secs(2)).await;
        for key in 0..100 {
            world.load(&cache, key).await.unwrap();
        }
        settle().await;
        assert_eq!(world.source.loads(), 105, "two seconds, two tokens");
        pass(secs(3)).await; // t = 60
        for key in 0..100 {
            world.load(&cache, key).await.unwrap();
        }
        settle().await;
        assert_eq!(world.source.loads(), 200, "what is stale is loaded, budget or not");
        assert_eq!(cache.stats().flights, 0);
    })
    .await;
}

thread_local! {
    /// What is to happen when the clock is read, and how many readings before that.
    static AT_READING: RefCell<Option<(usize, Users)>> = const { RefCell::new(None) };
    static LOADS: Cell<u64> = const { Cell::new(0) };
}

/// A load that has begun and never ends.
async fn load() -> Result<String, LoaderError> {
    LOADS.set(LOADS.get() + 1);
    std::future::pending().await
}

/// A clock at whose readings another caller may come, and leave at once.
fn traced(clock: Clock) -> Clock {
    Clock::custom(move || {
        match AT_READING.take() {
            Some((0, cache)) => {
                let mut caller = Box::pin(async move { drop(cache.get_or_load(&1, |_| load()).await) });
                let _ = caller.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            }
            Some((left, cache)) => AT_READING.set(Some((left - 1, cache))),
            None => {}
        }
        clock.now()
    })
}

#[tokio::test(start_paused = true)]
async fn only_who_leads_a_refresh_spends_of_the_budget() {
    let mut met = 0;
    for (readings, is_batch) in (0..30).flat_map(|readings| [(readings, false), (readings, true)]) {
        let world = World::new();
        // Keeps nothing in memory: each read finds the value in the shared tier, near its end.
        let builder = world.builder().clock(traced(world.clock.clone())).backend(world.shared.clone());
        let builder = builder.memory_ttl(Duration::ZERO).ttl(secs(60)).early_refresh(0.9);
        let cache = builder.refresh_budget(1, 9).build().unwrap();
        world.load(&cache, 1).await.unwrap();
        pass(secs(55)).await;
        LOADS.set(0);
        AT_READING.set(Some((readings, cache.clone())));
        if is_batch {
            drop(cache.get_many_or_load(&[1], |_| async { Ok([(1, load().await)]) }).await);
        } else {
            cache.get_or_load(&1, |_| load()).await.unwrap();
        }
        settle().await;
        met += u64::from(AT_READING.take().is_none());
        assert_eq!(cache.stats().early_refreshes, LOADS.get(), "at reading {readings}, batch: {is_batch}");
    }
    assert!(met > 10, "somebody came at {met} readings only");
}

#[tokio::test(start_paused = true)]
async fn inline_the_caller_that_starts_the_refresh_waits_for_it() {
    let build =
        |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9).refresh_mode(RefreshMode::Inline);
    let world = World::new();
    let cache = build(world.builder()).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    pass(secs(55)).await;
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
    pass(secs(55)).await;
    world.source.fail_next(1);
    let served = world.load(&cache, 1).await.unwrap();
    assert_eq!((&**served, served.freshness()), ("Augusta", Freshness::Fresh), "a failure costs nothing yet");
    let gone = cache.get_or_load_opt(&1, |_| async { Ok(None) }).await.unwrap();
    assert!(gone.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_failed_early_refresh_is_not_tried_by_every_read() {
    let build =
        |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9).error_backoff(secs(2), secs(2));
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(55)).await;
        world.source.fail_next(usize::from(u8::MAX));
        for _ in 0..50 {
            assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);
            settle().await;
        }
        assert_eq!(world.source.loads(), 2);
        pass(secs(2)).await;
        world.load(&cache, 1).await.unwrap();
        settle().await;
        assert_eq!(world.source.loads(), 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_removal_during_an_early_refresh_is_not_undone() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9);
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(55)).await;
        let gate = world.source.stop_after_reading();
        world.load(&cache, 1).await.unwrap();
        gate.reached(gate.arrivals().max(1)).await;
        world.source.set(1, "Augusta".into());
        cache.remove(&1).await.unwrap();
        let later = world.spawn_load(&cache, 1);
        settle().await;
        gate.open();
        assert_eq!(*later.await.unwrap().unwrap(), "Augusta");
        settle().await;
        assert_eq!(*cache.get(&1).await.unwrap(), "Augusta");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_inserted_value_is_refreshed_by_ratio_and_not_by_xfetch() {
    for (build, loads) in [
        ((|builder: UsersBuilder| builder.early_refresh(0.9)) as fn(UsersBuilder) -> UsersBuilder, 1),
        (|builder: UsersBuilder| builder.xfetch(5.0), 0),
    ] {
        on_both(
            |builder| build(builder.ttl(secs(60))),
            async |world, cache| {
                cache.insert(1, "Grace".into()).await.unwrap();
                pass(secs(59)).await;
                assert_eq!(*world.load(&cache, 1).await.unwrap(), "Grace");
                settle().await;
                assert_eq!(world.source.loads(), loads);
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_sense_is_refused() {
    let world = World::new();
    let kind = |builder: UsersBuilder| builder.build().unwrap_err().kind();
    for ratio in [0.0, 1.0, -1.0, f64::NAN] {
        assert_eq!(kind(world.builder().early_refresh(ratio)), ErrorKind::Config, "{ratio}");
    }
    for beta in [-1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(kind(world.builder().xfetch(beta)), ErrorKind::Config, "{beta}");
    }
    assert_eq!(kind(world.builder().refresh_budget(0, 1)), ErrorKind::Config);
    assert_eq!(kind(world.builder().error_backoff(secs(2), secs(1))), ErrorKind::Config);
    assert_eq!(kind(world.builder().max_flight_age(secs(1))), ErrorKind::Config, "below the hard timeout");
    assert_eq!(kind(world.builder().backend_timeout(secs(1))), ErrorKind::Config, "there is no backend");
}

#[tokio::test(start_paused = true)]
async fn inline_a_caller_waits_no_longer_than_its_soft_timeout_and_nobody_else_waits() {
    let world = World::new();
    let builder = world.builder().ttl(secs(60)).early_refresh(0.9).refresh_mode(RefreshMode::Inline);
    let cache = builder.soft_timeout(millis(100)).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(55)).await;
    let began = world.clock.now();
    let gate = world.source.stop_after_reading();
    let first = world.spawn_load(&cache, 1);
    settle().await;
    assert_eq!(world.source.loads(), 2);
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    assert_eq!(world.clock.now(), began, "somebody else is at it");
    assert_eq!(first.await.unwrap().unwrap().freshness(), Freshness::Fresh);
    assert_eq!(world.clock.now().since(began), millis(100));
    gate.open();
    settle().await;
    assert_eq!(world.source.loads(), 2);
    assert_eq!(cache.get_local(&1).unwrap().age(), Duration::ZERO, "the refresh went on");
}

#[tokio::test(start_paused = true)]
async fn what_a_batch_finds_near_its_end_in_the_shared_tier_is_refreshed_too() {
    for memory_ttl in [secs(10), Duration::ZERO] {
        let world = World::new();
        let build = || {
            let builder = world.builder().backend(world.shared.clone()).memory_ttl(memory_ttl);
            builder.ttl(secs(60)).early_refresh(0.9).build().unwrap()
        };
        let (one, two) = (build(), build());
        world.load(&one, 1).await.unwrap();
        world.source.set(1, "Augusta".into());
        pass(secs(55)).await;
        let source = world.source.clone();
        let load = move |load: LoadMany<u64>| {
            let source = source.clone();
            async move { Ok([(1, source.fetch(&load.keys()[0]).await?)]) }
        };
        let served = two.get_many_or_load(&[1], load).await.remove(0).unwrap();
        assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Fresh));
        settle().await;
        assert_eq!((world.source.loads(), two.stats().early_refreshes, two.stats().flights), (2, 1, 0));
        assert_eq!(world.in_shared(1).await.unwrap(), "Augusta");
    }
}
