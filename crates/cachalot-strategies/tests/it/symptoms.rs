//! What other caches got wrong about loads, each by its symptom. What they got wrong about invalidations is in
//! the matrix of the integration tests; the rest of it is beside the feature it is about.

use std::time::Duration;

use cachalot_core::units::millis;
use cachalot_core::{Entropy, Freshness, LeaseBackend, Namespace, Tier, Token};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cached, RefreshMode};
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::batch_load::{assert_nothing_runs, assert_rows, load, world};
use crate::fleet::Fleet;
use crate::world::{Users, UsersBuilder, World, pass, secs, settle};

/// Memory alone, and memory that keeps its copies as long as the shared tier.
async fn on_each(build: impl Fn(UsersBuilder) -> UsersBuilder, walk: impl AsyncFn(World, Users)) {
    for is_tiered in [false, true] {
        let world = World::new();
        let builder = build(world.builder());
        let builder = match is_tiered {
            true => builder.backend(world.shared.clone()).memory_ttl(Duration::MAX),
            false => builder,
        };
        walk(world, builder.build().unwrap()).await;
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_come_and_go_in_memory_let_no_second_load_begin() {
    let world = world();
    let cache = world.builder().memory(Memory::entries(1).hash_seed(1)).build().unwrap();
    let gate = world.source.stop_after_reading();
    let first = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    for key in 100..1100 {
        cache.insert(key, "passing".into()).await.unwrap();
    }
    let second = world.spawn_load(&cache, 1);
    settle().await;
    gate.open();
    assert_eq!(*first.await.unwrap().unwrap(), "v1");
    assert_eq!(*second.await.unwrap().unwrap(), "v1");
    assert_eq!(world.source.loads(), 1);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn a_plain_get_in_flight_answers_nobody_who_brings_a_loader() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    tier.next_of(Operation::Get, Fault::Delay(secs(1)));
    let plain = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&1).await.is_none() }
    });
    settle().await;
    let gate = world.source.stop_after_reading();
    let loads: Vec<_> = (0..50).map(|_| world.spawn_load(&cache, 1)).collect();
    gate.reached(1).await;
    pass(secs(1)).await;
    assert!(plain.await.unwrap(), "it finds nothing");
    gate.open();
    for load in loads {
        assert_eq!(*load.await.unwrap().unwrap(), "Ada");
    }
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_hangs_at_the_first_stale_hit_costs_its_timeout_once_for_all() {
    for window in [Duration::ZERO, secs(300)] {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = world.builder().backend(tier.clone()).backend_timeout(millis(300));
        let builder = builder.ttl(secs(60)).stale_while_revalidate(window).memory_ttl(Duration::MAX);
        let cache = builder.build().unwrap();
        world.load(&cache, 1).await.unwrap();
        world.source.set(1, "Augusta".into());
        pass(secs(70)).await;
        tier.next_of(Operation::Get, Fault::Delay(secs(1_000_000)));
        let began = world.clock.now();
        let callers: Vec<_> = (0..100).map(|_| world.spawn_load(&cache, 1)).collect();
        for caller in callers {
            let served = caller.await.unwrap().unwrap();
            let expected = if window.is_zero() { "Augusta" } else { "Ada" };
            assert_eq!(&**served, expected);
        }
        let waited = world.clock.now().since(began);
        assert_eq!(waited, if window.is_zero() { millis(300) } else { Duration::ZERO });
        pass(secs(1)).await;
        let stats = cache.stats();
        assert_eq!((world.source.loads(), stats.backend_failures), (2, 1), "told once, not by every caller");
        assert_eq!(*cache.get_local(&1).unwrap(), "Augusta");
    }
}

