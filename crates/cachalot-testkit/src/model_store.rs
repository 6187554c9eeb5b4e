//! A store written to be read, not to be fast: what `Store` means.

use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{
    Clock, Commit, Entry, Fence, Freshness, Hit, Result, SnapshotStore, Store, StoreCursor, StoreStats,
    Timestamp,
};
use equivalent::Equivalent;

/// A [`Store`] without bound, under one lock, that looks at key after key. The reference that shows the
/// suite to be satisfiable, and a stand-in for the memory engine in tests.
pub struct ModelStore<K, V> {
    clock: Clock,
    state: Mutex<State<K, V>>,
}

struct State<K, V> {
    held: Vec<Held<K, V>>,
    /// One generation guards all keys: it revokes more than asked, never less.
    generation: u64,
    /// How many entries were ever committed.
    committed: u64,
    expired: u64,
    revoked: u64,
}

struct Held<K, V> {
    /// Which commit it came with.
    number: u64,
    key: K,
    entry: Arc<Entry<V>>,
    ends: Timestamp,
    is_invalidated: bool,
}

impl<K, V> ModelStore<K, V> {
    /// An empty one over `clock`.
    pub fn new(clock: Clock) -> Self {
        let state = State { held: Vec::new(), generation: 0, committed: 0, expired: 0, revoked: 0 };
        Self { clock, state: Mutex::new(state) }
    }

    #[cfg(test)]
    pub(crate) fn generation(&self) -> u64 {
        self.state().generation
    }

    /// Makes fences good again.
    #[cfg(test)]
    pub(crate) fn set_generation(&self, generation: u64) {
        self.state().generation = generation;
    }

    /// What it is good for now.
    fn freshness(&self, held: &Held<K, V>) -> Freshness {
        if held.is_invalidated {
            Freshness::Invalidated
        } else if self.clock.has_reached(held.entry.meta.soft_expiry()) {
            Freshness::Stale
        } else {
            Freshness::Fresh
        }
    }

    /// The state with nothing in it that time has ended.
    fn state(&self) -> MutexGuard<'_, State<K, V>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.held.len();
        state.held.retain(|held| !self.clock.has_reached(held.ends));
        state.expired += (before - state.held.len()) as u64;
        state
    }
}

impl<K, V> State<K, V> {
    fn find<Q: Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<&mut Held<K, V>> {
        self.held.iter_mut().find(|held| key.equivalent(&held.key))
    }

    fn take<Q: Equivalent<K> + ?Sized>(&mut self, key: &Q) -> Option<Arc<Entry<V>>> {
        let at = self.held.iter().position(|held| key.equivalent(&held.key))?;
        Some(self.held.swap_remove(at).entry)
    }

    fn commit(&mut self, clock: &Clock, fence: &Fence, key: K, entry: Arc<Entry<V>>) -> Commit
    where
        K: Eq + Hash,
    {
        if fence.generation() != self.generation {
            self.revoked += 1;
            return Commit::Revoked;
        }
        self.take(&key);
        let ends = entry.meta.hard_expiry();
        if clock.has_reached(ends) {
            return Commit::Rejected;
        }
        self.committed += 1;
        self.held.push(Held { number: self.committed, key, entry, ends, is_invalidated: false });
        Commit::Stored
    }
}

/// How many entries one part of a walk looks at. Few, so that walks of tests have several parts.
const ENTRIES_PER_PART: usize = 8;

impl<K, V> Store<K, V> for ModelStore<K, V>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    type Config = ();

    fn open((): (), clock: Clock) -> Result<Self> {
        Ok(Self::new(clock))
    }

    fn get<Q>(&self, key: &Q) -> Option<Hit<V>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let at = self.clock.now();
        let mut state = self.state();
        let held = state.find(key)?;
        let freshness = self.freshness(held);
        Some(Hit { entry: held.entry.clone(), freshness, stale_for: held.entry.meta.stale_for(at), at })
    }

    fn begin(&self, _: &K) -> Fence {
        Fence::new(0, self.state().generation)
    }

    fn commit(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        self.state().commit(&self.clock, &fence, key, entry)
    }

    fn commit_write(&self, fence: Fence, key: K, entry: Arc<Entry<V>>) -> Commit {
        let mut state = self.state();
        let committed = state.commit(&self.clock, &fence, key, entry);
        if committed != Commit::Revoked {
            state.generation += 1;
        }
        committed
    }

    fn invalidate<Q>(&self, key: &Q) -> Option<Arc<Entry<V>>>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let mut state = self.state();
        state.generation += 1;
        state.take(key)
    }

    fn expire<Q>(&self, key: &Q, keep: Duration) -> bool
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let latest = self.clock.now() + keep;
        let mut state = self.state();
        state.generation += 1;
        let Some(held) = state.find(key) else {
            return false;
        };
        held.ends = held.ends.min(latest);
        held.is_invalidated = true;
        true
    }

    fn invalidate_if(
        &self,
        from: StoreCursor,
        mut test: impl FnMut(&K, &Entry<V>) -> bool,
    ) -> Option<StoreCursor> {
        let mut state = self.state();
        state.generation += 1;
        let mut ahead: Vec<u64> =
            state.held.iter().map(|held| held.number).filter(|number| *number >= from.place()).collect();
        ahead.sort_unstable();
        let next = ahead.get(ENTRIES_PER_PART).copied();
        let in_part = |number: u64| number >= from.place() && next.is_none_or(|next| number < next);
        state.held.retain(|held| !(in_part(held.number) && test(&held.key, &held.entry)));
        next.map(|next| StoreCursor::new(0, next))
    }

    fn void_all(&self) {
        self.state().generation += 1;
    }

    fn clear(&self) {
        let mut state = self.state();
        state.generation += 1;
        state.held.clear();
    }

    fn stats(&self) -> StoreStats {
        let state = self.state();
        let mut stats = StoreStats::default();
        stats.entries = state.held.len() as u64;
        stats.weight = stats.entries;
        stats.capacity = u64::MAX;
        stats.expired = state.expired;
        stats.revoked = state.revoked;
        stats
    }
}

impl<K, V> SnapshotStore<K, V> for ModelStore<K, V>
where
    K: Eq + Hash + Send + 'static,
    V: Send + Sync + 'static,
{
    type Mark = u64;

    fn see(
        &self,
        from: StoreCursor,
        mut see: impl FnMut(&K, &Arc<Entry<V>>, Freshness),
    ) -> Option<StoreCursor> {
        let state = self.state();
        let mut ahead: Vec<&Held<K, V>> =
            state.held.iter().filter(|held| held.number >= from.place()).collect();
        ahead.sort_unstable_by_key(|held| held.number);
        ahead.iter().take(ENTRIES_PER_PART).for_each(|held| {
            see(&held.key, &held.entry, self.freshness(held));
        });
        ahead.get(ENTRIES_PER_PART).map(|held| StoreCursor::new(0, held.number))
    }

    fn mark(&self) -> u64 {
        self.state().generation
    }

    fn restore(&self, mark: &u64, key: K, entry: Arc<Entry<V>>) -> Commit {
        let mut state = self.state();
        if state.find(&key).is_some() {
            return Commit::Revoked;
        }
        state.commit(&self.clock, &Fence::new(0, *mark), key, entry)
    }
}

impl<K, V> fmt::Debug for ModelStore<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelStore").field("clock", &self.clock).finish_non_exhaustive()
    }
}
