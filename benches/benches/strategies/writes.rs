//! Writing to SQLite: through, a commit each, and behind, many together.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{CAPACITY, Figure, Sheet, rounds, runtime};
use cachalot_core::Entry;
use cachalot_core::units::{hours, minutes};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, FileJournal, Fsync, Overflow, WriteBehind, WriteThrough};
use tempfile::TempDir;

use crate::Scale;
use crate::sqlite::{Rows, Value};
use crate::writers::{Written, write};

pub(crate) type Entries = Memory<u64, Arc<Entry<Value>>>;

/// `None` keeps what waits in memory alone.
type Promise = Option<Fsync>;

/// Who writes, and how: `None` through.
const CONTENDERS: [(&str, Option<Promise>); 4] = [
    (THROUGH, None),
    ("write-behind, fsync always", Some(Some(Fsync::Always))),
    (BEHIND, Some(Some(Fsync::Every(Duration::from_millis(10))))),
    ("write-behind, best effort", Some(None)),
];
const THROUGH: &str = "write-through";
const BEHIND: &str = "write-behind, fsync every 10 ms";

const PER_SECOND: Figure = Figure::higher("writes", "1/s");
const ACKNOWLEDGED: Figure = Figure::new("acknowledged after", "us");
const STATEMENTS: Figure = Figure::new("statements", "per write");
const COMMITS: Figure = Figure::new("commits", "per 1,000 writes");
/// Ten times as many writes a second.
const RATIO: Figure = Figure::new("time a write / write-through", "ratio").at_most(0.1);

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    for writers in [1, 16] {
        let case = match writers {
            1 => "to SQLite, 1 writer, the last flush included".to_owned(),
            _ => format!("to SQLite, {writers} writers, the last flush included"),
        };
        let mut per_second: HashMap<&str, Vec<f64>> = HashMap::new();
        rounds(scale.rounds, &format!("strategies  {case}"), &mut CONTENDERS.clone(), |(name, promise)| {
            let round = runtime().block_on(round(writers, scale.writing, *promise));
            per_second.entry(*name).or_default().push(round.per_second);
            sheet.add(&case, name, PER_SECOND, round.per_second);
            sheet.add(&case, name, ACKNOWLEDGED, round.written.each.as_secs_f64() * 1e6);
            sheet.add(&case, name, STATEMENTS, round.statements / round.written.count as f64);
            sheet.add(&case, name, COMMITS, round.commits * 1e3 / round.written.count as f64);
        });
        for (through, behind) in per_second[THROUGH].iter().zip(&per_second[BEHIND]) {
            sheet.add(&case, BEHIND, RATIO, through / behind);
        }
    }
}

struct Round {
    written: Written,
    /// From the first write until the database has the last.
    per_second: f64,
    statements: f64,
    commits: f64,
}

async fn round(writers: u64, time: Duration, promise: Option<Promise>) -> Round {
    let folder = folder();
    let rows = Arc::new(Rows::open(folder.path()));
    let began = Instant::now();
    let written = match promise {
        None => {
            let through = WriteThrough::new(cache(), rows.clone());
            write(writers, time, move |key, value| {
                let through = through.clone();
                async move { assert!(through.put(key, value).await.is_ok()) }
            })
            .await
        }
        Some(promise) => {
            let behind = behind(rows.clone(), promise, folder.path()).await;
            let writing = behind.clone();
            let written = write(writers, time, move |key, value| {
                let behind = writing.clone();
                async move { assert!(behind.put(key, value).await.is_ok()) }
            })
            .await;
            assert!(behind.shutdown(minutes(1)).await.is_ok());
            written
        }
    };
    let per_second = written.count as f64 / began.elapsed().as_secs_f64();
    let (statements, commits) = rows.asked();
    Round { written, per_second, statements: statements as f64, commits: commits as f64 }
}

async fn behind(
    rows: Arc<Rows>,
    promise: Promise,
    folder: &Path,
) -> WriteBehind<u64, Value, Entries, Arc<Rows>> {
    // Who finds no room waits for it: else the queue would only move the work behind the end.
    let builder = WriteBehind::builder(cache(), rows).overflow(Overflow::Block(minutes(1)));
    let built = match promise {
        None => builder.build(),
        Some(fsync) => builder.journal(FileJournal::at(folder.join("journal")).fsync(fsync)).open().await,
    };
    match built {
        Ok(behind) => behind,
        Err(error) => panic!("no write-behind: {error}"),
    }
}

pub(crate) fn cache() -> Cache<u64, Value, Entries> {
    match Cache::builder("bench").memory(Memory::entries(CAPACITY as u64)).ttl(hours(1)).build() {
        Ok(cache) => cache,
        Err(error) => panic!("no cache: {error}"),
    }
}

/// On the disk of the build, since a folder for temporary files may be in memory.
pub(crate) fn folder() -> TempDir {
    match tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")) {
        Ok(folder) => folder,
        Err(error) => panic!("no folder: {error}"),
    }
}
