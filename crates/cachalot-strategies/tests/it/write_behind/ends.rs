//! Barriers, shutdown, and handles that go.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot_core::{ErrorKind, Event, Observer};
use cachalot_strategies::{Unflushed, WriteError};

use super::sink::Told;
use super::{notes, over, read, text};
use crate::world::{World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn a_flush_of_nothing_returns() {
    let (notes, sink) = notes(|builder| builder);
    notes.flush().await;
    notes.put(1, text("a")).await.unwrap();
    notes.flush().await;
    notes.flush().await;
    assert_eq!(sink.calls().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn nothing_becomes_one_across_a_barrier() {
    let (notes, sink) = notes(|builder| builder);
    sink.before.close();
    notes.put(0, text("in front")).await.unwrap();
    let front = tokio::spawn({
        let notes = notes.clone();
        async move { notes.flush().await }
    });
    sink.before.reached(1).await;
    // Two writes of one key that wait, with a barrier between.
    notes.put(1, text("before")).await.unwrap();
    let barrier = tokio::spawn({
        let notes = notes.clone();
        async move { notes.flush().await }
    });
    settle().await;
    notes.put(1, text("after")).await.unwrap();
    sink.before.open();
    barrier.await.unwrap();
    front.await.unwrap();
    assert_eq!(sink.history(1), [Some(text("before"))]);
    notes.flush().await;
    assert_eq!(sink.history(1), [Some(text("before")), Some(text("after"))]);
}

#[tokio::test(start_paused = true)]
async fn nothing_becomes_one_across_a_barrier_when_what_is_before_it_fails() {
    let (notes, sink) = notes(|builder| builder);
    sink.before.close();
    sink.told([Told::Fail]);
    notes.put(1, text("before")).await.unwrap();
    let barrier = tokio::spawn({
        let notes = notes.clone();
        async move { notes.flush().await }
    });
    sink.before.reached(1).await;
    notes.put(1, text("after")).await.unwrap();
    sink.before.open();
    barrier.await.unwrap();
    notes.flush().await;
    assert_eq!(sink.history(1), [Some(text("before")), Some(text("after"))]);
}

#[tokio::test(start_paused = true)]
async fn a_flush_returns_when_all_from_before_it_is_in_the_source() {
    let (notes, sink) = notes(|builder| builder.batch(3));
    sink.told([Told::Take, Told::Fail, Told::Panic, Told::Fail]);
    for key in 0..20 {
        notes.put(key, text("a")).await.unwrap();
    }
    notes.flush().await;
    assert!((0..20).all(|key| sink.row(key).is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_sends_what_waits_and_refuses_what_comes() {
    let (notes, sink) = notes(|builder| builder);
    sink.set(2, "two");
    notes.put(1, text("a")).await.unwrap();
    notes.shutdown(secs(1)).await.unwrap();
    assert_eq!(sink.row(1).as_deref(), Some("a"));
    let Err(WriteError::Cache(error)) = notes.put(1, text("b")).await else { panic!("it is closed") };
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(read(&notes, 2).await.as_deref(), Some("two"), "reads go on");
    notes.cache().insert(3, text("so does the cache")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_names_what_is_left() {
    let (notes, sink) = notes(|builder| builder);
    for key in [5, 3, 4] {
        notes.put(key, text("a")).await.unwrap();
    }
    sink.down(true);
    let left = notes.shutdown(secs(10)).await.unwrap_err();
    let keys = vec![5, 3, 4];
    assert_eq!(left, Unflushed { keys, writes: 3, dead_letters: 0, is_kept: false, journal: None });
    assert!(left.to_string().starts_with("3 writes of 3 keys"), "{left}");
    sink.down(false);
    pass(secs(31)).await;
    notes.shutdown(secs(1)).await.unwrap();
    assert!(sink.row(5).is_some(), "it was tried on");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_frees_those_who_wait_for_room() {
    let (notes, sink) = notes(|builder| builder.max_entries(1));
    sink.before.close();
    notes.put(1, text("a")).await.unwrap();
    let waiting = tokio::spawn({
        let notes = notes.clone();
        async move { notes.put(2, text("b")).await }
    });
    settle().await;
    assert!(notes.shutdown(Duration::from_millis(10)).await.is_err());
    let Err(WriteError::Cache(error)) = waiting.await.unwrap() else { panic!("it is closed") };
    assert_eq!(error.kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn what_waits_when_the_last_handle_goes_is_sent_in_the_background() {
    let (notes, sink) = notes(|builder| builder.flush_every(secs(1000)));
    notes.put(1, text("a")).await.unwrap();
    sink.told([Told::Fail]);
    let other = notes.clone();
    drop(notes);
    settle().await;
    assert!(sink.calls().is_empty(), "there is another handle");
    drop(other);
    settle().await;
    pass(secs(1)).await;
    assert_eq!(sink.row(1).as_deref(), Some("a"));
}

/// Counts what was lost.
#[derive(Clone, Default)]
struct Losses(Arc<AtomicU64>);

impl Observer for Losses {
    fn on_event(&self, event: &Event<'_>) {
        if let Event::WritesLost { count } = event {
            self.0.fetch_add(*count, Ordering::SeqCst);
        }
    }
}

#[test]
fn what_is_lost_with_its_runtime_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let losses = Losses::default();
    let cache = runtime.block_on(async {
        let world = World::new();
        let (notes, sink) = over(world.builder().observer(losses.clone()), |builder| builder);
        sink.before.close();
        for key in 0..3 {
            notes.put(key, text("a")).await.unwrap();
        }
        notes.cache().clone()
    });
    assert_eq!(losses.0.load(Ordering::SeqCst), 0);
    drop(runtime);
    assert_eq!(losses.0.load(Ordering::SeqCst), 3);
    assert_eq!(cache.stats().writes_lost, 3);
}

#[test]
fn writes_outlive_a_runtime_as_long_as_there_is_a_handle() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (notes, sink) = first.block_on(async {
        let (notes, sink) = over(
            cachalot_strategies::Cache::builder("notes")
                .memory(cachalot_memory_backend::Memory::entries(100)),
            |builder| builder,
        );
        notes.put(1, text("a")).await.unwrap();
        sink.before.close();
        let flush = tokio::time::timeout(Duration::from_millis(20), notes.flush());
        assert!(flush.await.is_err());
        (notes, sink)
    });
    drop(first);
    sink.before.open();
    runtime().block_on(async {
        assert_eq!(notes.get_local(&1).as_deref().map(String::as_str), Some("a"));
        notes.flush().await;
    });
    assert_eq!(sink.row(1).as_deref(), Some("a"));
}

#[test]
fn who_sends_may_end_with_its_runtime_before_it_began() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (notes, sink) = first.block_on(async {
        let cache = cachalot_strategies::Cache::builder("notes");
        let cache = cache.memory(cachalot_memory_backend::Memory::entries(100));
        let (notes, sink) = over(cache, |builder| builder);
        notes.put(1, text("a")).await.unwrap();
        (notes, sink)
    });
    drop(first);
    runtime().block_on(async {
        tokio::time::timeout(secs(10), notes.flush()).await.expect("another sends");
    });
    assert_eq!(sink.row(1).as_deref(), Some("a"));
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_leaves_no_half_a_write() {
    let (notes, _sink) = notes(|builder| builder);
    let mut put = Box::pin(notes.put(1, text("a")));
    let polled = std::future::poll_fn(|cx| std::task::Poll::Ready(put.as_mut().poll(cx).is_ready())).await;
    drop(put);
    assert!(polled);
    assert_eq!((read(&notes, 1).await.as_deref(), notes.stats().entries), (Some("a"), 1));
}
