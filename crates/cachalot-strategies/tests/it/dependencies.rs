//! Entries that depend on other keys end with them, and only with them.

use std::sync::Arc;

use cachalot_core::{ErrorKind, Event, LoadError, Observer, Pattern, Tag, Tags, Tier};
use cachalot_strategies::{Cached, Inserted, Load, LoadMany, Removal};
use cachalot_testkit::{Fault, Faulty, ModelBackend, ModelBus, Operation};
use tokio::task::JoinHandle;

use crate::world::{Users, UsersBuilder, World, on_both, pass, secs, settle};

/// The key of the tests that others depend on, and one that depends on it.
const PARENT: u64 = 1;
const CHILD: u64 = 10;

fn built(builder: UsersBuilder) -> UsersBuilder {
    builder.ttl(secs(60)).dependencies()
}

/// A load of `key`, which depends on `parent`: by the call, or by what the loader says.
async fn load_of(
    world: &World,
    cache: &Users,
    key: u64,
    parent: u64,
    declared: bool,
) -> Result<Cached<String>, LoadError> {
    let source = world.source.clone();
    let view = cache.with(|options| options);
    let view = if declared { view.depends_on(&parent).unwrap() } else { view };
    let load = |load: Load<u64>| async move {
        let value = source.fetch(load.key()).await?;
        if !declared {
            load.depends_on(&parent);
        }
        Ok(value)
    };
    view.get_or_load(&key, load).await
}

fn spawn(world: &World, cache: &Users, declared: bool) -> JoinHandle<String> {
    let (source, cache) = (world.source.clone(), cache.clone());
    let world = World { source, clock: world.clock.clone(), shared: world.shared.clone(), nodes: 0.into() };
    tokio::spawn(async move { load_of(&world, &cache, CHILD, PARENT, declared).await.unwrap().to_string() })
}

