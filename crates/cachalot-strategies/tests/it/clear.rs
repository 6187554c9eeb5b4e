//! Patterns and clears: all that is meant, everywhere, and nothing else.

use cachalot_core::{Pattern, Tags, Tier};
use cachalot_strategies::Removal;
use cachalot_testkit::{Fault, Faulty, ModelBackend, Operation};

use crate::world::{Users, UsersBuilder, World, on_both, pass, secs, settle};

fn clearable(builder: UsersBuilder) -> UsersBuilder {
    builder.ttl(secs(60)).clearable()
}

/// Walks both kinds of caches over memory alone and over a shared tier.
async fn cleared_either_way(walk: impl AsyncFn(World, Users) + Copy) {
    on_both(|builder| builder.ttl(secs(60)), walk).await;
    on_both(clearable, walk).await;
}

#[tokio::test(start_paused = true)]
async fn a_clear_ends_all_that_the_cache_has_and_nothing_comes_back() {
    cleared_either_way(async |world, cache| {
        (1..=20).for_each(|key| world.source.set(key, "old".into()));
        for key in 1..20 {
            world.load(&cache, key).await.unwrap();
        }
        let gate = world.source.stop_after_reading();
        let arrived = gate.arrivals();
        let loading = world.spawn_load(&cache, 20);
        gate.reached(arrived + 1).await;
        (1..=20).for_each(|key| world.source.set(key, "new".into()));
        assert_eq!(cache.clear().await.unwrap(), Removal::Removed);
        gate.open();
        drop(loading.await.unwrap());
        settle().await;
        for key in 1..=20 {
            assert!(cache.get(&key).await.is_none(), "{key}");
            assert_eq!(*world.load(&cache, key).await.unwrap(), "new", "{key}");
            assert_eq!(world.load(&cache, key).await.unwrap().tier(), Tier::Memory, "{key}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_clearable_cache_is_cleared_in_one_round_trip_and_read_in_one() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let node = || clearable(world.builder().backend(tier.clone())).build().unwrap();
    let (cache, other) = (node(), node());
    for key in 0..500 {
        cache.insert(key, "value".into()).await.unwrap();
    }
    let gets = |operation| tier.calls_of(operation);
    assert_eq!(other.get(&1).await.unwrap().tier(), Tier::Backend);
    assert_eq!((gets(Operation::Get), gets(Operation::TagTokens)), (1, 1), "asked at once");
    let before = tier.calls();
    assert_eq!(cache.clear().await.unwrap(), Removal::Removed);
    assert_eq!(tier.calls() - before, 1);
    assert!(node().get(&1).await.is_none() && node().get_many(&[1, 2]).await.iter().all(Option::is_none));
    // A process that was not told still knows the old token: what it loads by it is not kept below, once.
    world.source.set(1, "new".into());
    pass(secs(11)).await;
    for _ in 0..2 {
        assert_eq!(*world.load(&other, 1).await.unwrap(), "new");
        pass(secs(11)).await;
    }
    assert_eq!(world.load(&node(), 1).await.unwrap().tier(), Tier::Backend);
}

#[tokio::test(start_paused = true)]
async fn a_clearable_cache_that_loses_its_token_revives_nothing() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let node = || clearable(world.builder().backend(model.clone())).build().unwrap();
    let cache = node();
    let tagged = cache.with(|options| options.tags(Tags::new(["a"]).unwrap()));
    tagged.insert(1, "old".into()).await.unwrap();
    assert!(node().get(&1).await.is_some());
    model.lose_tags();
    assert!(node().get(&1).await.is_none());
    tagged.insert(1, "kept".into()).await.unwrap();
    assert!(node().get(&1).await.is_some());
    cache.remove_tag("a").await.unwrap();
    assert!(node().get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn what_was_stored_before_a_cache_was_clearable_is_a_miss() {
    let world = World::new();
    world.node().insert(1, "old".into()).await.unwrap();
    let cache = clearable(world.builder().backend(world.shared.clone())).build().unwrap();
    assert!(cache.get(&1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada", "a cache that is not reads what it stores");
}

#[tokio::test(start_paused = true)]
async fn a_clear_that_does_not_reach_the_tier_is_deferred_and_replayed() {
    for build in [clearable, |builder: UsersBuilder| builder.ttl(secs(60))] {
        for operation in [Operation::RotateTags, Operation::Sweep] {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let cache = build(world.builder().backend(tier.clone())).build().unwrap();
            world.load(&cache, 1).await.unwrap();
            world.source.set(1, "Augusta".into());
            (0..3).for_each(|_| tier.next_of(operation, Fault::Refuse));
            let removal = cache.clear().await.unwrap();
            if removal == Removal::Deferred {
                assert!(cache.get(&1).await.is_none());
                assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta", "both tiers are bypassed");
                assert!(cache.get_local(&1).is_none());
                for _ in 0..5 {
                    pass(secs(10)).await;
                }
            }
            assert_eq!(cache.stats().pending_invalidations, 0);
            assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
            assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Memory);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pattern_ends_what_it_matches_in_every_tier_and_in_flight() {
    on_both(
        |builder| builder.ttl(secs(60)),
        async |world, cache| {
            for key in [1, 2, 10, 11, 100] {
                world.source.set(key, "old".into());
                world.load(&cache, key).await.unwrap();
            }
            world.source.set(12, "old".into());
            let gate = world.source.stop_after_reading();
            let arrived = gate.arrivals();
            let loading = world.spawn_load(&cache, 12);
            gate.reached(arrived + 1).await;
            [1, 2, 10, 11, 12, 100].iter().for_each(|key| world.source.set(*key, "new".into()));
            assert_eq!(cache.remove_pattern(&Pattern::new("1?")).await.unwrap(), Removal::Removed);
            gate.open();
            assert_eq!(*loading.await.unwrap().unwrap(), "old", "it asked before");
            settle().await;
            for (key, expected) in
                [(1, "old"), (2, "old"), (100, "old"), (10, "new"), (11, "new"), (12, "new")]
            {
                assert_eq!(*world.load(&cache, key).await.unwrap(), expected, "{key}");
            }
        },
    )
    .await;
}
