//! Keys that are kept warm: nobody waits for their loads, one process does them, and none is undone or hammered.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Entry, Freshness, Tier};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{RefreshAhead, RefreshAheadBuilder};
use cachalot_testkit::{CountingSource, Fault, Faulty, Lacking, Operation};

use crate::world::{Users, World, pass, secs, settle};

type Store = Memory<u64, Arc<Entry<String>>>;
type Ahead = RefreshAhead<u64, String, Store, CountingSource<u64, String>>;
type Builder = RefreshAheadBuilder<u64, String, Store, CountingSource<u64, String>>;

/// Over `cache`, one round a second.
fn ahead(world: &World, cache: &Users) -> Builder {
    RefreshAhead::builder(cache.clone(), world.source.clone())
}

fn warm(world: &World, cache: &Users, keys: &[u64]) -> Ahead {
    let ahead = ahead(world, cache).build().unwrap();
    ahead.keep(keys.iter().copied());
    ahead
}

/// Second by second, as tasks see it.
async fn pass_secs(n: u64) {
    for _ in 0..n * 2 {
        pass(Duration::from_millis(505)).await;
    }
}

fn rows(world: &World, count: u64) {
    (0..count).for_each(|key| world.source.set(key, format!("user {key}")));
}

#[tokio::test(start_paused = true)]
async fn a_warm_key_is_never_loaded_in_a_readers_wait() {
    for is_tiered in [false, true] {
        let world = World::new();
        let cache = if is_tiered { world.node() } else { world.alone() };
        let ahead = warm(&world, &cache, &[1]);
        pass_secs(2).await;
        // Ten TTLs.
        for second in 0..600 {
            world.source.set(1, format!("Ada {second}"));
            let served = ahead.get(&1).await.unwrap().unwrap();
            assert_ne!(served.tier(), Tier::Loader, "at {second} s, tiered: {is_tiered}");
            assert_eq!(served.freshness(), Freshness::Fresh);
            assert!(served.age() < secs(52), "{:?}", served.age());
            pass_secs(1).await;
        }
        let loads = world.source.loads();
        assert!((12..=14).contains(&loads), "one in 48 s: {loads}");
        assert_eq!(ahead.stats().loads, loads as u64);
    }
}

#[tokio::test(start_paused = true)]
async fn one_process_of_a_fleet_loads_and_another_takes_over_when_it_dies() {
    let world = World::new();
    rows(&world, 50);
    let keys: Vec<u64> = (0..50).collect();
    let mut fleet: Vec<Option<(Users, Ahead)>> = (0..5)
        .map(|_| {
            let node = world.node();
            let ahead = warm(&world, &node, &keys);
            Some((node, ahead))
        })
        .collect();
    pass_secs(3).await;
    let rounds = |fleet: &[Option<(Users, Ahead)>]| -> u64 {
        fleet.iter().flatten().map(|(_, ahead)| ahead.stats().rounds).sum()
    };
    assert!((2..=3).contains(&rounds(&fleet)), "one a second, for all: {}", rounds(&fleet));
    assert_eq!((world.source.loads(), world.source.calls()), (50, 1), "each key once, together");
    for death in 0..4u64 {
        // Who did the last round dies.
        let before: Vec<u64> =
            fleet.iter().map(|node| node.as_ref().map_or(0, |(_, ahead)| ahead.stats().rounds)).collect();
        pass_secs(1).await;
        let leader = fleet
            .iter()
            .zip(before)
            .position(|(node, before)| node.as_ref().is_some_and(|(_, ahead)| ahead.stats().rounds > before));
        fleet[leader.expect("somebody has done a round")] = None;
        let done = rounds(&fleet);
        pass(Duration::from_millis(1_005)).await;
        pass(Duration::from_millis(5)).await;
        assert!(rounds(&fleet) > done, "nobody took over after death {death}");
        pass_secs(48).await;
        let expected = 50 * (death as usize + 2);
        assert_eq!(world.source.loads(), expected, "after death {death}");
    }
    let (node, ahead) = fleet.into_iter().flatten().next().unwrap();
    for key in 0..50 {
        assert_ne!(ahead.get(&key).await.unwrap().unwrap().tier(), Tier::Loader);
    }
    drop(node);
}

