//! Write-behind: views of pages are counted at once and reach the database now and then, many together. The process
//! dies in the midst of it, and no view is lost or counted twice.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot::{Cache, ErrorKind, FileJournal, Memory, Source, Tier, Write, WriteBehind};

/// The database: how often each page was viewed, and which write of it was the last, as two columns of a row.
#[derive(Default)]
struct Views {
    rows: Mutex<HashMap<u64, (u64, u64)>>,
    statements: Mutex<usize>,
}

impl Views {
    fn rows(&self) -> MutexGuard<'_, HashMap<u64, (u64, u64)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn statements(&self) -> MutexGuard<'_, usize> {
        self.statements.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(&self, page: u64) -> u64 {
        self.rows().get(&page).map_or(0, |(views, _)| *views)
    }
}

#[async_trait]
impl Source<u64, u64> for Views {
    type Error = Infallible;

    async fn load(&self, page: &u64) -> Result<Option<u64>, Infallible> {
        Ok(self.rows().get(page).map(|(views, _)| *views))
    }

    async fn store(&self, page: &u64, views: &u64) -> Result<(), Infallible> {
        self.rows().insert(*page, (*views, 0));
        Ok(())
    }

    async fn delete(&self, page: &u64) -> Result<(), Infallible> {
        self.rows().remove(page);
        Ok(())
    }

    /// One transaction: `UPDATE views SET n = n + ?, last = ? WHERE page = ? AND last < ?` for each.
    async fn apply(&self, writes: &[Write<'_, u64, u64>]) -> Result<(), Infallible> {
        let mut rows = self.rows();
        *self.statements() += writes.len();
        for write in writes {
            let (views, last) = rows.entry(*write.key).or_default();
            if write.sequence > *last {
                *views = write.value.map_or(0, |more| *views + more);
                *last = write.sequence;
            }
        }
        Ok(())
    }
}

type Counter = WriteBehind<u64, u64, Arc<Views>>;

async fn open(folder: &Path, views: &Arc<Views>) -> Result<Counter, Box<dyn std::error::Error>> {
    loop {
        let cache: Cache<u64, u64> = Cache::builder("views").memory(Memory::entries(1_000)).build()?;
        let builder = Counter::builder(cache, views.clone())
            .flush_every(Duration::from_secs(5))
            .batch(100)
            .merge(|older, newer| older + newer);
        match builder.journal(FileJournal::at(folder)).open().await {
            // Who had the folder before has not quite gone.
            Err(error) if error.kind() == ErrorKind::Conflict => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            opened => return Ok(opened?),
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::temp_dir().join(format!("cachalot-views-{}", std::process::id()));
    let views = Arc::new(Views::default());

    let first = tokio::runtime::Runtime::new()?;
    let counter = first.block_on(async {
        let counter = open(&folder, &views).await?;
        for page in [1, 2, 1, 1, 3] {
            counter.put(page, 1).await?;
        }
        let found = counter.get(&1).await?.ok_or("it is counted")?;
        assert_eq!((*found, found.tier(), views.of(1)), (3, Tier::Pending, 0));
        println!("page 1: {} views here, {} in the database", *found, views.of(1));
        counter.flush().await;
        println!("after a flush: {} in the database, by {} statements", views.of(1), views.statements());
        assert_eq!((views.of(1), *views.statements()), (3, 3));

        for _ in 0..40 {
            counter.put(1, 1).await?;
        }
        println!("40 views more, acknowledged; then the process dies");
        Ok::<_, Box<dyn std::error::Error>>(counter)
    })?;
    // Every task ends where it stands.
    drop(first);
    drop(counter);
    assert_eq!(views.of(1), 3);

    tokio::runtime::Runtime::new()?.block_on(async {
        let counter = open(&folder, &views).await?;
        println!("after the restart: {} writes came back", counter.stats().recovered);
        counter.shutdown(Duration::from_secs(10)).await?;
        println!("page 1: {} in the database", views.of(1));
        assert_eq!(views.of(1), 43);
        Ok::<_, Box<dyn std::error::Error>>(())
    })?;
    std::fs::remove_dir_all(&folder)?;
    Ok(())
}
