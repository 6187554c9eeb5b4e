//! What a write-behind asks of its journal, and when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cachalot_core::codec::{Codec, MsgPack};
use cachalot_core::{Entry, Error, ErrorKind, FnSource, Result};
use cachalot_memory_backend::Memory;
use cachalot_testkit::tokio_clock;
use tokio::sync::watch;

use super::builder::Kept;
use super::journal::Journal;
use super::*;

/// A journal that keeps a write when it is told to.
#[derive(Clone, Debug)]
struct Told {
    notes: Arc<Mutex<Notes>>,
    /// What is durable, or not to be.
    kept: Arc<watch::Sender<BTreeMap<u64, bool>>>,
}

#[derive(Debug, Default)]
struct Notes {
    appended: Vec<Option<Bytes>>,
    done: Vec<u64>,
    cuts: Vec<u64>,
    /// In their order: what was asked of whom.
    trace: Vec<String>,
    /// It cannot be closed.
    is_stuck: bool,
}

impl Told {
    fn new() -> Self {
        Self { notes: Arc::default(), kept: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }

    fn keep(&self, sequence: u64, is_kept: bool) {
        self.kept.send_modify(|kept| kept.extend([(sequence, is_kept)]));
    }

    fn keep_all(&self) {
        (1..100).for_each(|sequence| self.keep(sequence, true));
    }

    fn trace(&self) -> Vec<String> {
        self.notes.lock().unwrap().trace.clone()
    }
}

#[async_trait]
impl Journal for Told {
    fn append(&self, _: Bytes, value: Option<Bytes>) -> u64 {
        let mut notes = self.notes.lock().unwrap();
        notes.appended.push(value);
        notes.appended.len() as u64
    }

    async fn durable(&self, sequence: u64) -> Result<()> {
        let mut kept = self.kept.subscribe();
        let known = kept.wait_for(|kept| kept.contains_key(&sequence)).await.unwrap();
        match known[&sequence] {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Unavailable, "journal").detail("journal full")),
        }
    }

    async fn cut(&self, through: u64) -> Result<()> {
        let mut notes = self.notes.lock().unwrap();
        notes.cuts.push(through);
        notes.trace.push(format!("cut {through}"));
        Ok(())
    }

    fn done(&self, sequences: &[u64]) {
        let mut notes = self.notes.lock().unwrap();
        notes.done.extend(sequences);
        notes.trace.push(format!("done {sequences:?}"));
    }

    fn dead(&self, _: &[u64], _: u32, _: &str) {}

    async fn close(&self) -> Result<()> {
        let mut notes = self.notes.lock().unwrap();
        notes.trace.push("close".to_owned());
        match notes.is_stuck {
            true => Err(Error::new(ErrorKind::Unavailable, "journal close").detail("no space left")),
            false => Ok(()),
        }
    }
}

type Store = Memory<u64, Arc<Entry<u64>>>;

type Rows = Arc<Mutex<BTreeMap<u64, u64>>>;

/// A write-behind over `journal`, and what its source has stored.
fn over(
    journal: &Told,
    is_of_deltas: bool,
) -> (WriteBehind<u64, u64, Store, impl Source<u64, u64> + use<>>, Rows) {
    let cache: Cache<u64, u64, Store> =
        Cache::builder("numbers").memory(Memory::entries(10)).clock(tokio_clock()).build().unwrap();
    let rows = Rows::default();
    let (reads, writes, told) = (rows.clone(), rows.clone(), journal.clone());
    let source = FnSource::new(
        move |key: u64| {
            let row = reads.lock().unwrap().get(&key).copied();
            async move { Ok::<_, std::io::Error>(row) }
        },
        move |key, value| {
            told.notes.lock().unwrap().trace.push(format!("store {key}: {value}"));
            writes.lock().unwrap().insert(key, value);
            async { Ok(()) }
        },
        |_| async { Ok(()) },
    );
    let mut builder = WriteBehind::builder(cache, source).max_entries(3);
    if is_of_deltas {
        builder = builder.merge(|older, newer| older + newer);
    }
    let encode = |key: &u64, value: Option<&u64>| {
        let mut out = Vec::new();
        value.map(|value| MsgPack.encode(value, &mut out)).transpose()?;
        Ok((Bytes::from(key.to_string()), value.map(|_| Bytes::from(out))))
    };
    let journal = Arc::new(journal.clone());
    let kept =
        Kept { journal, encode: Some(Arc::new(encode)), writer: 7, next: 1, recovered: 0, torn_bytes: 0 };
    (builder.build_over(kept).unwrap(), rows)
}

async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_write_is_not_acknowledged_read_or_sent_before_the_journal_has_it() {
    let journal = Told::new();
    let (numbers, rows) = over(&journal, false);
    let put = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.put(1, 10).await }
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(!put.is_finished());
    assert!(numbers.get_local(&1).is_none() && rows.lock().unwrap().is_empty());
    assert_eq!((numbers.stats().entries, numbers.stats().depth), (1, 0), "it has its place");
    journal.keep(1, true);
    put.await.unwrap().unwrap();
    assert_eq!(numbers.get_local(&1).map(|one| *one), Some(10));
    numbers.flush().await;
    assert_eq!(journal.notes.lock().unwrap().done, [1]);
}

