//! What others have invalidated and could not bring to the shared tier.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cachalot_core::{Key, KeyPattern, Timestamp};

/// Names that another process has yet to invalidate in the shared tier: until it says that it has, or until what
/// may be there has ended, this process does not look there for them.
#[derive(Debug)]
pub(crate) struct Pending {
    state: Mutex<State>,
    most_patterns: usize,
    /// Read by every read below memory, so that the usual answer, "none", costs no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<Key, Timestamp>,
    patterns: Vec<(KeyPattern, Timestamp)>,
    /// Too many to be told apart: everything is pending until then.
    all_until: Option<Timestamp>,
    /// When to look for what has ended: not at each read, which would walk over all of it.
    purge_at: Option<Timestamp>,
}

/// How many names are told apart.
const MOST: usize = 1 << 16;
/// How many patterns: each is matched against each name that is asked for.
const MOST_PATTERNS: usize = 64;
/// How often at most it is looked for what has ended.
const PURGE_PAUSE: Duration = Duration::from_secs(1);

impl Default for Pending {
    fn default() -> Self {
        Self { state: Mutex::default(), most_patterns: MOST_PATTERNS, count: AtomicUsize::new(0) }
    }
}

impl Pending {
    /// One that tells all patterns apart: what is added to it ends only when it is settled.
    pub(crate) fn of_all_patterns() -> Self {
        Self { most_patterns: usize::MAX, ..Self::default() }
    }

    /// Whether there are so many patterns that one for everything would be cheaper.
    pub(crate) fn is_crowded(&self) -> bool {
        self.lock().patterns.len() >= MOST_PATTERNS
    }

    pub(crate) fn add(&self, name: Key, until: Timestamp) {
        let mut state = self.lock();
        state.ends(until);
        if state.names.len() < MOST || state.names.contains_key(&name) {
            state.names.insert(name, until);
        } else {
            state.all_until = state.all_until.max(Some(until));
        }
        self.recount(&state);
    }

    pub(crate) fn add_pattern(&self, pattern: KeyPattern, until: Timestamp) {
        self.add_pattern_and(pattern, until, || ());
    }

    /// Adds `pattern` and does `also`, in one step for [`settle_pattern_if`](Pending::settle_pattern_if).
    pub(crate) fn add_pattern_and<T>(
        &self,
        pattern: KeyPattern,
        until: Timestamp,
        also: impl FnOnce() -> T,
    ) -> T {
        let mut state = self.lock();
        state.ends(until);
        state.patterns.retain(|(known, _)| *known != pattern);
        if state.patterns.len() < self.most_patterns {
            state.patterns.push((pattern, until));
        } else {
            state.all_until = state.all_until.max(Some(until));
        }
        self.recount(&state);
        also()
    }

    pub(crate) fn settle(&self, name: &Key) {
        if self.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.names.remove(name);
        self.recount(&state);
    }

    pub(crate) fn settle_pattern(&self, pattern: &KeyPattern) {
        if !self.is_empty() {
            self.settle_pattern_if(pattern, || true);
        }
    }

    /// Everything has been invalidated.
    pub(crate) fn settle_all(&self) {
        if !self.is_empty() {
            let mut state = self.lock();
            *state = State::default();
            self.recount(&state);
        }
    }

    /// Takes away the patterns that are not to be `kept`.
    pub(crate) fn keep_patterns(&self, mut kept: impl FnMut(&KeyPattern) -> bool) {
        if !self.is_empty() {
            let mut state = self.lock();
            state.patterns.retain(|(known, _)| kept(known));
            self.recount(&state);
        }
    }

    /// Asks `is_settled`, and if it is, takes `pattern` away in the same step.
    pub(crate) fn settle_pattern_if(&self, pattern: &KeyPattern, is_settled: impl FnOnce() -> bool) {
        let mut state = self.lock();
        if is_settled() {
            state.patterns.retain(|(known, _)| known != pattern);
            self.recount(&state);
        }
    }

    pub(crate) fn contains(&self, name: &Key, now: Timestamp) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut state = self.lock();
        if state.purge_at.is_some_and(|at| at <= now) {
            state.purge(now);
            self.recount(&state);
        }
        let is_meant =
            |(pattern, until): &(KeyPattern, Timestamp)| now < *until && pattern.matches(name.as_bytes());
        state.all_until.is_some_and(|until| now < until)
            || state.names.get(name).is_some_and(|until| now < *until)
            || state.patterns.iter().any(is_meant)
    }

    fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    fn recount(&self, state: &State) {
        let all = usize::from(state.all_until.is_some());
        self.count.store(state.names.len() + state.patterns.len() + all, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Something ends then.
    fn ends(&mut self, until: Timestamp) {
        self.purge_at = Some(self.purge_at.map_or(until, |at| at.min(until)));
    }

    fn purge(&mut self, now: Timestamp) {
        self.names.retain(|_, until| now < *until);
        self.patterns.retain(|(_, until)| now < *until);
        self.all_until = self.all_until.filter(|until| now < *until);
        let untils = self.names.values().chain(self.patterns.iter().map(|(_, until)| until));
        self.purge_at = untils.chain(&self.all_until).min().map(|until| (*until).max(now + PURGE_PAUSE));
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::{Namespace, Pattern};

    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn a_name_is_pending_until_it_is_settled_or_its_time_is_over() {
        let pending = Pending::default();
        let (one, two) = (Key::new("users:1"), Key::new("users:2"));
        pending.add(one.clone(), at(10));
        pending.add(two.clone(), at(20));
        assert!(pending.contains(&one, at(9)) && pending.contains(&two, at(9)));
        pending.settle(&two);
        assert!(!pending.contains(&two, at(9)));
        assert!(!pending.contains(&one, at(10)));
        assert!(pending.is_empty());
    }

    #[test]
    fn a_pattern_is_pending_for_what_it_matches() {
        let pending = Pending::default();
        let pattern = Pattern::prefix("a").within(&Namespace::new("users").unwrap());
        pending.add_pattern(pattern.clone(), at(10));
        assert!(pending.contains(&Key::new("users:ab"), at(1)));
        assert!(!pending.contains(&Key::new("users:b"), at(1)));
        pending.settle_pattern(&pattern);
        assert!(pending.is_empty());
    }

    #[test]
    fn too_many_names_make_all_pending() {
        let pending = Pending::default();
        for name in 0..=MOST as u64 {
            pending.add(Key::new(name.to_string()), at(10));
        }
        assert!(pending.contains(&Key::new("any"), at(9)));
        assert!(pending.lock().names.len() <= MOST);
        assert!(!pending.contains(&Key::new("any"), at(10)));
        assert!(pending.is_empty());
    }

    #[test]
    fn any_number_of_patterns_is_settled_one_by_one_if_all_are_told_apart() {
        let pending = Pending::of_all_patterns();
        let namespace = Namespace::new("users").unwrap();
        let pattern = |n: usize| Pattern::prefix(n.to_string()).within(&namespace);
        (0..2 * MOST_PATTERNS).for_each(|n| pending.add_pattern(pattern(n), Timestamp::NEVER));
        assert!(pending.is_crowded() && !pending.contains(&Key::new("users:x"), at(1)));
        (0..2 * MOST_PATTERNS).for_each(|n| pending.settle_pattern(&pattern(n)));
        assert!(pending.is_empty());
    }
}
