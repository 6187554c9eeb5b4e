//! The contract of a backend, sentence by sentence: what the layout keeps, and what it cannot.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use cachalot_redis_backend::PlainForm;
use cachalot_testkit::{BackendSubject, RedisServer, backend_suite};

use super::enveloped::Enveloped;
use crate::support::patient;

/// What the layout does not promise, and why.
const NOT_PROMISED: [&str; 7] = [
    // Nothing says when a value was stored.
    "a_record_grows_older",
    "the_age_is_that_of_the_newest_put",
    "touch_does_not_make_a_record_younger",
    // Nothing could tell others that a value is not to be used, so `expire` is a removal.
    "an_invalidated_value_gives_a_lease_and_is_handed_out_as_stale",
    "expire_marks_the_value",
    "expire_revokes_a_lease_beside_the_value",
    // A lock is nobody's after its term.
    "a_late_put_is_stored_if_nobody_came_meanwhile",
];

async fn subject(form: PlainForm) -> BackendSubject {
    let server = RedisServer::start();
    let backend = patient(server.url()).plain().form(form).connect().await.unwrap();
    BackendSubject::real(Enveloped::new(backend)).keeping(server)
}

/// The cases that fail, of those that `is_meant`.
fn failing(form: PlainForm, is_meant: impl Fn(&str) -> bool) -> Vec<&'static str> {
    let names: Vec<&str> = backend_suite::cases().iter().map(|(name, _)| *name).collect();
    let names: Vec<&str> = names.into_iter().filter(|name| is_meant(name)).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut failed = Vec::new();
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            let run = || backend_suite::run(name, || subject(form));
            if catch_unwind(AssertUnwindSafe(run)).is_err() {
                failed.push(*name);
            }
        }
        failed
    };
    // Most of their time they wait for lives to end.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn what_the_layout_promises_is_the_contract_but_for_what_is_listed() {
    let failed = failing(PlainForm::Bare, |name| !NOT_PROMISED.contains(&name));
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn what_is_listed_is_not_kept() {
    let mut failed = failing(PlainForm::Bare, |name| NOT_PROMISED.contains(&name));
    let mut listed = NOT_PROMISED.to_vec();
    failed.sort_unstable();
    listed.sort_unstable();
    assert_eq!(failed, listed, "what is kept is to be promised");
}
