//! What is read lives on, up to its maximum age, and costs few writes.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::units::millis;
use cachalot_core::{Entry, ErrorKind, Freshness, LoadFn, Recency, Tier};
use cachalot_memory_backend::{Memory, MemoryBackend};
use cachalot_strategies::{Cached, Sliding};
use cachalot_testkit::{CountingSource, Faulty, Operation};

use crate::world::{Users, UsersBuilder, World, on_both, pass, secs, settle};

pub(crate) type Sessions = Sliding<u64, String, Memory<u64, Arc<Entry<String>>>, CountingSource<u64, String>>;

/// Idle for 100 s, 1,000 s old at most.
pub(crate) fn slides(builder: UsersBuilder) -> UsersBuilder {
    builder.ttl(secs(100)).max_age(secs(1000))
}

pub(crate) fn over(world: &World, cache: &Users) -> Sessions {
    Sliding::new(cache.clone(), world.source.clone()).unwrap()
}

pub(crate) async fn read(sessions: &Sessions, key: u64) -> Cached<String> {
    let found = sessions.get(&key).await.unwrap().unwrap();
    settle().await;
    found
}

/// How long memory may keep copies: not at all, a tenth of a TTL, without bound.
pub(crate) const MEMORY_TTLS: [Duration; 3] = [Duration::ZERO, Duration::from_secs(10), Duration::MAX];

/// Memory alone, and memory over a shared tier with each of the bounds.
async fn everywhere(walk: impl AsyncFn(&World, Users)) {
    let world = World::new();
    walk(&world, slides(world.builder()).build().unwrap()).await;
    for memory_ttl in MEMORY_TTLS {
        let world = World::new();
        let builder = slides(world.builder()).backend(world.shared.clone()).memory_ttl(memory_ttl);
        walk(&world, builder.build().unwrap()).await;
    }
}

/// For a touch over a tier in memory.
async fn breath() {
    for _ in 0..5 {
        tokio::task::yield_now().await;
    }
}

