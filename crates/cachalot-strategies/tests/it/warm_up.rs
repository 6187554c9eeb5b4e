//! What is loaded before anybody asks.

use std::sync::{Arc, Mutex};

use cachalot_core::{LoadError, LoaderError, Tier};
use cachalot_strategies::{ReadThrough, WarmUpProgress};

use crate::world::{World, settle};

fn rows(world: &World, count: u64) {
    (0..count).for_each(|key| world.source.set(key, format!("user {key}")));
}

#[tokio::test(start_paused = true)]
async fn keys_are_loaded_in_chunks_and_what_is_there_is_skipped() {
    for is_tiered in [false, true] {
        let world = World::new();
        rows(&world, 900);
        let cache = if is_tiered { world.node() } else { world.alone() };
        let users = ReadThrough::new(cache.clone(), world.source.clone());
        for key in 0..100 {
            users.get(&key).await.unwrap();
        }
        let calls = world.source.calls();
        let warmed = users.warm_up(0..1_000).chunk(100).await;
        assert_eq!((warmed.loaded, warmed.present, warmed.absent, warmed.failed), (800, 100, 100, 0));
        assert_eq!(world.source.calls() - calls, 9, "one for each chunk with something to load");
        assert!(warmed.errors.is_empty() && warmed.interrupted.is_none());
        assert_eq!(users.get(&899).await.unwrap().unwrap().tier(), Tier::Memory);
        if is_tiered {
            assert_eq!(world.node().get(&899).await.as_deref().map(String::as_str), Some("user 899"));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_that_fails_costs_its_own_keys() {
    let world = World::new();
    rows(&world, 100);
    let users = ReadThrough::new(world.alone(), world.source.clone());
    world.source.fail_by([false, true, false, true]);
    let seen = Arc::new(Mutex::new(Vec::<WarmUpProgress>::new()));
    let told = seen.clone();
    let tell = move |progress: &WarmUpProgress| told.lock().unwrap().push(*progress);
    let warmed = users.warm_up(0..100).chunk(10).concurrency(1).on_progress(tell).await;
    assert_eq!((warmed.loaded, warmed.failed, warmed.errors.len()), (80, 20, 2));
    assert!(matches!(&warmed.errors[0], LoadError::Loader(_)));
    let seen = seen.lock().unwrap();
    let counted: Vec<(u64, u64)> = seen.iter().map(|progress| (progress.done, progress.failed)).collect();
    assert_eq!(counted[..5], [(10, 0), (20, 10), (30, 10), (40, 20), (50, 20)]);
    assert!(seen.iter().all(|progress| progress.total == Some(100)));
}

#[tokio::test(start_paused = true)]
async fn no_more_chunks_than_allowed_are_under_way_and_keys_come_as_they_are_needed() {
    let world = World::new();
    rows(&world, 100);
    let users = ReadThrough::new(world.alone(), world.source.clone());
    let gate = world.source.stop_before_reading();
    let taken = Arc::new(Mutex::new(0));
    let counter = taken.clone();
    let keys = (0..100).inspect(move |_| *counter.lock().unwrap() += 1);
    let warming = tokio::spawn(users.warm_up(keys).chunk(10).concurrency(3).into_future());
    settle().await;
    assert_eq!((world.source.running(), *taken.lock().unwrap()), (3, 30));
    gate.let_one();
    settle().await;
    assert_eq!((world.source.running(), *taken.lock().unwrap()), (3, 40));
    gate.open();
    assert_eq!(warming.await.unwrap().loaded, 100);
}

#[tokio::test(start_paused = true)]
async fn who_gives_it_up_keeps_what_was_loaded() {
    let world = World::new();
    rows(&world, 100);
    let users = ReadThrough::new(world.alone(), world.source.clone());
    let gate = world.source.stop_before_reading();
    let warming = tokio::spawn(users.warm_up(0..100).chunk(10).concurrency(2).into_future());
    settle().await;
    warming.abort();
    gate.open();
    settle().await;
    assert_eq!(world.source.loads(), 20, "no further chunk begins");
    assert!((0..20).all(|key| users.get_local(&key).is_some()), "those that ran are finished");
}

#[tokio::test(start_paused = true)]
async fn pages_come_one_after_another_and_an_error_of_theirs_ends_them() {
    let world = World::new();
    rows(&world, 100);
    let users = ReadThrough::new(world.alone(), world.source.clone());
    let mut page = 0;
    let next = move || {
        page += 1;
        let page = page;
        async move {
            match page {
                1..=3 => Ok(Some((page * 10..page * 10 + 10).collect())),
                _ => Err(LoaderError::new(std::io::Error::other("the cursor is gone"))),
            }
        }
    };
    let warmed = users.warm_up_pages(next).total(100).await;
    assert_eq!((warmed.loaded, warmed.failed), (30, 0));
    assert!(warmed.interrupted.is_some());
    let warmed = users.warm_up_pages(|| async { Ok(None) }).await;
    assert_eq!((warmed.loaded, warmed.interrupted.is_some()), (0, false));
}

#[tokio::test(start_paused = true)]
async fn a_removal_while_it_warms_up_is_not_undone() {
    let world = World::new();
    let cache = world.node();
    let users = ReadThrough::new(cache.clone(), world.source.clone());
    let gate = world.source.stop_after_reading();
    let warming = tokio::spawn(users.warm_up([1]).into_future());
    settle().await;
    world.source.set(1, "Augusta".into());
    cache.remove(&1).await.unwrap();
    gate.open();
    warming.await.unwrap();
    assert!(users.get_local(&1).is_none());
    assert_eq!(&**users.get(&1).await.unwrap().unwrap(), "Augusta");
}
