//! Reads and removals.

use std::boxed::Box;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::vec::Vec;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Expired, Key, KeyPattern, LeaseBackend, MemberBackend, Nonce, Record, Removed,
    Result, SweepCursor, Swept, TagBackend, VersionBackend,
};

use futures_util::future::join_all;

use super::Sharded;
use super::routes::all_of;

#[async_trait]
impl<B: Backend> Backend for Sharded<B> {
    fn info(&self) -> BackendInfo {
        self.has.info.clone()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        let view = self.view();
        let copies = self.copies(&view, key);
        if let Some(node) = copies.nodes.only() {
            return view.node(node).get(key).await;
        }
        // None, if all are away: a miss. What one copy lacks, or does not say, another one may have.
        for node in self.spread(copies.nodes).iter() {
            if let Ok(Some(record)) = view.node(node).get(key).await {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        self.get_grouped(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        let view = self.view();
        let takers = self.takers(&view, key);
        all_of(self.at_each(&view, &takers, |_, node| node.remove(key)).await, rank)
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.remove_grouped(keys).await
    }

    async fn sweep(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        self.sweep_in_turn(pattern, from).await
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        let view = self.view();
        let takers = self.takers(&view, key);
        let expired = self.at_each(&view, &takers, |_, node| node.expire(key, keep)).await;
        all_of(expired, |expired| match expired {
            Expired::Held => 2,
            Expired::Marked => 1,
            Expired::Nothing => 0,
        })
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        let view = self.view();
        let copies = self.copies(&view, key);
        let life = |number| self.life_at(&copies, number, ttl);
        let touched =
            self.at_each(&view, &copies.nodes, |number, node| node.touch(key, nonce, life(number))).await;
        // A copy that could not be asked ends earlier than the others.
        let is_touched = touched.iter().any(|it| matches!(it, Ok(true)));
        if is_touched { Ok(true) } else { touched.into_iter().find(Result::is_err).unwrap_or(Ok(false)) }
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.has.info.leases.then_some(self)
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.has.tags.then_some(self)
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.has.members.then_some(self)
    }

    fn versions(&self) -> Option<&dyn VersionBackend> {
        self.has.versions.then_some(self)
    }

    fn incarnation(&self) -> u64 {
        self.view();
        self.sum(&self.effects.steps, Backend::incarnation)
    }

    async fn look(&self, key: &Key) -> Result<()> {
        let view = self.view();
        join_all(view.nodes.iter().map(|node| node.look(key))).await.into_iter().collect()
    }

    fn turns(&self) -> u64 {
        self.sum(&self.effects.turns, Backend::turns)
    }

    fn bound(&self, limit: Duration) {
        let nanos = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.effects.limit.fetch_min(nanos, Ordering::Relaxed);
        // Those that come later are told when they are made.
        self.view().nodes.iter().for_each(|node| node.backend.bound(limit));
    }
}

/// A removal tells of the most that it has ended anywhere.
pub(super) fn rank(removed: &Removed) -> u64 {
    match removed {
        Removed::Held => 2,
        Removed::Existing => 1,
        Removed::Nothing => 0,
    }
}
