//! The reference passes: by itself, erased, and without its leases.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Expired, Key, KeyPattern, LeaseBackend, ManualClock, MemberBackend, Nonce, Record,
    Removed, Result, SweepCursor, Swept, TagBackend,
};

use super::*;
use crate::ModelBackend;
use crate::broken::{BrokenBackend, Defect};

crate::backend_suite!(the_reference, || async { subject() });

crate::backend_suite!(the_reference_shared, || async {
    subject().wrapped(|backend| -> Arc<dyn Backend> { backend })
});

crate::backend_suite!(without_leases, || async { subject().wrapped(ReadOnly) });

fn subject() -> BackendSubject {
    let time = ManualClock::new();
    BackendSubject::manual(ModelBackend::new(time.clock()), time)
}

#[test]
fn every_sentence_is_in_the_list() {
    let files = [
        include_str!("cases/reading.rs"),
        include_str!("cases/leases.rs"),
        include_str!("cases/life.rs"),
        include_str!("cases/invalidation.rs"),
        include_str!("cases/sweeping.rs"),
        include_str!("cases/holds.rs"),
        include_str!("cases/tags.rs"),
        include_str!("cases/members.rs"),
        include_str!("cases/robustness.rs"),
    ];
    let name_in = |line: &'static str| line.strip_prefix("pub async fn ")?.split('(').next();
    let written: Vec<&str> = files.iter().flat_map(|file| file.lines().filter_map(name_in)).collect();
    let listed: Vec<&str> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, written);
}

#[test]
fn a_backend_that_hides_its_leases_is_caught() {
    let make = || async {
        let time = ManualClock::new();
        let model = ModelBackend::new(time.clock());
        BackendSubject::manual(BrokenBackend::new(model, Defect::DeniesItsLeases), time)
    };
    let panic = std::panic::catch_unwind(|| run("a_usable_value_is_a_hit", make)).unwrap_err();
    assert!(panic.downcast::<&str>().unwrap().contains("no leases"));
}

/// Can be read and invalidated, and nothing else.
#[derive(Debug)]
struct ReadOnly(Arc<dyn Backend>);

#[async_trait]
impl Backend for ReadOnly {
    fn info(&self) -> BackendInfo {
        BackendInfo::new("read-only", "", false)
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
        None
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        None
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        None
    }

    fn incarnation(&self) -> u64 {
        self.0.incarnation()
    }
}
