//! Tags: removed in one step, wherever their keys are, and never back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachalot_core::{ErrorKind, Event, LoadError, Observer, Tags, Tier};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Cached, Load, LoadMany, Removal, StaleReason};
use cachalot_testkit::{Fault, Faulty, ModelBackend, Operation};
use tokio::task::JoinHandle;

use crate::world::{Users, World, on_both, pass, secs, settle};

/// A load whose loader decides the tag: `letter:` and the first letter of the value.
async fn load(world: &World, cache: &Users, key: u64) -> Result<Cached<String>, LoadError> {
    let source = world.source.clone();
    let load = |load: Load<u64>| async move {
        let name = source.fetch(load.key()).await?;
        load.tag(format!("letter:{}", &name[..1]));
        Ok(name)
    };
    cache.get_or_load(&key, load).await
}

/// The same in a task of its own, the tag declared by the call or decided by the loader.
fn spawn(world: &World, cache: &Users, declared: bool) -> JoinHandle<Result<Cached<String>, LoadError>> {
    let (source, cache) = (world.source.clone(), cache.clone());
    tokio::spawn(async move {
        let tags = if declared { Tags::new(["letter:A"]).unwrap() } else { Tags::NONE };
        let view = cache.with(|options| options.tags(tags));
        let load = |load: Load<u64>| async move {
            let name = source.fetch(load.key()).await?;
            if !declared {
                load.tag(format!("letter:{}", &name[..1]));
            }
            Ok(name)
        };
        view.get_or_load(&1, load).await
    })
}

