//! A process that dies at any await of a write-behind with a journal: after the next start its source has all that was
//! acknowledged, in the order of each key, and what adds up exactly once. In real time: the journal has a thread of its
//! own, which paused time would not wait for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{BoxFuture, Entropy, Entry, ErrorKind, Source, Spawn, Write};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, FileJournal, WriteBehind};
use cachalot_testkit::block_on;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::world::secs;

type Behind = WriteBehind<u64, u64, Memory<u64, Arc<Entry<u64>>>, Bank>;

/// Runs tasks until so many steps are over. Then nothing of them moves any more.
struct Mortal {
    left: AtomicUsize,
    died: Notify,
}

impl Mortal {
    fn after(steps: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(steps), died: Notify::new() })
    }

    fn steps(&self) -> bool {
        let lives =
            self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
        if !lives {
            self.died.notify_one();
        }
        lives
    }
}

struct Life(Arc<Mortal>);

impl Spawn for Life {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        drop(tokio::spawn(Part { mortal: self.0.clone(), task }));
    }
}

/// A task of a mortal: each of its steps ends at an await.
struct Part {
    mortal: Arc<Mortal>,
    task: BoxFuture<'static, ()>,
}

impl Future for Part {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.mortal.steps() { self.task.as_mut().poll(cx) } else { Poll::Pending }
    }
}

/// A database that outlives its clients: the last value of each key, and the sum of what each write said, once.
#[derive(Clone, Default)]
struct Bank {
    rows: Arc<Mutex<HashMap<u64, Row>>>,
}

#[derive(Default)]
struct Row {
    value: Option<u64>,
    sum: u64,
    seen: HashMap<u128, u64>,
}

impl Bank {
    fn row<T>(&self, key: u64, read: impl FnOnce(&Row) -> T) -> T {
        read(self.rows.lock().unwrap().entry(key).or_default())
    }
}

#[async_trait]
impl Source<u64, u64> for Bank {
    type Error = Infallible;

    async fn load(&self, key: &u64) -> Result<Option<u64>, Infallible> {
        Ok(self.row(*key, |row| row.value))
    }

    async fn store(&self, _: &u64, _: &u64) -> Result<(), Infallible> {
        unreachable!("a write-behind applies")
    }

    async fn delete(&self, _: &u64) -> Result<(), Infallible> {
        unreachable!("a write-behind applies")
    }

    async fn apply(&self, writes: &[Write<'_, u64, u64>]) -> Result<(), Infallible> {
        yield_now().await;
        for Write { key, value, sequence, writer } in writes {
            let mut rows = self.rows.lock().unwrap();
            let row = rows.entry(**key).or_default();
            row.value = value.copied();
            let seen = row.seen.entry(*writer).or_default();
            if *seen < *sequence {
                *seen = *sequence;
                row.sum += value.copied().unwrap_or_default();
            }
        }
        // It has them, and has not said so.
        yield_now().await;
        Ok(())
    }
}

/// What became of the writes: the number of each key's last that was begun, and that was acknowledged, and the sums of
/// all of either.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<HashMap<u64, Numbers>>>);

#[derive(Clone, Copy, Default)]
struct Numbers {
    begun: (u64, u64),
    acknowledged: (u64, u64),
}

impl Told {
    async fn put(&self, behind: &Behind, key: u64, number: u64) {
        let note = |which: fn(&mut Numbers) -> &mut (u64, u64)| {
            let mut told = self.0.lock().unwrap();
            let (last, sum) = which(told.entry(key).or_default());
            (*last, *sum) = (number, *sum + number);
        };
        note(|numbers| &mut numbers.begun);
        behind.put(key, number).await.unwrap();
        note(|numbers| &mut numbers.acknowledged);
    }
}

async fn open(folder: &Path, bank: &Bank, mortal: &Arc<Mortal>, is_of_deltas: bool) -> Behind {
    loop {
        let cache = Cache::builder("bank")
            .memory(Memory::entries(100).hash_seed(1))
            .entropy(Entropy::seeded(7))
            .spawn(Life(mortal.clone()))
            .build()
            .unwrap();
        let builder =
            WriteBehind::builder(cache, bank.clone()).batch(2).flush_every(Duration::from_millis(1));
        let builder = if is_of_deltas { builder.merge(|sum, more| sum + more) } else { builder };
        match builder.journal(FileJournal::at(folder).segment_bytes(256)).open().await {
            Ok(behind) => return behind,
            // The one that has died gives its folder back when its thread ends.
            Err(error) if error.kind() == ErrorKind::Conflict => sleep(Duration::from_millis(1)).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// A life of two writers, with numbers that are powers of two, so that a sum tells which it has. Whether it ended
/// before its time.
fn live(folder: &Path, bank: &Bank, told: &Told, mortal: &Arc<Mortal>, is_of_deltas: bool) -> bool {
    block_on(async {
        let behind = open(folder, bank, mortal, is_of_deltas).await;
        let all_done = Arc::new(Semaphore::new(0));
        for writer in 0..2u64 {
            let (behind, told, done) = (behind.clone(), told.clone(), all_done.clone());
            Life(mortal.clone()).spawn(Box::pin(async move {
                for n in 0..6 {
                    // Each key has one writer: so its order is known.
                    told.put(&behind, 2 * (n % 2) + writer, 1 << (8 * writer + n)).await;
                    if n == 3 {
                        behind.flush().await;
                    }
                }
                done.add_permits(1);
            }));
        }
        let both = async {
            let _both = all_done.acquire_many(2).await.unwrap();
            behind.shutdown(secs(60)).await.unwrap();
        };
        tokio::select! {
            biased;
            () = mortal.died.notified() => true,
            () = both => false,
        }
    })
}

/// A whole life has about 75 steps, and fewer where the journal's thread is ahead: one step then sees several of its
/// answers.
const STEPS: usize = 150;

fn dies_at_every_await(is_of_deltas: bool) {
    let mut deaths = 0;
    for steps in 0..STEPS {
        let (folder, bank, told) = (tempfile::tempdir().unwrap(), Bank::default(), Told::default());
        let has_died = live(folder.path(), &bank, &told, &Mortal::after(steps), is_of_deltas);
        block_on(async {
            let next = open(folder.path(), &bank, &Mortal::after(usize::MAX), is_of_deltas).await;
            next.shutdown(secs(60)).await.unwrap();
        });
        for (key, Numbers { begun, acknowledged }) in told.0.lock().unwrap().iter() {
            let (value, sum) = bank.row(*key, |row| (row.value, row.sum));
            let told = format!("after {steps} steps, key {key}: {value:?}, {sum:b}");
            if is_of_deltas {
                assert!(sum == begun.1 || sum == acknowledged.1, "{told}, not {:b}", acknowledged.1);
            } else {
                let expected = [Some(begun.0), Some(acknowledged.0).filter(|number| *number > 0)];
                assert!(expected.contains(&value), "{told}, not {expected:?}");
            }
        }
        deaths += usize::from(has_died);
    }
    // Each writer waits for each of its six writes to be in the journal.
    assert!(deaths > 12, "only {deaths} of {STEPS} lives ended before their time");
    println!("{deaths} of {STEPS} lives ended before their time");
}

#[test]
fn a_process_that_dies_at_any_await_loses_no_acknowledged_write() {
    dies_at_every_await(false);
}

#[test]
fn a_process_that_dies_at_any_await_counts_each_delta_once() {
    dies_at_every_await(true);
}