/// A fleet over a shared tier.
fn node(world: &World) -> Users {
    built(world.builder().backend(world.shared.clone())).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_a_key_ends_when_that_is_removed_expired_or_inserted_and_not_else() {
    for declared in [true, false] {
        on_both(built, async |world, cache| {
            world.source.set(2, "Grace".into());
            for (way, other) in ["remove", "expire", "insert", "remove_many", "pattern", "clear"]
                .into_iter()
                .zip([2, 2, 2, 2, 2, PARENT])
            {
                cache.remove(&CHILD).await.unwrap();
                world.source.set(CHILD, "old".into());
                load_of(&world, &cache, CHILD, PARENT, declared).await.unwrap();
                if other != PARENT {
                    cache.remove(&other).await.unwrap();
                    cache.insert(other, "Grace".into()).await.unwrap();
                    world.source.set(CHILD, "unseen".into());
                    let served = load_of(&world, &cache, CHILD, PARENT, declared).await.unwrap();
                    assert_eq!(*served, "old", "{way}: of another key nothing ends");
                }
                world.source.set(CHILD, way.into());
                match way {
                    "remove" => drop(cache.remove(&PARENT).await.unwrap()),
                    "expire" => drop(cache.expire(&PARENT).await.unwrap()),
                    "insert" => {
                        assert_eq!(cache.insert(PARENT, "Augusta".into()).await.unwrap(), Inserted::Stored)
                    }
                    "remove_many" => drop(cache.remove_many(&[PARENT, 3]).await.unwrap()),
                    "pattern" => drop(cache.remove_pattern(&Pattern::literal("1")).await.unwrap()),
                    _ => drop(cache.clear().await.unwrap()),
                }
                assert!(cache.get_local(&CHILD).is_none() && cache.get(&CHILD).await.is_none(), "{way}");
                let loaded = load_of(&world, &cache, CHILD, PARENT, declared).await.unwrap();
                assert_eq!(*loaded, way);
                let again = load_of(&world, &cache, CHILD, PARENT, declared).await.unwrap();
                assert_eq!(again.tier(), Tier::Memory, "{way}: kept again");
            }
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_began_before_its_parent_was_removed_is_kept_nowhere() {
    for declared in [true, false] {
        for remover_is_here in [true, false] {
            for way in ["remove", "insert", "remove_many", "pattern"] {
                let world = World::new();
                let (cache, other) = (node(&world), node(&world));
                world.source.set(CHILD, "old".into());
                let gate = world.source.stop_after_reading();
                let loading = spawn(&world, &cache, declared);
                gate.reached(1).await;
                world.source.set(CHILD, "new".into());
                let remover = if remover_is_here { &cache } else { &other };
                match way {
                    "remove" => drop(remover.remove(&PARENT).await.unwrap()),
                    "insert" => drop(remover.insert(PARENT, "Augusta".into()).await.unwrap()),
                    "remove_many" => drop(remover.remove_many(&[PARENT]).await.unwrap()),
                    _ => drop(remover.remove_pattern(&Pattern::prefix("1")).await.unwrap()),
                }
                gate.open();
                assert_eq!(loading.await.unwrap(), "old", "it asked before");
                settle().await;
                let name = format!("declared {declared}, here {remover_is_here}, {way}");
                assert!(node(&world).get(&CHILD).await.is_none(), "{name}");
                if remover_is_here {
                    assert!(cache.get_local(&CHILD).is_none(), "{name}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn other_processes_hear_of_the_key_and_end_what_depends_on_it() {
    let world = World::new();
    let (model, bus) = (ModelBackend::new(world.clock.clone()), ModelBus::new());
    let node = || built(world.builder().backend(model.clone()).bus(bus.clone())).build().unwrap();
    let (here, there) = (node(), node());
    settle().await;
    world.source.set(CHILD, "old".into());
    load_of(&world, &there, CHILD, PARENT, true).await.unwrap();
    world.source.set(CHILD, "new".into());
    assert_eq!(here.remove(&PARENT).await.unwrap(), Removal::Removed);
    pass(secs(1)).await;
    assert!(there.get_local(&CHILD).is_none());
    assert_eq!(*load_of(&world, &there, CHILD, PARENT, true).await.unwrap(), "new");
    assert_eq!(load_of(&world, &here, CHILD, PARENT, true).await.unwrap().tier(), Tier::Backend);
    here.remove_pattern(&Pattern::literal("1")).await.unwrap();
    pass(secs(1)).await;
    assert!(there.get_local(&CHILD).is_none(), "of a pattern too");
}

#[tokio::test(start_paused = true)]
async fn without_the_shared_tier_it_is_deferred_with_the_key_and_bypassed_until_then() {
    let down = [Operation::Remove, Operation::RotateTags, Operation::Sweep];
    for (failing, way) in down.into_iter().zip(["remove", "remove", "pattern"]) {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let cache = built(world.builder().backend(tier.clone())).build().unwrap();
        world.source.set(CHILD, "old".into());
        load_of(&world, &cache, CHILD, PARENT, true).await.unwrap();
        world.source.set(CHILD, "new".into());
        (0..3).for_each(|_| tier.next_of(failing, Fault::Refuse));
        let removal = match way {
            "remove" => cache.remove(&PARENT).await.unwrap(),
            _ => cache.remove_pattern(&Pattern::literal("1")).await.unwrap(),
        };
        assert_eq!(removal, Removal::Deferred, "{failing:?}");
        assert!(cache.get(&CHILD).await.is_none(), "below it is old");
        assert_eq!(*load_of(&world, &cache, CHILD, PARENT, true).await.unwrap(), "new");
        for _ in 0..5 {
            pass(secs(10)).await;
        }
        assert_eq!(cache.stats().pending_invalidations, 0);
        assert_ne!(node(&world).get(&CHILD).await.map(Cached::into_inner).as_deref(), Some("old"));
        load_of(&world, &cache, CHILD, PARENT, true).await.unwrap();
        assert!(node(&world).get(&CHILD).await.is_some(), "cached again");
    }
}

#[tokio::test(start_paused = true)]
async fn other_processes_do_not_read_below_what_depends_on_a_key_that_is_pending() {
    let world = World::new();
    let (model, bus) = (ModelBackend::new(world.clock.clone()), ModelBus::new());
    let tier = Faulty::new(model.clone());
    let here = built(world.builder().backend(tier.clone()).bus(bus.clone())).build().unwrap();
    let there = built(world.builder().backend(model.clone()).bus(bus.clone())).build().unwrap();
    settle().await;
    world.source.set(CHILD, "old".into());
    load_of(&world, &there, CHILD, PARENT, true).await.unwrap();
    tier.down();
    assert_eq!(here.remove(&PARENT).await.unwrap(), Removal::Deferred);
    pass(secs(1)).await;
    assert!(there.get(&CHILD).await.is_none());
    tier.up();
    world.source.set(CHILD, "new".into());
    tokio::time::sleep(secs(20)).await;
    assert_eq!(*load_of(&world, &there, CHILD, PARENT, true).await.unwrap(), "new");
    assert_eq!(load_of(&world, &there, CHILD, PARENT, true).await.unwrap().tier(), Tier::Memory);
}

#[tokio::test(start_paused = true)]
async fn a_removal_costs_one_round_trip_more_and_one_of_many_one_in_all() {
    for (build, more) in [(built as fn(UsersBuilder) -> UsersBuilder, 1), (|builder| builder, 0)] {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let cache = build(world.builder().backend(tier.clone())).build().unwrap();
        let keys: Vec<u64> = (0..300).collect();
        let before = tier.calls();
        cache.remove(&PARENT).await.unwrap();
        assert_eq!(tier.calls() - before, 1 + more);
        let before = tier.calls();
        cache.remove_many(&keys).await.unwrap();
        assert_eq!((tier.calls() - before, tier.calls_of(Operation::RotateTags)), (1 + more, 2 * more));
        let before = tier.calls();
        cache.insert(PARENT, "Ada".into()).await.unwrap();
        assert_eq!(tier.calls() - before, 2 + more);
    }
}

/// t = 0 the chain is loaded · removing A ends B, which depends on A, and not C, which depends on B.
#[tokio::test(start_paused = true)]
async fn a_chain_ends_one_step_further_only() {
    on_both(built, async |world, cache| {
        let (a, b, c) = (1, 2, 3);
        [a, b, c].iter().for_each(|key| world.source.set(*key, "old".into()));
        world.load(&cache, a).await.unwrap();
        load_of(&world, &cache, b, a, true).await.unwrap();
        load_of(&world, &cache, c, b, true).await.unwrap();
        cache.remove(&a).await.unwrap();
        assert!(cache.get(&b).await.is_none());
        assert!(cache.get(&c).await.is_some(), "it names only the nearest");

        load_of(&world, &cache, b, a, true).await.unwrap();
        cache.remove(&c).await.unwrap();
        let both = cache.with(|options| options).depends_on(&a).unwrap().depends_on(&b).unwrap();
        both.get_or_load(&c, |_| async { Ok("of both".to_owned()) }).await.unwrap();
        cache.remove(&a).await.unwrap();
        assert!(cache.get(&c).await.is_none(), "it names every one");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn keys_that_depend_on_each_other_or_on_themselves_are_harmless() {
    on_both(built, async |world, cache| {
        world.source.set(2, "Grace".into());
        load_of(&world, &cache, 1, 2, true).await.unwrap();
        load_of(&world, &cache, 2, 1, false).await.unwrap();
        cache.remove(&1).await.unwrap();
        assert!(cache.get(&1).await.is_none() && cache.get(&2).await.is_none());
        for key in [1, 2] {
            load_of(&world, &cache, key, key, key == 1).await.unwrap();
            assert_eq!(load_of(&world, &cache, key, key, true).await.unwrap().tier(), Tier::Memory);
        }
        let on_itself = cache.with(|options| options).depends_on(&1).unwrap();
        assert_eq!(on_itself.insert(1, "Augusta".into()).await.unwrap(), Inserted::Stored);
        assert_eq!(*cache.get_local(&1).unwrap(), "Augusta");
        cache.remove(&1).await.unwrap();
        assert!(cache.get(&1).await.is_none());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_depends_on_an_expired_key_serves_failures_only() {
    on_both(
        |builder| built(builder).stale_if_error(secs(600)),
        async |world, cache| {
            world.source.set(CHILD, "old".into());
            load_of(&world, &cache, CHILD, PARENT, true).await.unwrap();
            cache.expire(&PARENT).await.unwrap();
            assert!(cache.get(&CHILD).await.is_none());
            let fails = |_: Load<u64>| async { Err(cachalot_core::LoaderError::new("down")) };
            assert_eq!(*cache.get_or_load(&CHILD, fails).await.unwrap(), "old");
        },
    )
    .await;
}

struct Refused;

impl Observer for Refused {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::Unstorable { error } = event {
            assert!(error.to_string().contains("dependencies"), "{error}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_option_to_depend_on_a_key_is_a_clear_error() {
    on_both(
        |builder| builder.ttl(secs(60)).observer(Refused),
        async |world, cache| {
            let refused = cache.with(|options| options).depends_on(&PARENT).err().unwrap();
            assert_eq!(refused.kind(), ErrorKind::Config);
            assert!(refused.to_string().contains("`dependencies`"), "{refused}");

            assert_eq!(*load_of(&world, &cache, PARENT, 2, false).await.unwrap(), "Ada", "it is served");
            assert!(cache.get(&PARENT).await.is_none(), "and not kept");
            let many = |load: LoadMany<u64>| async move {
                load.depends_on(&PARENT, &2);
                Ok([(PARENT, "Ada".to_owned())])
            };
            cache.get_many_or_load(&[PARENT], many).await.remove(0).unwrap();
            assert!(cache.get(&PARENT).await.is_none());
            let by_hand = Tags::one(Tag::of_dependants(b"2"));
            let by_hand = cache.with(|options| options.tags(by_hand));
            assert_eq!(by_hand.insert(7, "x".into()).await.unwrap_err().kind(), ErrorKind::Config);
            assert_eq!(cache.stats().unstorable, 2);
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn many_keys_of_one_load_depend_each_on_their_own() {
    on_both(built, async |_, cache| {
        let load = |load: LoadMany<u64>| async move {
            load.keys().iter().for_each(|key| load.depends_on(key, &(key + 100)));
            Ok(load.keys().iter().map(|key| (*key, "value".to_owned())).collect::<Vec<_>>())
        };
        cache.get_many_or_load(&[1, 2, 3], load).await;
        cache.remove(&102).await.unwrap();
        let found: Vec<bool> = cache.get_many(&[1, 2, 3]).await.iter().map(Option::is_some).collect();
        assert_eq!(found, [true, false, true]);
    })
    .await;
}

/// Which a loader will decide on is not known before; callers' own tags have an epoch of their own.
#[tokio::test(start_paused = true)]
async fn a_removal_of_any_key_costs_a_load_that_decides_its_parent_and_none_that_decides_a_tag() {
    for (by_tag, kept) in [(false, false), (true, true)] {
        let world = World::new();
        let cache = Arc::new(node(&world));
        let gate = world.source.stop_after_reading();
        let loading = tokio::spawn({
            let (cache, source) = (cache.clone(), world.source.clone());
            let load = move |load: Load<u64>| async move {
                let value = source.fetch(load.key()).await?;
                if by_tag {
                    load.tag("a")
                } else {
                    load.depends_on(&2)
                };
                Ok(value)
            };
            async move { cache.get_or_load(&1, load).await.unwrap() }
        });
        gate.reached(1).await;
        node(&world).remove(&77).await.unwrap();
        gate.open();
        loading.await.unwrap();
        settle().await;
        assert_eq!(node(&world).get(&1).await.is_some(), kept);
    }
}

#[tokio::test(start_paused = true)]
async fn no_tag_of_a_caller_is_that_of_a_key() {
    on_both(built, async |world, cache| {
        world.source.set(CHILD, "of one".into());
        load_of(&world, &cache, CHILD, PARENT, true).await.unwrap();
        for tag in [Tag::of_dependants(b"1"), Tag::of_all_dependants()] {
            cache.remove_tag(tag.as_bytes()).await.unwrap();
        }
        assert!(cache.get(&CHILD).await.is_some());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn more_parents_than_an_entry_may_have_tags_are_refused() {
    let world = World::new();
    let cache = built(world.builder()).build().unwrap();
    let mut view = cache.with(|options| options);
    for parent in 1..Tags::MAX as u64 {
        view = view.depends_on(&parent).unwrap();
    }
    assert_eq!(view.depends_on(&9999).err().unwrap().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn after_a_fail_over_what_depended_on_a_removed_key_ends_again() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let node = || built(world.builder().backend(model.clone())).build().unwrap();
    let cache = node();
    world.source.set(CHILD, "old".into());
    load_of(&world, &cache, CHILD, PARENT, true).await.unwrap();
    let snapshot = model.snapshot();
    world.source.set(CHILD, "new".into());
    cache.remove(&PARENT).await.unwrap();
    model.restore(&snapshot);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(*load_of(&world, &cache, CHILD, PARENT, true).await.unwrap(), "new");
    assert_ne!(node().get(&CHILD).await.map(Cached::into_inner).as_deref(), Some("old"));
}
