//! Versions: what is known to be outdated is not kept, in whatever order it comes.

use std::cell::Cell;
use std::time::Duration;

use cachalot_core::{ErrorKind, Event, LoadError, LoadOutcome, Tags, Tier};
use cachalot_invalidation::LocalBus;
use cachalot_strategies::{Cached, Inserted, Removal};
use cachalot_testkit::{Fault, Faulty, Lacking, ModelBackend, Operation};
use proptest::prelude::*;
use tokio::time::sleep;

use crate::world::{Users, UsersBuilder, World, on_both, pass, secs, settle};

fn versioned(builder: UsersBuilder) -> UsersBuilder {
    builder.ttl(secs(60)).versioned()
}

async fn insert(cache: &Users, version: u64) -> Inserted {
    cache.with(|options| options.version(version)).insert(1, format!("v{version}")).await.unwrap()
}

/// A load that finds `version` in the source.
async fn load(cache: &Users, version: u64) -> Result<Cached<String>, LoadError> {
    let load = cache.get_or_load(&1, |load| async move {
        load.version(version);
        Ok(format!("v{version}"))
    });
    load.await
}

fn here(cache: &Users) -> Option<u64> {
    cache.get_local(&1).map(|found| found.version())
}

async fn anywhere(cache: &Users) -> Option<u64> {
    cache.get(&1).await.map(|found| found.version())
}

#[tokio::test(start_paused = true)]
async fn a_value_tells_its_version_in_every_tier() {
    on_both(versioned, async |_, cache| {
        assert_eq!(load(&cache, 7).await.unwrap().version(), 7);
        assert_eq!(here(&cache), Some(7));
        insert(&cache, u64::MAX).await;
        assert_eq!(here(&cache), Some(u64::MAX));
    })
    .await;
    let world = World::new();
    let (one, two) = (versioned_node(&world), versioned_node(&world));
    insert(&one, (1 << 53) + 1).await;
    let found = two.get(&1).await.unwrap();
    assert_eq!(
        (found.tier(), found.version(), &**found),
        (Tier::Backend, (1 << 53) + 1, "v9007199254740993")
    );
    let plain = world.alone();
    plain.insert(1, "Ada".into()).await.unwrap();
    assert_eq!(here(&plain), Some(0));
}

