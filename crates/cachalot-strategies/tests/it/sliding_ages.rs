//! Whose life is prolonged, and how far: that of the record that is there, and never beyond the age that this cache
//! allows, whoever has written it.

use std::time::Duration;

use cachalot_core::{ManualClock, Tier};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Sliding, SnapshotFile};

use crate::sliding::{MEMORY_TTLS, over, read, slides};
use crate::world::{UsersBuilder, World, pass, secs, source};

const DAY: u64 = 86_400;

#[tokio::test(start_paused = true)]
async fn what_has_taken_the_place_of_a_record_near_its_end_is_prolonged_by_its_own_reads() {
    for memory_ttl in MEMORY_TTLS {
        let world = World::new();
        let builder = slides(world.builder()).backend(world.shared.clone()).memory_ttl(memory_ttl);
        let sessions = over(&world, &builder.build().unwrap());
        read(&sessions, 1).await;
        for _ in 0..10 {
            pass(secs(90)).await;
            read(&sessions, 1).await;
        }
        pass(secs(60)).await;
        assert_eq!(sessions.touched(), 10, "t = 960 s: it cannot be prolonged any more");
        sessions.cache().insert(1, "Augusta".to_owned()).await.unwrap();
        pass(secs(30)).await;
        assert_eq!(*read(&sessions, 1).await, "Augusta", "t = 990 s");
        assert_eq!(sessions.touched(), 11, "{memory_ttl:?}");
        pass(secs(99)).await;
        assert!(world.in_shared(1).await.is_some(), "t = 1,089 s, read at 990 s");
    }
}

#[tokio::test(start_paused = true)]
async fn what_another_wrote_to_live_longer_ends_here_at_the_maximum_age() {
    let writers: [fn(UsersBuilder) -> UsersBuilder; 3] = [
        |builder| builder.ttl(secs(5000)),
        |builder| builder.ttl(secs(900)).stale_if_error(secs(5000)),
        |builder| builder.ttl(secs(600)).max_age(secs(5000)),
    ];
    for (number, writer) in writers.into_iter().enumerate() {
        for memory_ttl in MEMORY_TTLS {
            let world = World::new();
            let other = writer(world.builder()).backend(world.shared.clone()).build().unwrap();
            let builder = slides(world.builder()).backend(world.shared.clone()).memory_ttl(memory_ttl);
            let sessions = over(&world, &builder.build().unwrap());
            world.load(&other, 1).await.unwrap();
            let mut age = 0;
            for step in [400, 499, 100] {
                pass(secs(step)).await;
                age += step;
                let found = read(&sessions, 1).await;
                let is_there = age < if number == 1 { 900 } else { 1000 };
                assert_eq!(found.age(), secs(if is_there { age } else { 0 }), "writer {number}");
            }
            pass(secs(1)).await;
            if number != 1 {
                assert!(sessions.cache().get_local(&1).is_none(), "t = 1,000 s, writer {number}");
                assert_eq!(read(&sessions, 1).await.tier(), Tier::Loader);
            }
            assert_eq!(world.source.loads(), 2, "the writer's, and one here");
        }
    }
}

#[tokio::test]
async fn what_is_restored_ends_at_the_maximum_age_of_who_restores_it() {
    let writers: [fn(UsersBuilder) -> UsersBuilder; 3] = [
        |builder| builder.ttl(secs(5000)),
        |builder| builder.ttl(secs(1200)).stale_if_error(secs(5000)),
        |builder| builder.ttl(secs(5000)).max_age(secs(6000)),
    ];
    for writer in writers {
        let (folder, time) = (tempfile::tempdir().unwrap(), ManualClock::new());
        let file = || SnapshotFile::at(folder.path().join("users.snapshot")).keep();
        let builder = || Cache::builder("users").memory(Memory::entries(9)).clock(time.clock());
        let before = writer(builder()).build().unwrap();
        before.insert(1, "Ada".to_owned()).await.unwrap();
        time.advance(secs(500));
        before.snapshot(file()).await.unwrap();
        time.advance(secs(400));
        let cache = slides(builder()).build().unwrap();
        assert_eq!(cache.restore(file()).await.unwrap().entries, 1);
        let sessions = Sliding::new(cache.clone(), source()).unwrap();
        time.advance(secs(99));
        assert_eq!(sessions.get(&1).await.unwrap().unwrap().age(), secs(999));
        time.advance(secs(1));
        assert!(cache.get_local(&1).is_none(), "t = 1,000 s");
        let late = slides(builder()).build().unwrap();
        let restored = late.restore(file()).await.unwrap();
        assert_eq!((restored.entries, restored.expired), (0, 1));
    }
}

#[tokio::test]
async fn a_life_of_months_is_prolonged_by_months() {
    let time = ManualClock::new();
    let days = |days| Duration::from_secs(days * DAY);
    let cache: UsersBuilder = Cache::builder("users").memory(Memory::entries(9)).clock(time.clock());
    let sessions = Sliding::new(cache.ttl(days(100)).max_age(days(1000)).build().unwrap(), source()).unwrap();
    sessions.get(&1).await.unwrap().unwrap();
    time.advance(days(9));
    sessions.get(&1).await.unwrap().unwrap();
    assert_eq!(sessions.touched(), 0, "less than a tenth of it has gone");
    time.advance(days(51));
    sessions.get(&1).await.unwrap().unwrap();
    assert_eq!(sessions.touched(), 1);
    time.advance(days(99));
    assert_eq!(sessions.cache().get_local(&1).unwrap().age(), days(159));
    time.advance(days(1) + secs(1));
    assert!(sessions.cache().get_local(&1).is_none());
    assert_eq!(sessions.source().loads(), 1);
}