#[tokio::test(start_paused = true)]
async fn a_process_with_nothing_to_keep_warm_takes_no_round_from_others() {
    let world = World::new();
    let (idle, busy) = (world.node(), world.node());
    // Counts reads, and nobody reads there.
    let empty = ahead(&world, &idle).top(10).build().unwrap();
    pass(Duration::from_millis(500)).await;
    let ahead = warm(&world, &busy, &[1]);
    pass_secs(100).await;
    assert_eq!(empty.stats().rounds, 0);
    assert!(ahead.stats().rounds >= 98, "{:?}", ahead.stats());
    assert_eq!(world.source.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn another_process_sees_the_new_value_at_the_latest_when_the_old_one_would_have_ended() {
    let world = World::new();
    let (one, two) = (world.node(), world.node());
    let _ahead = warm(&world, &one, &[1]);
    pass_secs(2).await;
    assert_eq!(*two.get(&1).await.unwrap(), "Ada");
    world.source.set(1, "Augusta".into());
    let mut seen_at = None;
    for second in 0..62 {
        let served = two.get(&1).await.expect("it never ends");
        if *served == "Augusta" {
            seen_at = seen_at.or(Some(second));
        }
        pass_secs(1).await;
    }
    assert!(seen_at.is_some_and(|at| (46..=60).contains(&at)), "{seen_at:?}");
    assert_eq!(world.source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_over_budget_waits_for_the_next_round_oldest_first() {
    let world = World::new();
    rows(&world, 30);
    let cache = world.node();
    let ahead = ahead(&world, &cache).budget(2, 5).build().unwrap();
    ahead.keep(0..10);
    pass_secs(2).await;
    let stats = ahead.stats();
    assert!((5..=7).contains(&stats.loads), "{stats:?}");
    assert_eq!(stats.waiting + stats.loads, 10);
    assert!(stats.over_budget >= 3);
    // Those that come later wait behind them.
    ahead.keep(0..30);
    while world.source.loads() < 12 {
        pass(Duration::from_millis(100)).await;
    }
    let early = (0..10).filter(|key| world.source.loads_of(key) == 1).count();
    assert_eq!(early, 10, "no newcomer before them");
    pass_secs(12).await;
    assert_eq!(world.source.loads(), 30);
    assert_eq!(ahead.stats().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn a_fleet_whose_leaders_change_keeps_to_the_budget_of_one() {
    let world = World::new();
    rows(&world, 400);
    let fleet: Vec<(Users, Ahead)> = (0..5)
        .map(|_| {
            let node = world.node();
            let ahead = ahead(&world, &node).budget(2, 20).build().unwrap();
            ahead.keep(0..400);
            (node, ahead)
        })
        .collect();
    pass_secs(60).await;
    let leaders = fleet.iter().filter(|(_, ahead)| ahead.stats().rounds > 3).count();
    assert!(leaders >= 3, "they change: {leaders}");
    let loads = world.source.loads();
    assert!((100..=20 + 2 * 61).contains(&loads), "two a second: {loads}");
}

#[tokio::test(start_paused = true)]
async fn the_keys_that_are_read_most_are_kept_warm_and_yesterdays_leave() {
    let world = World::new();
    rows(&world, 1000);
    let cache = world.alone();
    let ahead = ahead(&world, &cache).top(3).half_life(secs(10)).build().unwrap();
    let read = async |hot: [u64; 3], minutes: u64| {
        for turn in 0..minutes * 60 {
            for key in hot.into_iter().chain([100 + turn % 900]) {
                let served = ahead.get(&key).await.unwrap().unwrap();
                drop(served);
            }
            pass_secs(1).await;
        }
    };
    read([1, 2, 3], 5).await;
    let before: Vec<usize> = (1..7).map(|key| world.source.loads_of(&key)).collect();
    assert!(before[..3].iter().all(|loads| (6..=8).contains(loads)), "one in 48 s: {before:?}");
    read([4, 5, 6], 10).await;
    let after: Vec<usize> = (1..7).map(|key| world.source.loads_of(&key)).collect();
    for old in 0..3 {
        assert!(after[old] - before[old] <= 2, "nobody reads it any more: {before:?} {after:?}");
        assert!((12..=15).contains(&after[old + 3]), "{after:?}");
    }
    assert!(ahead.stats().counted <= 64);
    assert!(ahead.stats().tried <= 3);
    // Nobody reads at all.
    pass_secs(200).await;
    let loads = world.source.loads();
    pass_secs(100).await;
    assert_eq!((world.source.loads(), ahead.stats().counted), (loads, 0));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_gone_from_the_source_counts_once_and_is_not_hammered() {
    for is_tiered in [false, true] {
        let world = World::new();
        let cache = if is_tiered { world.node() } else { world.alone() };
        let ahead = warm(&world, &cache, &[1, 404]);
        pass_secs(47).await;
        assert_eq!((world.source.loads_of(&404), ahead.stats().absent), (1, 1));
        pass_secs(90).await;
        assert_eq!(world.source.loads_of(&404), 3, "when a value would have been refreshed");
        assert_eq!(ahead.stats().absent, 1);
        world.source.set(404, "Alan".into());
        pass_secs(49).await;
        assert_eq!(cache.get_local(&404).as_deref().map(String::as_str), Some("Alan"));
        world.source.unset(&404);
        pass_secs(100).await;
        assert_eq!(ahead.stats().absent, 2, "it was back in between");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failing_source_is_asked_once_a_round_and_costs_nothing_that_is_there() {
    for is_tiered in [false, true] {
        let world = World::new();
        let cache = if is_tiered { world.node() } else { world.alone() };
        let ahead = warm(&world, &cache, &[1]);
        pass_secs(2).await;
        world.source.fail_next(6);
        pass_secs(50).await;
        let failed = ahead.stats().failed;
        assert!((1..=4).contains(&failed), "{failed}");
        while ahead.stats().failed < 6 {
            let failed = ahead.stats().failed;
            assert_eq!(*ahead.get(&1).await.unwrap().unwrap(), "Ada");
            pass(Duration::from_millis(900)).await;
            assert!(ahead.stats().failed <= failed + 1, "not faster than the interval");
        }
        pass_secs(2).await;
        let served = ahead.get(&1).await.unwrap().unwrap();
        assert!(served.age() < secs(5) && served.tier() == Tier::Memory);
        assert_eq!(world.source.loads(), 1 + 6 + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_while_it_refreshes_is_not_undone() {
    let operations = [None, Some(Operation::Get), Some(Operation::GetOrLease), Some(Operation::PutLeased)];
    for operation in operations {
        for before_reading in [true, false] {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let cache = world.over(tier.clone());
            let ahead = warm(&world, &cache, &[1]);
            pass_secs(2).await;
            world.source.set(1, "Augusta".into());
            pass_secs(46).await;
            assert_eq!(world.source.loads(), 1);
            if let Some(operation) = operation {
                tier.next_of(operation, Fault::Delay(secs(1)));
            }
            let gate = match before_reading {
                true => world.source.stop_before_reading(),
                false => world.source.stop_after_reading(),
            };
            for _ in 0..8 {
                pass(Duration::from_millis(250)).await;
                if world.source.loads() > 1 {
                    break;
                }
            }
            assert_eq!(world.source.loads(), 2, "{operation:?} {before_reading}");
            world.source.set(1, "Countess".into());
            cache.remove(&1).await.unwrap();
            gate.open();
            settle().await;
            assert!(cache.get_local(&1).is_none_or(|served| *served == "Countess"), "{operation:?}");
            pass_secs(3).await;
            let other = world.node();
            for node in [&cache, &other] {
                let served = node.get(&1).await.expect("the next round has loaded it");
                assert_eq!(*served, "Countess", "{operation:?} {before_reading}");
            }
            drop(ahead);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_while_it_refreshes_has_the_value_that_is_there() {
    let world = World::new();
    let cache = world.node();
    let ahead = warm(&world, &cache, &[1]);
    pass_secs(2).await;
    world.source.set(1, "Augusta".into());
    let gate = world.source.stop_after_reading();
    pass_secs(50).await;
    assert_eq!(world.source.loads(), 2, "one load, however many rounds pass");
    let other = world.node();
    let began = world.clock.now();
    assert_eq!(*ahead.get(&1).await.unwrap().unwrap(), "Ada");
    assert_eq!(world.clock.now(), began, "nobody waits");
    assert_eq!(*other.get(&1).await.unwrap(), "Ada", "it is still in the shared tier");
    assert_eq!(*world.load(&other, 1).await.unwrap(), "Ada");
    assert_eq!(world.clock.now(), began, "nobody waits");
    gate.open();
    settle().await;
    assert_eq!(*ahead.get(&1).await.unwrap().unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn a_round_ends_with_its_interval_however_slow_the_source_is() {
    let world = World::new();
    rows(&world, 4000);
    let tier = Arc::new(cachalot_memory_backend::MemoryBackend::with_limit(64 << 20, world.clock.clone()));
    let cache = world.over(tier);
    let ahead = ahead(&world, &cache).every(secs(10)).build().unwrap();
    ahead.keep(0..4000);
    settle().await;
    let gate = world.source.stop_before_reading();
    // One round in an interval, though the first part of the first one hangs.
    pass_secs(20).await;
    let stats = ahead.stats();
    assert_eq!((stats.rounds, stats.waiting), (1, 4000 - 1024), "{stats:?}");
    pass_secs(1).await;
    assert_eq!((ahead.stats().rounds, ahead.stats().tried), (2, 2048), "it begins with what was left");
    gate.open();
    pass_secs(11).await;
    assert_eq!(world.source.loads(), 4000, "each once");
}

#[tokio::test(start_paused = true)]
async fn forgotten_keys_are_no_longer_loaded() {
    let world = World::new();
    rows(&world, 3);
    let cache = world.alone();
    let ahead = warm(&world, &cache, &[0]);
    let guard = ahead.register(1);
    let _stays = ahead.register(2);
    pass_secs(2).await;
    assert_eq!((ahead.stats().registered, ahead.stats().tried), (3, 3));
    drop(guard);
    assert!(ahead.forget(&0));
    pass_secs(100).await;
    let loads: Vec<usize> = (0..3).map(|key| world.source.loads_of(&key)).collect();
    assert_eq!(loads, [1, 1, 3]);
    assert_eq!((ahead.stats().registered, ahead.stats().tried), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn with_the_last_handle_or_the_cache_its_rounds_end() {
    let world = World::new();
    let cache = world.node();
    let ahead = warm(&world, &cache, &[1]);
    let clone = ahead.clone();
    drop(ahead);
    pass_secs(2).await;
    assert_eq!(world.source.loads(), 1, "a clone is enough");
    assert_eq!(Arc::strong_count(clone.read_through().source()), 1);
    let source = clone.read_through().source().clone();
    let registration = clone.register(1);
    drop(clone);
    settle().await;
    assert_eq!(Arc::strong_count(&source), 1, "no task holds it");
    drop(registration);
    pass_secs(100).await;
    assert_eq!(world.source.loads(), 1);

    let ahead = warm(&world, &cache, &[2]);
    cache.shutdown(secs(1)).await.unwrap();
    pass_secs(5).await;
    assert_eq!((ahead.stats().rounds, world.source.loads()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn rounds_go_on_after_a_clear_and_after_a_pattern_over_everything() {
    let world = World::new();
    let cache = world.builder().ttl(secs(60)).backend(world.shared.clone()).clearable().build().unwrap();
    let ahead = warm(&world, &cache, &[1]);
    pass_secs(2).await;
    cache.clear().await.unwrap();
    let rounds = ahead.stats().rounds;
    pass_secs(2).await;
    assert_eq!(cache.get_local(&1).as_deref().map(String::as_str), Some("Ada"));
    let done = ahead.stats().rounds - rounds;
    assert!((1..=2).contains(&done), "the right to a round is no entry: {done}");
    cache.remove_pattern(&cachalot_core::Pattern::any()).await.unwrap();
    pass_secs(2).await;
    assert!(cache.get_local(&1).is_some());
    assert_eq!(world.source.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn without_leases_each_process_does_its_own() {
    let world = World::new();
    let node = || world.over(Lacking::leases(world.shared.clone()));
    let (one, two) = (node(), node());
    let _aheads = [warm(&world, &one, &[1]), warm(&world, &two, &[1])];
    pass_secs(2).await;
    assert!(one.get_local(&1).is_some() && two.get_local(&1).is_some());
    assert_eq!(world.source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn while_the_shared_tier_is_away_there_are_no_rounds() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    let ahead = warm(&world, &cache, &[1]);
    tier.next_of(Operation::GetOrLease, Fault::Refuse);
    pass_secs(1).await;
    assert_eq!((ahead.stats().rounds, world.source.loads()), (0, 0));
    pass_secs(2).await;
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn sets_of_two_names_do_not_keep_each_other_from_their_rounds() {
    let world = World::new();
    rows(&world, 2);
    let cache = world.node();
    let one = ahead(&world, &cache).name("one").build().unwrap();
    let two = ahead(&world, &cache).name("two").build().unwrap();
    one.keep([0]);
    two.keep([1]);
    pass_secs(2).await;
    assert_eq!((world.source.loads_of(&0), world.source.loads_of(&1)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn as_many_as_can_be_counted_reserve_nothing_ahead() {
    let world = World::new();
    let cache = world.alone();
    let ahead = ahead(&world, &cache).top(usize::MAX).build().unwrap();
    ahead.get(&1).await.unwrap();
    assert_eq!(ahead.stats().counted, 1);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    cachalot_testkit::block_on_paused(async {
        let world = World::new();
        let cache = world.alone();
        let ahead = || ahead(&world, &cache);
        for builder in [
            ahead().every(Duration::from_millis(99)),
            ahead().ratio(0.0),
            ahead().ratio(1.0),
            ahead().ratio(f64::NAN),
            ahead().budget(0, 1),
            ahead().half_life(Duration::ZERO),
            ahead().name("x".repeat(65)),
        ] {
            assert_eq!(builder.build().unwrap_err().kind(), cachalot_core::ErrorKind::Config);
        }
        let sliding = world.builder().ttl(secs(60)).max_age(secs(600)).build().unwrap();
        let ahead = RefreshAhead::builder(sliding, world.source.clone()).build();
        assert_eq!(ahead.unwrap_err().kind(), cachalot_core::ErrorKind::Config);
    });
}
