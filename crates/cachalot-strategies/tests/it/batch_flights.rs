//! Many keys in one call, with a loader: who waits for whom, who may leave, and what a removal ends.

use std::time::Duration;

use cachalot_core::{ErrorKind, LoaderError, Tier};
use cachalot_strategies::LoadMany;
use cachalot_testkit::{Fault, Faulty, Operation, SourceError};

use crate::batch_load::{Rows, assert_nothing_runs, assert_rows, load, spawn_load, world};
use crate::world::{pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn keys_in_flight_elsewhere_are_joined_and_not_loaded_again() {
    let world = world();
    for cache in [world.alone(), world.node()] {
        let loads = world.source.loads();
        let gate = world.source.stop_after_reading();
        let single = world.spawn_load(&cache, 7);
        gate.reached(1).await;
        let batch = spawn_load(&world, &cache, [6, 7, 8]);
        settle().await;
        let overlapping = spawn_load(&world, &cache, [8, 9, 6]);
        settle().await;
        // 7 by itself, 6 and 8, 9.
        assert_eq!(world.source.loads() - loads, 4);
        gate.open();
        assert_rows(&batch.await.unwrap(), &[6, 7, 8]);
        assert_rows(&overlapping.await.unwrap(), &[8, 9, 6]);
        assert_eq!(*single.await.unwrap().unwrap(), "v7");
        assert_nothing_runs(&cache);
    }
}

#[tokio::test(start_paused = true)]
async fn singles_join_a_batch_and_have_their_key_as_soon_as_it_is_known() {
    let world = world();
    let cache = world.builder().batch_size(2).batch_concurrency(1).ttl(secs(60)).build().unwrap();
    let gate = world.source.stop_after_reading();
    let batch = spawn_load(&world, &cache, [1, 2, 3, 4]);
    gate.reached(1).await;
    let (early, late) = (world.spawn_load(&cache, 2), world.spawn_load(&cache, 4));
    settle().await;
    gate.let_one();
    assert_eq!(*early.await.unwrap().unwrap(), "v2");
    settle().await;
    assert!(!late.is_finished() && !batch.is_finished());
    gate.open();
    assert_eq!(*late.await.unwrap().unwrap(), "v4");
    assert_rows(&batch.await.unwrap(), &[1, 2, 3, 4]);
    assert_eq!((world.source.calls(), world.source.loads()), (2, 4));
    assert_eq!(cache.stats().coalesced, 2);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_stops_nothing() {
    for is_alone in [true, false] {
        let world = world();
        let cache = if is_alone { world.alone() } else { world.node() };
        let gate = world.source.stop_after_reading();
        let caller = spawn_load(&world, &cache, [11, 12]);
        gate.reached(1).await;
        caller.abort();
        assert!(caller.await.unwrap_err().is_cancelled());
        gate.open();
        settle().await;
        assert_eq!(*cache.get_local(&12).unwrap(), "v12");
        assert_eq!(world.source.calls(), 1);
        assert_nothing_runs(&cache);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_may_leave_at_every_await() {
    for stop in 0..60 {
        let world = world();
        let faulty = Faulty::new(world.shared.clone());
        // One step a second, for a few keys each.
        for operation in [Operation::GetMany, Operation::GetOrLease, Operation::PutLeased] {
            (0..8).for_each(|_| faulty.next_of(operation, Fault::Delay(Duration::from_millis(7))));
        }
        let cache = world.builder().batch_size(3).backend(faulty).build().unwrap();
        let caller = spawn_load(&world, &cache, [1, 2, 3, 4, 5]);
        for _ in 0..stop {
            tokio::task::yield_now().await;
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        caller.abort();
        tokio::time::sleep(secs(1)).await;
        assert_nothing_runs(&cache);
        assert_eq!(
            cache.get_many(&[1, 2, 3, 4, 5]).await.iter().flatten().count(),
            5 * usize::from(stop > 0)
        );
        assert_rows(&load(&world, &world.node(), &[1, 2, 3, 4, 5]).await, &[1, 2, 3, 4, 5]);
        assert_eq!(world.source.loads(), 5, "left after {stop} steps");
    }
}

#[tokio::test(start_paused = true)]
async fn with_on_deserted_cancel_a_batch_that_nobody_waits_for_is_dropped_and_its_leases_given_back() {
    let world = world();
    let policy = cachalot_strategies::OnDeserted::Cancel;
    let cache = world.builder().backend(world.shared.clone()).on_deserted(policy).build().unwrap();
    let gate = world.source.stop_after_reading();
    let batch = spawn_load(&world, &cache, [1, 2]);
    gate.reached(1).await;
    let single = world.spawn_load(&cache, 2);
    settle().await;
    batch.abort();
    settle().await;
    assert_eq!(world.source.running(), 1, "somebody waits for one of its keys");
    single.abort();
    settle().await;
    assert_eq!(world.source.running(), 0);
    gate.open();
    let began = world.clock.now();
    assert_rows(&load(&world, &world.node(), &[1, 2]).await, &[1, 2]);
    assert_eq!(world.clock.now().since(began), Duration::ZERO);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn a_panic_of_the_loader_leaves_no_key_in_flight_and_no_lease_behind() {
    let world = world();
    let (cache, other) = (world.node(), world.node());
    async fn fail() -> Result<Rows, LoaderError> {
        tokio::task::yield_now().await;
        panic!("in its future")
    }
    type Load = LoadMany<u64>;
    let in_future = cache.get_many_or_load(&[1, 2], |_: Load| fail()).await;
    let at_once = cache
        .get_many_or_load(&[1, 2], |load: Load| {
            assert!(load.keys().is_empty(), "in its closure");
            fail()
        })
        .await;
    for error in in_future.into_iter().chain(at_once).map(Result::unwrap_err) {
        assert_eq!(error.cache_kind(), Some(ErrorKind::Panicked));
    }
    assert_nothing_runs(&cache);
    let began = world.clock.now();
    assert_rows(&load(&world, &other, &[1, 2]).await, &[1, 2]);
    assert_eq!(world.clock.now().since(began), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_hangs_is_given_up_and_its_keys_are_free() {
    let world = world();
    let build = || world.builder().backend(world.shared.clone()).hard_timeout(secs(3)).build().unwrap();
    let (cache, other) = (build(), build());
    let began = world.clock.now();
    let answers =
        cache.get_many_or_load(&[1, 2], |_| std::future::pending::<Result<Rows, LoaderError>>()).await;
    assert_eq!(world.clock.now().since(began), secs(3));
    for error in answers.into_iter().map(Result::unwrap_err) {
        assert_eq!(error.cache_kind(), Some(ErrorKind::Timeout));
    }
    assert_nothing_runs(&cache);
    assert_rows(&load(&world, &other, &[1, 2]).await, &[1, 2]);
    assert_eq!(world.clock.now().since(began), secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_asks_for_one_of_its_own_keys_is_told_at_once() {
    let world = world();
    for cache in [world.alone(), world.node()] {
        let inner = cache.clone();
        let began = world.clock.now();
        let answers = cache
            .get_many_or_load(&[1, 2, 3], move |load| {
                let inner = inner.clone();
                async move {
                    let one = inner.get_or_load(&2, |_| async { Ok(String::new()) }).await;
                    assert_eq!(one.unwrap_err().cache_kind(), Some(ErrorKind::Reentrant));
                    let keys = [9, 3];
                    let many =
                        inner.get_many_or_load(&keys, |_| async { Ok(vec![(9, "nine".to_owned())]) }).await;
                    assert_eq!(**many[0].as_ref().unwrap(), "nine");
                    let told = many[1].as_ref().unwrap_err().cache_kind();
                    assert_eq!(told, Some(ErrorKind::Reentrant));
                    Ok(load.keys().iter().map(|key| (*key, format!("v{key}"))).collect::<Vec<_>>())
                }
            })
            .await;
        assert_rows(&answers, &[1, 2, 3]);
        assert_eq!(world.clock.now().since(began), Duration::ZERO);
        assert_nothing_runs(&cache);
        cache.remove_many(&[1, 2, 3, 9]).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn batches_that_overlap_in_opposite_orders_load_each_key_once_and_never_wait_for_each_other() {
    let world = world();
    let keys: Vec<u64> = (0..50).collect();
    let reversed: Vec<u64> = keys.iter().rev().copied().collect();
    let began = world.clock.now();
    let cache = world.node();
    let callers = [spawn_load(&world, &cache, keys.clone()), spawn_load(&world, &cache, reversed.clone())];
    let [one, two] = callers;
    assert_rows(&one.await.unwrap(), &keys);
    assert_rows(&two.await.unwrap(), &reversed);
    assert_eq!(world.source.loads(), 50);
    assert_eq!(world.clock.now().since(began), Duration::ZERO);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn processes_whose_batches_overlap_in_opposite_orders_load_each_key_once() {
    let world = world();
    // Leases are granted in turns, so that each process gets about half.
    let slow = |seed| {
        let faulty = Faulty::new(world.shared.clone());
        let odds = cachalot_testkit::Odds {
            delay: 1.0,
            longest_delay: Duration::from_millis(20),
            ..Default::default()
        };
        faulty.at_random(odds, seed);
        world.over(faulty)
    };
    let (one, two) = (slow(1), slow(2));
    let keys: Vec<u64> = (0..50).collect();
    let reversed: Vec<u64> = keys.iter().rev().copied().collect();
    let began = world.clock.now();
    let gate = world.source.stop_after_reading();
    let first = spawn_load(&world, &one, keys.clone());
    let second = spawn_load(&world, &two, reversed.clone());
    gate.reached(2).await;
    // Both load what they have leased; neither waits for the other before.
    tokio::time::sleep(secs(2)).await;
    gate.open();
    assert_rows(&first.await.unwrap(), &keys);
    assert_rows(&second.await.unwrap(), &reversed);
    assert_eq!((world.source.loads(), world.source.calls()), (50, 2));
    let took = world.clock.now().since(began);
    assert!(took < secs(4), "not a lease's term: {took:?}");
    assert_nothing_runs(&one);
    assert_nothing_runs(&two);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_process_loads_holds_up_only_itself() {
    let world = world();
    let (one, two) = (world.node(), world.node());
    let gate = world.source.stop_after_reading();
    let slow = world.spawn_load(&one, 5);
    gate.reached(1).await;
    gate.let_one();
    gate.close();
    let slow_gate = gate;
    let batch = spawn_load(&world, &two, [4, 5, 6]);
    slow_gate.reached(2).await;
    slow_gate.open();
    settle().await;
    assert_eq!(*two.get_local(&4).unwrap(), "v4");
    assert_rows(&batch.await.unwrap(), &[4, 5, 6]);
    assert_eq!(*slow.await.unwrap().unwrap(), "v5");
    assert_eq!(world.source.loads_of(&5), 1);
}

#[tokio::test(start_paused = true)]
async fn when_another_process_fails_to_load_a_key_the_batch_loads_it() {
    let world = world();
    let (one, two) = (world.node(), world.node());
    let gate = cachalot_testkit::Gate::closed();
    let failing = tokio::spawn({
        let gate = gate.clone();
        async move {
            let load = |_| async move {
                gate.pass().await;
                Err(SourceError::Told.into())
            };
            one.get_or_load(&5, load).await
        }
    });
    gate.reached(1).await;
    let batch = spawn_load(&world, &two, [4, 5, 6]);
    settle().await;
    assert_eq!((world.source.loads_of(&4), world.source.loads_of(&5)), (1, 0));
    gate.open();
    assert!(failing.await.unwrap().is_err());
    let began = world.clock.now();
    assert_rows(&batch.await.unwrap(), &[4, 5, 6]);
    assert!(world.clock.now().since(began) < secs(1));
    assert_eq!((world.source.calls(), world.source.loads()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn what_is_removed_while_a_batch_loads_it_is_not_stored_and_all_else_is() {
    for is_alone in [true, false] {
        let world = world();
        let cache = if is_alone { world.alone() } else { world.node() };
        let gate = world.source.stop_after_reading();
        let batch = spawn_load(&world, &cache, [0, 1, 2]);
        gate.reached(1).await;
        world.source.set(1, "new".to_owned());
        cache.remove(&1).await.unwrap();
        // Who comes now does not join the old load.
        let after = world.spawn_load(&cache, 1);
        settle().await;
        gate.open();
        assert_eq!(*after.await.unwrap().unwrap(), "new");
        let answers = batch.await.unwrap();
        assert_eq!(**answers[1].as_ref().unwrap(), "v1", "it asked before the removal");
        let found = cache.get_many(&[0, 1, 2]).await;
        let texts: Vec<_> = found.into_iter().map(|found| found.unwrap().into_inner()).collect();
        assert_eq!(texts, ["v0", "new", "v2"]);
        assert_nothing_runs(&cache);
        assert_eq!(world.in_shared(1).await.as_deref(), (!is_alone).then_some("new"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_removal_by_another_process_revokes_the_lease_of_its_key_alone() {
    let world = world();
    let (one, two) = (world.node(), world.node());
    let gate = world.source.stop_after_reading();
    let batch = spawn_load(&world, &one, [0, 1, 2]);
    gate.reached(1).await;
    world.source.set(1, "new".to_owned());
    two.remove_many(&[1]).await.unwrap();
    gate.open();
    batch.await.unwrap();
    assert_eq!(world.in_shared(1).await, None);
    assert_eq!(world.in_shared(2).await.unwrap(), "v2");
    assert!(one.get_local(&1).is_none() && one.get_local(&2).is_some());
    assert_eq!(one.stats().fenced, 1);
}

#[tokio::test(start_paused = true)]
async fn values_near_their_end_are_refreshed_by_one_call_behind_their_readers() {
    let world = world();
    for is_alone in [true, false] {
        let calls = world.source.calls();
        let builder = world.builder().ttl(secs(100)).early_refresh(0.9);
        let cache = match is_alone {
            true => builder.build().unwrap(),
            false => builder.memory_ttl(Duration::MAX).backend(world.shared.clone()).build().unwrap(),
        };
        world.source.set(1, "v1".to_owned());
        load(&world, &cache, &[1, 2]).await;
        pass(secs(80)).await;
        load(&world, &cache, &[3]).await;
        pass(secs(15)).await;
        world.source.set(1, "new".to_owned());
        let answers = load(&world, &cache, &[1, 2, 3]).await;
        assert_rows(&answers, &[1, 2, 3]);
        assert!(answers.iter().all(|answer| answer.as_ref().unwrap().tier() == Tier::Memory));
        settle().await;
        assert_eq!(world.source.calls() - calls, 3, "1 and 2 together, 3 not");
        assert_eq!(*cache.get_local(&1).unwrap(), "new");
        assert_eq!(cache.stats().misses, 3);
        if !is_alone {
            assert_eq!(world.in_shared(1).await.unwrap(), "new");
        }
        assert_nothing_runs(&cache);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_that_another_process_makes_is_left_to_it() {
    let world = world();
    let build = || {
        let builder = world.builder().ttl(secs(100)).early_refresh(0.9).memory_ttl(Duration::MAX);
        builder.backend(world.shared.clone()).build().unwrap()
    };
    let (one, two) = (build(), build());
    load(&world, &one, &[1, 2]).await;
    load(&world, &two, &[1, 2]).await;
    pass(secs(95)).await;
    let gate = world.source.stop_after_reading();
    assert_rows(&load(&world, &one, &[1, 2]).await, &[1, 2]);
    gate.reached(1).await;
    assert_rows(&load(&world, &two, &[1, 2]).await, &[1, 2]);
    settle().await;
    assert_eq!(two.stats().flights, 0, "it has seen who is at it");
    gate.open();
    settle().await;
    assert_eq!((world.source.calls(), world.source.loads()), (2, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_whose_batches_overlap_load_each_key_once_and_all_end() {
    let world = world();
    let caches = [world.alone(), world.node()];
    for round in 0..20 {
        for cache in &caches {
            let loads = world.source.loads();
            let callers: Vec<_> = (0..16u64)
                .map(|caller| {
                    let mut keys: Vec<u64> = (caller..caller + 30).collect();
                    if caller % 2 == 0 {
                        keys.reverse();
                    }
                    (keys.clone(), spawn_load(&world, cache, keys))
                })
                .collect();
            for (keys, caller) in callers {
                assert_rows(&caller.await.unwrap(), &keys);
            }
            let all: Vec<u64> = (0..45).collect();
            assert_eq!(world.source.loads() - loads, all.len(), "round {round}");
            cache.remove_many(&all).await.unwrap();
        }
    }
    caches.iter().for_each(assert_nothing_runs);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_a_lease_does_not_hold_up_the_next_one() {
    let world = world();
    let one = world.node();
    let two = world.builder().ttl(secs(60)).backend(world.shared.clone());
    let two = two.batch_size(1).batch_concurrency(1).build().unwrap();
    let gate = world.source.stop_after_reading();
    let slow = world.spawn_load(&one, 5);
    gate.reached(1).await;
    let began = world.clock.now();
    let batch = spawn_load(&world, &two, [5, 6]);
    gate.reached(2).await;
    assert_eq!(world.clock.now(), began, "6 is being loaded");
    gate.open();
    assert_rows(&batch.await.unwrap(), &[5, 6]);
    slow.await.unwrap().unwrap();
    assert_eq!(world.source.loads_of(&5), 1);
}

#[tokio::test(start_paused = true)]
async fn with_on_deserted_cancel_a_key_of_a_batch_that_goes_on_is_not_loaded_twice() {
    let world = world();
    let cache = world.builder().on_deserted(cachalot_strategies::OnDeserted::Cancel).build().unwrap();
    let gate = world.source.stop_after_reading();
    let batch = spawn_load(&world, &cache, [1, 2]);
    gate.reached(1).await;
    let other = world.spawn_load(&cache, 2);
    settle().await;
    batch.abort();
    settle().await;
    let again = world.spawn_load(&cache, 1);
    settle().await;
    gate.open();
    assert_eq!(*again.await.unwrap().unwrap(), "v1");
    assert_eq!(*other.await.unwrap().unwrap(), "v2");
    assert_eq!((world.source.loads(), world.source.calls()), (2, 1));
    assert_nothing_runs(&cache);
}
