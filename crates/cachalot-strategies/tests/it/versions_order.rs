//! Steps of an insert that no await separates: a store that lets another insert happen between two of them.

use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cachalot_core::{Clock, Commit, Entry, Fence, Hit, Result, Store, StoreCursor, StoreStats};
use cachalot_memory_backend::{Memory, MemoryBuilder};
use cachalot_strategies::{Cache, Inserted, Removal};
use equivalent::Equivalent;

type Inner = Memory<u64, Arc<Entry<String>>>;
type Users = Cache<u64, String, Hooked>;

/// What is to happen before one step.
#[derive(Clone, Default)]
struct Hook(Arc<Mutex<Option<(Step, Work)>>>);

type Work = Box<dyn FnOnce() + Send>;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Invalidate,
    Begin,
    Commit,
}

impl Hook {
    fn reach(&self, step: Step) {
        let mut due = self.0.lock().unwrap();
        if due.as_ref().is_some_and(|(at, _)| *at == step) {
            let (_, work) = due.take().unwrap();
            drop(due);
            work();
        }
    }
}

struct Hooked {
    inner: Inner,
    hook: Hook,
}

impl Store<u64, String> for Hooked {
    type Config = (MemoryBuilder<u64, Arc<Entry<String>>>, Hook);

    fn open((config, hook): Self::Config, clock: Clock) -> Result<Self> {
        Ok(Self { inner: Inner::open(config, clock)?, hook })
    }

    fn get<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Hit<String>> {
        Store::get(&self.inner, key)
    }

    fn begin(&self, key: &u64) -> Fence {
        self.hook.reach(Step::Begin);
        Store::begin(&self.inner, key)
    }

    fn commit(&self, fence: Fence, key: u64, entry: Arc<Entry<String>>) -> Commit {
        self.hook.reach(Step::Commit);
        Store::commit(&self.inner, fence, key, entry)
    }

    fn commit_write(&self, fence: Fence, key: u64, entry: Arc<Entry<String>>) -> Commit {
        self.hook.reach(Step::Commit);
        self.inner.commit_write(fence, key, entry)
    }

    fn invalidate<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q) -> Option<Arc<Entry<String>>> {
        self.hook.reach(Step::Invalidate);
        self.inner.invalidate(key)
    }

    fn expire<Q: Hash + Equivalent<u64> + ?Sized>(&self, key: &Q, keep: Duration) -> bool {
        Store::expire(&self.inner, key, keep)
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        test: impl FnMut(&u64, &Entry<String>) -> bool,
    ) -> Option<StoreCursor> {
        Store::invalidate_if(&self.inner, from, test)
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

fn users(hook: &Hook) -> Users {
    Cache::builder("users").memory((Memory::entries(10), hook.clone())).versioned().build().unwrap()
}

async fn insert(cache: &Users, version: u64) -> Inserted {
    cache.with(|options| options.version(version)).insert(1, version.to_string()).await.unwrap()
}

/// Has `work` happen at `step`, in a thread and a runtime of its own, to its end.
fn at<T: Future<Output = ()>>(hook: &Hook, step: Step, work: impl FnOnce() -> T + Send + 'static) {
    let work = move || std::thread::scope(|scope| scope.spawn(|| cachalot_testkit::block_on(work())).join());
    *hook.0.lock().unwrap() = Some((step, Box::new(move || work().unwrap())));
}

#[tokio::test]
async fn a_newer_insert_amid_an_older_one_in_memory_is_not_replaced_by_it() {
    for step in [Step::Invalidate, Step::Begin, Step::Commit] {
        let hook = Hook::default();
        let cache = users(&hook);
        let other = cache.clone();
        at(&hook, step, || async move { assert_eq!(insert(&other, 2).await, Inserted::Stored) });
        let older = insert(&cache, 1).await;
        assert_ne!(older, Inserted::Stored, "{step:?}");
        let held = cache.get_local(&1).map(|found| found.version());
        assert!(held.is_none_or(|version| version == 2), "{held:?} {step:?}");
    }
}

#[tokio::test]
async fn a_removal_amid_an_older_insert_or_load_in_memory_is_not_undone_by_it() {
    for step in [Step::Invalidate, Step::Begin, Step::Commit] {
        for loads in [false, true] {
            let hook = Hook::default();
            let cache = users(&hook);
            let other = cache.clone();
            at(&hook, step, || async move {
                assert_eq!(other.remove_older(&1, 2).await.unwrap(), Removal::Removed);
            });
            if loads {
                let load = cache.get_or_load(&1, |load| async move {
                    load.version(1);
                    Ok("1".to_owned())
                });
                load.await.unwrap();
            } else {
                insert(&cache, 1).await;
            }
            let is_done = hook.0.lock().unwrap().is_none();
            assert_eq!(is_done, !loads || step != Step::Invalidate, "{step:?}");
            assert!(!is_done || cache.get_local(&1).is_none(), "{step:?} {loads}");
        }
    }
}
