//! The reference passes, also where it is erased; each broken bus fails exactly the sentences listed for it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::*;
use crate::ModelBus;
use crate::broken_bus::{BrokenBus, BusDefect};

crate::bus_suite!(the_reference, || async { subject() });

crate::bus_suite!(the_reference_shared, || async {
    subject().wrapped(|bus| -> Arc<dyn cachalot_core::Bus> { bus })
});

fn subject() -> BusSubject {
    let bus = ModelBus::new();
    let (breaks, mends, closes) = (bus.clone(), bus.clone(), bus.clone());
    BusSubject::new(bus)
        .breaking(move || breaks.break_connections(), move || mends.mend())
        .closing(move || closes.close())
}

/// The sentences that catch a defect, all of them, in the order of the suite.
const CAUGHT_BY: &[(BusDefect, &[&str])] = &[
    (BusDefect::ConfirmsLate, &["a_subscription_is_confirmed_before_its_first_message"]),
    (BusDefect::DeafToItself, &["a_publisher_hears_itself", "a_message_reaches_every_subscriber"]),
    (BusDefect::OneSubscriber, &["a_message_reaches_every_subscriber"]),
    (
        BusDefect::SwapsNeighbours,
        &[
            "a_message_reaches_every_subscriber",
            "the_messages_of_a_publisher_keep_their_order",
            "many_publishers_are_all_heard",
            "who_reads_late_gets_all_or_a_gap",
        ],
    ),
    (BusDefect::CutsNames, &["any_bytes_are_a_name"]),
    (BusDefect::ForgetsPending, &["every_kind_of_message_arrives_as_it_was_sent"]),
    (BusDefect::LosesBigMessages, &["a_big_message_arrives"]),
    (BusDefect::TakesTooMuch, &["a_message_beyond_all_bounds_is_refused_and_disturbs_nothing"]),
    (BusDefect::LosesOnDrop, &["a_dropped_next_loses_nothing"]),
    (BusDefect::DropsInSilence, &["who_reads_late_gets_all_or_a_gap"]),
    (
        BusDefect::ReconnectsInSilence,
        &[
            "a_connection_that_broke_is_confirmed_or_resumed",
            "what_is_published_after_a_break_is_heard",
            "what_was_missed_is_said",
        ],
    ),
    (BusDefect::SaysResumed, &["what_was_missed_is_said"]),
    (BusDefect::NeverEnds, &["a_closed_bus_says_so"]),
];

#[test]
fn each_broken_bus_fails_exactly_its_sentences() {
    for defect in BusDefect::ALL {
        let listed = CAUGHT_BY.iter().find(|(listed, _)| listed == defect);
        let (_, expected) = listed.unwrap_or_else(|| panic!("{defect:?} is not listed"));
        let failed: Vec<&str> =
            cases().iter().map(|(name, _)| *name).filter(|name| fails(name, *defect)).collect();
        assert_eq!(failed, *expected, "{defect:?}");
    }
}

fn fails(name: &str, defect: BusDefect) -> bool {
    let make = || async { subject().wrapped(|bus| BrokenBus::new(bus, defect)) };
    catch_unwind(AssertUnwindSafe(|| run_paused(name, make))).is_err()
}

#[test]
fn every_sentence_is_in_the_list() {
    let files = [
        include_str!("cases/delivery.rs"),
        include_str!("cases/patience.rs"),
        include_str!("cases/breaks.rs"),
    ];
    let name_in = |line: &'static str| line.strip_prefix("pub async fn ")?.split('(').next();
    let written: Vec<&str> = files.iter().flat_map(|file| file.lines().filter_map(name_in)).collect();
    let listed: Vec<&str> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, written);
}
