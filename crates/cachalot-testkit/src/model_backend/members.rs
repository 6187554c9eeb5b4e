//! Its lists of members.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Clock, Enrolled, Key, Member, MemberBackend, Result, Roll, Timestamp};

use super::{ModelBackend, reached};

/// All registries. A clone is the same ones.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registries {
    by_name: Arc<Mutex<HashMap<Key, Registry>>>,
    begun: Arc<AtomicU64>,
}

/// One list.
#[derive(Clone, Debug)]
pub(crate) struct Registry {
    pub(crate) number: u64,
    pub(crate) begun_at: Timestamp,
    pub(crate) members: BTreeMap<Member, Timestamp>,
}

impl Registries {
    pub(crate) fn lose(&self) {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs one atomic step on a registry, which is there from now on.
    pub(crate) fn step<R>(
        &self,
        name: &Key,
        clock: &Clock,
        step: impl FnOnce(&mut Registry, Timestamp) -> R,
    ) -> R {
        let mut registries = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        let now = clock.now();
        let begin = || Registry {
            number: self.begun.fetch_add(1, Ordering::Relaxed),
            begun_at: now,
            members: BTreeMap::new(),
        };
        let registry = registries.entry(name.clone()).or_insert_with(begin);
        registry.members.retain(|_, ends| !reached(*ends, now));
        step(registry, now)
    }
}

impl ModelBackend {
    /// Forgets who is a member, as a server that evicts it or is flushed.
    pub fn lose_members(&self) {
        self.registries.lose();
    }

    pub(crate) fn on_registry<R>(&self, name: &Key, step: impl FnOnce(&mut Registry, Timestamp) -> R) -> R {
        self.registries.step(name, &self.clock, step)
    }
}

#[async_trait]
impl MemberBackend for ModelBackend {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        Ok(self.on_registry(registry, |registry, now| {
            let before = registry.members.get(member).copied();
            registry.members.insert(member.clone(), (now + term).max(before.unwrap_or_default()));
            Enrolled { was_listed: before.is_some(), registry: registry.number }
        }))
    }

    async fn leave(&self, registry: &Key, member: &Member) -> Result<bool> {
        Ok(self.on_registry(registry, |registry, _| registry.members.remove(member).is_some()))
    }

    async fn roll(&self, registry: &Key) -> Result<Roll> {
        Ok(self.on_registry(registry, |registry, now| {
            let members = registry.members.iter();
            let members = members.map(|(member, ends)| (member.clone(), ends.since(now))).collect();
            Roll { members, age: now.since(registry.begun_at) }
        }))
    }
}
