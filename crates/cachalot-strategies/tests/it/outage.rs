//! A shared tier that is down, and what is kept until it is back.

use std::panic::panic_any;
use std::sync::Arc;

use cachalot_core::{Event, Observer, Pattern, Tier};
use cachalot_strategies::{Inserted, Removal};
use cachalot_testkit::Faulty;

use crate::world::{Users, World, pass, secs};

struct Panics;

impl Observer for Panics {
    fn on_event(&self, _: &Event<'_>) {
        panic_any("an observer");
    }
}

/// A cache over the shared tier, and the plug of the latter.
fn plugged(world: &World) -> (Users, Arc<Faulty>) {
    let tier = Arc::new(Faulty::new(world.shared.clone()));
    (world.over(tier.clone()), tier)
}

#[tokio::test(start_paused = true)]
async fn a_dead_shared_tier_fails_no_read() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    tier.down();
    assert!(cache.get(&1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Memory, "memory works without it");
    assert!(cache.stats().backend_failures >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_dies_during_the_load_costs_the_store_not_the_value() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    let gate = world.source.stop_after_reading();
    let load = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    tier.down();
    gate.open();
    assert_eq!(*load.await.unwrap().unwrap(), "Ada");
    assert!(cache.get_local(&1).is_none(), "whether the tier took it is not known");
    cache.shutdown(secs(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_cannot_reach_the_tier_is_deferred_and_replayed() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());

    tier.down();
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Deferred);
    assert_eq!(cache.stats().pending_invalidations, 1);
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");

    // The tier is back, with the old value: until the replay both tiers are bypassed for this key.
    tier.up();
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada", "others still see it");
    assert!(cache.get(&1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
    assert!(cache.get_local(&1).is_none(), "nothing is stored before the replay");

    tokio::time::sleep(secs(10)).await;
    assert!(world.in_shared(1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
    assert_eq!(world.in_shared(1).await.unwrap(), "Augusta");
    let stats = cache.stats();
    assert_eq!((stats.deferred, stats.replayed, stats.pending_invalidations), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_at_everything_costs_no_invalidation() {
    let world = World::new();
    let tier = Arc::new(Faulty::new(world.shared.clone()));
    let cache = world.builder().ttl(secs(600)).backend(tier.clone()).observer(Panics).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());

    tier.down();
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_tag("letter:A").await.unwrap(), Removal::Deferred);
    assert_eq!(cache.remove_pattern(&Pattern::literal("7")).await.unwrap(), Removal::Deferred);
    assert_eq!(cache.stats().pending_invalidations, 3);
    tier.up();
    tokio::time::sleep(secs(10)).await;
    assert!(world.in_shared(1).await.is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
    let stats = cache.stats();
    assert_eq!((stats.deferred, stats.replayed, stats.pending_invalidations), (3, 3, 0));
    assert!(stats.task_panics > 0);
}

#[tokio::test(start_paused = true)]
async fn other_keys_are_cached_while_an_invalidation_waits() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    world.source.set(2, "Grace".into());
    tier.down();
    cache.remove(&1).await.unwrap();
    world.load(&cache, 2).await.unwrap();
    assert_eq!(*cache.get_local(&2).unwrap(), "Grace");
}

#[tokio::test(start_paused = true)]
async fn an_insert_that_cannot_reach_the_tier_removes_the_old_value_later() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    world.load(&cache, 1).await.unwrap();
    tier.down();
    assert_eq!(cache.insert(1, "Grace".into()).await.unwrap(), Inserted::Deferred);
    assert!(cache.get_local(&1).is_none());
    tier.up();
    tokio::time::sleep(secs(10)).await;
    assert!(world.in_shared(1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn shutdown_names_what_was_not_taken() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    tier.down();
    for key in 0..3 {
        assert_eq!(cache.remove(&key).await.unwrap(), Removal::Deferred);
    }
    let left = cache.shutdown(secs(30)).await.unwrap_err();
    assert_eq!((left.tasks, left.invalidations), (1, 3));
    tier.up();
    cache.shutdown(secs(30)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_removal_while_loads_run_without_the_tier_still_fences_them() {
    let world = World::new();
    let (cache, tier) = plugged(&world);
    tier.down();
    let gate = world.source.stop_after_reading();
    let load = world.spawn_load(&cache, 1);
    gate.reached(1).await;
    world.source.set(1, "Augusta".into());
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Deferred);
    gate.open();
    load.await.unwrap().unwrap();
    pass(secs(0)).await;
    assert!(cache.get_local(&1).is_none());
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
}
