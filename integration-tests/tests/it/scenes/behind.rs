//! Scenes of a write-behind: a source that stops, fails and notes what it was given.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};

use async_trait::async_trait;
use cachalot_core::{Error, ErrorKind, Source, Write};
use cachalot_strategies::{FileJournal, WriteBehind, WriteBehindBuilder};
use cachalot_testkit::Gate;

use super::*;

/// A database with one table.
#[derive(Clone)]
struct Table {
    notes: Arc<Mutex<Notes>>,
    gate: Gate,
}

#[derive(Default)]
struct Notes {
    rows: BTreeMap<u64, String>,
    /// What was stored, one after another.
    stored: Vec<String>,
    under_way: BTreeSet<u64>,
    has_overlapped: bool,
    fails_once: bool,
}

impl Table {
    fn with(value: &str) -> Self {
        let notes = Notes { rows: BTreeMap::from([(1, value.to_owned())]), ..Notes::default() };
        Self { notes: Arc::new(Mutex::new(notes)), gate: Gate::opened() }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap()
    }

    fn row(&self) -> Option<String> {
        self.notes().rows.get(&1).cloned()
    }
}

#[async_trait]
impl Source<u64, String> for Table {
    type Error = Error;

    async fn load(&self, key: &u64) -> Result<Option<String>, Error> {
        Ok(self.notes().rows.get(key).cloned())
    }

    async fn store(&self, _: &u64, _: &String) -> Result<(), Error> {
        unreachable!("a write-behind applies")
    }

    async fn delete(&self, _: &u64) -> Result<(), Error> {
        unreachable!("a write-behind applies")
    }

    async fn apply(&self, writes: &[Write<'_, u64, String>]) -> Result<(), Error> {
        for write in writes {
            let mut notes = self.notes();
            let is_alone = notes.under_way.insert(*write.key);
            notes.has_overlapped |= !is_alone;
        }
        self.gate.pass().await;
        let mut notes = self.notes();
        for write in writes {
            notes.under_way.remove(write.key);
        }
        if std::mem::take(&mut notes.fails_once) {
            return Err(Error::new(ErrorKind::Unavailable, "store"));
        }
        for write in writes {
            let value = write.value.cloned().unwrap_or_default();
            notes.stored.push(value.clone());
            notes.rows.insert(*write.key, value);
        }
        Ok(())
    }
}

type Behind = WriteBehind<u64, String, Engine, Table>;
type BehindBuilder = WriteBehindBuilder<u64, String, Engine, Table>;

/// Over a shared tier, which may be slow to remove.
fn behind(table: &Table, settle: impl Fn(BehindBuilder) -> BehindBuilder) -> (Behind, Faulty) {
    let clock = tokio_clock();
    let tier = Faulty::new(ModelBackend::new(clock.clone()));
    let node = builder(clock, 1).backend(tier.clone()).build().unwrap();
    (settle(WriteBehind::builder(node, table.clone())).build().unwrap(), tier)
}

async fn put(behind: &Behind, value: &str) {
    behind.put(1, value.to_owned()).await.unwrap();
}

async fn read(behind: &Behind) -> Option<String> {
    behind.get(&1).await.unwrap().map(|found| found.to_string())
}

fn flush(behind: &Behind) -> JoinHandle<()> {
    let behind = behind.clone();
    tokio::spawn(async move { behind.flush().await })
}

pub(super) fn a_flush() -> Scene {
    Box::pin(async {
        let table = Table::with("old");
        let (behind, _) = behind(&table, |builder| builder);
        let was_cached = read(&behind).await.as_deref() == Some("old") && behind.get_local(&1).is_some();
        put(&behind, "new").await;
        sleep(MINUTE).await;
        was_cached && table.row().as_deref() == Some("new") && read(&behind).await.as_deref() == Some("new")
    })
}

pub(super) fn a_read_during_a_flush() -> Scene {
    Box::pin(async {
        let table = Table::with("old");
        let (behind, tier) = behind(&table, |builder| builder);
        let was_cached = read(&behind).await.as_deref() == Some("old");
        put(&behind, "new").await;
        tier.next_of(Operation::RemoveMany, Fault::Delay(SOON));
        let flush = flush(&behind);
        settle().await;
        let is_taken = table.row().as_deref() == Some("new") && !flush.is_finished();
        was_cached && is_taken && read(&behind).await.as_deref() == Some("new")
    })
}

pub(super) fn a_write_during_a_call() -> Scene {
    Box::pin(async {
        let table = Table::with("old");
        let (behind, _) = behind(&table, |builder| builder.concurrency(2));
        table.gate.close();
        put(&behind, "one").await;
        let first = flush(&behind);
        table.gate.reached(1).await;
        put(&behind, "two").await;
        let second = flush(&behind);
        settle().await;
        table.gate.open();
        first.await.unwrap();
        second.await.unwrap();
        !table.notes().has_overlapped && table.notes().stored == ["one", "two"]
    })
}

pub(super) fn a_barrier() -> Scene {
    Box::pin(async {
        let table = Table::with("old");
        let (behind, _) = behind(&table, |builder| builder);
        table.gate.close();
        put(&behind, "one").await;
        let first = flush(&behind);
        table.gate.reached(1).await;
        put(&behind, "two").await;
        let second = flush(&behind);
        settle().await;
        put(&behind, "three").await;
        table.gate.open();
        first.await.unwrap();
        second.await.unwrap();
        behind.flush().await;
        table.notes().stored == ["one", "two", "three"]
    })
}

pub(super) fn a_failed_flush() -> Scene {
    Box::pin(async {
        let table = Table::with("old");
        let (behind, _) = behind(&table, |builder| builder);
        table.notes().fails_once = true;
        put(&behind, "new").await;
        behind.flush().await;
        table.row().as_deref() == Some("new")
    })
}

pub(super) fn a_full_journal() -> Scene {
    Box::pin(async {
        let folder = std::env::temp_dir().join(format!("cachalot-full-{}", std::process::id()));
        let node = builder(tokio_clock(), 1).build().unwrap();
        let journal = FileJournal::at(&folder).max_bytes(4_096);
        let opening = WriteBehind::builder(node, Table::with("old")).journal(journal).open();
        let behind = opening.await.unwrap();
        let is_refused = behind.put(1, "x".repeat(10_000)).await.is_err();
        let _ = behind.shutdown(SOON).await;
        let _ = std::fs::remove_dir_all(&folder);
        is_refused
    })
}
