//! A shared tier that fails at any one step of a read: the load goes on, and nothing is left behind.

use std::time::Duration;

use cachalot_core::{ErrorKind, Tier};
use cachalot_memory_backend::MemoryBackend;
use cachalot_strategies::{Inserted, Removal};
use cachalot_testkit::{Fault, Faulty, Lacking, Operation};

use crate::world::{UsersBuilder, World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn a_fault_at_any_step_fails_no_read_and_leaves_nothing_behind() {
    let operations = [Operation::Get, Operation::GetOrLease, Operation::PutLeased, Operation::Release];
    let faults =
        [Fault::Refuse, Fault::LoseAnswer, Fault::LandLate, Fault::Delay(secs(1)), Fault::Delay(secs(999))];
    for operation in operations {
        for fault in faults {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let cache = world.over(tier.clone());
            tier.next_of(operation, fault);
            let begins = world.clock.now();
            assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "{operation:?} {fault:?}");
            assert!(world.clock.now().since(begins) <= secs(2), "{operation:?} {fault:?}");
            pass(secs(5)).await;
            let stats = cache.stats();
            assert_eq!((stats.flights, world.source.running()), (0, 0), "{operation:?} {fault:?}");
            assert_eq!((world.source.loads(), stats.loads), (1, 1), "{operation:?} {fault:?}");
            // A lease that was granted without an answer is given back, or ends with its term.
            tier.land().await;
            let other = world.node();
            let begins = world.clock.now();
            assert_eq!(*world.load(&other, 1).await.unwrap(), "Ada");
            assert!(world.clock.now().since(begins) <= secs(31), "{operation:?} {fault:?}");
            assert!(world.in_shared(1).await.is_some(), "{operation:?} {fault:?}");
            cache.shutdown(secs(5)).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_dies_at_any_step_of_an_early_refresh_leaves_the_value_that_is_there() {
    let operations = [Operation::Get, Operation::GetOrLease, Operation::PutLeased];
    for operation in operations {
        for fault in [Fault::Refuse, Fault::LoseAnswer, Fault::Delay(secs(999))] {
            let world = World::new();
            let tier = Faulty::new(world.shared.clone());
            let builder = world.builder().backend(tier.clone()).memory_ttl(Duration::MAX);
            let cache = builder.ttl(secs(60)).early_refresh(0.9).build().unwrap();
            world.load(&cache, 1).await.unwrap();
            pass(secs(55)).await;
            tier.next_of(operation, fault);
            for _ in 0..3 {
                assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "{operation:?} {fault:?}");
                settle().await;
            }
            pass(secs(3)).await;
            assert_eq!(cache.stats().flights, 0, "{operation:?} {fault:?}");
            cache.shutdown(secs(5)).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_while_the_tier_is_slow_is_not_undone() {
    for operation in [Operation::Get, Operation::GetOrLease, Operation::PutLeased] {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let cache = world.over(tier.clone());
        tier.next_of(operation, Fault::Delay(secs(1)));
        let load = world.spawn_load(&cache, 1);
        settle().await;
        world.source.set(1, "Augusta".into());
        assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
        load.await.unwrap().unwrap();
        settle().await;
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta", "{operation:?}");
        assert_eq!(world.in_shared(1).await.unwrap(), "Augusta", "{operation:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_without_leases_is_read_and_never_filled() {
    let world = World::new();
    let (writer, cache) = (world.node(), world.over(Lacking::leases(world.shared.clone())));
    world.load(&writer, 1).await.unwrap();
    assert_eq!(world.load(&cache, 1).await.unwrap().tier(), Tier::Backend);
    world.source.set(2, "Grace".into());
    for tier in [Tier::Loader, Tier::Memory] {
        assert_eq!(world.load(&cache, 2).await.unwrap().tier(), tier, "one load a process");
    }
    assert!(world.in_shared(2).await.is_none());
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
    assert!(world.in_shared(1).await.is_none());
    assert_eq!(cache.insert(3, "Alan".into()).await.unwrap_err().kind(), ErrorKind::Unsupported);

    // The local fence still holds.
    let gate = world.source.stop_after_reading();
    let load = world.spawn_load(&cache, 1);
    gate.reached(gate.arrivals().max(1)).await;
    world.source.set(1, "Augusta".into());
    cache.remove(&1).await.unwrap();
    gate.open();
    load.await.unwrap().unwrap();
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn early_refresh_works_over_a_tier_without_leases() {
    let world = World::new();
    let build = |builder: UsersBuilder| builder.ttl(secs(60)).memory_ttl(Duration::MAX).early_refresh(0.9);
    let cache = build(world.builder().backend(Lacking::leases(world.shared.clone()))).build().unwrap();
    world.load(&cache, 1).await.unwrap();
    world.source.set(1, "Augusta".into());
    pass(secs(55)).await;
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    settle().await;
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta");
    assert_eq!(world.source.loads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_value_too_large_for_the_tier_does_not_close_its_key() {
    let world = World::new();
    let narrow = MemoryBackend::with_limit(400, world.clock.clone());
    let cache = world.over(narrow.clone());
    assert_eq!(cache.insert(1, "x".repeat(1000)).await.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(cache.insert(1, "Grace".into()).await.unwrap(), Inserted::Stored, "at once");
    assert_eq!(*cache.get(&1).await.unwrap(), "Grace");
    assert_eq!(cache.insert(1, "x".repeat(1000)).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(cache.get(&1).await.is_none(), "the old value is gone");
    assert_eq!(*world.load(&world.over(narrow), 1).await.unwrap(), "Ada");
}

#[tokio::test(start_paused = true)]
async fn inserts_of_one_key_in_one_process_take_turns() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    tier.next_of(Operation::Hold, Fault::Delay(secs(1)));
    let inserts: Vec<_> = (0..50)
        .map(|turn| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.insert(1, format!("turn {turn}")).await.unwrap() })
        })
        .collect();
    settle().await;
    // Another key does not wait for them.
    let began = world.clock.now();
    assert_eq!(cache.insert(2, "Grace".into()).await.unwrap(), Inserted::Stored);
    assert_eq!(world.clock.now(), began);
    for insert in inserts {
        assert_eq!(insert.await.unwrap(), Inserted::Stored);
    }
    let (here, below) = (cache.get_local(&1).unwrap(), world.in_shared(1).await.unwrap());
    assert_eq!(*here, below, "memory and the shared tier have the same one");
}

#[tokio::test(start_paused = true)]
async fn an_insert_whose_caller_has_left_lets_the_next_one_in() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    tier.next_of(Operation::Hold, Fault::Delay(secs(999)));
    let first = tokio::spawn({
        let cache = cache.clone();
        async move { cache.insert(1, "first".into()).await }
    });
    settle().await;
    first.abort();
    let second = cache.insert(1, "second".into()).await.unwrap();
    assert_eq!(second, Inserted::Stored);
    assert_eq!(world.in_shared(1).await.unwrap(), "second");
}
