//! Who waits for another process's lease is told when it ends, whether it asked for one key or for many.

use std::time::Duration;

use cachalot_core::Tier;
use cachalot_testkit::{Faulty, Operation};

use crate::batch_load::{assert_nothing_runs, assert_rows, spawn_load, world};
use crate::fleet::Lossy;
use crate::world::{Users, World, pass, secs, settle};

/// Two processes on a bus, and what the second asks of the shared tier.
async fn two(world: &World) -> (Users, Users, Faulty) {
    let bus = Lossy::default();
    let tier = Faulty::new(world.shared.clone());
    let builder = || world.builder().ttl(secs(600)).bus(bus.clone());
    let here = builder().backend(world.shared.clone()).build().unwrap();
    let there = builder().backend(tier.clone()).build().unwrap();
    settle().await;
    (here, there, tier)
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_waits_for_anothers_leases_is_woken_when_they_end() {
    let world = world();
    let (here, there, tier) = two(&world).await;
    let keys: Vec<u64> = (0..50).collect();
    let gate = world.source.stop_after_reading();
    let leader = spawn_load(&world, &here, keys.clone());
    gate.reached(1).await;
    let waiter = spawn_load(&world, &there, keys.clone());
    for _ in 0..20 {
        pass(Duration::from_millis(100)).await;
    }
    let asked = tier.calls_of(Operation::GetOrLease);
    gate.open();
    assert_rows(&leader.await.unwrap(), &keys);
    settle().await;
    assert!(waiter.is_finished(), "without a wait for its next look");
    assert_eq!(tier.calls_of(Operation::GetOrLease) - asked, keys.len(), "once for each key");
    let answers = waiter.await.unwrap();
    assert_rows(&answers, &keys);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().tier() == Tier::Backend));
    assert_eq!((world.source.calls(), world.source.loads()), (1, keys.len()));
    assert_nothing_runs(&there);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_woken_by_the_end_of_each_of_several_loads() {
    let world = world();
    let (here, there, _) = two(&world).await;
    let gate = world.source.stop_after_reading();
    let leaders: Vec<_> = (0..3).map(|key| world.spawn_load(&here, key)).collect();
    gate.reached(3).await;
    let waiter = spawn_load(&world, &there, [0, 1, 2]);
    pass(secs(2)).await;
    for done in 0..3 {
        assert!(!waiter.is_finished(), "{done} of 3");
        gate.let_one();
        // What was said is sent, in its batch, and heard.
        pass(Duration::from_millis(5)).await;
    }
    assert!(waiter.is_finished());
    assert_rows(&waiter.await.unwrap(), &[0, 1, 2]);
    for leader in leaders {
        leader.await.unwrap().unwrap();
    }
    assert_eq!(world.source.loads(), 3);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_batch_of_another_process_is_woken_when_it_ends() {
    let world = world();
    let (here, there, _) = two(&world).await;
    let gate = world.source.stop_after_reading();
    let leader = spawn_load(&world, &here, [1, 2]);
    gate.reached(1).await;
    let waiter = world.spawn_load(&there, 2);
    pass(secs(2)).await;
    gate.open();
    leader.await.unwrap();
    settle().await;
    assert!(waiter.is_finished());
    assert_eq!(*waiter.await.unwrap().unwrap(), "v2");
    assert_eq!(world.source.loads(), 2);
}
