//! Values that add up, and writes that keep the order of all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Entry, ErrorKind, Event, Observer, Source, Tier, Write};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, FileJournal, Order, WriteBehind};
use cachalot_testkit::Gate;

use super::sink::{Refused, Told};
use super::{notes, text};
use crate::world::{pass, secs, settle};

/// What one call was given.
type Deltas = Vec<(u64, Option<i64>)>;

/// Adds each delta once: notes the last sequence of each key.
#[derive(Clone)]
pub(super) struct Counters {
    rows: Arc<Mutex<BTreeMap<u64, (i64, u64)>>>,
    calls: Arc<Mutex<Vec<Deltas>>>,
    before: Gate,
    pub(super) after: Gate,
    /// Answers with an error although it has taken the writes.
    lies: Arc<Mutex<bool>>,
}

impl Default for Counters {
    fn default() -> Self {
        let (before, after) = (Gate::opened(), Gate::opened());
        Self { rows: Arc::default(), calls: Arc::default(), before, after, lies: Arc::default() }
    }
}

impl Counters {
    pub(super) fn row(&self, key: u64) -> Option<i64> {
        self.rows.lock().unwrap().get(&key).map(|(count, _)| *count)
    }
}

#[async_trait]
impl Source<u64, i64> for Counters {
    type Error = Refused;

    async fn load(&self, key: &u64) -> Result<Option<i64>, Refused> {
        Ok(self.row(*key))
    }

    async fn store(&self, _: &u64, _: &i64) -> Result<(), Refused> {
        unreachable!("deltas are applied")
    }

    async fn delete(&self, _: &u64) -> Result<(), Refused> {
        unreachable!("deltas are applied")
    }

    async fn apply(&self, writes: &[Write<'_, u64, i64>]) -> Result<(), Refused> {
        let noted = writes.iter().map(|write| (*write.key, write.value.copied())).collect();
        self.calls.lock().unwrap().push(noted);
        self.before.pass().await;
        {
            let mut rows = self.rows.lock().unwrap();
            for write in writes {
                let (count, last) = rows.get(write.key).copied().unwrap_or((0, 0));
                if write.sequence <= last {
                    continue;
                }
                match write.value {
                    Some(delta) => drop(rows.insert(*write.key, (count + delta, write.sequence))),
                    None => drop(rows.remove(write.key)),
                }
            }
        }
        self.after.pass().await;
        if std::mem::take(&mut *self.lies.lock().unwrap()) { Err(Refused::Down) } else { Ok(()) }
    }
}

pub(super) type Store = Memory<u64, Arc<Entry<i64>>>;
pub(super) type Views = WriteBehind<u64, i64, Store, Counters>;

fn views() -> (Views, Counters) {
    let counters = Counters::default();
    let cache: Cache<u64, i64, Store> = Cache::builder("views")
        .memory(Memory::entries(100))
        .clock(cachalot_testkit::tokio_clock())
        .build()
        .unwrap();
    let views = WriteBehind::builder(cache, counters.clone()).merge(|older, newer| older + newer);
    (views.build().unwrap(), counters)
}

/// The same in real time with a journal in `folder`, as soon as that is free.
pub(super) async fn journaled(folder: &Path, counters: &Counters) -> Views {
    for _ in 0..2_000 {
        let cache: Cache<u64, i64, Store> =
            Cache::builder("views").memory(Memory::entries(100)).build().unwrap();
        let builder = WriteBehind::builder(cache, counters.clone()).flush_every(secs(3600));
        let builder = builder.merge(|older, newer| older + newer);
        match builder.journal(FileJournal::at(folder)).open().await {
            Ok(views) => return views,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Conflict, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the folder is never freed");
}

async fn count(views: &Views, key: u64) -> Option<i64> {
    views.get(&key).await.unwrap().map(|cached| *cached)
}

/// Looks at the queue whenever something is served from memory.
#[derive(Clone, Default)]
struct Looks(Arc<OnceLock<Views>>);

impl Observer for Looks {
    fn on_event(&self, event: &Event<'_>) {
        if let (Event::Hit { tier: Tier::Memory }, Some(views)) = (event, self.0.get()) {
            assert_eq!(views.stats().depth, 1);
        }
    }
}

#[test]
fn an_observer_of_a_look_into_memory_may_look_at_the_queue() {
    let (tell, told) = std::sync::mpsc::channel();
    // A deadlock would hold up the test for ever.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let observer = Looks::default();
            let cache: Cache<u64, i64, Store> = Cache::builder("views")
                .memory(Memory::entries(100))
                .observer(observer.clone())
                .build()
                .unwrap();
            let views = WriteBehind::builder(cache, Counters::default()).flush_every(secs(3600));
            let views = views.merge(|older, newer| older + newer).build().unwrap();
            views.put(1, 4).await.unwrap();
            views.flush().await;
            assert_eq!(count(&views, 1).await, Some(4), "memory has it");
            views.put(1, 3).await.unwrap();
            assert!(observer.0.set(views.clone()).is_ok());
            tell.send(views.get_local(&1).map(|count| *count)).unwrap();
        });
    });
    assert_eq!(told.recv_timeout(secs(60)), Ok(Some(7)));
}

