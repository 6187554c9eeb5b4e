//! How long callers wait for a load, and how long it may run.

use std::sync::mpsc;
use std::time::Duration;

use cachalot_core::units::millis;
use cachalot_core::{ErrorKind, Freshness, ManualClock, Tier};
use cachalot_strategies::{OnDeserted, StaleReason};
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::world::{World, on_both, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn after_the_soft_timeout_callers_get_the_old_value_and_the_load_goes_on() {
    let build = |builder: crate::world::UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(3600)).soft_timeout(millis(100))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap(); // t = 0
        world.source.set(1, "Augusta".into());
        pass(secs(70)).await;
        let _slow = world.source.clone().taking(secs(5));
        let began = world.clock.now(); // t = 70
        for at in [millis(100), millis(1100)] {
            let served = world.load(&cache, 1).await.unwrap();
            assert_eq!(world.clock.now().since(began), at);
            assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Stale));
            assert!(matches!(served.stale_reason(), Some(StaleReason::SoftTimeout)));
            pass(millis(900)).await; // t = 71, t = 72
        }
        pass(secs(3)).await; // t = 75
        let fresh = world.load(&cache, 1).await.unwrap();
        assert_eq!((&**fresh, fresh.freshness(), fresh.tier()), ("Augusta", Freshness::Fresh, Tier::Memory));
        let stats = cache.stats();
        assert_eq!((world.source.loads(), stats.soft_timeouts, stats.stale_served), (2, 2, 2));
        assert_eq!(stats.flights, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn without_a_value_at_hand_the_soft_timeout_is_no_bound() {
    let build = |builder: crate::world::UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(100)).soft_timeout(millis(100))
    };
    on_both(build, async |world, cache| {
        let _slow = world.source.clone().taking(secs(5));
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "nothing is there");
        pass(secs(200)).await;
        world.source.set(1, "Augusta".into());
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Augusta", "what was there is too old");
        cache.expire(&1).await.unwrap();
        world.source.set(1, "Grace".into());
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Grace", "what is there was invalidated");
        assert_eq!(cache.stats().soft_timeouts, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_value_removed_during_the_soft_timeout_is_not_served_after_it() {
    let world = World::new();
    let builder = world.builder().ttl(secs(60)).stale_if_error(secs(3600)).soft_timeout(secs(1));
    let cache = builder.build().unwrap();
    world.load(&cache, 1).await.unwrap();
    pass(secs(70)).await;
    world.source.set(1, "Augusta".into());
    let _slow = world.source.clone().taking(secs(5));
    let load = world.spawn_load(&cache, 1);
    settle().await;
    cache.remove(&1).await.unwrap();
    assert_eq!(*load.await.unwrap().unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn max_stale_bounds_the_soft_timeout_too() {
    let build = |builder: crate::world::UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(3600)).soft_timeout(millis(100))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(70)).await;
        world.source.set(1, "Augusta".into());
        let source = world.source.clone().taking(secs(5));
        let strict = cache.with(|options| options.max_stale(secs(9)));
        let load = strict.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) });
        assert_eq!(*load.await.unwrap(), "Augusta");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn after_the_hard_timeout_callers_get_a_timeout_and_the_load_still_fills() {
    let build = |builder: crate::world::UsersBuilder| builder.hard_timeout(secs(1)).max_flight_age(secs(10));
    on_both(build, async |world, cache| {
        let _slow = world.source.clone().taking(secs(3));
        let began = world.clock.now();
        let error = world.load(&cache, 1).await.unwrap_err(); // t = 1
        assert_eq!(error.cache_kind(), Some(ErrorKind::Timeout));
        assert_eq!(world.clock.now().since(began), secs(1));
        let error = world.load(&cache, 1).await.unwrap_err();
        assert_eq!(error.cache_kind(), Some(ErrorKind::Timeout));
        assert_eq!(world.clock.now().since(began), secs(1), "at once");
        pass(secs(2)).await; // t = 3
        assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
        assert_eq!((world.source.loads(), cache.stats().flights), (1, 0));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_beyond_the_hard_timeout_leaves_its_callers_the_old_value() {
    let build = |builder: crate::world::UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(3600)).hard_timeout(secs(1)).max_flight_age(secs(10))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(70)).await;
        let _slow = world.source.clone().taking(secs(3));
        let served = world.load(&cache, 1).await.unwrap();
        assert_eq!((&**served, served.age()), ("Ada", secs(71)));
        assert!(matches!(served.stale_reason(), Some(StaleReason::LoadFailed(_))));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_load_is_dropped_at_its_age_and_the_next_caller_is_served() {
    let build = |builder: crate::world::UsersBuilder| builder.hard_timeout(secs(1)).max_flight_age(secs(10));
    on_both(build, async |world, cache| {
        let hang = cache.get_or_load(&1, |_| std::future::pending()).await.unwrap_err();
        assert_eq!(hang.cache_kind(), Some(ErrorKind::Timeout));
        assert!(world.load(&cache, 1).await.is_err(), "t = 1, it may still end");
        pass(secs(9)).await; // t = 10
        assert_eq!(cache.stats().flights, 0);
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        cache.shutdown(secs(1)).await.unwrap();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_load_that_blocks_its_thread_is_overtaken_and_stores_nothing() {
    let (world, time) = (World::new(), ManualClock::new());
    let cache = world.builder().clock(time.clock()).hard_timeout(secs(5)).build().unwrap();
    let (is_blocked, blocked) = mpsc::channel();
    let (unblock, go) = mpsc::channel::<()>();
    let hanging = tokio::spawn({
        let cache = cache.clone();
        async move {
            let load = move |_| async move {
                is_blocked.send(()).unwrap();
                let _ = go.recv();
                Ok("from the dead".to_owned())
            };
            cache.get_or_load(&1, load).await
        }
    });
    tokio::task::spawn_blocking(move || blocked.recv().unwrap()).await.unwrap();
    time.advance(secs(6));
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    assert_eq!(*hanging.await.unwrap().unwrap(), "Ada", "who waited for the hung load gets this one");
    unblock.send(()).unwrap();
    cache.shutdown(secs(5)).await.unwrap();
    assert_eq!(*cache.get_local(&1).unwrap(), "Ada");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_caller_whose_load_was_overtaken_by_one_that_found_none_gets_its_own_value() {
    for soft_timeout in [secs(3), Duration::MAX] {
        let (world, time) = (World::new(), ManualClock::new());
        let builder = world.builder().clock(time.clock()).hard_timeout(secs(5));
        let cache = builder.soft_timeout(soft_timeout).build().unwrap();
        let (is_blocked, blocked) = mpsc::channel();
        let (unblock, go) = mpsc::channel::<()>();
        let hanging = tokio::spawn({
            let cache = cache.clone();
            async move {
                let load = move |_| async move {
                    is_blocked.send(()).unwrap();
                    let _ = go.recv();
                    Ok("late".to_owned())
                };
                cache.get_or_load(&1, load).await
            }
        });
        tokio::task::spawn_blocking(move || blocked.recv().unwrap()).await.unwrap();
        time.advance(secs(6));
        assert!(cache.get_or_load_opt(&1, |_| async { Ok(None) }).await.unwrap().is_none());
        unblock.send(()).unwrap();
        assert_eq!(*hanging.await.unwrap().unwrap(), "late", "its own loader's value, and no error");
        cache.shutdown(secs(5)).await.unwrap();
        assert!(cache.get_local(&1).is_none(), "what was overtaken is not stored");
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_nobody_waits_for_is_finished_by_default_and_given_up_if_told_so() {
    for (policy, finished) in [(OnDeserted::Finish, true), (OnDeserted::Cancel, false)] {
        on_both(
            |builder| builder.on_deserted(policy),
            async |world, cache| {
                let _slow = world.source.clone().taking(secs(5));
                let caller = world.spawn_load(&cache, 1);
                pass(secs(1)).await; // t = 1
                caller.abort();
                settle().await;
                assert_eq!(world.source.running(), usize::from(finished));
                assert_eq!(cache.stats().flights, u64::from(finished));
                let began = world.clock.now();
                assert_eq!(*world.load(&world.node(), 1).await.unwrap(), "Ada");
                assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
                assert!(world.clock.now().since(began) <= secs(10), "no lease is left behind");
                pass(secs(10)).await;
                cache.shutdown(secs(1)).await.unwrap();
            },
        )
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_that_one_caller_still_waits_for_is_not_given_up() {
    let world = World::new();
    let cache = world.builder().on_deserted(OnDeserted::Cancel).build().unwrap();
    let gate = world.source.stop_after_reading();
    let (first, second) = (world.spawn_load(&cache, 1), world.spawn_load(&cache, 1));
    gate.reached(1).await;
    first.abort();
    settle().await;
    gate.open();
    assert_eq!(*second.await.unwrap().unwrap(), "Ada");
    assert_eq!(world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_behind_a_served_value_is_never_given_up() {
    let build = |builder: crate::world::UsersBuilder| {
        let builder = builder.ttl(secs(60)).stale_while_revalidate(secs(60)).stale_if_error(secs(600));
        builder.soft_timeout(millis(100)).on_deserted(OnDeserted::Cancel)
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        let _slow = world.source.clone().taking(secs(5));
        for (wait, name) in [(secs(70), "Augusta"), (secs(200), "Grace")] {
            pass(wait).await;
            world.source.set(1, name.into());
            assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Stale);
            settle().await;
            pass(secs(6)).await;
            assert_eq!(*cache.get_local(&1).unwrap(), name);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_never_answers_holds_a_read_up_for_its_timeout_only() {
    let operations = [Operation::Get, Operation::GetOrLease, Operation::PutLeased, Operation::Release];
    for hung in operations {
        let world = World::new();
        let tier = Faulty::new(world.shared.clone());
        let builder = world.builder().backend(tier.clone()).backend_timeout(millis(300));
        let cache = builder.ttl(secs(60)).build().unwrap();
        tier.next_of(hung, Fault::Delay(secs(1_000_000)));
        if hung == Operation::Release {
            world.source.fail_next(1);
        }
        let began = world.clock.now();
        let loaded = world.load(&cache, 1).await;
        assert_eq!(loaded.is_err(), hung == Operation::Release, "{hung:?}");
        assert!(world.clock.now().since(began) <= millis(300), "{hung:?}");
        cache.shutdown(secs(1)).await.unwrap();
        let stats = cache.stats();
        assert_eq!((stats.flights, stats.backend_failures >= 1), (0, true), "{hung:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_never_answers_defers_what_must_reach_it() {
    use cachalot_strategies::{Inserted, Removal};
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.builder().backend(tier.clone()).build().unwrap();
    let hang = Fault::Delay(secs(1_000_000));
    tier.next_of(Operation::Remove, hang);
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Deferred);
    tier.next_of(Operation::Hold, hang);
    assert_eq!(cache.insert(2, "Grace".into()).await.unwrap(), Inserted::Deferred);
    tier.next_of(Operation::PutHeld, hang);
    assert_eq!(cache.insert(3, "Grace".into()).await.unwrap(), Inserted::Dropped);
    tier.next_of(Operation::Get, hang);
    assert!(cache.get(&4).await.is_none());
    // The replay reaches it in the end.
    tier.next_of(Operation::RemoveMany, hang);
    tokio::time::sleep(secs(20)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    cache.shutdown(secs(1)).await.unwrap();
}
