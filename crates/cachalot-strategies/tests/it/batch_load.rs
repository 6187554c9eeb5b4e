//! Many keys in one call, with a loader: what it is given, and what becomes of its answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::codec::MsgPack;
use cachalot_core::{Codec, ErrorKind, LoadError, LoaderError, Source, Tier, Ttl};
use cachalot_strategies::{Cached, LoadMany, StaleReason, Unanswered};
use cachalot_testkit::{CountingSource, Fault, Faulty, Operation, SourceError};
use tokio::task::JoinHandle;

use crate::world::{Users, World, pass, secs, settle};

pub(crate) type Rows = Vec<(u64, String)>;
pub(crate) type Answers = Vec<Result<Cached<String>, LoadError>>;

/// A world whose source has the rows 0 to 99.
pub(crate) fn world() -> World {
    let world = World::new();
    for key in 0..100 {
        world.source.set(key, format!("v{key}"));
    }
    world
}

pub(crate) async fn rows(source: &CountingSource<u64, String>, keys: &[u64]) -> Result<Rows, LoaderError> {
    let rows = source.load_many(keys).await?;
    Ok(keys.iter().zip(rows).filter_map(|(key, row)| Some((*key, row?))).collect())
}

pub(crate) async fn load(world: &World, cache: &Users, keys: &[u64]) -> Answers {
    let source = world.source.clone();
    cache
        .get_many_or_load(keys, move |load| {
            let source = source.clone();
            async move { rows(&source, load.keys()).await }
        })
        .await
}

/// The same in a task of its own.
pub(crate) fn spawn_load(world: &World, cache: &Users, keys: impl Into<Vec<u64>>) -> JoinHandle<Answers> {
    let (source, cache, keys) = (world.source.clone(), cache.clone(), keys.into());
    tokio::spawn(async move {
        cache
            .get_many_or_load(&keys, move |load| {
                let source = source.clone();
                async move { rows(&source, load.keys()).await }
            })
            .await
    })
}

pub(crate) fn assert_rows(answers: &Answers, keys: &[u64]) {
    assert_eq!(answers.len(), keys.len());
    for (answer, key) in answers.iter().zip(keys) {
        assert_eq!(**answer.as_ref().unwrap(), format!("v{key}"));
    }
}

