//! The contract of `Backend` and `LeaseBackend`, sentence by sentence.

use std::future::Future;
use std::time::Duration;

use cachalot_core::{BoxFuture, ErrorKind, Pattern, SweepCursor};

use crate::block_on;

mod subject;
pub use subject::BackendSubject;

#[doc(hidden)]
pub mod cases;
#[cfg(test)]
mod tests;

/// Makes a module of tests that hold a [`Backend`](cachalot_core::Backend) to its contract, one `#[test]` per
/// sentence of it.
///
/// `backend_suite!(module, make)`: `make` is an expression that is callable as `Fn() -> Future`, whose
/// output is a [`BackendSubject`] around a new empty backend, with a server of its own if it needs one. It
/// runs on a tokio runtime of the test's own. A backend without leases (`info().leases`), or without
/// [`tags`](cachalot_core::Backend::tags), [`members`](cachalot_core::Backend::members) or
/// [`versions`](cachalot_core::Backend::versions), is held to the sentences that remain; one that
/// [cannot sweep](BackendSubject::without_sweeps), to saying so.
///
/// ```
/// use cachalot_core::ManualClock;
/// use cachalot_testkit::{BackendSubject, ModelBackend, backend_suite};
///
/// backend_suite!(model, || async {
///     let time = ManualClock::new();
///     BackendSubject::manual(ModelBackend::new(time.clock()), time)
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! backend_suite {
    ($module:ident, $make:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__for_each_backend_case! { __backend_tests, [$make] }
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __backend_tests {
    ([$make:expr] $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::backend_suite::run(stringify!($case), $make);
        }
    )*};
}

/// A list of `(name, function)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __backend_case_list {
    ([] $($case:ident)*) => {
        &[$((stringify!($case), |it| Box::pin($crate::backend_suite::cases::$case(it)))),*]
    };
}

/// All cases by name. One that is missing here is found by a test.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_backend_case {
    ($then:ident, $arguments:tt) => {
        $crate::$then! { $arguments
            it_says_whether_it_has_leases
            nothing_is_found_at_first
            no_keys_get_no_answers
            what_was_put_is_found_with_its_nonce
            a_lease_alone_is_no_value
            many_keys_are_answered_in_their_order
            a_repeated_key_is_answered_each_time
            many_keys_are_read_as_one_by_one
            a_record_grows_older
            the_age_is_that_of_the_newest_put
            the_first_caller_gets_the_lease
            a_usable_value_is_a_hit
            the_second_caller_is_busy
            one_of_a_thousand_callers_gets_the_lease
            a_refused_value_gives_a_lease_and_is_handed_out_as_stale
            refusing_another_value_is_a_hit
            who_does_not_refuse_hits_while_another_reloads
            who_refuses_is_busy_with_the_stale_value_while_another_reloads
            an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale
            a_refused_value_stays_until_the_put
            a_put_replaces_the_refused_value_and_its_life
            a_put_clears_the_invalidated_mark
            a_lease_stores_once
            a_foreign_token_does_not_store
            a_token_does_not_fit_another_key
            a_put_on_an_absent_record_is_refused
            a_put_over_a_value_without_a_lease_is_refused
            a_put_after_a_remove_is_refused
            a_put_after_a_remove_and_another_lease_is_refused
            a_lease_passes_on_at_its_deadline
            an_old_token_does_not_store_after_the_lease_passed_on
            a_late_put_is_stored_if_nobody_came_meanwhile
            a_late_put_on_a_cold_key_is_stored_or_finds_nothing
            a_lease_outlives_the_value
            a_lease_does_not_prolong_the_value
            a_lease_does_not_shorten_the_value
            a_released_lease_lets_the_next_caller_in
            a_released_lease_keeps_the_refused_value
            only_its_own_token_releases_a_lease
            a_released_token_does_not_store
            releasing_nothing_says_so
            a_value_lives_for_its_ttl
            a_value_past_its_ttl_gives_a_lease_without_stale
            a_ttl_beyond_all_bounds_is_cut
            a_put_for_no_time_stores_nothing_and_gives_the_right_back
            touch_prolongs_a_life
            touch_never_shortens_a_life
            touch_goes_by_the_nonce
            touch_does_not_prolong_an_invalidated_value
            touch_does_not_prolong_a_lease
            touch_does_not_make_a_record_younger
            remove_drops_the_value
            remove_revokes_a_lease_where_nothing_is_stored
            remove_revokes_a_lease_beside_a_value
            remove_poisons_a_hold_until_its_deadline
            removing_an_ended_hold_finds_no_hold
            many_removals_are_answered_in_their_order
            many_removals_remove_and_revoke_each
            a_repeated_removal_is_answered_each_time
            expire_marks_the_value
            an_invalidated_value_is_no_hit
            expire_revokes_a_lease_beside_the_value
            expire_revokes_a_lease_where_nothing_is_stored
            expire_keeps_the_value_for_at_most_keep
            expire_never_prolongs_a_life
            expire_for_no_time_drops_the_value
            expire_poisons_a_hold_until_its_deadline
            a_sweep_of_nothing_ends
            a_sweep_removes_what_matches_and_nothing_else
            a_sweep_counts_what_it_removes
            a_sweep_does_not_reach_into_a_neighbouring_namespace
            a_sweep_revokes_leases
            a_sweep_poisons_holds_until_their_deadline
            a_sweep_goes_over_many_keys_in_parts
            a_part_of_a_sweep_may_be_done_again
            a_sweep_finds_few_among_many
            a_sweep_matches_any_bytes
            what_is_put_after_a_sweep_stays
            a_hold_drops_the_value
            a_hold_revokes_a_readers_lease
            a_hold_keeps_readers_from_getting_a_lease
            a_hold_ends_at_its_deadline
            a_held_put_stores_and_ends_the_hold
            a_held_put_lives_for_its_ttl
            a_held_put_for_no_time_ends_the_hold
            a_held_put_without_a_hold_is_refused_and_drops_the_record
            a_lease_is_no_hold
            a_hold_is_no_lease
            a_held_put_after_the_deadline_is_refused
            a_held_put_after_the_deadline_drops_what_a_reader_stored
            a_foreign_held_put_is_refused_and_poisons_the_hold
            two_live_holds_poison_each_other
            a_poisoned_hold_stays_until_the_later_deadline
            a_hold_after_anothers_deadline_is_granted
            a_tag_that_nobody_pinned_has_no_token
            a_pinned_tag_keeps_its_token
            tags_are_answered_in_their_order
            a_removed_tag_has_another_token
            an_expired_tag_keeps_its_first_half
            rotating_a_tag_that_nobody_pinned_makes_its_token
            a_tag_lives_for_as_long_as_asked
            an_expired_tag_lives_on
            a_tag_beyond_all_bounds_of_time_is_kept
            nobody_is_a_member_at_first
            who_enrolls_is_listed
            who_renews_was_listed_in_the_same_registry
            a_member_is_struck_off_when_its_term_ends
            who_comes_back_after_its_term_was_not_listed
            an_enrolment_never_shortens_a_term
            who_leaves_is_struck_off_and_nobody_else
            the_members_of_other_caches_are_not_listed
            a_registry_grows_older_whoever_comes_and_goes
            many_members_are_all_listed
            a_sweep_leaves_the_members_alone
            a_term_beyond_all_bounds_is_kept
            a_floor_that_nobody_raised_is_none
            a_floor_answers_what_stood_before
            a_floor_never_goes_down
            all_64_bits_of_a_version_count
            a_floor_lives_for_as_long_as_asked
            whoever_names_a_version_prolongs_the_floors_life
            a_floors_life_is_never_cut
            a_floor_beyond_all_bounds_of_time_is_kept
            a_sweep_leaves_floors
            any_bytes_are_a_key
            any_bytes_are_a_payload
            an_empty_payload_is_a_value
            other_keys_are_not_disturbed
            answers_of_concurrent_calls_are_not_mixed_up
            a_dropped_future_breaks_nothing
        }
    };
}

