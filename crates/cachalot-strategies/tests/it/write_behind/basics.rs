//! When writes are sent, what they become, and what a read gives meanwhile.

use cachalot_core::Tier;

use super::{notes, read, text};
use crate::world::{pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn a_write_is_sent_after_the_interval_and_not_before() {
    let (notes, sink) = notes(|builder| builder);
    notes.put(1, text("a")).await.unwrap();
    settle().await;
    pass(secs(4)).await;
    assert_eq!(sink.row(1), None);
    pass(secs(1)).await;
    assert_eq!(sink.row(1).as_deref(), Some("a"));
    assert_eq!(notes.stats().depth, 0);
}

#[tokio::test(start_paused = true)]
async fn the_hundredth_key_flushes_at_once() {
    let (notes, sink) = notes(|builder| builder);
    for key in 0..99 {
        notes.put(key, text("a")).await.unwrap();
    }
    settle().await;
    assert!(sink.calls().is_empty());
    notes.put(99, text("a")).await.unwrap();
    settle().await;
    assert_eq!(sink.calls(), [(0..100).collect::<Vec<_>>()]);
}

#[tokio::test(start_paused = true)]
async fn a_hundred_puts_of_ten_keys_are_one_call_of_ten_writes() {
    let (notes, sink) = notes(|builder| builder);
    for round in 0..10 {
        for key in 0..10 {
            notes.put(key, format!("{key}.{round}")).await.unwrap();
        }
    }
    notes.flush().await;
    assert_eq!(sink.calls(), [(0..10).collect::<Vec<_>>()]);
    assert_eq!(sink.row(3).as_deref(), Some("3.9"));
    let stats = notes.stats();
    assert_eq!((stats.batches, stats.flushed, stats.coalesced), (1, 10, 90));
}

#[tokio::test(start_paused = true)]
async fn the_last_write_wins_deletions_included() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "old");
    notes.put(1, text("new")).await.unwrap();
    notes.delete(&1).await.unwrap();
    notes.delete(&2).await.unwrap();
    notes.put(2, text("back")).await.unwrap();
    notes.flush().await;
    assert_eq!((sink.row(1), sink.row(2)), (None, Some(text("back"))));
    assert_eq!((sink.history(1), sink.history(2)), (vec![None], vec![Some(text("back"))]));
}

#[tokio::test(start_paused = true)]
async fn a_read_gives_what_waits_and_then_what_the_source_has() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "old");
    assert_eq!(read(&notes, 1).await.as_deref(), Some("old"));
    notes.put(1, text("new")).await.unwrap();
    let found = notes.get(&1).await.unwrap().unwrap();
    assert_eq!((found.as_str(), found.tier()), ("new", Tier::Pending));
    assert_eq!(notes.get_local(&1).as_deref().map(String::as_str), Some("new"));
    notes.flush().await;
    // The old value is still in no tier: it is loaded anew.
    assert_eq!((read(&notes, 1).await.as_deref(), sink.loads()), (Some("new"), 2));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_waits_hides_what_tiers_and_source_have() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "old");
    assert_eq!(read(&notes, 1).await.as_deref(), Some("old"));
    notes.delete(&1).await.unwrap();
    assert_eq!(read(&notes, 1).await, None);
    assert!(notes.get_local(&1).is_none());
    notes.flush().await;
    assert_eq!(read(&notes, 1).await, None);
}

#[tokio::test(start_paused = true)]
async fn many_keys_are_read_from_what_waits_and_from_the_source_together() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "one");
    sink.set(2, "two");
    notes.put(2, text("zwei")).await.unwrap();
    notes.delete(&3).await.unwrap();
    let found = notes.get_many(&[3, 2, 1, 4]).await;
    let found: Vec<_> = found.into_iter().map(|one| one.unwrap().map(|cached| (*cached).clone())).collect();
    assert_eq!(found, [None, Some(text("zwei")), Some(text("one")), None]);
}

