//! What was invalidated of late, in case a server forgets it.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cachalot_core::{Key, Timestamp};

/// The invalidations of the last while that a shared tier has acknowledged. A server that takes over from another,
/// or comes back from an old snapshot, may not know the last of them: they are done again before it is trusted.
///
/// Bounded: beyond so many the oldest is dropped, and a [recall](Recent::recall) says that it is not complete.
pub struct Recent<T> {
    state: Mutex<State<T>>,
    keep: Duration,
    most: usize,
}

struct State<T> {
    items: VecDeque<(Timestamp, Key, T)>,
    /// Until then something is missing that should be kept.
    lacks_until: Option<Timestamp>,
    is_watched: bool,
    /// Since when nothing ages.
    stands_since: Option<Timestamp>,
    /// For how long nothing has aged before.
    stood: Duration,
}

/// What [`Recent::recall`] gives.
#[derive(Debug)]
pub struct Recalled<T> {
    /// The key in the shared tier, and what it is about; oldest first.
    pub items: Vec<(Key, T)>,
    /// Whether these are all.
    pub is_complete: bool,
}

impl<T> Recent<T> {
    /// Keeps what was acknowledged in the last `keep`: longer than replication lags and a fail-over takes to be
    /// noticed. At most so many.
    pub fn new(keep: Duration, most: usize) -> Self {
        let (stands_since, stood) = (None, Duration::ZERO);
        let state =
            State { items: VecDeque::new(), lacks_until: None, is_watched: false, stands_since, stood };
        Self { state: Mutex::new(state), keep, most: most.max(1) }
    }

    /// Notes that the shared tier has acknowledged an invalidation. `true` if nobody watches that tier: the caller
    /// must see to it that it is looked at now and then, until [`is_over`](Recent::is_over).
    #[must_use = "the tier must be watched"]
    pub fn note(&self, key: Key, item: T, now: Timestamp) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.forget(now, self.keep);
        if state.items.len() == self.most
            && let Some((at, ..)) = state.items.pop_front()
        {
            state.lacks_until = state.lacks_until.max(Some(at + self.keep));
        }
        state.items.push_back((now, key, item));
        !std::mem::replace(&mut state.is_watched, true)
    }

    /// Asks to end the watch. `true` if nothing is left that a server could have forgotten.
    pub fn is_over(&self, now: Timestamp) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.forget(now, self.keep);
        state.is_watched = !state.items.is_empty();
        !state.is_watched
    }

    /// A part of the tier does not answer: nothing ages until it [does](Recent::goes_on). What comes back after an hour may
    /// be as old as what comes back at once.
    pub fn stands(&self, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.stands_since.get_or_insert(now);
    }

    /// All of the tier answers, and whoever came back has been looked at.
    pub fn goes_on(&self, now: Timestamp) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(since) = state.stands_since.take() {
            state.stood += now.since(since);
        }
    }

    /// Takes out all of them.
    pub fn recall(&self, now: Timestamp) -> Recalled<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = state.forget(now, self.keep);
        let items = std::mem::take(&mut state.items);
        let is_complete = state.lacks_until.take().is_none_or(|until| until <= now);
        Recalled { items: items.into_iter().map(|(_, key, item)| (key, item)).collect(), is_complete }
    }
}

impl<T> State<T> {
    /// Drops what is too old. `now` without the time in which nothing aged.
    fn forget(&mut self, now: Timestamp, keep: Duration) -> Timestamp {
        let now = self.stands_since.map_or(now, |since| since.min(now)).back(self.stood);
        while self.items.front().is_some_and(|(at, ..)| *at + keep <= now) {
            self.items.pop_front();
        }
        now
    }
}

impl<T> fmt::Debug for Recent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("keep", &self.keep).field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(seconds * 1000)
    }

    fn names(recalled: Recalled<u8>) -> (Vec<u8>, bool) {
        (recalled.items.into_iter().map(|(_, item)| item).collect(), recalled.is_complete)
    }

    #[test]
    fn what_is_younger_is_recalled_once_and_what_is_older_is_forgotten() {
        let recent = Recent::new(Duration::from_secs(60), 10);
        for (item, seconds) in [(1, 0), (2, 30), (3, 50)] {
            assert_eq!(recent.note(Key::new(vec![item]), item, at(seconds)), item == 1, "one watch");
        }
        assert!(!recent.is_over(at(60)));
        assert_eq!(names(recent.recall(at(60))), (vec![2, 3], true));
        assert!(recent.is_over(at(60)));
        assert!(recent.note(Key::new("again"), 4, at(60)), "and another");
        assert!(recent.is_over(at(120)));
        assert_eq!(names(recent.recall(at(120))), (vec![], true));
    }

    #[test]
    fn nothing_ages_while_a_part_of_the_tier_is_away() {
        let recent = Recent::new(Duration::from_secs(60), 10);
        let _ = recent.note(Key::new("before"), 1, at(0));
        recent.stands(at(10));
        recent.stands(at(20));
        let _ = recent.note(Key::new("meanwhile"), 2, at(1_000));
        assert!(!recent.is_over(at(5_000)));
        recent.goes_on(at(5_010));
        recent.goes_on(at(5_011));
        assert!(!recent.is_over(at(5_059)));
        assert_eq!(names(recent.recall(at(5_060))), (vec![2], true), "fifty seconds more, and not sixty");
    }

    #[test]
    fn beyond_its_bound_it_says_that_something_is_missing_for_as_long_as_that_counts() {
        let recent = Recent::new(Duration::from_secs(60), 2);
        for item in 0..3 {
            let _ = recent.note(Key::new(vec![item]), item, at(u64::from(item)));
        }
        assert_eq!(names(recent.recall(at(10))), (vec![1, 2], false));
        assert_eq!(names(recent.recall(at(10))), (vec![], true), "it has been said");
        for item in 0..3 {
            let _ = recent.note(Key::new(vec![item]), item, at(u64::from(item)));
        }
        let _ = recent.note(Key::new("later"), 9, at(61));
        assert_eq!(names(recent.recall(at(62))), (vec![9], true));
    }
}
