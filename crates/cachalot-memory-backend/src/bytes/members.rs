//! Who is listed. Nothing here is ever evicted: a member takes some hundred bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{Enrolled, Key, Member, MemberBackend, Result, Roll, Timestamp};

use super::MemoryBackend;

/// The lists by their names.
pub(super) type Registries = Mutex<HashMap<Key, Registry>>;

/// A list, and since when it is kept.
pub(super) struct Registry {
    begun_at: Timestamp,
    members: HashMap<Member, Timestamp>,
}

impl MemoryBackend {
    /// Changes a list, without those whose terms are over.
    fn on_registry<R>(&self, name: &Key, change: impl FnOnce(&mut Registry, Timestamp) -> R) -> R {
        let mut registries = self.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        let begin = || Registry { begun_at: now, members: HashMap::new() };
        let registry = registries.entry(name.clone()).or_insert_with(begin);
        registry.members.retain(|_, ends| now < *ends);
        change(registry, now)
    }
}

#[async_trait]
impl MemberBackend for MemoryBackend {
    async fn enroll(&self, registry: &Key, member: &Member, term: Duration) -> Result<Enrolled> {
        Ok(self.on_registry(registry, |registry, now| {
            let ends = now + term;
            let before = registry.members.insert(member.clone(), ends);
            if let Some(before) = before.filter(|before| *before > ends) {
                registry.members.insert(member.clone(), before);
            }
            // It is lost with the whole backend only.
            Enrolled { was_listed: before.is_some(), registry: 0 }
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
