//! Many writes and invalidations. They run in a task that outlives their caller.

use std::collections::BTreeMap;
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{EntryOptions, Error, ErrorKind, Event, Key, Removed, Result, Store, mutant};
use cachalot_stampede::{Failure, guard};

use super::AT_ONCE;
use super::pipeline::pipelined;
use crate::engine::Engine;
use crate::write::{Inserted, Removal};

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    pub(crate) async fn insert_many(
        self: Arc<Self>,
        pairs: Vec<(K, V)>,
        options: EntryOptions,
    ) -> Vec<Result<Inserted>> {
        // Writers whose keys share a fence would end each other, the same key's above all: they take turns.
        let mut lanes: BTreeMap<usize, Vec<(usize, K, V)>> = BTreeMap::new();
        for (place, (key, value)) in pairs.into_iter().enumerate() {
            lanes.entry(self.store.begin(&key).slot()).or_default().push((place, key, value));
        }
        let inserts = lanes.into_values().map(|lane| self.clone().insert_in_turn(lane, options.clone()));
        let mut results: Vec<_> = pipelined(AT_ONCE, inserts).await.into_iter().flatten().collect();
        results.sort_unstable_by_key(|(place, _)| *place);
        results.into_iter().map(|(_, result)| result).collect()
    }

    async fn insert_in_turn(
        self: Arc<Self>,
        lane: Vec<(usize, K, V)>,
        options: EntryOptions,
    ) -> Vec<(usize, Result<Inserted>)> {
        let mut results = Vec::with_capacity(lane.len());
        for (place, key, value) in lane {
            results.push((place, self.clone().insert_one(key, value, options.clone()).await));
        }
        results
    }

    /// An insert whose panic is its own.
    async fn insert_one(self: Arc<Self>, key: K, value: V, options: EntryOptions) -> Result<Inserted> {
        let insert = Box::pin(self.clone().insert(key, value, options));
        guard(insert, Duration::MAX).await.unwrap_or_else(|failure| {
            self.emit(&Event::TaskPanicked);
            let detail = match failure {
                Failure::Panicked(message) => format!("a `Drop` panicked: {message}"),
                Failure::Timeout => "it did not end".to_owned(),
            };
            Err(Error::new(ErrorKind::Panicked, "insert").detail(detail))
        })
    }

    /// Forgets `keys` everywhere: the shared tier first, then this process, as for one key.
    pub(crate) async fn remove_many(self: Arc<Self>, keys: Vec<K>) -> Vec<Removal> {
        let shared_keys: Vec<Key> =
            self.shared.iter().flat_map(|shared| keys.iter().map(|key| shared.key(key))).collect();
        if mutant!(ForgetsManyFirst) {
            keys.iter().for_each(|key| self.forget(key));
        }
        let (mut removed, mut panic) = match &self.shared {
            Some(shared) => {
                let mut removed = shared.backend.remove_many(&shared_keys).await;
                let panic = self.end_dependants_of_many(shared, &keys, &mut removed).await;
                (removed.into_iter(), panic)
            }
            None => (Vec::new().into_iter(), None),
        };
        let mut shared_keys = shared_keys.into_iter();
        let mut removals = Vec::with_capacity(keys.len());
        for key in keys {
            let below = shared_keys.next().map(|shared_key| (shared_key, removed.next()));
            // A value's `Drop` that panics must not leave the other keys as they are.
            match catch_unwind(AssertUnwindSafe(|| self.removed_below(key, below))) {
                Ok(removal) => removals.push(removal),
                Err(thrown) => panic = Some(thrown),
            }
        }
        match panic {
            Some(thrown) => resume_unwind(thrown),
            None => removals,
        }
    }

    /// The local step, once the shared tier, if there is one, has answered.
    fn removed_below(self: &Arc<Self>, key: K, below: Option<(Key, Option<Result<Removed>>)>) -> Removal {
        match below {
            None | Some((_, Some(Ok(_)))) => {
                self.tell_key(&key, false);
                if mutant!(LeavesFlightsOpenToMany) {
                    drop(self.store.invalidate(&key));
                } else if !mutant!(ForgetsManyFirst) {
                    self.forget(&key);
                }
                Removal::Removed
            }
            Some((shared_key, Some(Err(error)))) => {
                self.defer(shared_key, key, &error);
                Removal::Deferred
            }
            Some((shared_key, None)) => {
                let error = Error::new(ErrorKind::Unavailable, "remove_many").detail("it was not answered");
                self.defer(shared_key, key, &error);
                Removal::Deferred
            }
        }
    }
}
