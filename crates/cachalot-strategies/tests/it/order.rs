//! Steps of threads that no await separates: a store that stops where told.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use cachalot_core::{Clock, Commit, Entry, Fence, Hit, Result, Store, StoreCursor, StoreStats};
use cachalot_memory_backend::{Memory, MemoryBuilder};
use cachalot_strategies::Cache;
use equivalent::Equivalent;

type Inner = Memory<u64, Arc<Entry<u64>>>;

/// Two threads tell each other how far they are.
#[derive(Default)]
struct Signal {
    is_set: Mutex<bool>,
    changed: Condvar,
}

impl Signal {
    fn set(&self) {
        *self.is_set.lock().unwrap() = true;
        self.changed.notify_all();
    }

    fn wait(&self) {
        let is_set = self.is_set.lock().unwrap();
        drop(self.changed.wait_while(is_set, |is_set| !*is_set).unwrap());
    }
}

#[derive(Default)]
struct Script {
    gets: AtomicUsize,
    /// The removal is about to drop the entry.
    invalidating: Signal,
    /// The flight has read the old value from memory, and not landed yet.
    has_read: Signal,
    /// The flight may go on.
    go: Signal,
}

struct Staged {
    inner: Inner,
    script: Arc<Script>,
}

impl Store<u64, u64> for Staged {
    type Config = (MemoryBuilder<u64, Arc<Entry<u64>>>, Arc<Script>);

    fn open((config, script): Self::Config, clock: Clock) -> Result<Self> {
        Ok(Self { inner: Inner::open(config, clock)?, script })
    }

    fn get<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Hit<u64>> {
        match self.script.gets.fetch_add(1, Ordering::SeqCst) {
            // The caller has looked before the value was there.
            0 => None,
            1 => {
                let hit = Store::get(&self.inner, key);
                self.script.has_read.set();
                self.script.go.wait();
                hit
            }
            _ => Store::get(&self.inner, key),
        }
    }

    fn begin(&self, key: &u64) -> Fence {
        Store::begin(&self.inner, key)
    }

    fn commit(&self, fence: Fence, key: u64, entry: Arc<Entry<u64>>) -> Commit {
        Store::commit(&self.inner, fence, key, entry)
    }

    fn commit_write(&self, fence: Fence, key: u64, entry: Arc<Entry<u64>>) -> Commit {
        self.inner.commit_write(fence, key, entry)
    }

    fn invalidate<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Arc<Entry<u64>>> {
        self.script.invalidating.set();
        self.script.has_read.wait();
        self.inner.invalidate(key)
    }

    fn expire<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q, keep: Duration) -> bool {
        Store::expire(&self.inner, key, keep)
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        test: impl FnMut(&u64, &Entry<u64>) -> bool,
    ) -> Option<StoreCursor> {
        self.inner.invalidate_if(from, test)
    }

    fn void_all(&self) {
        Store::void_all(&self.inner);
    }

    fn clear(&self) {
        Store::clear(&self.inner);
    }

    fn stats(&self) -> StoreStats {
        Store::stats(&self.inner)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_reads_after_a_removal_joins_no_flight_that_has_found_the_old_value_in_memory() {
    let script = Arc::new(Script::default());
    let cache: Cache<u64, u64, Staged> =
        Cache::builder("staged").memory((Memory::entries(10), script.clone())).build().unwrap();
    // The old value is in memory; inserting it passes `invalidate`, which must not wait yet.
    script.has_read.set();
    cache.insert(1, 0).await.unwrap();
    *script.has_read.is_set.lock().unwrap() = false;
    *script.invalidating.is_set.lock().unwrap() = false;

    let load = |cache: Cache<u64, u64, Staged>| {
        tokio::spawn(async move { *cache.get_or_load(&1, |_| async { Ok(1) }).await.unwrap() })
    };
    let removal = tokio::spawn({
        let cache = cache.clone();
        async move { cache.remove(&1).await.unwrap() }
    });
    let early = tokio::task::spawn_blocking({
        let (cache, script, runtime) = (cache.clone(), script.clone(), tokio::runtime::Handle::current());
        move || {
            script.invalidating.wait();
            let _in_runtime = runtime.enter();
            load(cache)
        }
    });
    let early = early.await.unwrap();
    removal.await.unwrap();

    let late = load(cache.clone());
    // The late reader has joined somebody, or leads: either way it has looked into memory.
    while script.gets.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    script.go.set();
    assert_eq!(early.await.unwrap(), 0, "it began before the removal");
    assert_eq!(late.await.unwrap(), 1);
}