#[tokio::test(start_paused = true)]
async fn writes_are_taken_in_in_the_order_of_the_journal() {
    let journal = Told::new();
    let (numbers, _) = over(&journal, false);
    let puts: Vec<_> = [10, 20]
        .map(|value| {
            let numbers = numbers.clone();
            tokio::spawn(async move { numbers.put(1, value).await })
        })
        .into();
    settle().await;
    journal.keep(2, true);
    settle().await;
    assert!(numbers.get_local(&1).is_none() && puts.iter().all(|put| !put.is_finished()));
    journal.keep(1, true);
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(numbers.get_local(&1).map(|one| *one), Some(20));
    assert_eq!(journal.notes.lock().unwrap().done, [1], "the second has taken its place");
}

#[tokio::test(start_paused = true)]
async fn a_write_that_the_journal_cannot_keep_is_withdrawn_and_its_caller_is_told() {
    let journal = Told::new();
    let (numbers, rows) = over(&journal, false);
    journal.keep(1, true);
    journal.keep(2, false);
    journal.keep(3, true);
    let results = numbers.put_many([(1, 10), (1, 20), (2, 30)]).await;
    assert_eq!(results.iter().map(Result::is_ok).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(numbers.get_local(&1).map(|one| *one), Some(10));
    assert_eq!(numbers.stats().entries, 2);
    numbers.flush().await;
    assert_eq!(*rows.lock().unwrap(), BTreeMap::from([(1, 10), (2, 30)]));
    assert_eq!(numbers.stats().entries, 0);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_leaves_while_the_journal_writes_holds_up_nobody() {
    let journal = Told::new();
    let (numbers, _) = over(&journal, false);
    let leaves = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.put(1, 10).await }
    });
    settle().await;
    leaves.abort();
    journal.keep_all();
    numbers.put(2, 20).await.unwrap();
    assert_eq!(numbers.get_local(&1).map(|one| *one), Some(10), "it is done all the same");
}

#[tokio::test(start_paused = true)]
async fn what_the_journal_does_not_have_yet_counts_against_the_bound() {
    let journal = Told::new();
    let (numbers, _) = over(&journal, false);
    let many = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.put_many((0..3).map(|key| (key, key))).await }
    });
    settle().await;
    assert!(numbers.put(9, 9).await.is_err(), "it waits for a second, and there is no room");
    journal.keep_all();
    assert!(many.await.unwrap().iter().all(Result::is_ok));
    numbers.put(9, 9).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn deltas_are_cut_before_they_are_sent_and_all_that_they_hold_is_done() {
    let journal = Told::new();
    let (numbers, rows) = over(&journal, true);
    journal.keep_all();
    for value in [1, 2, 3] {
        numbers.put(1, value).await.unwrap();
    }
    numbers.put(2, 5).await.unwrap();
    numbers.flush().await;
    assert_eq!(journal.trace(), ["cut 4", "store 1: 6", "store 2: 5", "done [1, 2, 3, 4]"]);
    assert_eq!(*rows.lock().unwrap(), BTreeMap::from([(1, 6), (2, 5)]));
    let mut done = journal.notes.lock().unwrap().done.clone();
    done.sort_unstable();
    assert_eq!(done, [1, 2, 3, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_a_write_that_is_on_its_way_into_the_journal() {
    let journal = Told::new();
    let (numbers, rows) = over(&journal, false);
    let put = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.put(1, 10).await }
    });
    settle().await;
    let shutdown = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.shutdown(Duration::from_secs(60)).await }
    });
    settle().await;
    assert!(!shutdown.is_finished());
    journal.keep(1, true);
    put.await.unwrap().unwrap();
    shutdown.await.unwrap().unwrap();
    assert_eq!(rows.lock().unwrap().get(&1), Some(&10), "it was acknowledged");
    assert_eq!(journal.trace(), ["store 1: 10", "done [1]", "close"]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_says_why_the_journal_cannot_be_closed() {
    let journal = Told::new();
    let (numbers, _) = over(&journal, false);
    journal.keep_all();
    numbers.put(1, 10).await.unwrap();
    journal.notes.lock().unwrap().is_stuck = true;
    let left = numbers.shutdown(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!((left.writes, left.is_kept), (0, false));
    assert!(left.to_string().contains("no space left"), "{left}");
}

#[tokio::test(start_paused = true)]
async fn a_flush_does_not_wait_for_a_write_that_the_journal_refuses() {
    let journal = Told::new();
    let (numbers, _) = over(&journal, false);
    let put = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.put(1, 10).await }
    });
    settle().await;
    let flush = tokio::spawn({
        let numbers = numbers.clone();
        async move { numbers.flush().await }
    });
    settle().await;
    journal.keep(1, false);
    assert!(put.await.unwrap().is_err());
    tokio::time::timeout(Duration::from_secs(60), flush).await.expect("nothing is left").unwrap();
}

#[test]
fn who_asks_the_journal_may_end_with_its_runtime_before_it_began() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let journal = Told::new();
    let first = runtime();
    let (numbers, rows) = first.block_on(async {
        let (numbers, rows) = over(&journal, false);
        let mut put = Box::pin(numbers.put(1, 10));
        std::future::poll_fn(|cx| std::task::Poll::Ready(put.as_mut().poll(cx).is_pending())).await;
        drop(put);
        (numbers, rows)
    });
    drop(first);
    journal.keep_all();
    runtime().block_on(async {
        let flush = tokio::time::timeout(Duration::from_secs(10), numbers.flush());
        flush.await.expect("another asks the journal");
    });
    assert_eq!(rows.lock().unwrap().get(&1), Some(&10));
}
