//! Scenes with somebody who follows no contract of ours.

use std::sync::Arc;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, BusEvent, BusInfo, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce,
    Record, Removed, Result, Subject, Subscription, SweepCursor, Swept, TagBackend,
};
use tokio::sync::Notify;

use super::*;

/// A bus on which a foreigner speaks of key 1 when told to.
#[derive(Clone, Debug, Default)]
struct Foreigner(Arc<Notify>);

struct Ear {
    speaks: Arc<Notify>,
    is_confirmed: bool,
}

#[async_trait]
impl Bus for Foreigner {
    fn info(&self) -> BusInfo {
        BusInfo::new("foreigner", "")
    }

    async fn publish(&self, _: &Message) -> Result<()> {
        Ok(())
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        Ok(Box::new(Ear { speaks: self.0.clone(), is_confirmed: false }))
    }
}

#[async_trait]
impl Subscription for Ear {
    async fn next(&mut self) -> Result<BusEvent> {
        if !self.is_confirmed {
            self.is_confirmed = true;
            return Ok(BusEvent::Confirmed);
        }
        self.speaks.notified().await;
        Ok(BusEvent::Foreign(vec![Subject::Key { key: Key::new("users:1"), pending: false }]))
    }
}

pub(super) fn a_foreign_message() -> Scene {
    Box::pin(async {
        let foreigner = Foreigner::default();
        let node = builder(tokio_clock(), 1).bus(foreigner.clone()).build().unwrap();
        settle().await;
        node.insert(1, "Ada".into()).await.unwrap();
        let was_there = node.get_local(&1).is_some();
        foreigner.0.notify_one();
        settle().await;
        was_there && node.get_local(&1).is_none()
    })
}

/// A tier whose values do not say which tags they have.
#[derive(Debug)]
struct Bare(ModelBackend);

pub(super) fn a_value_that_tells_no_tags() -> Scene {
    Box::pin(async {
        let clock = tokio_clock();
        let node = builder(clock.clone(), 1).backend(Bare(ModelBackend::new(clock))).build().unwrap();
        node.insert(1, "Ada".into()).await.unwrap();
        let was_there = node.get_local(&1).is_some();
        node.remove_tag("any").await.unwrap();
        was_there && node.get_local(&1).is_none() && node.get(&1).await.is_some()
    })
}

#[async_trait]
impl Backend for Bare {
    fn info(&self) -> BackendInfo {
        // MessagePack, which caches have unless told otherwise.
        self.0.info().with_bare(1)
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.0.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        self.0.get_many(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.0.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.0.remove_many(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        self.0.sweep(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.0.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.0.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.0.leases()
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.0.tags()
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.0.members()
    }

    fn incarnation(&self) -> u64 {
        self.0.incarnation()
    }
}

/// What a bare tier cannot say is refused when the cache is built.
#[test]
fn a_cache_over_bare_values_has_no_schema_and_is_not_clearable_in_one_step() {
    let over = || builder(tokio_clock(), 1).backend(Bare(ModelBackend::new(tokio_clock())));
    block_on_paused(async {
        assert!(over().build().is_ok());
        for refused in [over().schema(1), over().clearable(), over().codec(cachalot::codec::Json)] {
            assert!(refused.build().is_err());
        }
    });
}

/// Whoever writes there need not say so on any bus.
#[test]
fn memory_keeps_bare_values_for_ten_seconds_also_with_a_bus() {
    block_on_paused(async {
        let clock = tokio_clock();
        let tier = Bare(ModelBackend::new(clock.clone()));
        let node = builder(clock, 1).backend(tier).bus(Foreigner::default()).build().unwrap();
        settle().await;
        node.insert(1, "Ada".into()).await.unwrap();
        sleep(Duration::from_secs(9)).await;
        assert!(node.get_local(&1).is_some());
        sleep(Duration::from_secs(2)).await;
        assert!(node.get_local(&1).is_none());
        assert!(node.get(&1).await.is_some());
    });
}