#[tokio::test(start_paused = true)]
async fn callers_who_have_waited_in_vain_for_another_process_load_once() {
    let world = World::new();
    let cache = world.builder().backend(world.shared.clone()).lease_term(secs(40)).build().unwrap();
    // Whoever has the lease renews it for ever and gives nothing.
    let key = Namespace::new("users").unwrap().key(&1u64);
    let hog = |seed| {
        let (shared, key) = (world.shared.clone(), key.clone());
        async move {
            let token = Token::draw(&Entropy::seeded(seed));
            shared.get_or_lease(&key, token, secs(1000), None).await.unwrap()
        }
    };
    hog(77).await;
    let callers: Vec<_> = (0..50).map(|_| world.spawn_load(&cache, 1)).collect();
    for caller in callers {
        assert_eq!(*caller.await.unwrap().unwrap(), "Ada");
    }
    assert_eq!(world.source.loads(), 1);
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_a_stale_value_does_not_wait_for_whoever_loads_it() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).stale_while_revalidate(secs(300));
    on_each(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(70)).await;
        let gate = world.source.stop_after_reading();
        let began = world.clock.now();
        for _ in 0..100 {
            assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Stale);
            settle().await;
        }
        assert_eq!((world.clock.now(), world.source.loads()), (began, 2));
        gate.open();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_meets_a_removal_and_a_new_value_changes_neither_it_nor_its_end() {
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9);
    on_each(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap(); // t = 0
        pass(secs(55)).await;
        let gate = world.source.stop_after_reading();
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        gate.reached(2).await;
        world.source.set(1, "Augusta".into());
        cache.remove(&1).await.unwrap();
        cache.insert(1, "Augusta".into()).await.unwrap(); // t = 55: until 115
        pass(secs(30)).await; // t = 85
        gate.open();
        settle().await;
        assert_eq!(*cache.get_local(&1).unwrap(), "Augusta");
        pass(secs(31)).await; // t = 116
        assert!(cache.get(&1).await.is_none(), "the late refresh has not prolonged it");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_does_not_take_the_refresh_along() {
    let build =
        |builder: UsersBuilder| builder.ttl(secs(60)).early_refresh(0.9).refresh_mode(RefreshMode::Inline);
    on_each(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        world.source.set(1, "Augusta".into());
        pass(secs(55)).await;
        let gate = world.source.stop_after_reading();
        let caller = world.spawn_load(&cache, 1);
        gate.reached(2).await;
        assert!(!caller.is_finished(), "it waits for the refresh");
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.open();
        settle().await;
        assert_eq!(*cache.get_local(&1).unwrap(), "Augusta");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_after_a_partial_answer_from_below_makes_nothing_absent() {
    let world = world();
    let build = || world.builder().backend(world.shared.clone()).negative_ttl(secs(60)).build().unwrap();
    let (cache, other) = (build(), build());
    load(&world, &other, &[1, 2]).await;
    world.source.fail_next(1);
    let answers = load(&world, &cache, &[1, 2, 3, 4]).await;
    assert_eq!(answers.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, true, false, false]);
    for node in [&cache, &other] {
        assert_rows(&load(&world, node, &[1, 2, 3, 4]).await, &[1, 2, 3, 4]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_message_from_another_process_deletes_nothing_that_all_share() {
    let fleet = Fleet::new();
    let tier = Faulty::new(fleet.world.shared.clone());
    let builder = fleet.world.builder().ttl(secs(600)).backend(tier.clone());
    let there = builder.bus(fleet.bus.clone()).build().unwrap();
    let here = fleet.node().await;
    fleet.world.load(&there, 1).await.unwrap();
    here.remove(&1).await.unwrap();
    // Loaded again before the message is there.
    assert_eq!(fleet.world.load(&here, 1).await.unwrap().tier(), Tier::Loader);
    let calls = tier.calls();
    fleet.told().await;
    assert!(there.get_local(&1).is_none());
    assert_eq!(tier.calls(), calls);
    assert_eq!(fleet.world.load(&there, 1).await.unwrap().tier(), Tier::Backend);
    assert_eq!(fleet.world.source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn caches_that_use_the_same_keys_share_no_flight_and_no_removal() {
    let world = World::new();
    let build = |name: &str| {
        let memory = Memory::entries(10).hash_seed(1);
        let builder = cachalot_strategies::Cache::<u64, String, _>::builder(name).memory(memory);
        builder.clock(world.clock.clone()).backend(world.shared.clone()).build().unwrap()
    };
    let (users, orders) = (build("users"), build("orders"));
    let gate = world.source.stop_after_reading();
    let loads = [&users, &orders].map(|cache| world.spawn_load(cache, 1));
    settle().await;
    assert_eq!(gate.arrivals(), 2, "neither waits for the other");
    users.remove(&1).await.unwrap();
    gate.open();
    for load in loads {
        load.await.unwrap().unwrap();
    }
    settle().await;
    assert!(users.get(&1).await.is_none(), "a load from before its removal");
    assert_eq!(orders.get(&1).await.map(Cached::into_inner).as_deref(), Some("Ada"));
}
