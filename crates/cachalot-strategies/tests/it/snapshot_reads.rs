//! To be written down is no read.

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot_core::{
    Clock, Commit, Entry, Fence, Freshness, Hit, Result, SnapshotStore, Store, StoreCursor, StoreStats,
};
use cachalot_strategies::Cache;
use cachalot_testkit::ModelStore;
use equivalent::Equivalent;

/// Memory that counts how often it is read.
struct Watched {
    store: ModelStore<u64, String>,
    reads: Arc<AtomicUsize>,
}

impl Store<u64, String> for Watched {
    type Config = Arc<AtomicUsize>;

    fn open(reads: Self::Config, clock: Clock) -> Result<Self> {
        Ok(Self { store: ModelStore::new(clock), reads })
    }

    fn get<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Hit<String>> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.store.get(key)
    }

    fn begin(&self, key: &u64) -> Fence {
        self.store.begin(key)
    }

    fn commit(&self, fence: Fence, key: u64, entry: Arc<Entry<String>>) -> Commit {
        self.store.commit(fence, key, entry)
    }

    fn commit_write(&self, fence: Fence, key: u64, entry: Arc<Entry<String>>) -> Commit {
        self.store.commit_write(fence, key, entry)
    }

    fn invalidate<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Arc<Entry<String>>> {
        self.store.invalidate(key)
    }

    fn expire<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q, keep: Duration) -> bool {
        self.store.expire(key, keep)
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        test: impl FnMut(&u64, &Entry<String>) -> bool,
    ) -> Option<StoreCursor> {
        self.store.invalidate_if(from, test)
    }

    fn void_all(&self) {
        self.store.void_all();
    }

    fn clear(&self) {
        self.store.clear();
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

impl SnapshotStore<u64, String> for Watched {
    type Mark = u64;

    fn see(
        &self,
        from: StoreCursor,
        see: impl FnMut(&u64, &Arc<Entry<String>>, Freshness),
    ) -> Option<StoreCursor> {
        self.store.see(from, see)
    }

    fn mark(&self) -> u64 {
        self.store.mark()
    }

    fn restore(&self, mark: &u64, key: u64, entry: Arc<Entry<String>>) -> Commit {
        self.store.restore(mark, key, entry)
    }
}

#[tokio::test]
async fn a_snapshot_reads_no_entry_in_memory_so_that_none_counts_as_recent() {
    let (folder, reads) = (tempfile::tempdir().unwrap(), Arc::new(AtomicUsize::new(0)));
    let cache: Cache<u64, String, Watched> = Cache::builder("users").memory(reads.clone()).build().unwrap();
    for key in 0..20 {
        cache.insert(key, "Ada".to_owned()).await.unwrap();
    }
    cache.remove_tag("nobody").await.unwrap();
    let before = reads.load(Ordering::Relaxed);
    let written = cache.snapshot(folder.path().join("users.snapshot")).await.unwrap();
    assert_eq!((written.entries, written.skipped), (20, 0));
    assert_eq!(reads.load(Ordering::Relaxed), before);
}
