//! The reference passes, by itself and erased.

use cachalot_core::Backend;

use super::*;
use crate::ModelBackend;

crate::backend_suite!(the_reference, || async { subject() });

crate::backend_suite!(the_reference_shared, || async {
    subject().wrapped(|backend| -> Arc<dyn Backend> { backend })
});

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
        include_str!("cases/holds.rs"),
        include_str!("cases/robustness.rs"),
    ];
    let name_in = |line: &'static str| line.strip_prefix("pub async fn ")?.split('(').next();
    let written: Vec<&str> = files.iter().flat_map(|file| file.lines().filter_map(name_in)).collect();
    let listed: Vec<&str> = cases().iter().map(|(name, _)| *name).collect();
    assert_eq!(listed, written);
}
