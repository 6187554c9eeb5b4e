//! After a failed load: its error is remembered for a while, so that a source that is down is not asked by
//! every caller.

use std::hash::Hash;

use cachalot_core::{EntryOptions, LoadError, Store};
use cachalot_stampede::Lead;
use equivalent::Equivalent;

use crate::cached::Found;
use crate::engine::Engine;
use crate::flight::{Outcome, Wanted};
use crate::read::will_do;

impl<K, V, S> Engine<K, V, S>
where
    K: Hash + Eq + Clone + Send + Sync + 'static,
    V: Send + Sync + 'static,
    S: Store<K, V>,
{
    /// The failure of `key` that is still remembered, if any.
    pub(crate) fn remembered(&self, key: &K) -> Option<LoadError> {
        let remembered = self.failures.as_ref()?.get(key, self.clock.now())?;
        Some(remembered.error.with_retry_at(remembered.retry_at))
    }

    /// Remembers that the load of `lead` failed, unless an invalidation asks for a new one. The error for its
    /// callers.
    pub(crate) fn remember_failure(&self, lead: &Lead<K, Outcome<V>>, error: LoadError) -> LoadError {
        let Some(failures) = &self.failures else { return error };
        match failures.record_load(lead, error.clone(), self.clock.now(), &self.entropy) {
            Some(retry_at) => error.with_retry_at(retry_at),
            None => error,
        }
    }

    pub(crate) fn forget_failure<Q>(&self, key: &Q)
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        if let Some(failures) = &self.failures {
            failures.forget(key);
        }
    }

    /// What there is for a caller whose load has failed already: by now fresh, or stale and good enough. Loads
    /// nothing and waits for nobody.
    pub(crate) async fn find_after(
        &self,
        key: &K,
        options: &EntryOptions,
        wanted: Wanted,
    ) -> Option<Found<V>> {
        let serves = |found: &Found<V>| wanted.accepts(found) && will_do(options, found);
        match self.look(key).map(Found::in_memory).filter(serves) {
            Some(found) => Some(found),
            None => self.read_shared(key, wanted).await.filter(serves),
        }
    }
}
