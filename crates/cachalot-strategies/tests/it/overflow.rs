//! More invalidations that wait than are kept one by one: none is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cachalot_core::{ErrorKind, Event, Observer, Pattern, Tier};
use cachalot_strategies::Removal;
use cachalot_testkit::{Fault, Faulty, ModelBackend, ModelBus, Operation};

use crate::world::{Users, UsersBuilder, World, pass, secs, settle};

#[derive(Clone, Default)]
struct Overflows(Arc<AtomicU64>);

impl Observer for Overflows {
    fn on_event(&self, event: &Event<'_>) {
        if matches!(event, Event::DeferredOverflowed) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Keys 1 to 8, cached everywhere by a cache that keeps three invalidations, and the plug of its shared tier.
async fn full(build: impl Fn(UsersBuilder) -> UsersBuilder) -> (World, Users, Arc<Faulty>) {
    let world = World::new();
    let tier = Arc::new(Faulty::new(world.shared.clone()));
    let builder = world.builder().ttl(secs(600)).backend(tier.clone()).deferred_limit(3);
    let cache = build(builder).build().unwrap();
    for key in 1..=8 {
        world.source.set(key, "old".into());
        world.load(&cache, key).await.unwrap();
    }
    tier.down();
    (world, cache, tier)
}

async fn remove(world: &World, cache: &Users, keys: impl IntoIterator<Item = u64>) {
    for key in keys {
        world.source.set(key, "new".into());
        assert_eq!(cache.remove(&key).await.unwrap(), Removal::Deferred);
    }
}

#[tokio::test(start_paused = true)]
async fn beyond_the_limit_one_clear_takes_the_place_of_all_and_nothing_is_dropped() {
    for build in [|builder: UsersBuilder| builder, UsersBuilder::clearable] {
        let observer = Overflows::default();
        let (world, cache, tier) = full(|builder| build(builder).observer(observer.clone())).await;
        remove(&world, &cache, 1..=3).await;
        assert_eq!((cache.stats().pending_invalidations, cache.stats().deferred_overflows), (3, 0));
        remove(&world, &cache, [4]).await;
        let stats = cache.stats();
        assert_eq!((stats.deferred, stats.pending_invalidations, stats.deferred_overflows), (4, 1, 1));
        assert_eq!(observer.0.load(Ordering::SeqCst), 1);

        tier.up();
        for key in 1..=4 {
            assert!(cache.get(&key).await.is_none(), "{key} is old below");
            assert_eq!(*world.load(&cache, key).await.unwrap(), "new");
            assert!(cache.get_local(&key).is_none(), "nothing is stored before the replay");
        }
        assert_eq!(*world.load(&cache, 5).await.unwrap(), "old", "nobody removed it");
        world.source.set(9, "Grace".into());
        world.load(&cache, 9).await.unwrap();
        assert!(cache.get_local(&9).is_none(), "what is not told apart is not kept either");

        tokio::time::sleep(secs(10)).await;
        assert_eq!((cache.stats().pending_invalidations, cache.stats().replayed), (0, 1));
        let stranger = build(world.builder().ttl(secs(60)).backend(world.shared.clone())).build().unwrap();
        for key in 1..=8 {
            assert!(stranger.get(&key).await.is_none(), "{key}");
        }
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "new");
        assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Memory, "cached again");
        assert!(stranger.get(&1).await.is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn tags_and_patterns_that_an_overflow_swallows_are_done_by_its_clear_and_bypass_nothing_after() {
    let (world, cache, tier) = full(|builder| builder).await;
    (1..=8).for_each(|key| world.source.set(key, "new".into()));
    assert_eq!(cache.remove_tag("a").await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_pattern(&Pattern::literal("1")).await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_pattern(&Pattern::prefix("2")).await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_pattern(&Pattern::prefix("3")).await.unwrap(), Removal::Deferred);
    assert_eq!((cache.stats().pending_invalidations, cache.stats().deferred_overflows), (1, 1));
    tier.up();
    tokio::time::sleep(secs(10)).await;
    for key in 1..=8 {
        assert!(world.in_shared(key).await.is_none());
        assert_eq!(*world.load(&cache, key).await.unwrap(), "new");
        assert_eq!(world.load(&cache, key).await.unwrap().tier(), Tier::Memory, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_means_all_leaves_the_clear_of_an_overflow_in_its_place() {
    let (world, cache, tier) = full(|builder| builder).await;
    (1..=8).for_each(|key| world.source.set(key, "new".into()));
    for pattern in ["1", "2", "3", "4"] {
        assert_eq!(cache.remove_pattern(&Pattern::prefix(pattern)).await.unwrap(), Removal::Deferred);
    }
    assert_eq!(cache.stats().deferred_overflows, 1);
    assert_eq!(cache.remove_pattern(&Pattern::any()).await.unwrap(), Removal::Deferred);
    tier.up();
    tokio::time::sleep(secs(10)).await;
    for key in 1..=8 {
        assert_eq!(*world.load(&cache, key).await.unwrap(), "new");
        assert_eq!(
            world.load(&cache, key).await.unwrap().tier(),
            Tier::Memory,
            "{key} is passed by for ever"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_after_an_overflow_waits_by_itself() {
    let (world, cache, tier) = full(|builder| builder).await;
    remove(&world, &cache, 1..=4).await;
    remove(&world, &cache, 5..=6).await;
    assert_eq!((cache.stats().pending_invalidations, cache.stats().deferred_overflows), (3, 1));
    remove(&world, &cache, 7..=8).await;
    assert_eq!((cache.stats().pending_invalidations, cache.stats().deferred_overflows), (2, 2));
    tier.up();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    for key in 1..=8 {
        assert!(world.in_shared(key).await.is_none(), "{key}");
        assert_eq!(*world.load(&cache, key).await.unwrap(), "new");
    }
}

#[tokio::test(start_paused = true)]
async fn others_are_told_of_the_clear_and_wait_for_no_name_any_more() {
    let world = World::new();
    let (model, bus) = (ModelBackend::new(world.clock.clone()), ModelBus::new());
    let tier = Faulty::new(model.clone());
    let here = world.builder().ttl(secs(600)).backend(tier.clone()).bus(bus.clone()).deferred_limit(2);
    let here = here.build().unwrap();
    let there = world.builder().ttl(secs(600)).backend(model.clone()).bus(bus.clone()).build().unwrap();
    settle().await;
    for key in 1..=3 {
        world.source.set(key, "old".into());
        world.load(&there, key).await.unwrap();
    }
    tier.down();
    remove(&world, &here, 1..=3).await;
    pass(secs(0)).await;
    tokio::time::sleep(secs(1)).await;
    for key in 1..=3 {
        assert!(there.get(&key).await.is_none(), "{key} is pending elsewhere");
    }
    tier.up();
    tokio::time::sleep(secs(10)).await;
    for key in 1..=3 {
        assert_eq!(*world.load(&there, key).await.unwrap(), "new");
        assert_eq!(world.load(&there, key).await.unwrap().tier(), Tier::Memory, "{key} is kept again");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_keeps_failing_holds_up_no_other() {
    let (world, cache, tier) = full(|builder| builder.deferred_limit(100)).await;
    assert_eq!(cache.remove_tag("poison").await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_pattern(&Pattern::prefix("8")).await.unwrap(), Removal::Deferred);
    remove(&world, &cache, 1..=4).await;
    (0..1000).for_each(|_| tier.next_of(Operation::RotateTags, Fault::Refuse));
    tier.up();
    tokio::time::sleep(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 1, "the tag alone");
    for key in [1, 2, 3, 4, 8] {
        assert!(world.in_shared(key).await.is_none(), "{key}");
    }
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "new");
    assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Memory);
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_none_is_refused() {
    let world = World::new();
    let refused = world.builder().backend(world.shared.clone()).deferred_limit(0).build();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
}