/// Looked at, not read.
async fn is_there(world: &World, cache: &Users) -> bool {
    cache.get_local(&1).is_some() || world.in_shared(1).await.is_some()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_read_ends_after_its_ttl() {
    everywhere(async |world, cache| {
        let sessions = over(world, &cache);
        read(&sessions, 1).await;
        pass(secs(99)).await;
        assert!(is_there(world, &cache).await);
        pass(secs(1)).await;
        assert!(!is_there(world, &cache).await);
        assert_eq!(read(&sessions, 1).await.tier(), Tier::Loader);
        assert_eq!(world.source.loads(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_read_lives_until_its_maximum_age_and_no_longer() {
    everywhere(async |world, cache| {
        let sessions = over(world, &cache);
        let began = world.clock.now();
        read(&sessions, 1).await;
        for _ in 0..11 {
            pass(secs(90)).await;
            let found = read(&sessions, 1).await;
            assert_eq!((found.age(), found.freshness()), (world.clock.now().since(began), Freshness::Fresh));
        }
        assert_eq!(world.source.loads(), 1);
        pass(secs(9)).await;
        assert_eq!(read(&sessions, 1).await.age(), secs(999));
        pass(secs(1)).await;
        assert!(cache.get(&1).await.is_none() && world.in_shared(1).await.is_none());
        assert_eq!(read(&sessions, 1).await.tier(), Tier::Loader);
        assert_eq!(world.source.loads(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_was_read_once_more_ends_a_ttl_after_that() {
    everywhere(async |world, cache| {
        let sessions = over(world, &cache);
        read(&sessions, 1).await;
        pass(secs(50)).await;
        read(&sessions, 1).await;
        pass(secs(99)).await;
        assert!(is_there(world, &cache).await);
        pass(secs(1)).await;
        assert!(!is_there(world, &cache).await);
        assert_eq!(sessions.touched(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_thousand_reads_within_a_ttl_write_ten_times_at_most() {
    for memory_ttl in MEMORY_TTLS {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(memory_ttl);
        let sessions = over(&world, &builder.build().unwrap());
        read(&sessions, 1).await;
        let writes = || tier.calls() - tier.calls_of(Operation::Get) - tier.calls_of(Operation::GetMany);
        let filled = writes();
        for ttls in 1..=3 {
            for _ in 0..1000 {
                tokio::time::advance(millis(100)).await;
                sessions.get(&1).await.unwrap().unwrap();
                breath().await;
            }
            let touches = tier.calls_of(Operation::Touch);
            assert!(touches <= 10 * ttls, "{touches} touches in {ttls} TTLs, {memory_ttl:?}");
            assert!(touches >= 9 * ttls, "{touches} touches in {ttls} TTLs, {memory_ttl:?}");
            assert_eq!(sessions.touched(), touches as u64, "each prolongs");
            assert_eq!(writes(), filled + touches, "no other write");
        }
        assert_eq!(world.source.loads(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_only_load_of_a_young_entry_writes_nothing() {
    for memory_ttl in MEMORY_TTLS {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(memory_ttl);
        let sessions = over(&world, &builder.build().unwrap());
        for _ in 0..99 {
            read(&sessions, 1).await;
            pass(millis(100)).await;
        }
        assert_eq!(tier.calls_of(Operation::Touch), 0, "{memory_ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_touch_by_another_process_is_seen() {
    let world = World::new();
    let node =
        || slides(world.builder()).backend(world.shared.clone()).memory_ttl(Duration::MAX).build().unwrap();
    let (here, there) = (over(&world, &node()), over(&world, &node()));
    read(&here, 1).await;
    pass(secs(50)).await;
    assert_eq!(read(&there, 1).await.tier(), Tier::Backend);
    pass(secs(70)).await;
    let found = read(&here, 1).await;
    assert_eq!((found.tier(), found.age()), (Tier::Backend, secs(120)), "t = 120 s, read at 50 s elsewhere");
    pass(secs(80)).await;
    assert_eq!(read(&there, 1).await.age(), secs(200));
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_slide_reads_and_prolongs_nothing() {
    let world = World::new();
    let sessions = over(&world, &slides(world.builder()).backend(world.shared.clone()).build().unwrap());
    read(&sessions, 1).await;
    let other = world.builder().ttl(secs(7)).backend(world.shared.clone()).memory_ttl(Duration::MAX);
    let other = other.build().unwrap();
    pass(secs(60)).await;
    read(&sessions, 1).await;
    pass(secs(60)).await;
    assert_eq!(other.get(&1).await.unwrap().tier(), Tier::Backend, "t = 120 s, read at 60 s");
    pass(secs(40)).await;
    assert!(world.in_shared(1).await.is_none(), "t = 160 s");
    pass(secs(60)).await;
    assert!(other.get_local(&1).is_none(), "its copy ends a TTL after it was read");
}

#[tokio::test(start_paused = true)]
async fn what_another_release_keeps_for_its_stale_window_is_not_taken_for_what_slides() {
    let world = World::new();
    let before = world.builder().ttl(secs(10)).stale_if_error(secs(990)).backend(world.shared.clone());
    world.load(&before.build().unwrap(), 1).await.unwrap();
    let sessions = over(&world, &slides(world.builder()).backend(world.shared.clone()).build().unwrap());
    pass(secs(9)).await;
    assert_eq!(read(&sessions, 1).await.tier(), Tier::Backend);
    pass(secs(2)).await;
    world.source.set(1, "Augusta".to_owned());
    assert_eq!(*read(&sessions, 1).await, "Augusta");
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_down_costs_the_prolongation_and_nothing_else() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(Duration::MAX);
    let sessions = over(&world, &builder.build().unwrap());
    read(&sessions, 1).await;
    pass(secs(20)).await;
    tier.down();
    let before = tier.calls();
    for _ in 0..100 {
        assert_eq!(read(&sessions, 1).await.tier(), Tier::Memory);
        pass(millis(100)).await;
    }
    let calls = tier.calls() - before;
    assert!((1..=11).contains(&calls), "{calls} in ten seconds");
    assert_eq!(sessions.touched(), 0);
    tier.up();
    pass(secs(1)).await;
    read(&sessions, 1).await;
    pass(secs(99)).await;
    assert_eq!(read(&sessions, 1).await.tier(), Tier::Memory, "prolonged as soon as it could be");
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_due_together_travel_together() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let builder = slides(world.builder()).backend(tier.clone()).memory_ttl(Duration::MAX);
    let sessions = over(&world, &builder.build().unwrap());
    let keys: Vec<u64> = (1..=600).collect();
    keys.iter().for_each(|key| world.source.set(*key, key.to_string()));
    sessions.get_many(&keys).await;
    pass(secs(20)).await;
    let before = tier.calls_of(Operation::GetMany);
    sessions.get_many(&keys).await;
    settle().await;
    assert_eq!(sessions.touched(), 600);
    assert_eq!(tier.calls_of(Operation::GetMany) - before, 3, "256 in one go");
    pass(secs(99)).await;
    assert!(keys.iter().all(|key| sessions.cache().get_local(key).is_some()));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_keys_leave_nothing_behind() {
    for is_tiered in [false, true] {
        let world = World::new();
        // There is room for all of them.
        let shared = Arc::new(MemoryBackend::with_limit(1 << 26, world.clock.clone()));
        let builder = slides(world.builder()).memory(Memory::entries(20_000).hash_seed(1));
        let builder = if is_tiered { builder.backend(shared.clone()) } else { builder };
        let cache = builder.build().unwrap();
        let sessions = over(&world, &cache);
        let keys: Vec<u64> = (1..=10_000).collect();
        keys.iter().for_each(|key| world.source.set(*key, key.to_string()));
        for touched in [0, 10_000] {
            for chunk in keys.chunks(500) {
                assert!(sessions.get_many(chunk).await.iter().all(Result::is_ok));
                settle().await;
            }
            assert_eq!((sessions.touched(), world.source.loads()), (touched, 10_000));
            pass(secs(30)).await;
        }
        pass(secs(69)).await;
        let stranger = || world.over(shared.clone());
        let there = async |cache: &Users| cache.get_many(&keys).await.iter().flatten().count();
        assert_eq!(there(&if is_tiered { stranger() } else { cache.clone() }).await, 10_000, "t = 129 s");
        pass(secs(1)).await;
        assert_eq!((there(&cache).await, there(&stranger()).await), (0, 0), "t = 130 s, read at 30 s");
        assert_eq!(cache.stats().memory.entries, 0);
        assert_eq!(shared.stats().entries, 0);
        let stats = cache.stats();
        assert_eq!((stats.flights, stats.pending_invalidations), (0, 0));
        cache.shutdown(Duration::ZERO).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn recency_decides_how_long_what_is_read_lives() {
    everywhere(async |world, cache| {
        let recency = Recency::new(secs(10), secs(400)).hot_within(secs(20)).warm_within(secs(60));
        let sessions = over(world, &cache).by_recency(recency);
        let lives = async |world: &World| {
            for life in 1..=1000 {
                pass(secs(1)).await;
                if !is_there(world, &cache).await {
                    return life;
                }
            }
            0
        };
        read(&sessions, 1).await;
        pass(secs(10)).await;
        read(&sessions, 1).await;
        assert_eq!(lives(world).await, 400, "hot");
        read(&sessions, 1).await;
        pass(secs(50)).await;
        read(&sessions, 1).await;
        assert_eq!(lives(world).await, 200, "warm");
        read(&sessions, 1).await;
        pass(secs(70)).await;
        read(&sessions, 1).await;
        assert_eq!(lives(world).await, 30, "cold, and nothing is taken from what it had");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_absence_does_not_slide() {
    let build = |builder: UsersBuilder| slides(builder).negative_ttl(secs(10));
    on_both(build, async |world, cache| {
        let sessions = over(&world, &cache);
        for loads in [1, 1, 1, 2, 2] {
            assert!(sessions.get(&7).await.unwrap().is_none());
            assert_eq!(world.source.loads(), loads);
            pass(secs(4)).await;
        }
        assert_eq!(sessions.touched(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_insert_slides_and_a_ttl_of_its_own_is_kept() {
    everywhere(async |_, cache| {
        let world = World::new();
        let sessions = over(&world, &cache);
        cache.with(|options| options.ttl(secs(20))).insert(5, "own".to_owned()).await.unwrap();
        for _ in 0..20 {
            pass(secs(15)).await;
            assert_eq!(read(&sessions, 5).await.as_str(), "own");
        }
        pass(secs(20)).await;
        assert!(cache.get(&5).await.is_none(), "20 s, not 100");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_built_that_would_live_for_ever_or_contradict_itself() {
    let world = World::new();
    let config = |result: cachalot_core::Result<Users>| result.unwrap_err().kind();
    for age in [Duration::ZERO, Duration::from_nanos(1), Duration::MAX] {
        assert_eq!(config(world.builder().max_age(age).build()), ErrorKind::Config, "{age:?}");
    }
    let builder = || slides(world.builder());
    assert_eq!(config(builder().stale_while_revalidate(secs(1)).build()), ErrorKind::Config);
    assert_eq!(config(builder().stale_if_error(secs(1)).build()), ErrorKind::Config);
    assert_eq!(config(builder().early_refresh(0.9).build()), ErrorKind::Config);
    assert_eq!(config(builder().xfetch(1.0).build()), ErrorKind::Config);
    let none = LoadFn::new(|_: u64| async { Ok::<Option<String>, std::io::Error>(None) });
    assert_eq!(Sliding::new(world.alone(), none).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_call_changes_neither_the_maximum_age_nor_makes_anything_stale() {
    everywhere(async |world, cache| {
        let sessions = over(world, &cache)
            .with(|options| options.max_age(Duration::MAX).stale_if_error(secs(5000)).ttl(secs(500)));
        read(&sessions, 1).await;
        pass(secs(450)).await;
        read(&sessions, 1).await;
        pass(secs(450)).await;
        assert_eq!(read(&sessions, 1).await.age(), secs(900));
        pass(secs(100)).await;
        world.source.fail_next(1);
        sessions.get(&1).await.unwrap_err();
    })
    .await;
}
