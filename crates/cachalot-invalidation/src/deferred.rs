//! The set of invalidations still to be replayed.
//!
//! Nothing in it may be dropped, and an outage may last. Beyond a bound, one invalidation of everything takes the
//! place of all that there are: coarser, and never less.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cachalot_core::{Key, mutant};

/// Invalidations that the shared tier has not taken, by the key there that they are about. One item per key,
/// the newest: it grows with the number of keys, not of invalidations.
///
/// Of one made by [`new`](Deferred::new) that is the only bound: an outage costs the memory of the keys that were
/// removed during it. One made by [`bounded`](Deferred::bounded) costs no more than its bound: what comes beyond
/// it makes one invalidation of everything of all.
///
/// `K` is what the replay needs besides that key: the typed key, say, to reach what this process holds.
pub struct Deferred<K> {
    state: Mutex<State<K>>,
    bound: Option<Bound<K>>,
    /// Read by every load, so that the usual answer, "none", costs no lock.
    count: AtomicUsize,
}

/// How many items there may be, and what takes the place of more.
struct Bound<K> {
    most: usize,
    name: Key,
    all: K,
}

struct State<K> {
    items: HashMap<Key, Item<K>>,
    last: u64,
    replaying: bool,
    /// Since they were last taken.
    overflows: usize,
}

/// One invalidation to replay.
#[derive(Clone, Debug)]
pub struct Item<K> {
    /// The key in the shared tier.
    pub key: Key,
    /// What it is about in this process.
    pub missed: K,
    number: u64,
    /// The first invalidation of this key that was not taken.
    since: u64,
}

impl<K: Clone> Deferred<K> {
    /// Nothing deferred, and no bound.
    pub fn new() -> Self {
        let state = State { items: HashMap::new(), last: 0, replaying: false, overflows: 0 };
        Self { state: Mutex::new(state), bound: None, count: AtomicUsize::new(0) }
    }

    /// Nothing deferred, and at most so many items, at least one. What would be one more is not kept by itself:
    /// `all`, the invalidation of everything, takes the place of it and of all that there are, under `name`.
    /// Further ones are kept beside it, within the bound.
    pub fn bounded(most: usize, name: Key, all: K) -> Self {
        let bound = Bound { most: most.max(1), name, all };
        Self { bound: Some(bound), ..Self::new() }
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
        match &self.bound {
            Some(bound) if state.items.len() >= bound.most && !state.items.contains_key(&key) => {
                state.overflows += 1;
                if !mutant!(DropsBeyondTheBound) {
                    // Numbered anew: a replay of everything that runs may have passed what came since it began.
                    let oldest = state.items.drain().map(|(_, item)| item.since).min();
                    state.insert(bound.name.clone(), bound.all.clone(), oldest);
                }
            }
            _ => {
                let held = state.items.get(&key);
                let since = held.map(|held| held.since);
                let missed = match held {
                    Some(held) => merge(&held.missed, missed),
                    None => missed,
                };
                state.insert(key, missed, since);
            }
        }
        self.count.store(state.items.len(), Ordering::SeqCst);
        !std::mem::replace(&mut state.replaying, true)
    }

    /// Whether the invalidation of `key`, or of everything, is still to be replayed.
    pub fn contains(&self, key: &Key) -> bool {
        if self.is_empty() {
            return false;
        }
        let state = self.lock();
        state.items.contains_key(key) || state.holds_all(self.bound.as_ref())
    }

    /// Whether there is an item under `key` itself.
    pub fn holds(&self, key: &Key) -> bool {
        !self.is_empty() && self.lock().items.contains_key(key)
    }

    /// How often the bound was exceeded since this was last asked.
    pub fn take_overflows(&self) -> usize {
        std::mem::take(&mut self.lock().overflows)
    }

    /// Whether nothing is deferred. One atomic load.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many items there are; everything counts as one.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Marks this moment, for [`holds_from_before`](Deferred::holds_from_before).
    pub fn mark(&self) -> u64 {
        self.lock().last
    }

    /// Whether something is deferred that was deferred before the moment of `mark`, or again since.
    pub fn holds_from_before(&self, mark: u64) -> bool {
        !self.is_empty() && self.lock().items.values().any(|item| item.since <= mark)
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

impl<K> State<K> {
    fn insert(&mut self, key: Key, missed: K, since: Option<u64>) {
        self.last += 1;
        let (number, since) = (self.last, since.unwrap_or(self.last));
        self.items.insert(key.clone(), Item { key, missed, number, since });
    }

    fn holds_all(&self, bound: Option<&Bound<K>>) -> bool {
        bound.is_some_and(|bound| self.items.contains_key(&bound.name))
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
    fn what_is_deferred_again_is_still_held_from_before() {
        let deferred = Deferred::new();
        let _ = deferred.defer(key("a"), 'a');
        let mark = deferred.mark();
        let _ = deferred.defer(key("a"), 'a');
        let _ = deferred.defer(key("b"), 'b');
        assert!(deferred.holds_from_before(mark));
        deferred.settle(&deferred.items()[0]);
        assert!(!deferred.holds_from_before(mark) && deferred.contains(&key("b")));
        assert!(deferred.holds_from_before(deferred.mark()));
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

    /// Two items at most; everything is `*`.
    fn bounded() -> Deferred<&'static str> {
        let deferred = Deferred::bounded(2, key("*"), "*");
        assert!(deferred.defer(key("a"), "a"));
        assert!(!deferred.defer(key("b"), "b") && !deferred.defer(key("a"), "a"));
        assert_eq!((deferred.len(), deferred.take_overflows()), (2, 0));
        deferred
    }

    fn names(deferred: &Deferred<&'static str>) -> Vec<&'static str> {
        deferred.items().into_iter().map(|item| item.missed).collect()
    }

    #[test]
    fn beyond_the_bound_one_item_stands_for_everything() {
        let deferred = bounded();
        assert!(!deferred.defer(key("c"), "c"));
        assert_eq!((names(&deferred), deferred.take_overflows()), (vec!["*"], 1));
        for name in ["a", "c", "never deferred"] {
            assert!(deferred.contains(&key(name)) && !deferred.holds(&key(name)), "{name}");
        }
        deferred.settle(&deferred.items()[0]);
        assert!(!deferred.contains(&key("a")) && deferred.finish());
    }

    #[test]
    fn what_comes_after_an_overflow_is_kept_by_itself_until_the_bound_is_reached_again() {
        let deferred = bounded();
        let _ = deferred.defer(key("c"), "c");
        let in_replay = deferred.items();
        let _ = deferred.defer(key("d"), "d");
        assert_eq!(names(&deferred), ["*", "d"]);
        let _ = deferred.defer(key("e"), "e");
        assert_eq!((names(&deferred), deferred.take_overflows()), (vec!["*"], 2));
        deferred.settle(&in_replay[0]);
        assert!(deferred.contains(&key("d")), "the replay of the first may have passed it");
    }
}
