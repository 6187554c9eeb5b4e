//! The contract of `Store`, sentence by sentence.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Clock, Commit, Entry, Fence, Freshness, ManualClock, Meta, Store, StoreCursor};

#[doc(hidden)]
pub mod cases;
#[cfg(test)]
mod tests;

/// Makes a module of tests that hold a [`Store`] to its contract, one `#[test]` per sentence of it.
///
/// `store_suite!(module, make)`: `make` is an expression that is callable as `Fn(Clock) -> S`, with
/// `S: Store<String, u64>`, and gives a new empty store over that clock. It must hold at least 100 entries.
///
/// ```
/// use cachalot_testkit::store_suite;
/// # mod engine { pub use cachalot_testkit::ModelStore; }
///
/// store_suite!(model, engine::ModelStore::new);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! store_suite {
    ($module:ident, $make:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__for_each_store_case! { __store_tests, [$make] }
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_tests {
    ([$make:expr] $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::store_suite::cases::$case(&$crate::StoreSubject::new($make));
        }
    )*};
}

/// A list of `(name, function)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_case_list {
    ([$store:ty] $($case:ident)*) => {
        vec![$((stringify!($case), $crate::store_suite::cases::$case::<$store> as StoreCase<$store>)),*]
    };
}

/// All cases by name. One that is missing here is found by a test.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_store_case {
    ($then:ident, $arguments:tt) => {
        $crate::$then! { $arguments
            nothing_is_held_at_first
            what_was_committed_is_found
            a_string_key_is_looked_up_by_str
            keys_do_not_meet
            a_negative_entry_is_held
            a_handle_survives_the_entry
            the_newest_of_two_commits_wins
            two_fences_of_a_key_both_commit
            a_commit_after_an_invalidation_is_refused
            a_commit_after_an_expire_is_refused
            a_commit_after_an_invalidate_if_is_refused
            a_commit_after_a_clear_is_refused
            a_commit_after_void_all_is_refused
            a_refused_commit_changes_nothing
            a_fence_begun_after_the_invalidation_commits
            an_invalidation_of_another_key_does_no_harm
            an_invalidation_drops_the_entry_and_gives_it_back
            invalidating_nothing_gives_nothing
            expire_marks_the_entry_as_invalidated
            expire_keeps_the_entry_for_at_most_keep
            expire_never_prolongs_a_life
            expire_for_no_time_drops_the_entry
            expiring_nothing_says_so
            a_commit_after_an_expire_is_fresh_again
            an_entry_is_fresh_before_its_soft_expiry
            an_entry_is_stale_from_its_soft_expiry_on
            an_entry_is_never_served_from_its_hard_expiry_on
            an_entry_without_end_stays_fresh
            a_hit_tells_the_time_it_was_judged_by
            a_glimpse_shows_what_a_read_gives
            the_life_of_the_newest_commit_counts
            an_entry_past_its_life_is_rejected
            a_rejected_commit_removes_the_old_value
            void_all_keeps_what_is_held
            clear_drops_everything
            invalidate_if_drops_what_is_meant_and_nothing_else
            invalidate_if_tells_of_entries_and_not_of_those_past_their_life
            an_entry_that_comes_during_a_walk_from_before_it_is_refused_or_dropped
            a_written_commit_is_found
            a_written_commit_revokes_every_other_fence_of_the_key
            a_written_commit_after_an_invalidation_is_refused
            a_refused_written_commit_revokes_nothing_else
            a_rejected_written_commit_removes_the_old_value
            a_rejected_written_commit_revokes_every_other_fence_of_the_key
            stats_count_the_entries_and_their_weight
            stats_count_refused_commits
            no_commit_begun_before_an_invalidation_is_seen_after_it
        }
    };
}

/// One sentence of the contract as a function, which panics if a store breaks it.
pub type StoreCase<S> = fn(&StoreSubject<S>);

/// Every case of the suite with its name, to be run by other means than the macro.
pub fn cases<S: Store<String, u64>>() -> Vec<(&'static str, StoreCase<S>)> {
    crate::__for_each_store_case! { __store_case_list, [S] }
}

/// A store under test and the time it lives in.
#[derive(Debug)]
pub struct StoreSubject<S> {
    store: S,
    time: ManualClock,
}

impl<S: Store<String, u64>> StoreSubject<S> {
    /// The store that `make` gives over a clock of its own.
    pub fn new(make: impl FnOnce(Clock) -> S) -> Self {
        let time = ManualClock::new();
        let store = make(time.clock());
        Self { store, time }
    }

    fn begin(&self, key: &str) -> Fence {
        self.store.begin(&key.to_owned())
    }

    /// Commits `value`, fresh for 10 s and kept for 30 s.
    fn commit(&self, fence: Fence, key: &str, value: u64) -> Commit {
        self.store.commit(fence, key.to_owned(), self.entry(value))
    }

    fn commit_write(&self, fence: Fence, key: &str, value: u64) -> Commit {
        self.store.commit_write(fence, key.to_owned(), self.entry(value))
    }

    /// Commits `value` under a fence of its own, which must work.
    fn put(&self, key: &str, value: u64) {
        self.put_entry(key, self.entry(value));
    }

    fn put_entry(&self, key: &str, entry: Arc<Entry<u64>>) {
        let committed = self.store.commit(self.begin(key), key.to_owned(), entry);
        assert_eq!(committed, Commit::Stored, "{key}");
    }

    fn entry(&self, value: u64) -> Arc<Entry<u64>> {
        self.entry_for(value, seconds(10), seconds(30))
    }

    fn entry_for(&self, value: u64, fresh_for: Duration, kept_for: Duration) -> Arc<Entry<u64>> {
        let meta = Meta::new(self.time.now(), fresh_for, kept_for, Duration::ZERO);
        Arc::new(Entry::new(Some(value), meta))
    }

    /// The value under `key`, in whatever state.
    fn value(&self, key: &str) -> Option<u64> {
        self.store.get(key).and_then(|hit| hit.entry.value)
    }

    /// Drops every entry whose key `test` is true of.
    fn invalidate_if(&self, mut test: impl FnMut(&str) -> bool) {
        let mut next = Some(StoreCursor::START);
        while let Some(from) = next {
            next = self.store.invalidate_if(from, |key, _| test(key));
        }
    }

    fn freshness(&self, key: &str) -> Option<Freshness> {
        self.store.get(key).map(|hit| hit.freshness)
    }
}

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const MS: Duration = Duration::from_millis(1);
