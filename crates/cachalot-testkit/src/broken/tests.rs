//! Each broken backend fails exactly the sentences listed for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cachalot_core::ManualClock;

use super::*;
use crate::backend_suite::cases;
use crate::{BackendSubject, block_on};

/// The sentences that catch a defect, all of them, in the order of the suite.
const CAUGHT_BY: &[(Defect, &[&str])] = &[
    (Defect::DeniesItsLeases, &["it_says_whether_it_has_leases"]),
    (
        Defect::NeverGrowsOlder,
        &[
            "a_record_grows_older",
            "the_age_is_that_of_the_newest_put",
            "touch_does_not_make_a_record_younger",
        ],
    ),
    (
        Defect::ShowsNoNonce,
        &["what_was_put_is_found_with_its_nonce", "expire_marks_the_value", "other_keys_are_not_disturbed"],
    ),
    (
        Defect::ShowsALeaseAsAValue,
        &[
            "a_lease_alone_is_no_value",
            "a_foreign_token_does_not_store",
            "a_lease_outlives_the_value",
            "remove_poisons_a_hold_until_its_deadline",
            "many_removals_remove_and_revoke_each",
            "expire_poisons_a_hold_until_its_deadline",
            "a_hold_drops_the_value",
            "a_foreign_held_put_is_refused_and_poisons_the_hold",
            "two_live_holds_poison_each_other",
        ],
    ),
    (Defect::MarksEveryHit, &["a_usable_value_is_a_hit"]),
    (
        Defect::InventsAStaleValue,
        &["the_first_caller_gets_the_lease", "a_value_past_its_ttl_gives_a_lease_without_stale"],
    ),
    (Defect::TakesEmptyForAbsent, &["an_empty_payload_is_a_value"]),
    (Defect::CutsPayloads, &["any_bytes_are_a_payload"]),
    (Defect::CutsKeys, &["a_sweep_matches_any_bytes", "any_bytes_are_a_key"]),
    (
        Defect::ReordersAMultiGet,
        &[
            "many_keys_are_answered_in_their_order",
            "many_keys_are_read_as_one_by_one",
            "a_sweep_goes_over_many_keys_in_parts",
            "any_bytes_are_a_key",
            "answers_of_concurrent_calls_are_not_mixed_up",
        ],
    ),
    (Defect::AnswersARepeatedKeyOnce, &["a_repeated_key_is_answered_each_time"]),
    (Defect::AnswersNoKeys, &["no_keys_get_no_answers"]),
    (
        Defect::NeverRecoversFromADrop,
        &["answers_of_concurrent_calls_are_not_mixed_up", "a_dropped_future_breaks_nothing"],
    ),
    (
        Defect::AlwaysRemovesSomething,
        &["nothing_is_found_at_first", "remove_drops_the_value", "many_removals_are_answered_in_their_order"],
    ),
    (Defect::RemovesARepeatedKeyOnce, &["a_repeated_removal_is_answered_each_time"]),
    (
        Defect::RemovesWithoutRevoking,
        &[
            "a_put_after_a_remove_is_refused",
            "a_put_after_a_remove_and_another_lease_is_refused",
            "remove_revokes_a_lease_where_nothing_is_stored",
            "remove_revokes_a_lease_beside_a_value",
            "remove_poisons_a_hold_until_its_deadline",
            "many_removals_remove_and_revoke_each",
        ],
    ),
    (
        Defect::RemovesOnlyWhatIsStored,
        &[
            "a_put_after_a_remove_is_refused",
            "a_put_after_a_remove_and_another_lease_is_refused",
            "remove_revokes_a_lease_where_nothing_is_stored",
            "remove_poisons_a_hold_until_its_deadline",
            "many_removals_are_answered_in_their_order",
            "many_removals_remove_and_revoke_each",
        ],
    ),
    (Defect::RemovesAHold, &["remove_poisons_a_hold_until_its_deadline"]),
    (
        Defect::RemovesBesideAHold,
        &["remove_poisons_a_hold_until_its_deadline", "many_removals_remove_and_revoke_each"],
    ),
    (
        Defect::StopsAMultiRemoveAtTheFirst,
        &["many_removals_are_answered_in_their_order", "many_removals_remove_and_revoke_each"],
    ),
    (Defect::SweepsWithoutRevoking, &["a_sweep_counts_what_it_removes", "a_sweep_revokes_leases"]),
    (Defect::SweepsOnlyWhatIsStored, &["a_sweep_counts_what_it_removes", "a_sweep_revokes_leases"]),
    (Defect::SweepsHoldsAway, &["a_sweep_poisons_holds_until_their_deadline"]),
    (Defect::SweepsBesideAHold, &["a_sweep_poisons_holds_until_their_deadline"]),
    (
        Defect::SweepsNeighbouringNamespaces,
        &[
            "a_sweep_removes_what_matches_and_nothing_else",
            "a_sweep_counts_what_it_removes",
            "a_sweep_does_not_reach_into_a_neighbouring_namespace",
            "a_sweep_revokes_leases",
            "a_sweep_poisons_holds_until_their_deadline",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_sweep_finds_few_among_many",
            "a_sweep_matches_any_bytes",
        ],
    ),
    (
        Defect::SweepsAllThatBeginsAlike,
        &[
            "a_sweep_removes_what_matches_and_nothing_else",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_sweep_finds_few_among_many",
            "a_sweep_matches_any_bytes",
        ],
    ),
    (Defect::SweepsTextOnly, &["a_sweep_matches_any_bytes"]),
    (
        Defect::StopsASweepAtTheFirstPart,
        &[
            "a_sweep_removes_what_matches_and_nothing_else",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_part_of_a_sweep_may_be_done_again",
            "a_sweep_finds_few_among_many",
        ],
    ),
    (
        Defect::StopsASweepWhereNothingMatches,
        &["a_sweep_removes_what_matches_and_nothing_else", "a_sweep_finds_few_among_many"],
    ),
    (
        Defect::ForgetsTheLastOfAPart,
        &[
            "a_sweep_removes_what_matches_and_nothing_else",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_part_of_a_sweep_may_be_done_again",
            "a_sweep_matches_any_bytes",
        ],
    ),
    (
        Defect::NeverEndsASweep,
        &[
            "a_sweep_of_nothing_ends",
            "a_sweep_removes_what_matches_and_nothing_else",
            "a_sweep_counts_what_it_removes",
            "a_sweep_does_not_reach_into_a_neighbouring_namespace",
            "a_sweep_revokes_leases",
            "a_sweep_poisons_holds_until_their_deadline",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_part_of_a_sweep_may_be_done_again",
            "a_sweep_finds_few_among_many",
            "a_sweep_matches_any_bytes",
            "what_is_put_after_a_sweep_stays",
            "a_sweep_leaves_the_members_alone",
        ],
    ),
    (
        Defect::SweepsForEver,
        &["a_sweep_removes_what_matches_and_nothing_else", "what_is_put_after_a_sweep_stays"],
    ),
    (
        Defect::CountsNoSweptKeys,
        &[
            "a_sweep_counts_what_it_removes",
            "a_sweep_goes_over_many_keys_in_parts",
            "a_part_of_a_sweep_may_be_done_again",
            "a_sweep_finds_few_among_many",
            "a_sweep_matches_any_bytes",
        ],
    ),
    (
        Defect::ExpiresWithoutAMark,
        &[
            "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
            "a_put_clears_the_invalidated_mark",
            "touch_does_not_prolong_an_invalidated_value",
            "expire_marks_the_value",
            "an_invalidated_value_is_no_hit",
            "expire_keeps_the_value_for_at_most_keep",
        ],
    ),
    (
        Defect::ExpiresWithoutRevoking,
        &["expire_revokes_a_lease_beside_the_value", "expire_revokes_a_lease_where_nothing_is_stored"],
    ),
    (Defect::ExpiresForLonger, &["expire_never_prolongs_a_life"]),
    (
        Defect::ForgetsKeep,
        &[
            "touch_does_not_prolong_an_invalidated_value",
            "expire_keeps_the_value_for_at_most_keep",
            "expire_never_prolongs_a_life",
            "expire_for_no_time_drops_the_value",
        ],
    ),
    (
        Defect::TouchesAnything,
        &[
            "touch_never_shortens_a_life",
            "touch_goes_by_the_nonce",
            "touch_does_not_prolong_an_invalidated_value",
            "touch_does_not_prolong_a_lease",
        ],
    ),
    (Defect::TouchesForLess, &["touch_never_shortens_a_life", "touch_does_not_prolong_an_invalidated_value"]),
    (Defect::TouchesToRejuvenate, &["touch_does_not_make_a_record_younger"]),
    (
        Defect::IgnoresRefusal,
        &[
            "the_age_is_that_of_the_newest_put",
            "a_refused_value_gives_a_lease_and_is_handed_out_as_stale",
            "refusing_another_value_is_a_hit",
            "who_does_not_refuse_hits_while_another_reloads",
            "who_refuses_is_busy_with_the_stale_value_while_another_reloads",
            "a_refused_value_stays_until_the_put",
            "a_put_replaces_the_refused_value_and_its_life",
            "a_lease_passes_on_at_its_deadline",
            "a_late_put_is_stored_if_nobody_came_meanwhile",
            "a_lease_outlives_the_value",
            "a_lease_does_not_prolong_the_value",
            "a_lease_does_not_shorten_the_value",
            "a_released_lease_keeps_the_refused_value",
            "a_released_token_does_not_store",
            "touch_goes_by_the_nonce",
            "touch_does_not_prolong_a_lease",
            "remove_revokes_a_lease_beside_a_value",
            "expire_revokes_a_lease_beside_the_value",
            "a_sweep_revokes_leases",
            "a_held_put_stores_and_ends_the_hold",
            "other_keys_are_not_disturbed",
        ],
    ),
    (
        Defect::GrantsTwoLeases,
        &[
            "the_second_caller_is_busy",
            "one_of_a_thousand_callers_gets_the_lease",
            "who_refuses_is_busy_with_the_stale_value_while_another_reloads",
            "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
            "a_lease_passes_on_at_its_deadline",
            "a_lease_outlives_the_value",
            "only_its_own_token_releases_a_lease",
            "a_put_for_no_time_stores_nothing_and_gives_the_right_back",
        ],
    ),
    (
        Defect::GrantsLeasesUnderAHold,
        &[
            "remove_poisons_a_hold_until_its_deadline",
            "expire_poisons_a_hold_until_its_deadline",
            "a_sweep_poisons_holds_until_their_deadline",
            "a_hold_keeps_readers_from_getting_a_lease",
            "a_hold_ends_at_its_deadline",
            "a_hold_is_no_lease",
            "a_foreign_held_put_is_refused_and_poisons_the_hold",
            "two_live_holds_poison_each_other",
            "a_poisoned_hold_stays_until_the_later_deadline",
        ],
    ),
    (
        Defect::BusyWithoutStale,
        &[
            "who_refuses_is_busy_with_the_stale_value_while_another_reloads",
            "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
        ],
    ),
    (
        Defect::LeasesWithoutStale,
        &[
            "the_age_is_that_of_the_newest_put",
            "a_refused_value_gives_a_lease_and_is_handed_out_as_stale",
            "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
        ],
    ),
    (Defect::LetsTheLeaseDieWithTheValue, &["a_lease_outlives_the_value"]),
    (
        Defect::DropsTheValueOnALease,
        &[
            "who_does_not_refuse_hits_while_another_reloads",
            "who_refuses_is_busy_with_the_stale_value_while_another_reloads",
            "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
            "a_refused_value_stays_until_the_put",
            "a_late_put_is_stored_if_nobody_came_meanwhile",
            "a_lease_does_not_shorten_the_value",
            "a_released_lease_keeps_the_refused_value",
            "a_released_token_does_not_store",
            "touch_does_not_prolong_a_lease",
            "expire_revokes_a_lease_beside_the_value",
        ],
    ),
    (
        Defect::LeasesWithoutEnd,
        &[
            "the_second_caller_is_busy",
            "a_lease_passes_on_at_its_deadline",
            "an_old_token_does_not_store_after_the_lease_passed_on",
            "touch_does_not_prolong_a_lease",
        ],
    ),
    (
        Defect::IgnoresTheToken,
        &[
            "a_foreign_token_does_not_store",
            "a_token_does_not_fit_another_key",
            "a_put_after_a_remove_and_another_lease_is_refused",
            "an_old_token_does_not_store_after_the_lease_passed_on",
            "a_put_for_no_time_stores_nothing_and_gives_the_right_back",
        ],
    ),
    (
        Defect::AcceptsAnEarlierToken,
        &[
            "a_put_after_a_remove_and_another_lease_is_refused",
            "an_old_token_does_not_store_after_the_lease_passed_on",
        ],
    ),
    (
        Defect::StoresOverAnyValue,
        &[
            "a_lease_stores_once",
            "a_put_over_a_value_without_a_lease_is_refused",
            "a_put_after_a_remove_and_another_lease_is_refused",
            "a_released_token_does_not_store",
            "expire_revokes_a_lease_beside_the_value",
            "a_hold_revokes_a_readers_lease",
        ],
    ),
    (
        Defect::CallsAbsentLost,
        &[
            "a_put_on_an_absent_record_is_refused",
            "a_put_after_a_remove_is_refused",
            "a_late_put_on_a_cold_key_is_stored_or_finds_nothing",
            "a_released_token_does_not_store",
            "remove_revokes_a_lease_beside_a_value",
            "expire_revokes_a_lease_where_nothing_is_stored",
            "a_held_put_without_a_hold_is_refused_and_drops_the_record",
            "a_held_put_after_the_deadline_drops_what_a_reader_stored",
        ],
    ),
    (
        Defect::StoresOnAbsent,
        &[
            "a_put_on_an_absent_record_is_refused",
            "a_put_after_a_remove_is_refused",
            "a_released_token_does_not_store",
            "remove_revokes_a_lease_beside_a_value",
            "many_removals_remove_and_revoke_each",
            "expire_revokes_a_lease_where_nothing_is_stored",
            "a_sweep_revokes_leases",
            "a_held_put_without_a_hold_is_refused_and_drops_the_record",
            "a_held_put_after_the_deadline_drops_what_a_reader_stored",
        ],
    ),
    (
        Defect::LosesTheTtl,
        &[
            "a_lease_outlives_the_value",
            "a_lease_does_not_prolong_the_value",
            "a_value_lives_for_its_ttl",
            "a_value_past_its_ttl_gives_a_lease_without_stale",
            "touch_prolongs_a_life",
            "touch_goes_by_the_nonce",
            "touch_does_not_prolong_a_lease",
            "touch_does_not_make_a_record_younger",
            "expire_never_prolongs_a_life",
            "a_held_put_lives_for_its_ttl",
        ],
    ),
    (Defect::OverflowsAfterTwentyFourDays, &["a_ttl_beyond_all_bounds_is_cut"]),
    (Defect::KeepsTheOldTtl, &["a_put_replaces_the_refused_value_and_its_life", "touch_goes_by_the_nonce"]),
    (Defect::KeepsTheOldMark, &["a_put_clears_the_invalidated_mark"]),
    (
        Defect::AcceptsASpentToken,
        &[
            "a_lease_stores_once",
            "a_put_after_a_remove_and_another_lease_is_refused",
            "a_released_token_does_not_store",
            "expire_revokes_a_lease_beside_the_value",
            "a_hold_revokes_a_readers_lease",
        ],
    ),
    (Defect::RefusesALatePut, &["a_late_put_is_stored_if_nobody_came_meanwhile"]),
    (
        Defect::StoresForNoTime,
        &[
            "a_put_for_no_time_stores_nothing_and_gives_the_right_back",
            "a_held_put_for_no_time_ends_the_hold",
        ],
    ),
    (Defect::KeepsTheRightOfAnEmptyPut, &["a_put_for_no_time_stores_nothing_and_gives_the_right_back"]),
    (
        Defect::ReleasesInWordsOnly,
        &[
            "a_released_lease_lets_the_next_caller_in",
            "a_released_lease_keeps_the_refused_value",
            "a_released_token_does_not_store",
            "a_put_for_no_time_stores_nothing_and_gives_the_right_back",
        ],
    ),
    (
        Defect::AlwaysReleasesSomething,
        &[
            "a_token_does_not_fit_another_key",
            "an_old_token_does_not_store_after_the_lease_passed_on",
            "only_its_own_token_releases_a_lease",
            "a_released_token_does_not_store",
            "releasing_nothing_says_so",
            "remove_revokes_a_lease_where_nothing_is_stored",
            "a_hold_revokes_a_readers_lease",
            "a_hold_is_no_lease",
        ],
    ),
    (
        Defect::ReleasesByAnyToken,
        &[
            "a_token_does_not_fit_another_key",
            "an_old_token_does_not_store_after_the_lease_passed_on",
            "only_its_own_token_releases_a_lease",
        ],
    ),
    (
        Defect::DropsTheValueOnRelease,
        &["a_released_lease_keeps_the_refused_value", "a_released_token_does_not_store"],
    ),
    (Defect::ReleasesAHold, &["a_hold_is_no_lease"]),
    (Defect::HoldsBesideTheValue, &["a_hold_drops_the_value"]),
    (
        Defect::HoldsWithoutEnd,
        &[
            "remove_poisons_a_hold_until_its_deadline",
            "removing_an_ended_hold_finds_no_hold",
            "a_sweep_poisons_holds_until_their_deadline",
            "a_hold_keeps_readers_from_getting_a_lease",
            "a_hold_ends_at_its_deadline",
            "a_held_put_after_the_deadline_is_refused",
            "a_held_put_after_the_deadline_drops_what_a_reader_stored",
            "a_foreign_held_put_is_refused_and_poisons_the_hold",
            "a_poisoned_hold_stays_until_the_later_deadline",
            "a_hold_after_anothers_deadline_is_granted",
        ],
    ),
    (
        Defect::OverlapsWithoutPoison,
        &["two_live_holds_poison_each_other", "a_poisoned_hold_stays_until_the_later_deadline"],
    ),
    (
        Defect::PassesTheHoldOn,
        &["two_live_holds_poison_each_other", "a_poisoned_hold_stays_until_the_later_deadline"],
    ),
    (Defect::PoisonsUntilTheSecondDeadline, &["a_poisoned_hold_stays_until_the_later_deadline"]),
    (Defect::IgnoresTheWritersToken, &["a_foreign_held_put_is_refused_and_poisons_the_hold"]),
    (
        Defect::StoresAfterTheHold,
        &[
            "a_lease_is_no_hold",
            "a_held_put_after_the_deadline_is_refused",
            "a_held_put_after_the_deadline_drops_what_a_reader_stored",
        ],
    ),
    (
        Defect::SparesTheRecordOfALateWriter,
        &[
            "a_held_put_without_a_hold_is_refused_and_drops_the_record",
            "a_held_put_after_the_deadline_drops_what_a_reader_stored",
            "a_foreign_held_put_is_refused_and_poisons_the_hold",
        ],
    ),
    (
        Defect::ReordersTags,
        &[
            "a_pinned_tag_keeps_its_token",
            "tags_are_answered_in_their_order",
            "a_removed_tag_has_another_token",
            "a_tag_lives_for_as_long_as_asked",
        ],
    ),
    (
        Defect::InventsATag,
        &[
            "a_tag_that_nobody_pinned_has_no_token",
            "tags_are_answered_in_their_order",
            "a_tag_lives_for_as_long_as_asked",
        ],
    ),
    (
        Defect::PinsOverAToken,
        &[
            "a_pinned_tag_keeps_its_token",
            "tags_are_answered_in_their_order",
            "a_removed_tag_has_another_token",
            "a_tag_lives_for_as_long_as_asked",
        ],
    ),
    (Defect::PinsForEver, &["a_tag_lives_for_as_long_as_asked"]),
    (
        Defect::RotatesNothing,
        &[
            "a_removed_tag_has_another_token",
            "an_expired_tag_keeps_its_first_half",
            "an_expired_tag_lives_on",
        ],
    ),
    (Defect::RotatesOnlyWhatIsThere, &["rotating_a_tag_that_nobody_pinned_makes_its_token"]),
    (Defect::PinsForTwentyFourDays, &["a_tag_beyond_all_bounds_of_time_is_kept"]),
    (Defect::ShortensAnExpiredTag, &["an_expired_tag_lives_on"]),
    (Defect::ExpiresATagAsARemoval, &["an_expired_tag_keeps_its_first_half"]),
    (Defect::RemovesATagAsAnExpiry, &["a_removed_tag_has_another_token"]),
    (
        Defect::StrikesOffNobody,
        &[
            "who_enrolls_is_listed",
            "a_member_is_struck_off_when_its_term_ends",
            "who_comes_back_after_its_term_was_not_listed",
        ],
    ),
    (Defect::StrikesOffTooEarly, &["who_enrolls_is_listed", "a_member_is_struck_off_when_its_term_ends"]),
    (Defect::EnrollsForTwentyFourDays, &["a_term_beyond_all_bounds_is_kept"]),
    (Defect::RenewsNobody, &["who_renews_was_listed_in_the_same_registry"]),
    (Defect::ShortensATerm, &["an_enrolment_never_shortens_a_term"]),
    (
        Defect::EnrollsOneAlone,
        &[
            "who_enrolls_is_listed",
            "who_renews_was_listed_in_the_same_registry",
            "a_member_is_struck_off_when_its_term_ends",
            "who_leaves_is_struck_off_and_nobody_else",
            "many_members_are_all_listed",
        ],
    ),
    (
        Defect::TakesAnybodyForListed,
        &[
            "who_enrolls_is_listed",
            "who_renews_was_listed_in_the_same_registry",
            "who_comes_back_after_its_term_was_not_listed",
            "who_leaves_is_struck_off_and_nobody_else",
        ],
    ),
    (Defect::TakesNobodyForListed, &["who_renews_was_listed_in_the_same_registry"]),
    (Defect::RenumbersRegistries, &["who_renews_was_listed_in_the_same_registry"]),
    (Defect::BeginsRegistriesAnew, &["a_registry_grows_older_whoever_comes_and_goes"]),
    (
        Defect::ClaimsAllAges,
        &["nobody_is_a_member_at_first", "a_registry_grows_older_whoever_comes_and_goes"],
    ),
    (Defect::LeavesInWordsOnly, &["who_leaves_is_struck_off_and_nobody_else"]),
    (
        Defect::AlwaysLeaves,
        &[
            "nobody_is_a_member_at_first",
            "who_leaves_is_struck_off_and_nobody_else",
            "the_members_of_other_caches_are_not_listed",
        ],
    ),
    (Defect::DismissesAll, &["who_leaves_is_struck_off_and_nobody_else"]),
    (Defect::ListsSomeMembers, &["many_members_are_all_listed"]),
    (
        Defect::ForgetsNames,
        &[
            "who_enrolls_is_listed",
            "who_renews_was_listed_in_the_same_registry",
            "a_member_is_struck_off_when_its_term_ends",
            "who_comes_back_after_its_term_was_not_listed",
            "an_enrolment_never_shortens_a_term",
            "who_leaves_is_struck_off_and_nobody_else",
            "the_members_of_other_caches_are_not_listed",
            "many_members_are_all_listed",
            "a_sweep_leaves_the_members_alone",
            "a_term_beyond_all_bounds_is_kept",
        ],
    ),
    (Defect::MixesRegistries, &["the_members_of_other_caches_are_not_listed"]),
    (Defect::SweepsMembersAway, &["a_sweep_leaves_the_members_alone"]),
    (
        Defect::LowersAFloor,
        &[
            "a_floor_never_goes_down",
            "all_64_bits_of_a_version_count",
            "whoever_names_a_version_prolongs_the_floors_life",
            "a_floors_life_is_never_cut",
        ],
    ),
    (Defect::ComparesVersionsAsDoubles, &["all_64_bits_of_a_version_count"]),
    (Defect::ComparesVersionsSigned, &["all_64_bits_of_a_version_count"]),
    (
        Defect::AnswersTheFloorThatStands,
        &[
            "a_floor_that_nobody_raised_is_none",
            "a_floor_answers_what_stood_before",
            "all_64_bits_of_a_version_count",
            "a_floor_lives_for_as_long_as_asked",
        ],
    ),
    (Defect::CutsTheLifeOfAFloor, &["a_floors_life_is_never_cut"]),
    (Defect::ProlongsNoFloor, &["whoever_names_a_version_prolongs_the_floors_life"]),
    (Defect::ProlongsOnlyARaisedFloor, &["whoever_names_a_version_prolongs_the_floors_life"]),
    (Defect::KeepsFloorsForEver, &["a_floor_lives_for_as_long_as_asked"]),
    (
        Defect::SharesOneFloor,
        &[
            "a_floor_that_nobody_raised_is_none",
            "whoever_names_a_version_prolongs_the_floors_life",
            "a_floors_life_is_never_cut",
        ],
    ),
    (Defect::OverflowsAFloorsLife, &["a_floor_beyond_all_bounds_of_time_is_kept"]),
    (Defect::RaisesByReading, &["a_floor_that_nobody_raised_is_none", "a_floor_lives_for_as_long_as_asked"]),
    (Defect::SweepsFloors, &["a_sweep_leaves_floors"]),
];

