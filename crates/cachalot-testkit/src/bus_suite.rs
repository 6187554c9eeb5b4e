//! The contract of `Bus` and `Subscription`, sentence by sentence.

use std::future::Future;
use std::time::Duration;

use cachalot_core::BoxFuture;

use crate::{block_on, block_on_paused};

mod subject;
pub use subject::{BusSubject, Listener};

#[doc(hidden)]
pub mod cases;
#[cfg(test)]
mod tests;

/// Makes a module of tests that hold a [`Bus`](cachalot_core::Bus) to its contract, one `#[test]` per sentence
/// of it.
///
/// `bus_suite!(module, make)`: `make` is an expression that is callable as `Fn() -> Future`, whose output is a
/// [`BusSubject`] around a new bus that nobody else uses, with a server of its own if it needs one. It runs on
/// a tokio runtime of the test's own, in real time.
///
/// ```
/// use cachalot_testkit::{BusSubject, ModelBus, bus_suite};
///
/// bus_suite!(model, || async {
///     let bus = ModelBus::new();
///     let (breaks, mends, closes) = (bus.clone(), bus.clone(), bus.clone());
///     BusSubject::new(bus)
///         .breaking(move || breaks.break_connections(), move || mends.mend())
///         .closing(move || closes.close())
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! bus_suite {
    ($module:ident, $make:expr) => {
        mod $module {
            #[allow(unused_imports)]
            use super::*;

            $crate::__for_each_bus_case! { __bus_tests, [$make] }
        }
    };
}

/// One test per case.
#[doc(hidden)]
#[macro_export]
macro_rules! __bus_tests {
    ([$make:expr] $($case:ident)*) => {$(
        #[test]
        fn $case() {
            $crate::bus_suite::run(stringify!($case), $make);
        }
    )*};
}

/// A list of `(name, function)`.
#[doc(hidden)]
#[macro_export]
macro_rules! __bus_case_list {
    ([] $($case:ident)*) => {
        &[$((stringify!($case), |it| Box::pin($crate::bus_suite::cases::$case(it)))),*]
    };
}

/// All cases by name. One that is missing here is found by a test.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_bus_case {
    ($then:ident, $arguments:tt) => {
        $crate::$then! { $arguments
            it_says_what_it_is
            a_subscription_is_confirmed_before_its_first_message
            a_publisher_hears_itself
            a_message_reaches_every_subscriber
            who_subscribes_later_hears_what_comes_later
            every_kind_of_message_arrives_as_it_was_sent
            any_bytes_are_a_name
            a_big_message_arrives
            a_message_beyond_all_bounds_is_refused_and_disturbs_nothing
            the_messages_of_a_publisher_keep_their_order
            many_publishers_are_all_heard
            publishing_where_nobody_listens_is_no_error
            a_dropped_next_loses_nothing
            a_dropped_publish_breaks_nothing
            who_leaves_disturbs_nobody
            who_reads_late_gets_all_or_a_gap
            a_connection_that_broke_is_confirmed_or_resumed
            what_is_published_after_a_break_is_heard
            what_was_missed_is_said
            a_closed_bus_says_so
        }
    };
}

/// One sentence of the contract as a function, which panics if a bus breaks it.
pub type BusCase = for<'a> fn(&'a BusSubject) -> BoxFuture<'a, ()>;

/// Every case of the suite with its name, to be run by other means than the macro.
pub fn cases() -> &'static [(&'static str, BusCase)] {
    crate::__for_each_bus_case! { __bus_case_list, [] }
}

/// Runs the case `name` on what `make` gives, on a runtime of its own.
///
/// # Panics
/// If the bus breaks the sentence, or the case does not end within a minute.
pub fn run<F: Future<Output = BusSubject>>(name: &str, make: impl FnOnce() -> F) {
    block_on(check(name, make));
}

/// As [`run`] in paused time: for a bus in memory, whose tests then wait for nothing.
///
/// # Panics
/// As [`run`].
pub fn run_paused<F: Future<Output = BusSubject>>(name: &str, make: impl FnOnce() -> F) {
    block_on_paused(check(name, make));
}

async fn check<F: Future<Output = BusSubject>>(name: &str, make: impl FnOnce() -> F) {
    let found = cases().iter().find(|(case, _)| *case == name);
    let (_, case) = found.unwrap_or_else(|| panic!("no case is called {name}"));
    let subject = make().await;
    let ended = tokio::time::timeout(PATIENCE * 4, case(&subject)).await;
    assert!(ended.is_ok(), "no end after {:?}", PATIENCE * 4);
}

/// How long a message may take to arrive, and a connection to be made again.
const PATIENCE: Duration = Duration::from_secs(20);