/// One sentence of the contract as a function, which panics if a backend breaks it.
pub type BackendCase = for<'a> fn(&'a BackendSubject) -> BoxFuture<'a, ()>;

/// Every case of the suite with its name, to be run by other means than the macro.
pub fn cases() -> &'static [(&'static str, BackendCase)] {
    crate::__for_each_backend_case! { __backend_case_list, [] }
}

/// Runs the case `name` on what `make` gives, on a runtime of its own.
///
/// # Panics
/// If the backend breaks the sentence, or the case does not end within a minute.
pub fn run<F: Future<Output = BackendSubject>>(name: &str, make: impl FnOnce() -> F) {
    let found = cases().iter().find(|(case, _)| *case == name);
    let (_, case) = found.unwrap_or_else(|| panic!("no case is called {name}"));
    block_on(async {
        let subject = make().await;
        let is_about_tags = cases::ABOUT_TAGS.contains(&name);
        let is_about_versions = cases::ABOUT_VERSIONS.contains(&name);
        if is_about_tags && subject.backend.tags().is_none()
            || is_about_versions && subject.backend.versions().is_none()
        {
            return;
        }
        if cases::ABOUT_SWEEPS.contains(&name) && !subject.sweeps {
            return refuse_a_sweep(&subject).await;
        }
        let is_about_members = cases::ABOUT_MEMBERS.contains(&name);
        if is_about_members && subject.backend.members().is_none() {
            return;
        }
        if !is_about_tags && !is_about_members && !subject.backend.info().leases {
            assert!(subject.backend.leases().is_none(), "info() says there are no leases");
            if !cases::WITHOUT_LEASES.contains(&name) {
                return;
            }
        }
        let ended = tokio::time::timeout(PATIENCE, case(&subject)).await;
        assert!(ended.is_ok(), "no end after {PATIENCE:?}");
    });
}

/// In place of the sentences about sweeps, for a backend that cannot list its keys.
async fn refuse_a_sweep(it: &BackendSubject) {
    let users = it.namespace("users");
    it.store(&users.key("1"), "v").await;
    let swept = it.backend.sweep(&Pattern::any().within(&users), &SweepCursor::START).await;
    assert_eq!(swept.expect_err("it cannot list its keys").kind(), ErrorKind::Unsupported);
    assert_eq!(it.text(&users.key("1")).await.as_deref(), Some("v"));
}

/// How long a case may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than any test: what lasts so long does not end by time.
const LONG: Duration = Duration::from_secs(600);

const MS: Duration = Duration::from_millis(1);
