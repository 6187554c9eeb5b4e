//! Touches that are due: each key once, and not more than so many.

use std::collections::HashSet;
use std::hash::Hash;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Keys to be touched together. One task works it off; none runs while it is empty.
pub(super) struct Queue<K> {
    state: Mutex<State<K>>,
}

struct State<K> {
    waiting: Vec<Due<K>>,
    /// Those that wait and those that are under way.
    known: HashSet<K>,
    is_running: bool,
}

/// A key whose life is to be prolonged.
#[derive(Clone)]
pub(super) struct Due<K> {
    pub(super) key: K,
    /// By how much. `None`: its own TTL.
    pub(super) life: Option<Duration>,
}

/// How many keys wait or are under way at most. What is due beyond that is due at its next read again.
pub(super) const LIMIT: usize = 4096;

/// How many keys are touched in one go.
pub(super) const AT_ONCE: usize = 256;

impl<K: Hash + Eq + Clone> Queue<K> {
    pub(super) fn new() -> Self {
        let state = State { waiting: Vec::new(), known: HashSet::new(), is_running: false };
        Self { state: Mutex::new(state) }
    }

    /// Adds a key, unless it is there already or there are too many. `true`: a task is to be started that works the
    /// queue off.
    pub(super) fn add(&self, due: Due<K>) -> bool {
        let mut state = self.lock();
        if state.known.len() >= LIMIT || !state.known.insert(due.key.clone()) {
            return false;
        }
        state.waiting.push(due);
        !mem::replace(&mut state.is_running, true)
    }

    /// The next ones, after those `done` are. `None`: there are no more, and the task that asks is over.
    pub(super) fn next(&self, done: &[Due<K>]) -> Option<Vec<Due<K>>> {
        let mut state = self.lock();
        for due in done {
            state.known.remove(&due.key);
        }
        if state.waiting.is_empty() {
            // Nothing is kept of a rush.
            (state.waiting, state.known) = Default::default();
            state.is_running = false;
            return None;
        }
        let left = state.waiting.len().saturating_sub(AT_ONCE);
        Some(state.waiting.split_off(left))
    }

    /// Forgets all: the task that works it off cannot go on.
    pub(super) fn give_up(&self) {
        let mut state = self.lock();
        *state = State { waiting: Vec::new(), known: HashSet::new(), is_running: false };
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.lock().known.len()
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn due(key: usize) -> Due<usize> {
        Due { key, life: None }
    }

    #[test]
    fn a_key_waits_once_and_one_task_works_off_what_waits() {
        let queue = Queue::new();
        assert!(queue.add(due(1)));
        assert!(!queue.add(due(1)) && !queue.add(due(2)));
        let first = queue.next(&[]).unwrap();
        assert_eq!(first.len(), 2);
        assert!(!queue.add(due(1)), "under way");
        assert!(queue.next(&first).is_none());
        assert_eq!(queue.len(), 0);
        assert!(queue.add(due(1)), "another task");
    }

    #[test]
    fn a_rush_is_bounded_and_leaves_nothing() {
        let queue = Queue::new();
        let starts = (0..3 * LIMIT).filter(|key| queue.add(due(*key))).count();
        assert_eq!(starts, 1);
        let (mut done, mut all) = (Vec::new(), HashSet::new());
        while let Some(batch) = queue.next(&done) {
            assert!(batch.len() <= AT_ONCE);
            all.extend(batch.iter().map(|due| due.key));
            done = batch;
        }
        assert_eq!((all.len(), queue.len()), (LIMIT, 0));
        let state = queue.lock();
        assert_eq!((state.waiting.capacity(), state.known.capacity()), (0, 0));
    }

    #[test]
    fn who_cannot_go_on_leaves_the_queue_to_another() {
        let queue = Queue::new();
        assert!(queue.add(due(1)));
        queue.next(&[]).unwrap();
        queue.give_up();
        assert!(queue.add(due(1)));
    }
}
