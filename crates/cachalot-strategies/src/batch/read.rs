//! The way of a caller who wants many values.

use std::hash::Hash;

use cachalot_core::{Event, Fence, Key, Record, Result, Store, Tier};

use super::distinct::Distinct;
use crate::cached::{Cached, Found};
use crate::engine::Engine;
use crate::flight::{Considered, Wanted};
use crate::shared::Shared;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// What memory and the shared tier have, the latter copied to memory under the fences.
    pub(crate) async fn get_many(&self, keys: &[K]) -> Vec<Option<Cached<V>>> {
        let mut answers: Vec<_> = keys.iter().map(|key| self.get_in_memory(key)).collect();
        let missing = Distinct::of(keys, |place| answers[place].is_none());
        if missing.keys.is_empty() {
            return answers;
        }
        let found = self.copy_many(&missing.keys).await;
        for (place, at) in missing.places() {
            self.emit(&found[at].as_ref().map_or(Event::Miss, |_| Event::Hit { tier: Tier::Backend }));
            answers[place] = found[at].clone().and_then(Cached::new);
        }
        answers
    }

    fn get_in_memory(&self, key: &K) -> Option<Cached<V>> {
        let cached = self.fresh_in_memory(key).and_then(Cached::new)?;
        self.emit_memory_hit();
        Some(cached)
    }

    async fn copy_many(&self, keys: &[&K]) -> Vec<Option<Found<V>>> {
        let Some(shared) = &self.shared else { return vec![None; keys.len()] };
        // Every fence before the one read.
        let mut asked: Vec<Option<(Fence, Key)>> = Vec::with_capacity(keys.len());
        for key in keys {
            let fence = self.store.begin(key);
            let shared_key = shared.key(key);
            asked.push((!self.deferred.contains(&shared_key)).then_some((fence, shared_key)));
        }
        let shared_keys: Vec<Key> = asked.iter().flatten().map(|(_, key)| key.clone()).collect();
        if shared_keys.is_empty() {
            return vec![None; keys.len()];
        }
        let mut records = shared.backend.get_many(&shared_keys).await.into_iter();
        let copy = |(asked, key): (Option<(Fence, Key)>, &&K)| {
            let (fence, shared_key) = asked?;
            let found = self.usable(shared, &shared_key, records.next()?)?;
            self.fill_memory(fence, (*key).clone(), &found);
            Some(found)
        };
        asked.into_iter().zip(keys).map(copy).collect()
    }

    fn usable(&self, shared: &Shared<K, V>, key: &Key, record: Result<Option<Record>>) -> Option<Found<V>> {
        let record = match record {
            Ok(record) => record?,
            Err(error) => {
                self.backend_failed(&error);
                return None;
            }
        };
        match self.consider(shared, key, &record, Wanted::Value) {
            Considered::Usable(found) => Some(found),
            Considered::Newer | Considered::Unfit(_) => None,
        }
    }
}
