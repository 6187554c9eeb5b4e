//! Values whose destructors, weights and sums misbehave.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use cachalot_core::{Entry, ErrorKind, Source, Write};
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, WriteBehind};

use super::deltas::{Counters, Store};
use super::sink::Refused;
use crate::world::secs;

/// A value that does something when it is dropped.
struct Loud(Arc<dyn Fn() + Send + Sync>);

impl Drop for Loud {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Takes everything, and keeps nothing.
struct Nowhere;

#[async_trait]
impl Source<u64, Loud> for Nowhere {
    type Error = Refused;

    async fn load(&self, _: &u64) -> Result<Option<Loud>, Refused> {
        Ok(None)
    }

    async fn store(&self, _: &u64, _: &Loud) -> Result<(), Refused> {
        Ok(())
    }

    async fn delete(&self, _: &u64) -> Result<(), Refused> {
        Ok(())
    }

    async fn apply(&self, _: &[Write<'_, u64, Loud>]) -> Result<(), Refused> {
        Ok(())
    }
}

type Louds = WriteBehind<u64, Loud, Memory<u64, Arc<Entry<Loud>>>, Nowhere>;

fn louds() -> Louds {
    let cache = Cache::builder("louds").memory(Memory::entries(100)).build().unwrap();
    WriteBehind::builder(cache, Nowhere).build().unwrap()
}

#[test]
fn a_value_may_look_at_the_queue_that_drops_it() {
    let (tell, told) = std::sync::mpsc::channel();
    // A deadlock would hold up the test for ever.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let louds = louds();
            let itself: Arc<OnceLock<Louds>> = Arc::default();
            assert!(itself.set(louds.clone()).is_ok());
            let looks = Arc::new(move || {
                let _ = itself.get().map(Louds::stats);
            });
            louds.put(1, Loud(looks.clone())).await.unwrap();
            louds.put(1, Loud(looks)).await.unwrap();
            louds.flush().await;
            tell.send(louds.stats().flushed).unwrap();
        });
    });
    assert_eq!(told.recv_timeout(secs(60)), Ok(1));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_panics_when_it_is_dropped_loses_no_write() {
    let louds = louds();
    let panics = Arc::new(|| panic!("a destructor that panics"));
    for key in [1, 1, 2] {
        louds.put(key, Loud(panics.clone())).await.unwrap();
    }
    tokio::time::timeout(secs(60), louds.flush()).await.unwrap();
    assert_eq!((louds.stats().flushed, louds.stats().entries), (2, 0));
}

fn cache() -> Cache<u64, i64, Store> {
    Cache::builder("views").memory(Memory::entries(100)).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_weigher_that_panics_at_a_sum_leaves_both() {
    let counters = Counters::default();
    let views = WriteBehind::builder(cache(), counters.clone())
        .merge(|older, newer| older + newer)
        .max_bytes(100, |_, value| if value == Some(&3) { panic!("no") } else { 8 })
        .build()
        .unwrap();
    views.put(1, 1).await.unwrap();
    views.put(1, 2).await.unwrap();
    assert_eq!(views.stats().bytes, 16);
    views.flush().await;
    assert_eq!((counters.row(1), views.stats().bytes), (Some(3), 0));
}

#[tokio::test(start_paused = true)]
async fn a_merge_that_panics_at_a_read_is_an_error_of_that_read() {
    let views = WriteBehind::builder(cache(), Counters::default()).merge(|_: &i64, _: &i64| panic!("no"));
    let views = views.build().unwrap();
    views.put(1, 1).await.unwrap();
    views.put(1, 2).await.unwrap();
    let error = views.get(&1).await.unwrap_err();
    assert_eq!(error.cache_kind(), Some(ErrorKind::Panicked), "{error}");
    assert!(views.get_many(&[1]).await[0].is_err());
    assert!(views.get_local(&1).is_none());
}
