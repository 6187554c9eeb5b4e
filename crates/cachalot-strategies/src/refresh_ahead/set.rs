//! The keys that are kept warm, and what is known of each.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cachalot_core::Timestamp;

pub(super) struct WarmSet<K> {
    inner: Mutex<Inner<K>>,
}

struct Inner<K> {
    members: HashMap<K, Member>,
    /// Only of members, and of what the last round found to be read most often.
    tried: HashMap<K, Tried>,
    generation: u64,
}

struct Member {
    since: Timestamp,
    /// Whether it is one of the list.
    is_kept: bool,
    guards: usize,
    /// Guards of another one are of a key that was forgotten.
    generation: u64,
}

/// The last try to load a key.
#[derive(Clone, Copy, Default)]
struct Tried {
    at: Timestamp,
    /// The source has no such row: it is asked again then.
    absent_until: Option<Timestamp>,
}

/// Keeps a key warm until it is dropped, as long as there is the [`RefreshAhead`](crate::RefreshAhead) that gave it.
#[must_use = "dropping it takes the key out of the set"]
pub struct Registration<K: Hash + Eq> {
    set: Arc<WarmSet<K>>,
    /// `None` once it is dropped.
    key: Option<K>,
    generation: u64,
}

impl<K: Hash + Eq + Clone> WarmSet<K> {
    pub(super) fn new() -> Arc<Self> {
        let inner = Inner { members: HashMap::new(), tried: HashMap::new(), generation: 0 };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    pub(super) fn register(self: &Arc<Self>, key: K, now: Timestamp) -> Registration<K> {
        let mut inner = self.lock();
        let member = inner.member(&key, now);
        member.guards += 1;
        let generation = member.generation;
        Registration { set: self.clone(), key: Some(key), generation }
    }

    /// Makes `keys` the list, in place of the one before.
    pub(super) fn keep(&self, keys: impl IntoIterator<Item = K>, now: Timestamp) {
        let keys: HashSet<K> = keys.into_iter().collect();
        let mut inner = self.lock();
        for (key, member) in &mut inner.members {
            member.is_kept = keys.contains(key);
        }
        for key in keys {
            inner.member(&key, now).is_kept = true;
        }
        inner.members.retain(|_, member| member.is_kept || member.guards > 0);
        let Inner { members, tried, .. } = &mut *inner;
        tried.retain(|key, _| members.contains_key(key));
        inner.shrink();
    }

    pub(super) fn forget(&self, key: &K) -> bool {
        let mut inner = self.lock();
        let was_there = inner.members.remove(key).is_some();
        inner.tried.remove(key);
        inner.shrink();
        was_there
    }

    /// All keys of a round, those that are registered and those that are `hot`; of others nothing is known any more.
    pub(super) fn of_round(&self, hot: Vec<K>) -> Vec<K> {
        let mut inner = self.lock();
        let Inner { members, tried, .. } = &mut *inner;
        let hot: HashSet<K> = hot.into_iter().filter(|key| !members.contains_key(key)).collect();
        tried.retain(|key, _| members.contains_key(key) || hot.contains(key));
        let mut keys: Vec<K> = members.keys().cloned().collect();
        keys.extend(hot);
        inner.shrink();
        keys
    }

    /// When a key's turn is: it waits since it came due, or was tried last. `None`: it is absent, and not to be asked
    /// for yet.
    pub(super) fn turn_of(&self, key: &K, due: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
        let inner = self.lock();
        let tried = inner.tried.get(key).copied().unwrap_or_default();
        if due.is_none() && tried.absent_until.is_some_and(|until| now < until) {
            return None;
        }
        let since = due.or_else(|| inner.members.get(key).map(|member| member.since));
        Some(since.unwrap_or(now).max(tried.at))
    }

    /// Notes that these keys are about to be loaded.
    pub(super) fn trying(&self, keys: &[K], now: Timestamp) {
        let mut inner = self.lock();
        for key in keys {
            inner.tried.entry(key.clone()).or_default().at = now;
        }
    }

    pub(super) fn found(&self, key: &K) {
        if let Some(tried) = self.lock().tried.get_mut(key) {
            tried.absent_until = None;
        }
    }

    /// Notes that the source has no such row, and whether that is news.
    pub(super) fn absent(&self, key: &K, until: Timestamp) -> bool {
        let mut inner = self.lock();
        let Some(tried) = inner.tried.get_mut(key) else { return false };
        tried.absent_until.replace(until).is_none()
    }

    /// How many keys are registered, and of how many something else is known.
    pub(super) fn len(&self) -> (usize, usize) {
        let inner = self.lock();
        (inner.members.len(), inner.tried.len())
    }
}

impl<K> WarmSet<K> {
    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Inner<K> {
    /// Gives memory back that a larger set has left.
    fn shrink(&mut self) {
        if self.members.capacity() > 64 && self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(2 * self.members.len());
        }
        if self.tried.capacity() > 64 && self.tried.len() < self.tried.capacity() / 4 {
            self.tried.shrink_to(2 * self.tried.len());
        }
    }
}

impl<K: Hash + Eq + Clone> Inner<K> {
    fn member(&mut self, key: &K, since: Timestamp) -> &mut Member {
        self.generation += 1;
        let new = Member { since, is_kept: false, guards: 0, generation: self.generation };
        self.members.entry(key.clone()).or_insert(new)
    }
}

impl<K: Hash + Eq> Drop for Registration<K> {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut inner = self.set.lock();
        let Some(member) = inner.members.get_mut(&key) else { return };
        if member.generation != self.generation {
            return;
        }
        member.guards -= 1;
        if member.guards == 0 && !member.is_kept {
            inner.members.remove(&key);
            inner.tried.remove(&key);
            inner.shrink();
        }
    }
}