#[tokio::test(start_paused = true)]
async fn deltas_add_up_before_they_are_sent() {
    let (views, counters) = views();
    for _ in 0..1_000 {
        views.put(1, 1).await.unwrap();
        views.put(2, 2).await.unwrap();
    }
    views.flush().await;
    assert_eq!(*counters.calls.lock().unwrap(), [[(1, Some(1_000)), (2, Some(2_000))]]);
    assert_eq!(count(&views, 2).await, Some(2_000));
}

#[tokio::test(start_paused = true)]
async fn a_read_gives_the_sources_value_with_what_waits() {
    let (views, counters) = views();
    counters.rows.lock().unwrap().insert(1, (40, 0));
    assert_eq!(views.get_local(&1).map(|cached| *cached), None);
    assert_eq!(count(&views, 1).await, Some(40));
    views.put(1, 2).await.unwrap();
    assert_eq!(views.get_local(&1).map(|cached| *cached), Some(42));
    assert_eq!(count(&views, 1).await, Some(42));
    assert_eq!(count(&views, 9).await, None);
    views.put(9, 5).await.unwrap();
    assert_eq!(count(&views, 9).await, Some(5));
    let many = views.get_many(&[9, 1, 8]).await;
    assert_eq!(
        many.into_iter().map(|one| one.unwrap().map(|one| *one)).collect::<Vec<_>>(),
        [Some(5), Some(42), None]
    );
    views.flush().await;
    assert_eq!((count(&views, 1).await, count(&views, 9).await), (Some(42), Some(5)));
}