#[test]
fn every_broken_backend_is_caught_by_its_sentences_alone() {
    let caught: Vec<_> = Defect::ALL.iter().map(|defect| (*defect, failing(*defect))).collect();
    let expected: Vec<_> = CAUGHT_BY.iter().map(|(defect, by)| (*defect, by.to_vec())).collect();
    assert_eq!(caught, expected);
}

#[test]
fn every_sentence_catches_a_broken_backend() {
    let needed = |name: &str| CAUGHT_BY.iter().any(|(_, by)| by.contains(&name));
    let idle: Vec<&str> = cases().iter().map(|(name, _)| *name).filter(|name| !needed(name)).collect();
    assert!(idle.is_empty(), "{idle:?}");
    assert!(CAUGHT_BY.iter().all(|(_, by)| !by.is_empty()), "and each is caught");
}

#[test]
fn the_backend_that_is_broken_is_sound() {
    for (name, case) in cases() {
        let time = ManualClock::new();
        let subject = BackendSubject::manual(ModelBackend::new(time.clock()), time);
        assert!(catch_unwind(AssertUnwindSafe(|| block_on(case(&subject)))).is_ok(), "{name}");
    }
}

fn failing(defect: Defect) -> Vec<&'static str> {
    let passes = |case: &crate::backend_suite::BackendCase| {
        let time = ManualClock::new();
        let broken = BrokenBackend::new(ModelBackend::new(time.clock()), defect);
        let subject = BackendSubject::manual(broken, time);
        catch_unwind(AssertUnwindSafe(|| block_on(case(&subject)))).is_ok()
    };
    let failing = cases().iter().filter(|(_, case)| !passes(case));
    failing.map(|(name, _)| *name).collect()
}
