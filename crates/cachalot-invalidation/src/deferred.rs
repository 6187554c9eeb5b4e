//! The set of invalidations still to be replayed.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cachalot_core::Key;

/// Invalidations that the shared tier has not taken, by the key there that they are about. One item per key,
/// the newest: it grows with the number of keys, not of invalidations. It has no other bound, since nothing may
/// be dropped: an outage costs the memory of the keys that were removed during it.
///
/// `K` is what the replay needs besides that key: the typed key, say, to reach what this process holds.
pub struct Deferred<K> {
    state: Mutex<State<K>>,
    /// Read by every load, so that the usual answer, "none", costs no lock.
    count: AtomicUsize,
}

struct State<K> {
    items: HashMap<Key, Item<K>>,
    last: u64,
    replaying: bool,
}

/// One invalidation to replay.
#[derive(Clone, Debug)]
pub struct Item<K> {
    /// The key in the shared tier.
    pub key: Key,
    /// What it is about in this process.
    pub missed: K,
    number: u64,
}

impl<K: Clone> Deferred<K> {
    /// Nothing deferred.
    pub fn new() -> Self {
        let state = State { items: HashMap::new(), last: 0, replaying: false };
        Self { state: Mutex::new(state), count: AtomicUsize::new(0) }
    }

    /// Keeps the invalidation of `key` until [`settle`](Deferred::settle). `true` if nobody replays: the
    /// caller must start a replay, which goes on until [`finish`](Deferred::finish) lets it end.
    #[must_use = "a replay must be started"]
    pub fn defer(&self, key: Key, missed: K) -> bool {
        self.defer_merged(key, missed, |_, missed| missed)
    }

    /// As [`defer`](Deferred::defer); if one of `key` is kept already, `merge` makes one of that and this, in this
    /// order. It runs under a lock.
    #[must_use = "a replay must be started"]
    pub fn defer_merged(&self, key: Key, missed: K, merge: impl FnOnce(&K, K) -> K) -> bool {
        let mut state = self.lock();
        state.last += 1;
        let number = state.last;
        let missed = match state.items.get(&key) {
            Some(held) => merge(&held.missed, missed),
            None => missed,
        };
        state.items.insert(key.clone(), Item { key, missed, number });
        self.count.store(state.items.len(), Ordering::SeqCst);
        !std::mem::replace(&mut state.replaying, true)
    }

    /// Whether the invalidation of `key` is still to be replayed.
    pub fn contains(&self, key: &Key) -> bool {
        !self.is_empty() && self.lock().items.contains_key(key)
    }

    /// Whether nothing is deferred. One atomic load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys are deferred.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// What to replay now, oldest first.
    pub fn items(&self) -> Vec<Item<K>> {
        let mut items: Vec<_> = self.lock().items.values().cloned().collect();
        items.sort_unstable_by_key(|item| item.number);
        items
    }

    /// Forgets `item` after its replay, unless its key was deferred again meanwhile.
    pub fn settle(&self, item: &Item<K>) {
        let mut state = self.lock();
        if state.items.get(&item.key).is_some_and(|held| held.number == item.number) {
            state.items.remove(&item.key);
            self.count.store(state.items.len(), Ordering::SeqCst);
        }
    }

    /// Asks to end a replay. `true` if nothing is left: the next [`defer`](Deferred::defer) will ask for a
    /// new one.
    pub fn finish(&self) -> bool {
        let mut state = self.lock();
        state.replaying = !state.items.is_empty();
        !state.replaying
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone> Default for Deferred<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Deferred<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Deferred").field("len", &self.count.load(Ordering::SeqCst)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &'static str) -> Key {
        Key::new(name)
    }

    #[test]
    fn the_newest_invalidation_of_a_key_replaces_older_ones() {
        let deferred = Deferred::new();
        assert!(deferred.defer(key("a"), 'a'));
        assert!(!deferred.defer(key("a"), 'a'), "the replay is running already");
        assert_eq!(deferred.len(), 1);
    }

    #[test]
    fn what_two_invalidations_of_a_key_know_is_merged() {
        let deferred = Deferred::new();
        let _ = deferred.defer(key("a"), 7);
        let _ = deferred.defer_merged(key("a"), 3, |held, missed| missed.max(*held));
        let _ = deferred.defer_merged(key("b"), 3, |_, _| 0);
        let kept: Vec<_> = deferred.items().into_iter().map(|item| item.missed).collect();
        assert_eq!(kept, [7, 3]);
    }

    #[test]
    fn a_key_deferred_again_during_its_replay_stays() {
        let deferred = Deferred::new();
        let _ = deferred.defer(key("a"), 'a');
        let in_replay = deferred.items();
        let _ = deferred.defer(key("a"), 'a');
        deferred.settle(&in_replay[0]);
        assert!(deferred.contains(&key("a")));
        assert!(!deferred.finish());
        deferred.settle(&deferred.items()[0]);
        assert!(deferred.is_empty());
        assert!(deferred.finish());
    }

    #[test]
    fn after_a_replay_has_finished_the_next_one_must_be_started() {
        let deferred = Deferred::new();
        assert!(deferred.defer(key("a"), 'a'));
        deferred.settle(&deferred.items()[0]);
        assert!(deferred.finish());
        assert!(deferred.defer(key("b"), 'b'));
    }

    #[test]
    fn items_come_oldest_first() {
        let deferred = Deferred::new();
        for name in ["c", "a", "b", "c"] {
            let _ = deferred.defer(key(name), name);
        }
        let order: Vec<_> = deferred.items().into_iter().map(|item| item.missed).collect();
        assert_eq!(order, ["a", "b", "c"]);
    }
}
