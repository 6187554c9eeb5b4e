//! The reference passes: by itself, erased, and without its leases.

use std::sync::Arc;

use cachalot_core::{Backend, ManualClock};

use super::*;
use crate::broken::{BrokenBackend, Defect};
use crate::{Lacking, ModelBackend};

crate::backend_suite!(the_reference, || async { subject() });

crate::backend_suite!(the_reference_shared, || async {
    subject().wrapped(|backend| -> Arc<dyn Backend> { backend })
});

crate::backend_suite!(without_leases, || async { subject().wrapped(Lacking::leases_and_tags) });

crate::backend_suite!(without_tags, || async { subject().wrapped(Lacking::tags) });

crate::backend_suite!(without_sweeps, || async { subject().wrapped(Lacking::sweeps).without_sweeps() });

fn subject() -> BackendSubject {
    let time = ManualClock::new();
    BackendSubject::manual(ModelBackend::new(time.clock()), time)
}

#[test]
fn every_sentence_is_in_the_list() {
    let files = [
        include_str!("cases/reading.rs"),
        include_str!("cases/leases.rs"),
        include_str!("cases/life.rs"),
        include_str!("cases/invalidation.rs"),
        include_str!("cases/sweeping.rs"),
        include_str!("cases/holds.rs"),
        include_str!("cases/tags.rs"),
        include_str!("cases/members.rs"),
        include_str!("cases/versions.rs"),
        include_str!("cases/robustness.rs"),
    ];
    let name_in = |line: &'static str| line.strip_prefix("pub async fn ")?.split('(').next();
    let written: Vec<&str> = files.iter().flat_map(|file| file.lines().filter_map(name_in)).collect();
    let listed: Vec<&str> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, written);
}

#[test]
fn a_backend_that_hides_its_leases_is_caught() {
    let make = || async {
        let time = ManualClock::new();
        let model = ModelBackend::new(time.clock());
        BackendSubject::manual(BrokenBackend::new(model, Defect::DeniesItsLeases), time)
    };
    let panic = std::panic::catch_unwind(|| run("a_usable_value_is_a_hit", make)).unwrap_err();
    assert!(panic.downcast::<&str>().unwrap().contains("no leases"));
}

#[test]
fn a_backend_that_sweeps_though_it_is_said_not_to_is_caught() {
    let make = || async { subject().without_sweeps() };
    std::panic::catch_unwind(|| run("a_sweep_revokes_leases", make)).unwrap_err();
}
