//! A shared tier that has read, and whose answer is still on its way: what happens meanwhile must not be undone.

use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Entropy, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce, Record,
    Removed, Result, SweepCursor, Swept, TagBackend,
};
use cachalot_testkit::Gate;

use crate::world::{World, settle};

/// A backend around another: reads are done at once, and answered when this says so.
#[derive(Debug)]
pub(crate) struct Late<B> {
    pub(crate) inner: B,
    pub(crate) until: Until,
}

#[derive(Debug)]
pub(crate) enum Until {
    Opened(Gate),
    /// For up to this long, evenly.
    Passed(Entropy, Duration),
}

impl<B> Late<B> {
    async fn arrive(&self) {
        match &self.until {
            Until::Opened(gate) => gate.pass().await,
            Until::Passed(entropy, longest) => {
                tokio::time::sleep(longest.mul_f64(entropy.draw_unit())).await;
            }
        }
    }
}

#[async_trait]
impl<B: Backend> Backend for Late<B> {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let answer = self.inner.get(key).await;
        self.arrive().await;
        answer
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        let answers = self.inner.get_many(keys).await;
        self.arrive().await;
        answers
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.inner.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.inner.remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        self.inner.sweep(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.inner.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.inner.leases()
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.inner.tags()
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members()
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_that_has_read_below_before_a_removal_does_not_bring_the_value_back() {
    for loads in [false, true] {
        let world = World::new();
        let keys: Vec<u64> = (0..5).collect();
        world.node().insert_many(keys.iter().map(|key| (*key, "old".to_owned()))).await;
        let gate = Gate::closed();
        let cache = world.over(Late { inner: world.shared.clone(), until: Until::Opened(gate.clone()) });
        let reader = {
            let (cache, keys) = (cache.clone(), keys.clone());
            tokio::spawn(async move {
                if loads {
                    let load = |_| async { Ok(Vec::<(u64, String)>::new()) };
                    cache.get_many_or_load(&keys, load).await.into_iter().flatten().count()
                } else {
                    cache.get_many(&keys).await.into_iter().flatten().count()
                }
            })
        };
        gate.reached(1).await;
        cache.remove(&1).await.unwrap();
        cache.remove_many(&[2, 3]).await.unwrap();
        gate.open();
        assert_eq!(reader.await.unwrap(), 5, "it asked before");
        settle().await;
        let held: Vec<_> = keys.iter().map(|key| cache.get_local(key).is_some()).collect();
        assert_eq!(held, [true, false, false, false, true]);
        assert_eq!(cache.get_many(&keys).await.iter().flatten().count(), 2);
        assert_eq!(cache.stats().fenced, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn who_comes_after_a_removal_does_not_join_a_batch_from_before_it() {
    let world = World::new();
    world.node().insert_many([1, 2].map(|key| (key, "old".to_owned()))).await;
    world.source.set(1, "new".to_owned());
    let gate = Gate::closed();
    let cache = world.over(Late { inner: world.shared.clone(), until: Until::Opened(gate.clone()) });
    let batch = {
        let cache = cache.clone();
        tokio::spawn(async move {
            cache.get_many_or_load(&[1, 2], |_| async { Ok(Vec::<(u64, String)>::new()) }).await
        })
    };
    gate.reached(1).await;
    cache.remove_many(&[1]).await.unwrap();
    let after = world.spawn_load(&cache, 1);
    gate.reached(2).await;
    gate.open();
    assert_eq!(*after.await.unwrap().unwrap(), "new");
    assert_eq!(**batch.await.unwrap()[0].as_ref().unwrap(), "old", "it asked before");
    assert_eq!(*cache.get_local(&1).unwrap(), "new");
}