#[tokio::test(start_paused = true)]
async fn a_deletion_ends_what_was_added_and_what_comes_after_begins_anew() {
    let (views, counters) = views();
    counters.rows.lock().unwrap().insert(1, (40, 0));
    views.put(1, 2).await.unwrap();
    views.delete(&1).await.unwrap();
    assert_eq!(count(&views, 1).await, None);
    views.put(1, 3).await.unwrap();
    assert_eq!((count(&views, 1).await, views.get_local(&1).map(|one| *one)), (Some(3), Some(3)));
    views.flush().await;
    assert_eq!((counters.row(1), count(&views, 1).await), (Some(3), Some(3)));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_counted_twice_while_a_delta_is_at_the_source() {
    let (views, counters) = views();
    for gate in [&counters.before, &counters.after] {
        let already = counters.row(1).unwrap_or(0);
        views.put(1, 1).await.unwrap();
        gate.close();
        let seen = gate.arrivals();
        let flush = tokio::spawn({
            let views = views.clone();
            async move { views.flush().await }
        });
        gate.reached(seen + 1).await;
        views.put(1, 10).await.unwrap();
        let reading = tokio::spawn({
            let views = views.clone();
            async move { count(&views, 1).await }
        });
        settle().await;
        assert!(!reading.is_finished(), "whether the source has it is not known");
        assert_eq!(views.get_local(&1).map(|one| *one), None);
        gate.open();
        assert_eq!(reading.await.unwrap(), Some(already + 11));
        flush.await.unwrap();
        views.flush().await;
        assert_eq!(counters.row(1), Some(already + 11));
    }
}

#[tokio::test(start_paused = true)]
async fn a_delta_that_failed_stays_what_it_was() {
    let (views, counters) = views();
    *counters.lies.lock().unwrap() = true;
    views.put(1, 1).await.unwrap();
    counters.after.close();
    let flush = tokio::spawn({
        let views = views.clone();
        async move { views.flush().await }
    });
    counters.after.reached(1).await;
    views.put(1, 10).await.unwrap();
    counters.after.open();
    flush.await.unwrap();
    views.flush().await;
    assert_eq!(counters.row(1), Some(11), "{:?}", counters.calls.lock().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_panics_leaves_both() {
    let counters = Counters::default();
    let cache: Cache<u64, i64, Store> = Cache::builder("views").memory(Memory::entries(100)).build().unwrap();
    let views = WriteBehind::builder(cache, counters.clone()).merge(|_: &i64, _: &i64| panic!("no"));
    let views = views.build().unwrap();
    views.put(1, 1).await.unwrap();
    views.put(1, 2).await.unwrap();
    views.flush().await;
    assert_eq!(counters.row(1), Some(3));
}

#[tokio::test(start_paused = true)]
async fn in_global_order_every_write_is_sent_in_the_order_of_all() {
    let (notes, sink) = notes(|builder| builder.order(Order::Global).batch(4).concurrency(5));
    for (key, value) in [(2, "a"), (1, "b"), (2, "c"), (3, "d"), (1, "e"), (2, "f")] {
        notes.put(key, text(value)).await.unwrap();
    }
    assert_eq!(super::read(&notes, 2).await.as_deref(), Some("f"));
    notes.flush().await;
    assert_eq!(sink.calls(), [vec![2, 1, 2, 3], vec![1, 2]]);
    assert_eq!(sink.history(2), [Some(text("a")), Some(text("c")), Some(text("f"))]);
}

#[tokio::test(start_paused = true)]
async fn in_global_order_a_failure_holds_up_all_that_comes_after() {
    let (notes, sink) = notes(|builder| builder.order(Order::Global).batch(2));
    sink.told([Told::Fail, Told::Fail, Told::Panic, Told::Fail]);
    for key in 0..7 {
        notes.put(key, text("a")).await.unwrap();
    }
    notes.flush().await;
    let stored: Vec<u64> = sink.calls().split_off(4).concat();
    assert_eq!(stored, (0..7).collect::<Vec<_>>());
    assert!((0..7).all(|key| sink.history(key).len() == 1));
}

#[tokio::test(start_paused = true)]
async fn in_global_order_a_poison_item_is_found_and_the_rest_goes_on() {
    let (notes, sink) =
        notes(|builder| builder.order(Order::Global).permanent(|error| *error == Refused::Poison).batch(16));
    sink.poison([5, 11]);
    for key in 0..16 {
        notes.put(key, text("a")).await.unwrap();
    }
    notes.flush().await;
    let dead: Vec<u64> = notes.dead_letters().iter().map(|letter| letter.key).collect();
    assert_eq!(dead, [5, 11]);
    assert_eq!((0..16).filter(|key| sink.row(*key).is_some()).count(), 14);
}

#[tokio::test(start_paused = true)]
async fn in_global_order_an_outage_ends_in_order_too() {
    let (notes, sink) = notes(|builder| builder.order(Order::Global).batch(4).max_attempts(3));
    sink.down(true);
    for key in 0..30 {
        notes.put(key % 7, format!("{key}")).await.unwrap();
        pass(secs(3)).await;
    }
    assert!(notes.dead_letters().is_empty());
    sink.down(false);
    let from = sink.calls().len();
    notes.flush().await;
    let sent = sink.calls().split_off(from).concat();
    assert_eq!(sent, (0..30).map(|key| key % 7).collect::<Vec<u64>>());
}

#[tokio::test(start_paused = true)]
async fn a_read_of_what_hangs_at_the_source_ends_with_the_hard_timeout() {
    let (views, counters) = views();
    counters.rows.lock().unwrap().insert(2, (40, 0));
    views.put(1, 1).await.unwrap();
    counters.before.close();
    let flush = tokio::spawn({
        let views = views.clone();
        async move { views.flush().await }
    });
    counters.before.reached(1).await;
    let error = tokio::time::timeout(secs(60), views.get(&1)).await.expect("30 s").unwrap_err();
    assert_eq!(error.cache_kind(), Some(ErrorKind::Timeout), "{error}");
    let many = tokio::time::timeout(secs(60), views.get_many(&[1, 2])).await.expect("30 s");
    assert!(matches!(&many[0], Err(error) if error.cache_kind() == Some(ErrorKind::Timeout)));
    assert_eq!(many[1].as_ref().unwrap().as_deref(), Some(&40), "the others are read");
    counters.before.open();
    flush.await.unwrap();
    assert_eq!(count(&views, 1).await, Some(1));
}
