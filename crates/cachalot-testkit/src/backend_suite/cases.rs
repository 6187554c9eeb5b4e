//! One function per sentence of the contract, named after it.

mod holds;
mod invalidation;
mod leases;
mod life;
mod members;
mod reading;
mod robustness;
mod sweeping;
mod tags;
mod versions;
pub use holds::*;
pub use invalidation::*;
pub use leases::*;
pub use life::*;
pub use members::*;
pub use reading::*;
pub use robustness::*;
pub use sweeping::*;
pub use tags::*;
pub use versions::*;

/// The sentences about tags.
pub const ABOUT_TAGS: [&str; 9] = [
    "a_tag_that_nobody_pinned_has_no_token",
    "a_pinned_tag_keeps_its_token",
    "tags_are_answered_in_their_order",
    "a_removed_tag_has_another_token",
    "an_expired_tag_keeps_its_first_half",
    "rotating_a_tag_that_nobody_pinned_makes_its_token",
    "a_tag_lives_for_as_long_as_asked",
    "an_expired_tag_lives_on",
    "a_tag_beyond_all_bounds_of_time_is_kept",
];

/// The sentences about members.
pub const ABOUT_MEMBERS: [&str; 12] = [
    "nobody_is_a_member_at_first",
    "who_enrolls_is_listed",
    "who_renews_was_listed_in_the_same_registry",
    "a_member_is_struck_off_when_its_term_ends",
    "who_comes_back_after_its_term_was_not_listed",
    "an_enrolment_never_shortens_a_term",
    "who_leaves_is_struck_off_and_nobody_else",
    "the_members_of_other_caches_are_not_listed",
    "a_registry_grows_older_whoever_comes_and_goes",
    "many_members_are_all_listed",
    "a_sweep_leaves_the_members_alone",
    "a_term_beyond_all_bounds_is_kept",
];

/// The sentences about versions.
pub const ABOUT_VERSIONS: [&str; 9] = [
    "a_floor_that_nobody_raised_is_none",
    "a_floor_answers_what_stood_before",
    "a_floor_never_goes_down",
    "all_64_bits_of_a_version_count",
    "a_floor_lives_for_as_long_as_asked",
    "whoever_names_a_version_prolongs_the_floors_life",
    "a_floors_life_is_never_cut",
    "a_floor_beyond_all_bounds_of_time_is_kept",
    "a_sweep_leaves_floors",
];

/// The sentences about sweeps.
pub const ABOUT_SWEEPS: [&str; 13] = [
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
    "a_sweep_leaves_floors",
];

/// The sentences that hold for a backend without leases too.
pub const WITHOUT_LEASES: [&str; 3] =
    ["it_says_whether_it_has_leases", "nothing_is_found_at_first", "no_keys_get_no_answers"];
