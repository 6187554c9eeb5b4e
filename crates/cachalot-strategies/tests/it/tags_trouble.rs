//! Tags where the shared tier has none, or has lost them.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Tags, Tier, Ttl};
use cachalot_strategies::{Cached, Load, Removal};
use cachalot_testkit::{Fault, Faulty, Lacking, ModelBackend, Operation};

use crate::world::{Users, World, pass, secs, settle};

fn spawn(world: &World, cache: &Users) -> tokio::task::JoinHandle<Cached<String>> {
    let (source, cache) = (world.source.clone(), cache.clone());
    tokio::spawn(async move {
        let load = |load: Load<u64>| async move {
            let name = source.fetch(load.key()).await?;
            load.tag("a");
            Ok(name)
        };
        cache.get_or_load(&1, load).await.unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_tagged_value_whose_lease_was_revoked_is_not_kept_in_memory_either() {
    for removed in [false, true] {
        let world = World::new();
        let (cache, other) = (
            world.over(Lacking::tags(world.shared.clone())),
            world.over(Lacking::tags(world.shared.clone())),
        );
        let gate = world.source.stop_after_reading();
        let loading = spawn(&world, &cache);
        gate.reached(1).await;
        if removed {
            world.source.set(1, "Augusta".into());
            other.remove(&1).await.unwrap();
        }
        gate.open();
        assert_eq!(*loading.await.unwrap(), "Ada");
        settle().await;
        assert_eq!(cache.get_local(&1).is_none(), removed, "only memory can keep it, and only if it is good");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_tag_costs_those_who_wait_already_no_further_load() {
    let world = World::new();
    let cache = world.alone();
    let gate = world.source.stop_after_reading();
    let callers: Vec<_> = (0..5).map(|_| spawn(&world, &cache)).collect();
    gate.reached(1).await;
    settle().await;
    cache.remove_tag("a").await.unwrap();
    gate.open();
    for caller in callers {
        assert_eq!(*caller.await.unwrap(), "Ada", "it asked before");
    }
    assert_eq!(world.source.loads(), 1);
    assert!(cache.get_local(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_clearable_cache_that_has_lost_its_token_keeps_its_loads_again_soon() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let node = || world.builder().ttl(secs(60)).backend(model.clone()).clearable().build().unwrap();
    let cache = node();
    world.load(&cache, 1).await.unwrap();
    assert_eq!(node().get(&1).await.unwrap().tier(), Tier::Backend);
    model.lose_tags();
    for _ in 0..3 {
        pass(secs(11)).await;
        world.load(&cache, 1).await.unwrap();
    }
    assert!(node().get(&1).await.is_some());
    assert_eq!(world.source.loads(), 2, "once more, and not each time");
}

#[tokio::test(start_paused = true)]
async fn the_token_of_a_clearable_cache_lives_as_long_as_it_loads() {
    let world = World::new();
    let node = || world.builder().ttl(Ttl::seconds(30 * 86_400)).backend(world.shared.clone()).clearable();
    let cache = node().build().unwrap();
    world.load(&cache, 1).await.unwrap();
    for day in 2..12 {
        pass(secs(86_400)).await;
        world.source.set(day, "value".into());
        world.load(&cache, day).await.unwrap();
    }
    assert!(node().build().unwrap().get(&1).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_declared_tag_lives_as_long_as_what_has_it() {
    let world = World::new();
    let cache = world.builder().ttl(Ttl::seconds(30 * 86_400)).backend(world.shared.clone()).build().unwrap();
    let tagged = cache.with(|options| options.tags(Tags::new(["a"]).unwrap()));
    tagged.insert(1, "inserted".into()).await.unwrap();
    let source = world.source.clone();
    world.source.set(2, "loaded".into());
    tagged.get_or_load(&2, |load| async move { Ok(source.fetch(load.key()).await?) }).await.unwrap();
    pass(secs(10 * 86_400)).await;
    assert!(world.in_shared(1).await.is_some() && world.in_shared(2).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_token_read_before_the_replay_of_its_removal_is_not_believed_after_it() {
    let world = World::new();
    let faulty = Arc::new(Faulty::new(world.shared.clone()));
    let (cache, other) = (world.over(faulty.clone()), world.node());
    other.with(|options| options.tags(Tags::new(["a"]).unwrap())).insert(1, "old".into()).await.unwrap();
    faulty.next_of(Operation::RotateTags, Fault::Refuse);
    assert_eq!(cache.remove_tag("a").await.unwrap(), Removal::Deferred);
    faulty.next_of(Operation::TagTokens, Fault::AnswerLate(secs(1)));
    let reading = tokio::spawn({
        let cache = cache.clone();
        async move { cache.get(&1).await.map(Cached::into_inner) }
    });
    pass(Duration::from_millis(900)).await;
    assert_eq!(cache.stats().pending_invalidations, 0, "the replay is through");
    pass(secs(1)).await;
    assert_eq!(reading.await.unwrap(), None);
}
