//! Scenes of writes to the source, while somebody else comes.

use cachalot_core::LoadError;
use cachalot_strategies::{Cached, ReadThrough, WriteThrough};
use cachalot_testkit::{CountingSource, Gate};

use super::*;

type Rows = CountingSource<u64, String>;
type Through = WriteThrough<u64, String, Engine, Rows>;

/// Begins to write Grace in place of Ada, and comes to `gate`.
async fn writing(users: &Through, gate: &Gate) -> JoinHandle<bool> {
    let users = users.clone();
    let writing = tokio::spawn(async move { users.put(1, "Grace".into()).await.is_ok() });
    gate.reached(1).await;
    writing
}

fn rows() -> Rows {
    CountingSource::with([(1, "Ada".to_owned())])
}

fn is(read: Result<Option<Cached<String>>, LoadError>, name: &str) -> bool {
    read.ok().flatten().is_some_and(|read| *read == name)
}

/// Nobody may keep what the source says before it has taken the write.
pub(super) fn a_load_before_the_source_has_it() -> Scene {
    Box::pin(async {
        let ([one, two], rows) = (fleet(|builder| builder), rows());
        let users = WriteThrough::new(one, rows.clone());
        let gate = rows.stop_before_writing();
        let writing = writing(&users, &gate).await;
        let read = ReadThrough::new(two.clone(), rows).get(&1).await;
        let is_kept = two.get_local(&1).is_some();
        gate.open();
        is(read, "Ada") && !is_kept && writing.await.unwrap()
    })
}

/// What was removed while the source was written is not the source's last word.
pub(super) fn a_removal_before_memory_has_it() -> Scene {
    Box::pin(async {
        let (cache, rows) = (builder(tokio_clock(), 1).build().unwrap(), rows());
        let users = WriteThrough::new(cache.clone(), rows.clone());
        let gate = rows.stop_after_writing();
        let writing = writing(&users, &gate).await;
        rows.set(1, "Joan".into());
        cache.remove(&1).await.unwrap();
        gate.open();
        writing.await.unwrap() && is(users.get(&1).await, "Joan")
    })
}

/// A write that lands after everybody has given it up.
pub(super) fn a_source_that_lands_late() -> Scene {
    Box::pin(async {
        let ([one, two], rows) = (fleet(|builder| builder), rows());
        let users = WriteThrough::new(one, rows.clone());
        let gate = rows.stop_before_writing();
        let is_unknown = !writing(&users, &gate).await.await.unwrap();
        // Longer than a hold lasts.
        sleep(MINUTE / 6).await;
        let stranger = ReadThrough::new(two, rows);
        let before = users.get(&1).await;
        gate.open();
        settle().await;
        is_unknown
            && is(before, "Ada")
            && is(users.get(&1).await, "Grace")
            && is(stranger.get(&1).await, "Grace")
    })
}