impl<K: Hash + Eq> fmt::Debug for Registration<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000);

    #[test]
    fn a_key_leaves_with_its_last_registration_or_when_it_is_forgotten() {
        let set = WarmSet::new();
        let (one, two) = (set.register(7u64, NOW), set.register(7, NOW));
        drop(one);
        assert_eq!(set.len().0, 1);
        assert!(set.forget(&7) && !set.forget(&7));
        let three = set.register(7, NOW);
        drop(two);
        assert_eq!(set.len().0, 1, "a guard of what was forgotten ends nothing");
        drop(three);
        assert_eq!(set.len().0, 0);
    }

    #[test]
    fn a_list_takes_the_place_of_the_one_before_and_leaves_registrations_alone() {
        let set = WarmSet::new();
        let guard = set.register(1u64, NOW);
        set.keep([1, 2, 3], NOW);
        set.keep([3, 4], NOW);
        let mut keys = set.of_round(Vec::new());
        keys.sort_unstable();
        assert_eq!(keys, [1, 3, 4]);
        drop(guard);
        set.keep([], NOW);
        assert_eq!(set.len(), (0, 0));
    }

    #[test]
    fn a_million_keys_registered_and_forgotten_leave_nothing() {
        let set = WarmSet::new();
        let guards: Vec<_> = (0..1_000_000u64).map(|key| set.register(key, NOW)).collect();
        set.trying(&(0..1_000_000).collect::<Vec<_>>(), NOW);
        assert_eq!(set.len(), (1_000_000, 1_000_000));
        drop(guards);
        assert_eq!(set.len(), (0, 0));
        set.keep(0..1_000_000, NOW);
        set.trying(&(0..1_000_000).collect::<Vec<_>>(), NOW);
        (0..1_000_000).for_each(|key| assert!(set.forget(&key)));
        let inner = set.lock();
        assert!(inner.members.is_empty() && inner.tried.is_empty());
        assert!(inner.members.capacity() + inner.tried.capacity() < 1_000, "its memory is given back too");
    }

    #[test]
    fn what_is_absent_is_news_once() {
        let set = WarmSet::new();
        set.keep([7u64], NOW);
        set.trying(&[7], NOW);
        let until = Timestamp::from_millis(9_000);
        assert!(set.absent(&7, until) && !set.absent(&7, until));
        assert_eq!(set.turn_of(&7, None, NOW), None);
        assert_eq!(set.turn_of(&7, None, until), Some(NOW));
        set.found(&7);
        assert!(set.absent(&7, until));
    }
}
