//! What each promise of a journal adds to a write. The source takes all at once, and so costs nothing.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use benches::{Figure, Sheet, rounds, runtime};
use cachalot_core::Source;
use cachalot_core::units::minutes;
use cachalot_strategies::{FileJournal, Fsync, Overflow, WriteBehind};

use crate::Scale;
use crate::sqlite::Value;
use crate::writers::{Written, write};
use crate::writes::{cache, folder};

const PROMISES: [(&str, Option<Fsync>); 3] = [
    ("best effort", None),
    ("fsync every 10 ms", Some(Fsync::Every(Duration::from_millis(10)))),
    ("fsync always", Some(Fsync::Always)),
];

const ACKNOWLEDGED: Figure = Figure::new("acknowledged after", "us");
const PER_SECOND: Figure = Figure::higher("writes", "1/s");

/// Takes everything.
struct Nowhere;

#[async_trait]
impl Source<u64, Value> for Nowhere {
    type Error = Infallible;

    async fn load(&self, _: &u64) -> Result<Option<Value>, Infallible> {
        Ok(None)
    }

    async fn store(&self, _: &u64, _: &Value) -> Result<(), Infallible> {
        Ok(())
    }

    async fn store_many(&self, _: &[(&u64, &Value)]) -> Result<(), Infallible> {
        Ok(())
    }

    async fn delete(&self, _: &u64) -> Result<(), Infallible> {
        Ok(())
    }
}

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    for writers in [1, 16, 64] {
        let case = format!("a journal's promise, writers: {writers}");
        rounds(scale.rounds, &format!("strategies  {case}"), &mut PROMISES.clone(), |(name, fsync)| {
            let (written, per_second) = runtime().block_on(round(writers, scale.writing, *fsync));
            sheet.add(&case, name, ACKNOWLEDGED, written.each.as_secs_f64() * 1e6);
            sheet.add(&case, name, PER_SECOND, per_second);
        });
    }
}

async fn round(writers: u64, time: Duration, fsync: Option<Fsync>) -> (Written, f64) {
    let folder = folder();
    let builder = WriteBehind::builder(cache(), Nowhere).overflow(Overflow::Block(minutes(1)));
    let opened = match fsync {
        None => builder.build(),
        Some(fsync) => builder.journal(FileJournal::at(folder.path()).fsync(fsync)).open().await,
    };
    let Ok(behind) = opened else { panic!("no write-behind") };
    let writing = behind.clone();
    let began = Instant::now();
    let written = write(writers, time, move |key, value| {
        let behind = writing.clone();
        async move { assert!(behind.put(key, value).await.is_ok()) }
    })
    .await;
    assert!(behind.shutdown(minutes(1)).await.is_ok());
    (written, written.count as f64 / began.elapsed().as_secs_f64())
}
