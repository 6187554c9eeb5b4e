//! What others have invalidated and could not bring to the shared tier.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cachalot_core::{Key, KeyPattern, Timestamp};

/// Names that another process has yet to invalidate in the shared tier: until it says that it has, or until what
/// may be there has ended, this process does not look there for them.
#[derive(Debug, Default)]
pub(crate) struct Pending {
    state: Mutex<State>,
    /// Read by every read below memory, so that the usual answer, "none", costs no lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    names: HashMap<Key, Timestamp>,
    patterns: Vec<(KeyPattern, Timestamp)>,
    /// Too many to be told apart: everything is pending until then.
    all_until: Option<Timestamp>,
}

/// How many names are told apart.
const MOST: usize = 1 << 16;

impl Pending {
    pub(crate) fn add(&self, name: Key, until: Timestamp) {
        let mut state = self.lock();
        if state.names.len() < MOST || state.names.contains_key(&name) {
            state.names.insert(name, until);
        } else {
            state.all_until = state.all_until.max(Some(until));
        }
        self.recount(&state);
    }

    pub(crate) fn add_pattern(&self, pattern: KeyPattern, until: Timestamp) {
        let mut state = self.lock();
        state.patterns.retain(|(known, _)| *known != pattern);
        if state.patterns.len() < MOST / 1024 {
            state.patterns.push((pattern, until));
        } else {
            state.all_until = state.all_until.max(Some(until));
        }
        self.recount(&state);
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
        if self.is_empty() {
            return;
        }
        let mut state = self.lock();
        state.patterns.retain(|(known, _)| known != pattern);
        self.recount(&state);
    }

    pub(crate) fn contains(&self, name: &Key, now: Timestamp) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut state = self.lock();
        state.names.retain(|_, until| now < *until);
        state.patterns.retain(|(_, until)| now < *until);
        state.all_until = state.all_until.filter(|until| now < *until);
        self.recount(&state);
        state.all_until.is_some()
            || state.names.contains_key(name)
            || state.patterns.iter().any(|(pattern, _)| pattern.matches(name.as_bytes()))
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
}