pub(crate) fn assert_nothing_runs(cache: &Users) {
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(cache.stats().task_panics, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_missing_is_loaded_as_one_list_each_key_once() {
    let world = world();
    for cache in [world.alone(), world.node()] {
        let (calls, loads) = (world.source.calls(), world.source.loads());
        cache.insert(3, "v3".to_owned()).await.unwrap();
        let keys = [5, 3, 4, 5, 3, 9];
        let answers = load(&world, &cache, &keys).await;
        assert_rows(&answers, &keys);
        assert_eq!((world.source.calls() - calls, world.source.loads() - loads), (1, 3));
        assert_eq!(answers[1].as_ref().unwrap().tier(), Tier::Memory);
        assert_eq!(answers[0].as_ref().unwrap().tier(), Tier::Loader);
        // And it fills the cache.
        assert_rows(&load(&world, &cache, &keys).await, &keys);
        assert_eq!(world.source.calls() - calls, 1);
        assert!(load(&world, &cache, &[]).await.is_empty());
        assert_nothing_runs(&cache);
    }
}

#[tokio::test(start_paused = true)]
async fn the_shared_tier_is_read_once_leased_once_and_stored_once_for_each_key() {
    let world = world();
    let first: Vec<u64> = (0..20).collect();
    load(&world, &world.node(), &first).await;
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    let keys: Vec<u64> = (0..50).collect();
    let answers = load(&world, &cache, &keys).await;
    assert_rows(&answers, &keys);
    assert_eq!(answers[19].as_ref().unwrap().tier(), Tier::Backend);
    assert_eq!((world.source.calls(), world.source.loads()), (2, 50));
    let calls = |operation| faulty.calls_of(operation);
    assert_eq!((calls(Operation::GetMany), calls(Operation::Get)), (1, 0));
    assert_eq!((calls(Operation::GetOrLease), calls(Operation::PutLeased)), (30, 30));
    assert_eq!(calls(Operation::PinTags), 1, "the epoch, once in a process's life");
    assert_eq!(faulty.calls(), 62);
    assert_eq!(world.in_shared(49).await.unwrap(), "v49");
}

#[tokio::test(start_paused = true)]
async fn leases_and_stores_travel_together() {
    let world = world();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    for _ in 0..50 {
        faulty.next_of(Operation::GetOrLease, Fault::Delay(secs(1)));
        faulty.next_of(Operation::PutLeased, Fault::Delay(secs(1)));
    }
    let began = world.clock.now();
    let keys: Vec<u64> = (0..50).collect();
    assert_rows(&load(&world, &cache, &keys).await, &keys);
    assert_eq!(world.clock.now().since(began), secs(2));
}

#[tokio::test(start_paused = true)]
async fn more_keys_than_a_batch_go_to_several_calls_no_more_than_allowed_at_once() {
    let world = world();
    let builder = world.builder().batch_size(10).batch_concurrency(2).ttl(secs(60));
    let cache = builder.backend(world.shared.clone()).build().unwrap();
    let gate = world.source.stop_before_reading();
    let keys: Vec<u64> = (0..35).collect();
    let caller = spawn_load(&world, &cache, keys.clone());
    settle().await;
    assert_eq!((gate.arrivals(), world.source.running()), (2, 2));
    gate.let_one();
    settle().await;
    assert_eq!((gate.arrivals(), world.source.running()), (3, 2));
    gate.open();
    assert_rows(&caller.await.unwrap(), &keys);
    assert_eq!((world.source.calls(), world.source.loads()), (4, 35));
    for (size, calls) in [(0, 1), (1, 0)] {
        let refused = world.builder().batch_size(size).batch_concurrency(calls).build();
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_the_loader_does_not_answer_is_an_error_and_is_never_cached_as_absent() {
    let world = world();
    let build = || world.builder().backend(world.shared.clone()).negative_ttl(secs(60)).build().unwrap();
    let (cache, other) = (build(), build());
    world.source.unset(&2);
    let answers = load(&world, &cache, &[1, 2, 3]).await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    let error = answers[1].as_ref().unwrap_err();
    assert!(error.downcast_ref::<Unanswered>().is_some());

    // Nor in the form that may say so.
    let silent = cache.get_many_or_load_opt(&[2], |_| async { Ok(Vec::<(u64, Option<String>)>::new()) });
    assert!(silent.await[0].as_ref().unwrap_err().downcast_ref::<Unanswered>().is_some());
    // The row comes back, and everybody sees it at once: the lease was given back too.
    world.source.set(2, "v2".to_owned());
    let began = world.clock.now();
    assert_rows(&load(&world, &other, &[2]).await, &[2]);
    assert_rows(&load(&world, &cache, &[2]).await, &[2]);
    assert_eq!(world.clock.now().since(began), Duration::ZERO);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn absence_is_what_the_loader_says_and_is_cached_by_its_own_ttl() {
    let world = world();
    let cache = world.builder().backend(world.shared.clone()).negative_ttl(secs(5)).build().unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let ask = |keys: &'static [u64]| {
        let calls = calls.clone();
        let cache = cache.clone();
        async move {
            let answers = cache.get_many_or_load_opt(keys, move |load: LoadMany<u64>| {
                calls.lock().unwrap().push(load.keys().to_vec());
                async move { Ok(load.or_absent([(1, "v1".to_owned())])) }
            });
            answers
                .await
                .into_iter()
                .map(|answer| answer.unwrap().map(Cached::into_inner))
                .collect::<Vec<_>>()
        }
    };
    assert_eq!(ask(&[1, 2]).await, [Some("v1".to_owned()), None]);
    assert_eq!(ask(&[2, 1]).await, [None, Some("v1".to_owned())]);
    assert_eq!(*calls.lock().unwrap(), [vec![1, 2]]);
    pass(secs(6)).await;
    assert_eq!(ask(&[1, 2]).await, [Some("v1".to_owned()), None]);
    assert_eq!(*calls.lock().unwrap(), [vec![1, 2], vec![2]]);
    // One who needs a value is not answered by an absence.
    let answers = load(&world, &cache, &[2]).await;
    assert_rows(&answers, &[2]);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_one_key_costs_no_other() {
    let world = world();
    let cache = world.alone();
    let answers = cache
        .get_many_or_load(&[1, 2, 3], |load| async move {
            let answer = |key: &u64| match key {
                2 => (2, Err(SourceError::Told)),
                key => (*key, Ok(format!("v{key}"))),
            };
            Ok(load.keys().iter().map(answer).collect::<Vec<_>>())
        })
        .await;
    assert!(answers[0].is_ok() && answers[2].is_ok());
    let error = answers[1].as_ref().unwrap_err();
    assert_eq!(error.downcast_ref::<SourceError>(), Some(&SourceError::Told));
    assert!(cache.get_local(&1).is_some() && cache.get_local(&2).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_loader_is_the_error_of_all_its_keys_and_of_no_other() {
    let world = world();
    let (cache, other) = (world.node(), world.node());
    cache.insert(9, "v9".to_owned()).await.unwrap();
    world.source.fail_next(1);
    let answers = load(&world, &cache, &[1, 9, 2]).await;
    for failed in [0, 2] {
        let error = answers[failed].as_ref().unwrap_err();
        assert_eq!(error.downcast_ref::<SourceError>(), Some(&SourceError::Told));
    }
    assert!(answers[1].is_ok());
    let began = world.clock.now();
    assert_rows(&load(&world, &other, &[2, 1]).await, &[2, 1]);
    assert_eq!(world.clock.now().since(began), Duration::ZERO, "the leases were given back");
}

#[tokio::test(start_paused = true)]
async fn answers_that_nobody_asked_for_are_ignored() {
    let world = world();
    let cache = world.node();
    let answers = cache
        .get_many_or_load(&[1], |_| async {
            Ok(HashMap::from([(1, "one".to_owned()), (2, "two".to_owned())]))
        })
        .await;
    assert_eq!(**answers[0].as_ref().unwrap(), "one");
    assert!(cache.get(&2).await.is_none());
    assert_eq!(world.in_shared(2).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_failed_read_of_the_shared_tier_costs_its_own_keys_only_the_lease() {
    let world = world();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    faulty.next_of(Operation::GetMany, Fault::Partly);
    let keys: Vec<u64> = (0..40).collect();
    assert_rows(&load(&world, &cache, &keys).await, &keys);
    assert_eq!((world.source.calls(), world.source.loads()), (1, 40));
    let failed = cache.stats().backend_failures as usize;
    assert!(failed > 0 && failed < 40);
    assert_eq!(faulty.calls_of(Operation::GetOrLease), 40 - failed);
    assert_eq!(world.node().get_many(&keys).await.iter().flatten().count(), 40 - failed);
    assert_eq!(cache.get_many(&keys).await.iter().flatten().count(), 40);

    // Down altogether: everything is loaded all the same.
    faulty.down();
    let more: Vec<u64> = (40..60).collect();
    assert_rows(&load(&world, &cache, &more).await, &more);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_cannot_be_had_costs_its_own_key_only_the_shared_tier() {
    let world = world();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    faulty.next_of(Operation::GetOrLease, Fault::Refuse);
    faulty.next_of(Operation::PutLeased, Fault::Refuse);
    let keys: Vec<u64> = (0..10).collect();
    assert_rows(&load(&world, &cache, &keys).await, &keys);
    assert_eq!((world.source.calls(), world.source.loads()), (1, 10));
    assert_eq!(world.node().get_many(&keys).await.iter().flatten().count(), 8);
    assert_nothing_runs(&cache);
}

#[tokio::test(start_paused = true)]
async fn the_loader_sets_the_ttl_of_each_key() {
    let world = world();
    let cache = world.node();
    let answers = cache
        .get_many_or_load(&[1, 2, 3], |load| async move {
            load.ttl(&1, Ttl::seconds(5));
            load.ttl(&2, Duration::ZERO);
            Ok(load.keys().iter().map(|key| (*key, format!("v{key}"))).collect::<Vec<_>>())
        })
        .await;
    assert_rows(&answers, &[1, 2, 3]);
    assert_eq!(
        cache.get_many(&[1, 2, 3]).await.iter().map(Option::is_some).collect::<Vec<_>>(),
        [true, false, true]
    );
    pass(secs(6)).await;
    assert!(cache.get(&1).await.is_none() && cache.get(&3).await.is_some());
}

#[tokio::test(start_paused = true)]
async fn stale_values_are_served_key_by_key_while_one_call_refreshes_them() {
    let world = world();
    let builder = world.builder().ttl(secs(10)).stale_while_revalidate(secs(10)).memory_ttl(Duration::MAX);
    let cache = builder.backend(world.shared.clone()).build().unwrap();
    load(&world, &cache, &[1, 2]).await;
    pass(secs(12)).await;
    world.source.set(1, "new".to_owned());
    let answers = load(&world, &cache, &[1, 2, 3]).await;
    assert_rows(&answers, &[1, 2, 3]);
    for stale in [0, 1] {
        let reason = answers[stale].as_ref().unwrap().stale_reason();
        assert!(matches!(reason, Some(StaleReason::Revalidating)));
    }
    settle().await;
    assert_eq!((world.source.calls(), world.source.loads()), (2, 5));
    assert_eq!(*cache.get_local(&1).unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_failed_batch_serves_old_values_key_by_key() {
    let world = world();
    let builder = world.builder().ttl(secs(10)).stale_if_error(secs(100)).memory_ttl(Duration::MAX);
    let cache = builder.backend(world.shared.clone()).build().unwrap();
    load(&world, &cache, &[1, 2]).await;
    pass(secs(12)).await;
    world.source.fail_next(2);
    let answers = load(&world, &cache, &[1, 3]).await;
    let reason = answers[0].as_ref().unwrap().stale_reason();
    assert!(matches!(reason, Some(StaleReason::LoadFailed(_))));
    assert!(answers[1].is_err());
    let strict = cache.with(|options| options.max_stale(Duration::ZERO));
    let source = world.source.clone();
    let answers = strict
        .get_many_or_load(&[2], move |load| {
            let source = source.clone();
            async move { rows(&source, load.keys()).await }
        })
        .await;
    assert!(answers[0].is_err());
}

#[tokio::test(start_paused = true)]
async fn the_soft_timeout_is_one_for_the_whole_call() {
    let world = world();
    let builder = world.builder().ttl(secs(10)).stale_if_error(secs(100)).soft_timeout(secs(1));
    let cache = builder.memory_ttl(Duration::MAX).backend(world.shared.clone()).build().unwrap();
    load(&world, &cache, &[1, 2, 3]).await;
    pass(secs(12)).await;
    let gate = world.source.stop_after_reading();
    let began = world.clock.now();
    let answers = load(&world, &cache, &[1, 2, 3]).await;
    assert_eq!(world.clock.now().since(began), secs(1));
    assert_rows(&answers, &[1, 2, 3]);
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().stale_reason().is_some()));
    gate.open();
    settle().await;
    assert_eq!(cache.get_many(&[1, 2, 3]).await.iter().flatten().count(), 3);
}

#[tokio::test(start_paused = true)]
async fn remembered_failures_are_not_loaded_again() {
    let world = world();
    let cache = world.builder().error_backoff(secs(10), secs(10)).build().unwrap();
    world.source.fail_next(1);
    assert!(load(&world, &cache, &[1, 2]).await.iter().all(Result::is_err));
    let answers = load(&world, &cache, &[1, 2, 3]).await;
    assert!(answers[0].as_ref().unwrap_err().retry_at().is_some() && answers[1].is_err());
    assert!(answers[2].is_ok());
    assert_eq!((world.source.calls(), world.source.loads_of(&1)), (2, 1));
    pass(secs(11)).await;
    assert_rows(&load(&world, &cache, &[1, 2, 3]).await, &[1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_what_is_not_in_memory_is_refused() {
    let world = world();
    let cache = world.alone();
    load(&world, &cache, &[1]).await;
    cache.shutdown(secs(1)).await.unwrap();
    let answers = load(&world, &cache, &[1, 2]).await;
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().cache_kind(), Some(ErrorKind::Closed));
}

/// MessagePack that panics over one value.
#[derive(Debug)]
struct Fragile;

impl Codec<String> for Fragile {
    fn id(&self) -> u8 {
        Codec::<String>::id(&MsgPack)
    }

    fn needs_schema(&self) -> bool {
        false
    }

    fn encode(&self, value: &String, out: &mut Vec<u8>) -> cachalot_core::Result<()> {
        assert!(value != "v3", "cannot be written");
        MsgPack.encode(value, out)
    }

    fn decode(&self, bytes: &[u8]) -> cachalot_core::Result<String> {
        let value: String = MsgPack.decode(bytes)?;
        assert!(value != "v2", "cannot be read");
        Ok(value)
    }
}

#[tokio::test(start_paused = true)]
async fn a_codec_that_panics_over_one_value_costs_no_other_key() {
    let world = world();
    load(&world, &world.node(), &[1, 2]).await;
    let cache = world.builder().backend(world.shared.clone()).codec(Fragile).build().unwrap();
    let answers = load(&world, &cache, &[1, 2, 3, 4]).await;
    assert_rows(&answers, &[1, 2, 3, 4]);
    let stats = cache.stats();
    assert_eq!((stats.flights, stats.task_panics), (0, 0));
    assert_eq!((stats.undecodable, stats.unstorable), (1, 1));
    assert_eq!(world.in_shared(4).await.unwrap(), "v4");
    let began = world.clock.now();
    assert_rows(&load(&world, &world.node(), &[3]).await, &[3]);
    assert_eq!(world.clock.now(), began, "its lease was given back");
    assert_eq!(cache.insert(5, "v3".to_owned()).await.unwrap_err().kind(), ErrorKind::Encode);
}