fn versioned_node(world: &World) -> Users {
    versioned(world.builder()).backend(world.shared.clone()).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_older_insert_is_outdated_and_leaves_the_newer_value() {
    on_both(versioned, async |_, cache| {
        assert_eq!(insert(&cache, 4).await, Inserted::Stored);
        assert_eq!(insert(&cache, 6).await, Inserted::Stored);
        for older in [5, 1, 0] {
            assert_eq!(insert(&cache, older).await, Inserted::Outdated, "{older}");
            assert_eq!(anywhere(&cache).await, Some(6));
        }
        assert_eq!(insert(&cache, 6).await, Inserted::Stored, "as new as what is known");
        assert_eq!(cache.stats().outdated, 3);
        // As long as it is kept, however long ago it came.
        pass(secs(50)).await;
        assert_eq!(insert(&cache, 5).await, Inserted::Outdated);
        assert_eq!(anywhere(&cache).await, Some(6));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_older_load_gives_its_caller_the_value_and_is_not_kept() {
    on_both(versioned, async |_, cache| {
        cache.remove_older(&1, 7).await.unwrap();
        let lagging = load(&cache, 6).await.unwrap();
        assert_eq!((&**lagging, lagging.version()), ("v6", 6));
        assert_eq!((here(&cache), anywhere(&cache).await), (None, None));
        assert_eq!(cache.stats().outdated, 1);
        assert_eq!(load(&cache, 7).await.unwrap().tier(), Tier::Loader);
        assert_eq!(here(&cache), Some(7), "the version itself is good");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_raises_the_floor_for_inserts_that_come_later() {
    on_both(versioned, async |_, cache| {
        load(&cache, 9).await.unwrap();
        assert_eq!(insert(&cache, 8).await, Inserted::Outdated);
        cache.remove(&1).await.unwrap();
        assert_eq!(insert(&cache, 8).await, Inserted::Outdated, "known, though nothing is held");
        assert_eq!(anywhere(&cache).await, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_over_an_outdated_one_finds_its_lease_free() {
    let world = World::new();
    let (one, two) = (versioned_node(&world), versioned_node(&world));
    one.remove_older(&1, 7).await.unwrap();
    load(&one, 6).await.unwrap();
    let began = world.clock.now();
    assert_eq!(load(&two, 7).await.unwrap().version(), 7);
    assert_eq!(world.clock.now(), began, "at once");
    assert_eq!(anywhere(&one).await, Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_message_that_comes_after_its_value_leaves_it() {
    let world = World::new();
    let (writer, listener) = (versioned_node(&world), versioned_node(&world));
    insert(&writer, 7).await;
    for _ in 0..2 {
        assert_eq!(listener.remove_older(&1, 7).await.unwrap(), Removal::Removed);
        assert_eq!(anywhere(&listener).await, Some(7));
    }
    assert_eq!(listener.remove_older(&1, 8).await.unwrap(), Removal::Removed);
    assert_eq!((here(&listener), anywhere(&listener).await), (None, None));
    let alone = versioned(world.builder()).build().unwrap();
    insert(&alone, 7).await;
    alone.remove_older(&1, 7).await.unwrap();
    assert_eq!(here(&alone), Some(7));
    alone.remove_older(&1, 8).await.unwrap();
    assert_eq!(here(&alone), None);
}

#[tokio::test(start_paused = true)]
async fn where_a_record_may_lie_at_several_places_one_that_is_new_enough_is_no_excuse() {
    let world = World::new();
    let tier = Lacking::oneness(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier).build().unwrap();
    insert(&cache, 7).await;
    assert_eq!(world.versioned_below().await, Some(7));
    assert_eq!(cache.remove_older(&1, 7).await.unwrap(), Removal::Removed);
    assert_eq!(world.versioned_below().await, None, "another place may have 6");
}

#[tokio::test(start_paused = true)]
async fn a_process_gives_up_an_older_copy_when_it_hears_of_a_version_that_is_stored() {
    let world = World::new();
    let (one, two) = (versioned_node(&world), versioned_node(&world));
    insert(&one, 6).await;
    assert_eq!(anywhere(&two).await, Some(6));
    insert(&one, 7).await;
    assert_eq!(here(&two), Some(6), "nobody has told it");
    two.remove_older(&1, 7).await.unwrap();
    assert_eq!(here(&two), None);
    assert_eq!(anywhere(&two).await, Some(7), "what is not older stayed below");
    assert_eq!(insert(&two, 5).await, Inserted::Outdated);
}

#[tokio::test(start_paused = true)]
async fn an_outdated_insert_ends_what_an_insert_that_died_has_left() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    insert(&cache, 1).await;
    // It has raised the floor, and dies.
    tier.next_of(Operation::Hold, Fault::Refuse);
    let dying = insert(&cache, 3).await;
    assert_eq!(dying, Inserted::Deferred);
    let other = versioned_node(&world);
    assert_eq!(anywhere(&other).await, Some(1));
    assert_eq!(insert(&other, 2).await, Inserted::Outdated);
    assert_eq!(anywhere(&other).await, None, "what is older than 2 is gone");
}

#[tokio::test(start_paused = true)]
async fn a_floor_lasts_for_as_long_as_an_entry_may_and_no_longer() {
    on_both(
        |builder| versioned(builder).hard_timeout(secs(5)),
        async |_, cache| {
            let long = cache.with(|options| options.ttl(secs(600)).version(7));
            long.insert(1, "v7".into()).await.unwrap();
            pass(secs(590)).await;
            assert_eq!(insert(&cache, 6).await, Inserted::Outdated);
            pass(secs(90)).await;
            assert_eq!(insert(&cache, 6).await, Inserted::Stored, "nothing is known for ever");
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_outlives_every_load_that_may_be_under_way() {
    on_both(
        |builder| builder.ttl(secs(1)).versioned().hard_timeout(secs(20)),
        async |_, cache| {
            cache.remove_older(&1, 7).await.unwrap();
            let slow = cache.get_or_load(&1, |load| async move {
                sleep(secs(19)).await;
                load.version(6);
                Ok("v6".to_owned())
            });
            slow.await.unwrap();
            assert_eq!((here(&cache), cache.stats().outdated), (None, 1));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn versions_are_known_in_the_whole_fleet() {
    let world = World::new();
    let (one, two) = (versioned_node(&world), versioned_node(&world));
    insert(&one, 5).await;
    assert_eq!(insert(&two, 4).await, Inserted::Outdated);
    two.remove_older(&1, 6).await.unwrap();
    assert_eq!(insert(&one, 5).await, Inserted::Outdated);
    load(&one, 5).await.unwrap();
    assert_eq!(world.versioned_below().await, None);
    load(&two, 6).await.unwrap();
    assert_eq!(world.versioned_below().await, Some(6));
}

impl World {
    async fn versioned_below(&self) -> Option<u64> {
        anywhere(&versioned_node(self)).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_leaves_no_floor() {
    on_both(versioned, async |_, cache| {
        insert(&cache, 5).await;
        cache.remove(&1).await.unwrap();
        assert_eq!(insert(&cache, 5).await, Inserted::Stored);
        assert_eq!(insert(&cache, 4).await, Inserted::Outdated, "but takes none away");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_version_without_versions_is_an_error_and_changes_nothing() {
    on_both(
        |builder| builder,
        async |world, cache| {
            world.load(&cache, 1).await.unwrap();
            let error = cache.with(|options| options.version(7)).insert(1, "Eve".into()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains("`versioned`"), "{error}");
            assert_eq!(cache.remove_older(&1, 7).await.unwrap_err().kind(), ErrorKind::Config);
            assert_eq!(cache.remove_older(&1, 0).await.unwrap_err().kind(), ErrorKind::Config);
            assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
            cache.remove(&1).await.unwrap();
            load(&cache, 7).await.unwrap();
            assert_eq!((here(&cache), cache.stats().unstorable), (None, 1));
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_repeated_message_about_a_version_ends_what_depends_on_its_key() {
    on_both(
        |builder| versioned(builder).dependencies(),
        async |_, cache| {
            insert(&cache, 6).await;
            cache.with(|options| options).depends_on(&1).unwrap().insert(2, "of v6".into()).await.unwrap();
            insert(&cache, 7).await;
            let late = cache.with(|options| options).depends_on(&1).unwrap();
            late.insert(2, "of v6 all the same".into()).await.unwrap();
            cache.remove_older(&1, 7).await.unwrap();
            assert!(cache.get(&2).await.is_none());
        },
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_outdated_insert_ends_older_copies_elsewhere_also_without_a_shared_tier() {
    let (world, bus) = (World::new(), LocalBus::new());
    let node = || versioned(world.builder()).ttl(secs(60)).bus(bus.clone()).build().unwrap();
    let (one, two) = (node(), node());
    settle().await;
    assert_eq!(insert(&two, 5).await, Inserted::Stored);
    settle().await;
    assert_eq!(load(&one, 7).await.unwrap().version(), 7);
    assert_eq!((here(&one), here(&two)), (Some(7), Some(5)));
    assert_eq!(insert(&one, 6).await, Inserted::Outdated);
    pass(secs(1)).await;
    assert_eq!((here(&one), here(&two)), (Some(7), None));
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_keeps_no_versions_is_refused() {
    let world = World::new();
    let tier = Lacking::versions(world.shared.clone());
    let error = versioned(world.builder()).backend(tier).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("keeps versions"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn each_key_of_a_batch_has_its_own_version() {
    on_both(versioned, async |_, cache| {
        cache.remove_older(&2, 7).await.unwrap();
        let found = cache.get_many_or_load(&[1, 2, 3], |load| async move {
            load.version(&1, 5);
            load.version(&2, 6);
            Ok(load.keys().iter().map(|key| (*key, key.to_string())).collect::<Vec<_>>())
        });
        let found: Vec<_> = found.await.into_iter().map(|found| found.unwrap().version()).collect();
        assert_eq!(found, [5, 6, 0]);
        let held = |key: u64| cache.get_local(&key).map(|found| found.version());
        assert_eq!([held(1), held(2), held(3)], [Some(5), None, Some(0)]);
        let sixth = cache.with(|options| options.version(6));
        let both = sixth.insert_many([(1, "a".into()), (2, "b".into())]).await;
        let both: Vec<_> = both.into_iter().map(Result::unwrap).collect();
        assert_eq!(both, [Inserted::Stored, Inserted::Outdated]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_not_to_be_stored_raises_no_more_than_the_floor() {
    on_both(versioned, async |_, cache| {
        insert(&cache, 5).await;
        let nothing = cache.with(|options| options.ttl(Duration::ZERO).version(6));
        assert_eq!(nothing.insert(1, "v6".into()).await.unwrap(), Inserted::Dropped);
        assert_eq!(anywhere(&cache).await, None);
        assert_eq!(insert(&cache, 5).await, Inserted::Outdated);
        assert_eq!(insert(&cache, 6).await, Inserted::Stored);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_version_that_the_tier_has_not_taken_is_kept_until_the_replay() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    let other = versioned_node(&world);
    insert(&cache, 5).await;
    tier.down();
    assert_eq!(cache.remove_older(&1, 7).await.unwrap(), Removal::Deferred);
    assert_eq!(insert(&cache, 6).await, Inserted::Deferred);
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Deferred, "it does not make 7 forgotten");
    // Longer than this process knows anything by itself.
    pass(secs(500)).await;
    tier.up();
    pass(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert_eq!(insert(&other, 6).await, Inserted::Outdated);
    assert_eq!(insert(&other, 7).await, Inserted::Stored);
}

#[tokio::test(start_paused = true)]
async fn an_insert_whose_tags_cannot_be_read_keeps_its_version_until_the_replay() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    insert(&cache, 5).await;
    tier.down();
    let tagged = cache.with(|options| options.version(7).tags(Tags::new(["a"]).unwrap()));
    assert_eq!(tagged.insert(1, "v7".into()).await.unwrap(), Inserted::Deferred);
    pass(secs(500)).await;
    tier.up();
    pass(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert_eq!(insert(&versioned_node(&world), 6).await, Inserted::Outdated);
    load(&cache, 6).await.unwrap();
    assert_eq!(anywhere(&cache).await, None);
}

#[tokio::test(start_paused = true)]
async fn an_insert_that_a_deferred_newer_version_overtakes_is_not_kept() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    assert_eq!(insert(&versioned_node(&world), 5).await, Inserted::Stored);
    tier.next_of(Operation::Raise, Fault::Delay(Duration::from_millis(1)));
    tier.next_of(Operation::Raise, Fault::Refuse);
    let older = tokio::spawn({
        let cache = cache.clone();
        async move { insert(&cache, 6).await }
    });
    settle().await;
    assert_eq!(cache.remove_older(&1, 7).await.unwrap(), Removal::Deferred);
    assert_eq!(older.await.unwrap(), Inserted::Outdated);
    assert_eq!(tier.calls_of(Operation::Hold), 0, "7 is not known below yet");
    // Before the removal of what is older than 7 is done again.
    assert_eq!((here(&cache), anywhere(&versioned_node(&world)).await), (None, None));
}

#[tokio::test(start_paused = true)]
async fn a_floor_that_cannot_be_asked_for_keeps_nothing_and_fails_no_read() {
    for fault in [Fault::Refuse, Fault::LoseAnswer, Fault::Delay(secs(999))] {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
        tier.next_of(Operation::Raise, fault);
        assert_eq!(load(&cache, 5).await.unwrap().version(), 5, "{fault:?}");
        settle().await;
        assert_eq!((here(&cache), cache.stats().flights), (None, 0), "{fault:?}");
        assert_eq!(load(&versioned_node(&world), 5).await.unwrap().version(), 5);
        assert_eq!(anywhere(&cache).await, Some(5), "the lease was given back: {fault:?}");

        // The second look of an insert: it has its hold, so what was there is gone.
        for number in 0..2 {
            (0..number).for_each(|_| tier.next_of(Operation::Raise, Fault::None));
            tier.next_of(Operation::Raise, fault);
            let inserted = insert(&cache, 6).await;
            assert_eq!(inserted, [Inserted::Deferred, Inserted::Dropped][number], "{fault:?}");
            pass(secs(20)).await;
            assert_eq!(insert(&cache, 6).await, Inserted::Stored, "{fault:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn while_the_tier_is_down_what_this_process_knows_counts() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    let other = versioned_node(&world);
    insert(&other, 7).await;
    assert_eq!(insert(&cache, 6).await, Inserted::Outdated);
    cache.remove(&1).await.unwrap();
    tier.down();
    load(&cache, 6).await.unwrap();
    assert_eq!(here(&cache), None, "it was told of 7 by the tier");
    load(&cache, 7).await.unwrap();
    assert_eq!(here(&cache), Some(7));
}

#[tokio::test(start_paused = true)]
async fn a_cache_without_versions_asks_for_none() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let plain = world.over(tier.clone());
    world.load(&plain, 1).await.unwrap();
    plain.insert(1, "Eve".into()).await.unwrap();
    plain.remove(&1).await.unwrap();
    assert_eq!(tier.calls_of(Operation::Raise), 0);
    let cache = versioned(world.builder()).backend(tier.clone()).build().unwrap();
    let last = Cell::new(0);
    let raised = || {
        let calls = tier.calls_of(Operation::Raise);
        calls - last.replace(calls)
    };
    load(&cache, 5).await.unwrap();
    assert_eq!(raised(), 1, "a load");
    insert(&cache, 6).await;
    assert_eq!(raised(), 2, "an insert");
    cache.remove_older(&1, 6).await.unwrap();
    assert_eq!(raised(), 1);
    anywhere(&cache).await;
    cache.remove(&1).await.unwrap();
    assert_eq!(raised(), 0, "reads and removals");
}

/// Two writers: the older one stands before each of its steps in the shared tier while the newer one does all it does.
#[tokio::test(start_paused = true)]
async fn an_older_insert_never_lands_on_a_newer_one_wherever_it_stands() {
    let steps = [(Operation::Raise, 0), (Operation::Hold, 0), (Operation::Raise, 1), (Operation::PutHeld, 0)];
    for (operation, skipped) in steps {
        for newer in [Newer::Insert, Newer::RemoveOlder, Newer::Load] {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let older = versioned(world.builder()).backend(tier.clone()).build().unwrap();
            let other = versioned_node(&world);
            (0..skipped).for_each(|_| tier.next_of(operation, Fault::None));
            tier.next_of(operation, Fault::Delay(secs(1)));
            let inserting = tokio::spawn({
                let older = older.clone();
                async move { insert(&older, 1).await }
            });
            settle().await;
            let then = match newer {
                Newer::Insert => insert(&other, 2).await == Inserted::Stored,
                Newer::RemoveOlder => other.remove_older(&1, 2).await.unwrap() == Removal::Removed,
                Newer::Load => {
                    // Over a hold it waits.
                    let loaded = tokio::time::timeout(Duration::from_millis(500), load(&other, 2)).await;
                    loaded.is_ok_and(|found| found.unwrap().version() == 2)
                }
            };
            let outcome = inserting.await.unwrap();
            settle().await;
            let context = format!("{newer:?} at {operation:?} {skipped}: {then} {outcome:?}");
            for node in [&older, &other, &versioned_node(&world)] {
                let found = anywhere(node).await;
                assert!(found.is_none_or(|version| version == 2 || !then), "{found:?}: {context}");
            }
            assert!(then || newer.waits_for_a_hold(), "{context}");
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Newer {
    Insert,
    RemoveOlder,
    Load,
}

impl Newer {
    /// Whether there may be no newer version at all: an insert that meets the other's hold is dropped with it, and a
    /// load waits for it.
    fn waits_for_a_hold(self) -> bool {
        self != Self::RemoveOlder
    }
}

/// One of the ways in which a version gets about.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Fill,
    Insert,
    RemoveOlder,
}

/// What is done, of which version, by which process, and when.
type Step = (Deed, u64, usize, u64);

fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let deed = prop_oneof![Just(Deed::Fill), Just(Deed::Insert), Just(Deed::RemoveOlder)];
    proptest::collection::vec((deed, 1u64..6, 0usize..2, 0u64..30), 1..10)
}

/// Does all `steps`, which overlap, and gives the newest version that anybody named.
async fn live(nodes: &[Users], steps: &[Step]) -> u64 {
    let deeds: Vec<_> = steps
        .iter()
        .map(|(deed, version, node, at)| {
            let (deed, version, cache, at) = (*deed, *version, nodes[node % nodes.len()].clone(), *at);
            tokio::spawn(async move {
                sleep(Duration::from_millis(at)).await;
                match deed {
                    Deed::Fill => {
                        let (says, hears) = tokio::sync::oneshot::channel();
                        let load = cache.get_or_load(&1, |load| async move {
                            let _ = says.send(());
                            sleep(Duration::from_millis(10 * version % 17)).await;
                            load.version(version);
                            Ok(format!("v{version}"))
                        });
                        load.await.unwrap();
                        // Else it found something, and named no version.
                        if hears.await.is_ok() { version } else { 0 }
                    }
                    Deed::Insert => {
                        insert(&cache, version).await;
                        version
                    }
                    Deed::RemoveOlder => {
                        cache.remove_older(&1, version).await.unwrap();
                        version
                    }
                }
            })
        })
        .collect();
    let mut newest = 0;
    for deed in deeds {
        newest = newest.max(deed.await.unwrap());
    }
    settle().await;
    newest
}

fn paused<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.unwrap().block_on(work)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_in_one_process_ends_with_the_newest_version_or_nothing(steps in any_steps()) {
        let (newest, found) = paused(async {
            let cache = versioned(World::new().builder()).build().unwrap();
            (live(std::slice::from_ref(&cache), &steps).await, here(&cache))
        });
        prop_assert!(found.is_none_or(|found| found == newest), "{found:?}, not {newest}");
    }

    #[test]
    fn any_order_in_a_fleet_ends_with_the_newest_version_or_nothing(
        steps in any_steps(), seed: u64, is_model: bool,
    ) {
        let (newest, found) = paused(async {
            let world = World::new();
            let tier = match is_model {
                true => Faulty::new(ModelBackend::new(world.clock.clone())),
                false => Faulty::new(world.shared.clone()),
            };
            let longest_delay = Duration::from_millis(20);
            tier.at_random(cachalot_testkit::Odds { delay: 0.9, longest_delay, ..Default::default() }, seed);
            let bus = LocalBus::new();
            let node = || versioned(world.builder()).backend(tier.clone()).bus(bus.clone()).build().unwrap();
            let nodes = [node(), node()];
            settle().await;
            let newest = live(&nodes, &steps).await;
            pass(secs(1)).await;
            let mut found: Vec<_> = nodes.iter().filter_map(here).collect();
            found.extend(anywhere(&node()).await);
            (newest, found)
        });
        prop_assert!(found.iter().all(|found| *found == newest), "{found:?}, not {newest}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_hears_what_was_outdated() {
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Ear(std::sync::Arc<AtomicUsize>);
    impl cachalot_core::Observer for Ear {
        fn on_event(&self, event: &Event<'_>) {
            let is_outdated = matches!(event, Event::Outdated);
            assert!(!matches!(event, Event::Load { outcome: LoadOutcome::Error, .. }));
            self.0.fetch_add(usize::from(is_outdated), Ordering::SeqCst);
        }
    }
    let (world, heard) = (World::new(), std::sync::Arc::default());
    let builder = versioned(world.builder()).observer(Ear(std::sync::Arc::clone(&heard)));
    let cache = builder.build().unwrap();
    cache.remove_older(&1, 7).await.unwrap();
    load(&cache, 6).await.unwrap();
    insert(&cache, 6).await;
    assert_eq!(heard.load(Ordering::SeqCst), 2);
}