#[tokio::test(start_paused = true)]
async fn a_write_is_read_whatever_becomes_of_its_key_in_the_cache() {
    let world = crate::world::World::new();
    let small = cachalot_strategies::Cache::builder("users")
        .memory(cachalot_memory_backend::Memory::entries(8).hash_seed(1))
        .clock(world.clock.clone())
        .clearable()
        .ttl(secs(1));
    let (notes, sink) = super::over(small, |builder| builder.flush_every(secs(1000)));
    sink.set(1, "old");
    notes.put(1, text("new")).await.unwrap();
    notes.cache().remove(&1).await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    notes.cache().clear().await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    for other in 100..200 {
        read(&notes, other).await;
        notes.cache().insert(other, text("crowd")).await.unwrap();
    }
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    pass(secs(60)).await;
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    notes.cache().insert(1, text("from aside")).await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    assert_eq!(sink.row(1).as_deref(), Some("old"));
}

#[tokio::test(start_paused = true)]
async fn writes_during_a_flush_are_not_lost() {
    let (notes, sink) = notes(|builder| builder);
    notes.put(1, text("a")).await.unwrap();
    sink.before.close();
    let flush = tokio::spawn({
        let notes = notes.clone();
        async move { notes.flush().await }
    });
    sink.before.reached(1).await;
    notes.put(1, text("b")).await.unwrap();
    notes.put(2, text("c")).await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("b"));
    sink.before.open();
    flush.await.unwrap();
    assert_eq!(sink.row(1).as_deref(), Some("a"));
    assert_eq!(read(&notes, 1).await.as_deref(), Some("b"));
    notes.flush().await;
    assert_eq!((sink.row(1), sink.row(2)), (Some(text("b")), Some(text("c"))));
    assert!(!sink.has_overlapped());
}

#[tokio::test(start_paused = true)]
async fn a_read_during_a_flush_never_sees_the_old_value() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(1, "old");
    assert_eq!(read(&notes, 1).await.as_deref(), Some("old"));
    notes.put(1, text("new")).await.unwrap();
    sink.after.close();
    let flush = tokio::spawn({
        let notes = notes.clone();
        async move { notes.flush().await }
    });
    sink.after.reached(1).await;
    assert_eq!(sink.row(1).as_deref(), Some("new"));
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
    sink.after.open();
    for _ in 0..20 {
        assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
        tokio::task::yield_now().await;
    }
    flush.await.unwrap();
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_flush_ends_the_old_value_in_the_shared_tier_too() {
    let world = crate::world::World::new();
    let cache = world.builder().ttl(secs(3600)).backend(world.shared.clone());
    let (notes, sink) = super::over(cache, |builder| builder);
    sink.set(1, "old");
    assert_eq!(read(&notes, 1).await.as_deref(), Some("old"));
    assert_eq!(world.in_shared(1).await.as_deref(), Some("old"));
    notes.put(1, text("new")).await.unwrap();
    assert_eq!(world.in_shared(1).await.as_deref(), Some("old"), "others see it after the flush");
    notes.flush().await;
    assert_eq!(world.in_shared(1).await, None);
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"));
}

#[tokio::test(start_paused = true)]
async fn a_shared_tier_that_is_away_holds_up_no_flush_and_serves_nothing_old_here() {
    let world = crate::world::World::new();
    let tier = cachalot_testkit::Faulty::new(world.shared.clone());
    let (notes, sink) = super::over(world.builder().ttl(secs(3600)).backend(tier.clone()), |builder| builder);
    sink.set(1, "old");
    assert_eq!(read(&notes, 1).await.as_deref(), Some("old"));
    notes.put(1, text("new")).await.unwrap();
    tier.down();
    notes.flush().await;
    assert_eq!((sink.row(1).as_deref(), notes.stats().depth), (Some("new"), 0));
    assert_eq!(read(&notes, 1).await.as_deref(), Some("new"), "its removal is deferred");
    assert_eq!(notes.cache().stats().pending_invalidations, 1);
    tier.up();
    pass(secs(60)).await;
    assert_eq!(world.in_shared(1).await, None);
}

#[test]
fn a_handle_goes_everywhere() {
    fn goes_everywhere<T: Clone + Send + Sync + 'static>() {}
    goes_everywhere::<super::Notes>();
}
