//! After a failed load: what callers get until the next try.

use std::cell::RefCell;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use cachalot_core::{BoxFuture, Entry, Freshness, LoadError, LoaderError, Spawn};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, StaleReason};
use cachalot_testkit::{SourceError, tokio_clock};

use crate::world::{UsersBuilder, World, on_both, pass, secs, settle};

fn told(error: &LoadError) -> bool {
    error.downcast_ref::<SourceError>() == Some(&SourceError::Told)
}

#[tokio::test(start_paused = true)]
async fn after_a_failed_load_callers_get_its_error_until_retry_at() {
    let build = |builder: UsersBuilder| builder.error_backoff(secs(4), secs(30));
    on_both(build, async |world, cache| {
        world.source.fail_next(2);
        let began = world.clock.now();
        let first = world.load(&cache, 1).await.unwrap_err(); // t = 0
        let retry_at = first.retry_at().expect("it is remembered");
        assert!(told(&first));
        let pause = retry_at.since(began);
        assert!(pause >= secs(2) && pause <= secs(4), "{pause:?}");
        pass(secs(1)).await;
        for _ in 0..50 {
            let again = world.load(&cache, 1).await.unwrap_err(); // t = 1
            assert!(told(&again));
            assert_eq!(again.retry_at(), Some(retry_at));
        }
        assert_eq!((world.source.loads(), cache.stats().backed_off), (1, 50));
        pass(retry_at.since(world.clock.now())).await;
        let began = world.clock.now();
        let second = world.load(&cache, 1).await.unwrap_err();
        let pause = second.retry_at().unwrap().since(began);
        assert!(pause >= secs(4) && pause <= secs(8), "twice as long: {pause:?}");
        assert_eq!(world.source.loads(), 2);
        pass(pause).await;
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
        let stats = cache.stats();
        assert_eq!((stats.misses, stats.memory_hits, stats.load_failures), (53, 0, 2));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stale_value_is_served_while_a_failure_is_remembered() {
    let build = |builder: UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(3600)).error_backoff(secs(10), secs(10))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(70)).await;
        world.source.fail_next(1);
        for _ in 0..20 {
            let served = world.load(&cache, 1).await.unwrap();
            assert_eq!((&**served, served.freshness()), ("Ada", Freshness::Stale));
            assert!(matches!(served.stale_reason(), Some(StaleReason::LoadFailed(error)) if told(error)));
        }
        assert_eq!((world.source.loads(), cache.stats().backed_off), (2, 19));
        let strict = cache.with(|options| options.max_stale(secs(9)));
        let refused = strict.get_or_load(&1, |_| async { Ok("not loaded".to_owned()) }).await;
        assert!(told(&refused.unwrap_err()), "its own bound holds, whatever fails");
        pass(secs(10)).await;
        assert_eq!(world.load(&cache, 1).await.unwrap().freshness(), Freshness::Fresh);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_refresh_behind_a_stale_value_is_remembered() {
    let build = |builder: UsersBuilder| {
        builder.ttl(secs(60)).stale_while_revalidate(secs(300)).error_backoff(secs(10), secs(10))
    };
    on_both(build, async |world, cache| {
        world.load(&cache, 1).await.unwrap();
        pass(secs(70)).await;
        world.source.fail_next(1);
        for _ in 0..20 {
            assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
            settle().await;
        }
        assert_eq!(world.source.loads(), 2);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_or_an_insert_ends_the_pause() {
    let build = |builder: UsersBuilder| {
        builder.ttl(secs(60)).stale_if_error(secs(60)).error_backoff(secs(30), secs(30))
    };
    on_both(build, async |world, cache| {
        for turn in 0..3 {
            world.source.fail_next(1);
            assert!(world.load(&cache, 1).await.is_err());
            assert!(world.load(&cache, 1).await.is_err());
            match turn {
                0 => drop(cache.remove(&1).await.unwrap()),
                1 => drop(cache.expire(&1).await.unwrap()),
                _ => drop(cache.insert(1, "Grace".into()).await.unwrap()),
            }
            let served = world.load(&cache, 1).await.unwrap();
            assert_eq!(*served, if turn < 2 { "Ada" } else { "Grace" });
            cache.remove(&1).await.unwrap();
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_after_a_removal_is_not_remembered() {
    let build = |builder: UsersBuilder| builder.error_backoff(secs(30), secs(30));
    on_both(build, async |world, cache| {
        let gate = world.source.stop_after_reading();
        world.source.fail_next(1);
        let load = world.spawn_load(&cache, 1);
        gate.reached(gate.arrivals().max(1)).await;
        cache.remove(&1).await.unwrap();
        gate.open();
        assert_eq!(load.await.unwrap().unwrap_err().retry_at(), None);
        assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_another_process_has_stored_is_served_during_the_pause() {
    let world = World::new();
    let build = || {
        let builder = world.builder().backend(world.shared.clone());
        builder.error_backoff(secs(30), secs(30)).build().unwrap()
    };
    let (one, two) = (build(), build());
    world.source.fail_next(1);
    assert!(world.load(&one, 1).await.is_err());
    world.load(&two, 1).await.unwrap();
    assert_eq!(*world.load(&one, 1).await.unwrap(), "Ada");
    assert_eq!(one.stats().backend_hits, 1);
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_of_a_source_that_is_down_are_a_load_a_pause() {
    let build = |builder: UsersBuilder| builder.error_backoff(secs(1), secs(1));
    on_both(build, async |world, cache| {
        world.source.fail_next(1000);
        for _ in 0..1000 {
            assert!(world.load(&cache, 1).await.is_err());
            pass(std::time::Duration::from_millis(10)).await;
        }
        assert!((10..=21).contains(&world.source.loads()), "{} loads in 10 s", world.source.loads());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_timeout_are_remembered_as_well() {
    let world = World::new();
    let cache = world.builder().hard_timeout(secs(3)).error_backoff(secs(30), secs(30)).build().unwrap();
    let at_once = cache.get_or_load(&1, |_| -> std::future::Ready<_> { panic!("at once") }).await;
    let inside = cache.get_or_load(&2, |_| async { panic!("inside") }).await;
    let hung = cache.get_or_load(&3, |_| std::future::pending()).await;
    for (key, error) in [(1, at_once), (2, inside), (3, hung)] {
        let first = error.unwrap_err();
        let again = world.load(&cache, key).await.unwrap_err();
        assert_eq!((again.cache_kind(), again.retry_at()), (first.cache_kind(), first.retry_at()));
        assert!(again.retry_at().is_some());
    }
    assert_eq!(world.source.loads(), 0);
}

/// A key that lets a test act between two steps of a call.
#[derive(Clone, PartialEq, Eq)]
struct Traced;

thread_local! {
    /// What is to happen when a key is hashed, and how many times before that.
    static AT_HASH: RefCell<Option<(usize, BoxFuture<'static, ()>)>> = const { RefCell::new(None) };
}

impl Hash for Traced {
    fn hash<H: Hasher>(&self, state: &mut H) {
        7.hash(state);
        match AT_HASH.take() {
            Some((0, mut act)) => {
                assert!(act.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
            }
            Some((left, act)) => AT_HASH.set(Some((left - 1, act))),
            None => {}
        }
    }
}

/// Keeps the tasks for the test to run.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Spawn for Kept {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        self.0.lock().unwrap().push(task);
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_between_any_two_steps_of_a_callers_way_to_its_join_costs_no_second_load() {
    for (hashes, is_batch) in [(0, false), (1, false), (0, true), (1, true), (2, true)] {
        let kept = Kept::default();
        let cache: Cache<Traced, u64, Memory<Traced, Arc<Entry<u64>>>> = Cache::builder("traced")
            .memory(Memory::entries(10))
            .error_backoff(secs(1), secs(4))
            .clock(tokio_clock())
            .spawn(kept.clone())
            .build()
            .unwrap();
        let first = tokio::spawn({
            let cache = cache.clone();
            async move { cache.get_or_load(&Traced, |_| async { Err(LoaderError::new("down")) }).await }
        });
        settle().await;
        let fails = kept.0.lock().unwrap().pop().unwrap();
        AT_HASH.set(Some((hashes, fails)));
        let second = async {
            if !is_batch {
                return cache.get_or_load(&Traced, |_| async { Ok(1) }).await;
            }
            cache.get_many_or_load(&[Traced], |_| async { Ok([(Traced, 1)]) }).await.remove(0)
        };
        // A second load would never run.
        let second = tokio::time::timeout(secs(1), second).await.unwrap().unwrap_err();
        assert!(AT_HASH.take().is_none(), "it failed meanwhile");
        assert_eq!(second.to_string(), first.await.unwrap().unwrap_err().to_string());
        assert_eq!((cache.stats().flights, kept.0.lock().unwrap().len()), (0, 0));
    }
}
