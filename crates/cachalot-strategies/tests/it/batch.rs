//! Many keys in one call, without a loader: reads, inserts, removals.

use cachalot_core::{ErrorKind, Tier};
use cachalot_strategies::{Inserted, Removal};
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::world::{Users, World, pass, secs, settle};

fn texts(range: std::ops::Range<u64>) -> Vec<(u64, String)> {
    range.map(|key| (key, format!("v{key}"))).collect()
}

async fn values(cache: &Users, keys: &[u64]) -> Vec<Option<String>> {
    let found = cache.get_many(keys).await;
    found.into_iter().map(|cached| cached.map(|cached| cached.into_inner())).collect()
}

#[tokio::test(start_paused = true)]
async fn get_many_answers_each_key_in_order_twice_if_asked_twice() {
    let world = World::new();
    let cache = world.alone();
    cache.insert_many(texts(1..4)).await;
    let found = values(&cache, &[3, 9, 1, 3]).await;
    let v = |key: u64| Some(format!("v{key}"));
    assert_eq!(found, [v(3), None, v(1), v(3)]);
    let stats = cache.stats();
    assert_eq!((stats.memory_hits, stats.misses), (3, 1));
    assert!(values(&cache, &[]).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn get_many_reads_the_shared_tier_once_for_all_that_memory_lacks() {
    let world = World::new();
    world.node().insert_many(texts(0..100)).await;
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    cache.get(&7).await.unwrap();
    let before = faulty.calls();
    let found = cache.get_many(&(0..120).chain([3]).collect::<Vec<_>>()).await;
    assert_eq!(faulty.calls() - before, 1);
    assert_eq!(found.iter().flatten().count(), 101);
    assert_eq!(found[7].as_ref().unwrap().tier(), Tier::Memory);
    assert_eq!(found[8].as_ref().unwrap().tier(), Tier::Backend);
    assert_eq!(found[120].as_ref().unwrap().tier(), Tier::Backend);
    // It filled memory.
    assert_eq!(cache.get_many(&(0..100).collect::<Vec<_>>()).await.iter().flatten().count(), 100);
    assert_eq!(faulty.calls() - before, 1);
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_shared_tier_costs_get_many_only_the_keys_it_touches() {
    let world = World::new();
    world.node().insert_many(texts(0..50)).await;
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    faulty.next_of(Operation::GetMany, Fault::Partly);
    let keys: Vec<u64> = (0..50).collect();
    let found = cache.get_many(&keys).await.iter().flatten().count();
    assert!(found > 0 && found < 50, "{found}");
    assert_eq!(cache.stats().backend_failures as usize, 50 - found);
    assert_eq!(cache.get_many(&keys).await.iter().flatten().count(), 50);
}

#[tokio::test(start_paused = true)]
async fn insert_many_stores_every_pair_in_both_tiers_and_pipelines() {
    let world = World::new();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    // Each step takes a second: one after another, two hundred would.
    for _ in 0..50 {
        faulty.next_of(Operation::Hold, Fault::Delay(secs(1)));
        faulty.next_of(Operation::PutHeld, Fault::Delay(secs(1)));
    }
    let began = world.clock.now();
    let results = cache.insert_many(texts(0..50)).await;
    // Some keys share a fence and take turns.
    let took = world.clock.now().since(began);
    assert!(took >= secs(2) && took <= secs(12), "{took:?}");
    assert!(results.iter().all(|result| *result.as_ref().unwrap() == Inserted::Stored));
    assert_eq!((faulty.calls_of(Operation::Hold), faulty.calls_of(Operation::PutHeld)), (50, 50));
    assert_eq!(world.in_shared(49).await.unwrap(), "v49");
    assert_eq!(*cache.get_local(&49).unwrap(), "v49");
}

#[tokio::test(start_paused = true)]
async fn of_several_values_for_one_key_insert_many_stores_the_last() {
    let world = World::new();
    let cache = world.node();
    let pairs = [(1, "one"), (2, "two"), (1, "uno")].map(|(key, text)| (key, text.to_owned()));
    let results: Vec<_> = cache.insert_many(pairs).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [Inserted::Stored; 3], "as if one after the other");
    assert_eq!(*cache.get_local(&1).unwrap(), "uno");
    assert_eq!(world.in_shared(1).await.unwrap(), "uno");
}

#[tokio::test(start_paused = true)]
async fn an_insert_that_fails_holds_up_no_other() {
    let world = World::new();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    faulty.next_of(Operation::Hold, Fault::Refuse);
    let results = cache.insert_many(texts(0..20)).await;
    let count = |what| results.iter().filter(|result| *result.as_ref().unwrap() == what).count();
    assert_eq!((count(Inserted::Deferred), count(Inserted::Stored)), (1, 19));
}

#[tokio::test(start_paused = true)]
async fn insert_many_and_remove_many_take_the_options_of_a_view_and_outlive_their_caller() {
    let world = World::new();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    {
        let short = cache.with(|options| options.ttl(secs(5)));
        let insert = short.insert_many(texts(0..3));
        tokio::pin!(insert);
        faulty.next_of(Operation::Hold, Fault::Delay(secs(1)));
        assert!(poll_once(insert.as_mut()).await.is_none());
    }
    settle().await;
    pass(secs(1)).await;
    assert_eq!(cache.get_many(&[0, 1, 2]).await.iter().flatten().count(), 3);
    pass(secs(5)).await;
    assert_eq!(cache.get_many(&[0, 1, 2]).await.iter().flatten().count(), 0, "the view's TTL");

    cache.insert_many(texts(0..3)).await;
    {
        let keys = [0, 1, 2];
        let remove = cache.remove_many(&keys);
        tokio::pin!(remove);
        faulty.next_of(Operation::RemoveMany, Fault::Delay(secs(1)));
        assert!(poll_once(remove.as_mut()).await.is_none());
    }
    settle().await;
    pass(secs(1)).await;
    assert!(cache.get_many(&[0, 1, 2]).await.iter().flatten().next().is_none());
    assert_eq!(world.in_shared(1).await, None);
}

/// Polls once.
async fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut future = Some(future);
    std::future::poll_fn(|cx| {
        let polled = future.take().unwrap().poll(cx);
        std::task::Poll::Ready(match polled {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[tokio::test(start_paused = true)]
async fn remove_many_removes_in_every_tier_by_one_call_below() {
    let world = World::new();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    cache.insert_many(texts(0..100)).await;
    let before = faulty.calls();
    let removals = cache.remove_many(&(0..90).chain([5]).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(faulty.calls() - before, 1);
    assert_eq!(removals, [Removal::Removed; 91]);
    assert_eq!(cache.get_many(&(0..100).collect::<Vec<_>>()).await.iter().flatten().count(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_the_shared_tier_has_not_taken_is_deferred_key_by_key() {
    let world = World::new();
    let faulty = Faulty::new(world.shared.clone());
    let cache = world.over(faulty.clone());
    cache.insert_many(texts(0..40)).await;
    faulty.next_of(Operation::RemoveMany, Fault::Partly);
    let keys: Vec<u64> = (0..40).collect();
    let removals = cache.remove_many(&keys).await.unwrap();
    let deferred = removals.iter().filter(|removal| **removal == Removal::Deferred).count();
    assert!(deferred > 0 && deferred < 40, "{deferred}");
    assert_eq!(cache.stats().pending_invalidations as usize, deferred);
    // None of the old values is served meanwhile, and the replay takes the rest.
    assert!(cache.get_many(&keys).await.iter().flatten().next().is_none());
    pass(secs(1)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert!(world.node().get_many(&keys).await.iter().flatten().next().is_none());
}

#[tokio::test(start_paused = true)]
async fn after_a_shutdown_many_are_refused_like_one() {
    let world = World::new();
    let cache = world.alone();
    cache.shutdown(secs(1)).await.unwrap();
    let results = cache.insert_many(texts(0..2)).await;
    assert_eq!(results.len(), 2);
    assert!(results.iter().all(|result| result.as_ref().unwrap_err().kind() == ErrorKind::Closed));
    assert_eq!(cache.remove_many(&[1]).await.unwrap_err().kind(), ErrorKind::Closed);
}