#[tokio::test(start_paused = true)]
async fn a_removed_tag_ends_what_has_it_in_every_tier_and_nothing_else() {
    on_both(
        |builder| builder.ttl(secs(60)),
        async |world, cache| {
            world.source.set(2, "Bob".into());
            for key in [1, 2] {
                load(&world, &cache, key).await.unwrap();
            }
            world.source.set(1, "Augusta".into());
            world.source.set(2, "Barbara".into());
            assert_eq!(cache.remove_tag("letter:A").await.unwrap(), Removal::Removed);
            assert!(cache.get_local(&1).is_none() && cache.get(&1).await.is_none());
            assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Augusta");
            assert_eq!(*load(&world, &cache, 2).await.unwrap(), "Bob");
            assert_eq!(load(&world, &cache, 1).await.unwrap().tier(), Tier::Memory);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_process_finds_nothing_of_a_removed_tag_in_the_shared_tier() {
    let world = World::new();
    let (here, there) = (world.node(), world.node());
    load(&world, &here, 1).await.unwrap();
    assert_eq!(load(&world, &there, 1).await.unwrap().tier(), Tier::Backend, "tags travel");
    here.remove_tag("letter:A").await.unwrap();
    for stranger in [world.node(), world.node()] {
        assert!(stranger.get(&1).await.is_none());
        assert!(stranger.get_many(&[1, 2]).await.iter().all(Option::is_none));
    }
    assert!(there.get_local(&1).is_some(), "until its copy ends: nobody told it");
    pass(secs(10)).await;
    world.source.set(1, "Augusta".into());
    assert_eq!(*load(&world, &there, 1).await.unwrap(), "Augusta");
    assert_eq!(*load(&world, &here, 1).await.unwrap(), "Augusta");
    assert_eq!(world.source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_the_removal_is_kept_nowhere() {
    for declared in [false, true] {
        for remover_is_here in [false, true] {
            let world = World::new();
            let (cache, other) = (world.node(), world.node());
            let gate = world.source.stop_after_reading();
            let loading = spawn(&world, &cache, declared);
            gate.reached(1).await;
            world.source.set(1, "Augusta".into());
            let remover = if remover_is_here { &cache } else { &other };
            remover.remove_tag("letter:A").await.unwrap();
            gate.open();
            assert_eq!(*loading.await.unwrap().unwrap(), "Ada", "it asked before");
            settle().await;
            let name = format!("declared {declared}, here {remover_is_here}");
            assert!(world.in_shared(1).await.is_none(), "{name}");
            if remover_is_here {
                assert!(cache.get_local(&1).is_none(), "{name}");
                assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Augusta", "{name}");
            }
            assert_eq!(*load(&world, &other, 1).await.unwrap(), "Augusta", "{name}");
            assert_eq!(cache.stats().flights, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_the_removal_is_not_served_by_a_load_from_before_it() {
    on_both(
        |builder| builder.ttl(secs(60)),
        async |world, cache| {
            let gate = world.source.stop_after_reading();
            let before = spawn(&world, &cache, false);
            gate.reached(1).await;
            world.source.set(1, "Augusta".into());
            cache.remove_tag("letter:A").await.unwrap();
            let after = spawn(&world, &cache, false);
            settle().await;
            gate.open();
            assert_eq!(*before.await.unwrap().unwrap(), "Ada");
            assert_eq!(*after.await.unwrap().unwrap(), "Augusta");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tag_removed_during_a_background_refresh_is_not_lost() {
    on_both(
        |builder| builder.ttl(secs(60)).stale_while_revalidate(secs(60)),
        async |world, cache| {
            load(&world, &cache, 1).await.unwrap();
            pass(secs(61)).await;
            let gate = world.source.stop_after_reading();
            let stale = load(&world, &cache, 1).await.unwrap();
            assert!(matches!(stale.stale_reason(), Some(StaleReason::Revalidating)));
            gate.reached(1).await;
            world.source.set(1, "Augusta".into());
            cache.remove_tag("letter:A").await.unwrap();
            gate.open();
            settle().await;
            assert!(cache.get_local(&1).is_none());
            assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Augusta");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_loses_its_tags_revives_nothing() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let cache = world.over(model.clone());
    load(&world, &cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    cache.remove_tag("letter:A").await.unwrap();
    model.lose_tags();
    assert!(world.over(model.clone()).get(&1).await.is_none());
    assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Augusta");
    model.lose_tags();
    assert!(
        world.over(model.clone()).get(&1).await.is_none(),
        "nor is a value kept that nobody can vouch for"
    );
}

#[tokio::test(start_paused = true)]
async fn tags_lost_during_a_load_keep_it_out_of_the_shared_tier() {
    for declared in [false, true] {
        let world = World::new();
        let model = ModelBackend::new(world.clock.clone());
        let (cache, other) = (world.over(model.clone()), world.over(model.clone()));
        let gate = world.source.stop_after_reading();
        let loading = spawn(&world, &cache, declared);
        gate.reached(1).await;
        world.source.set(1, "Augusta".into());
        other.remove_tag("letter:A").await.unwrap();
        model.lose_tags();
        gate.open();
        loading.await.unwrap().unwrap();
        settle().await;
        assert!(world.over(model).get(&1).await.is_none(), "declared {declared}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_tag_is_not_served_when_the_load_fails_and_an_expired_one_is() {
    on_both(
        |builder| builder.ttl(secs(60)).stale_if_error(secs(600)),
        async |world, cache| {
            for removes in [false, true] {
                load(&world, &cache, 1).await.unwrap();
                match removes {
                    true => cache.remove_tag("letter:A").await.unwrap(),
                    false => cache.expire_tag("letter:A").await.unwrap(),
                };
                assert!(cache.get_local(&1).is_none());
                world.source.fail_next(1);
                let answer = load(&world, &cache, 1).await;
                assert_eq!(answer.is_err(), removes);
                if let Ok(old) = answer {
                    assert!(matches!(old.stale_reason(), Some(StaleReason::LoadFailed(_))));
                }
            }
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn tags_cost_one_round_trip_below_and_none_in_memory() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    let cost = |before: usize| tier.calls() - before;
    world.source.set(2, "Bob".into());
    load(&world, &cache, 1).await.unwrap();
    world.load(&cache, 2).await.unwrap();

    let before = tier.calls();
    assert_eq!(load(&world, &cache, 1).await.unwrap().tier(), Tier::Memory);
    assert_eq!(cost(before), 0);

    let other = world.over(tier.clone());
    let before = tier.calls();
    assert_eq!(load(&world, &other, 1).await.unwrap().tier(), Tier::Backend);
    assert_eq!(cost(before), 2, "the value and its tag");
    assert_eq!(world.load(&other, 2).await.unwrap().tier(), Tier::Backend);
    assert_eq!(cost(before), 3, "no tag, no question");

    let keys: Vec<u64> = (10..30).collect();
    let tags = Tags::new(["one", "two", "three"]).unwrap();
    let tagged = cache.with(|options| options.tags(tags));
    tagged.insert_many(keys.iter().map(|key| (*key, "value".to_owned()))).await;
    let before = tier.calls();
    let found = world.over(tier.clone()).get_many(&keys).await;
    assert!(found.iter().all(Option::is_some));
    assert_eq!(cost(before), 2, "a batch asks once for all tags");

    let before = tier.calls();
    cache.remove_tags(["one", "letter:A"]).await.unwrap();
    assert_eq!(cost(before), 1);
    let before = tier.calls();
    cache.remove_tag("two").await.unwrap();
    assert_eq!(cost(before), 1, "however many have it");
}

#[tokio::test(start_paused = true)]
async fn a_tag_whose_removal_the_tier_has_not_taken_is_bypassed_until_the_replay() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    load(&world, &cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    tier.down();
    assert_eq!(cache.remove_tag("letter:A").await.unwrap(), Removal::Deferred);
    assert_eq!(cache.stats().pending_invalidations, 1);
    assert!(cache.get_local(&1).is_none());
    tier.up();
    assert_eq!(world.in_shared(1).await.unwrap(), "Ada", "others still see it");
    assert!(cache.get(&1).await.is_none(), "this process does not");
    assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Augusta");
    world.source.set(1, "Ada II".into());
    pass(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert!(world.in_shared(1).await.is_none(), "what was loaded meanwhile is gone too");
    assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Ada II");
}

#[tokio::test(start_paused = true)]
async fn tokens_that_cannot_be_read_cost_a_load_not_an_error() {
    for operation in [Operation::TagTokens, Operation::PinTags] {
        for fault in [Fault::Refuse, Fault::LoseAnswer, Fault::LandLate, Fault::Delay(secs(600))] {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let (writer, cache) = (world.node(), world.over(tier.clone()));
            load(&world, &writer, 1).await.unwrap();
            for _ in 0..3 {
                tier.next_of(operation, fault);
            }
            assert_eq!(*load(&world, &cache, 1).await.unwrap(), "Ada", "{operation:?} {fault:?}");
            tier.calm();
            tier.land().await;
            settle().await;
            writer.remove_tag("letter:A").await.unwrap();
            assert!(world.node().get(&1).await.is_none(), "{operation:?} {fault:?}");
            assert_eq!(cache.stats().flights, 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_insert_under_tags_goes_with_them() {
    on_both(
        |builder| builder.ttl(secs(60)),
        async |world, cache| {
            let tags = Tags::new(["a", "b"]).unwrap();
            let tagged = cache.with(|options| options.tags(tags));
            tagged.insert(1, "inserted".into()).await.unwrap();
            tagged.insert_many([(2, "inserted".into()), (3, "inserted".into())]).await;
            assert!(cache.get_local(&2).is_some());
            cache.remove_tag("b").await.unwrap();
            assert!(cache.get_many(&[1, 2, 3]).await.iter().all(Option::is_none));
            tagged.insert(1, "again".into()).await.unwrap();
            assert_eq!(*cache.get(&1).await.unwrap(), "again");
            assert_eq!(world.source.loads(), 0);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_batch_whose_loader_tags_is_removed_by_tag() {
    on_both(
        |builder| builder.ttl(secs(60)),
        async |world, cache| {
            let keys = [1u64, 2, 3];
            let load = |load: LoadMany<u64>| async move {
                load.keys().iter().for_each(|key| load.tag(key, if key % 2 == 0 { "even" } else { "odd" }));
                Ok(load.keys().iter().map(|key| (*key, format!("v{key}"))).collect::<Vec<_>>())
            };
            assert!(cache.get_many_or_load(&keys, load).await.iter().all(Result::is_ok));
            cache.remove_tag("odd").await.unwrap();
            let left: Vec<_> = cache.get_many(&keys).await.iter().map(Option::is_some).collect();
            assert_eq!(left, [false, true, false]);
            drop(world);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn tags_beyond_the_limits_are_clear_errors_and_a_value_with_one_is_not_kept() {
    #[derive(Clone, Default)]
    struct Unstorable(Arc<AtomicUsize>);
    impl Observer for Unstorable {
        fn on_event(&self, event: &Event<'_>) {
            self.0.fetch_add(usize::from(matches!(event, Event::Unstorable { .. })), Ordering::Relaxed);
        }
    }
    let world = World::new();
    let seen = Unstorable::default();
    let cache = world.builder().backend(world.shared.clone()).observer(seen.clone()).build().unwrap();
    let long = vec![b'x'; 257];
    for error in [
        cache.remove_tag("").await.unwrap_err(),
        cache.expire_tag(&long).await.unwrap_err(),
        cache.remove_tags((0..65u8).map(|n| [n])).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
    }
    for (key, names) in [(1, vec![Vec::new()]), (2, vec![long]), (3, (0..65u8).map(|n| vec![n]).collect())] {
        let load = |load: Load<u64>| async move {
            names.iter().for_each(|name| load.tag(name));
            Ok("value".to_owned())
        };
        assert_eq!(*cache.get_or_load(&key, load).await.unwrap(), "value");
        assert!(cache.get(&key).await.is_none(), "{key}");
    }
    assert_eq!(seen.0.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn names_of_tags_and_keys_do_not_meet() {
    let world = World::new();
    let cache = world.node();
    let tags = Tags::new(["1", ":1", "\0\u{ff}"]).unwrap();
    cache.with(|options| options.tags(tags)).insert(1, "tagged".into()).await.unwrap();
    cache.insert(2, "other".into()).await.unwrap();
    cache.remove_tag("2").await.unwrap();
    assert!(cache.get(&1).await.is_some() && cache.get(&2).await.is_some());
    let namesake: Users = Cache::builder("usersAbc")
        .memory(Memory::entries(10))
        .clock(world.clock.clone())
        .backend(world.shared.clone())
        .build()
        .unwrap();
    namesake.remove_tag("1").await.unwrap();
    assert!(world.in_shared(1).await.is_some());
    cache.remove_tag("\0\u{ff}").await.unwrap();
    assert!(world.in_shared(1).await.is_none());
}
