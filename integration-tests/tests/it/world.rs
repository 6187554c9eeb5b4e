//! A fleet in simulated weather keeps the promise, and a fleet that breaks the protocol is found out.
//!
//! A failing seed prints itself; `CACHALOT_SEED=17 cargo test -p integration-tests world` runs that one alone.

use std::sync::Arc;

use cachalot::{Clock, Entry, Memory, MemoryBackend};
use cachalot_core::Backend;
use cachalot_testkit::broken::{BrokenBackend, Defect};
use cachalot_testkit::{ModelBackend, block_on_paused};
use integration_tests::{L1, Lapse, Lapsed, Tally, Unfenced, World};

type Engine = Memory<u64, Arc<Entry<String>>>;

const SEEDS: u64 = 400;
/// How many worlds a broken protocol gets; it must be found out in a hundredth of them.
const BROKEN_SEEDS: u64 = 200;

fn live<S: L1>(seed: u64, shared: &dyn Fn(Clock) -> Arc<dyn Backend>) -> Result<Tally, String> {
    block_on_paused(World::<S>::live(seed, shared))
}

fn seeds() -> Vec<u64> {
    match std::env::var("CACHALOT_SEED") {
        Ok(seed) => vec![seed.parse().expect("CACHALOT_SEED is a number")],
        Err(_) => (0..SEEDS).collect(),
    }
}

fn holds(shared: &dyn Fn(Clock) -> Arc<dyn Backend>) {
    let seeds = seeds();
    let (mut reads, mut promises, mut deferred) = (0, 0, 0);
    for seed in &seeds {
        let tally = live::<Engine>(*seed, shared).unwrap_or_else(|trace| panic!("{trace}"));
        reads += tally.reads;
        promises += tally.promises;
        deferred += tally.deferred;
    }
    // A world in which nothing happens proves nothing.
    let worlds = seeds.len();
    if worlds > 1 {
        assert!(
            reads > 40 * worlds && promises > 8 * worlds && deferred > worlds / 4,
            "{reads} {promises} {deferred}"
        );
    }
}

#[test]
fn no_weather_brings_an_old_value_back_over_the_model() {
    holds(&|clock| Arc::new(ModelBackend::new(clock)));
}

#[test]
fn no_weather_brings_an_old_value_back_over_a_shared_memory() {
    holds(&|clock| Arc::new(MemoryBackend::with_limit(1 << 20, clock)));
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    let model = |clock| -> Arc<dyn Backend> { Arc::new(ModelBackend::new(clock)) };
    assert_eq!(live::<Engine>(7, &model), live::<Engine>(7, &model));
}

/// In how many worlds `shared` is found out.
fn found_out<S: L1>(shared: &dyn Fn(Clock) -> Arc<dyn Backend>) -> usize {
    (0..BROKEN_SEEDS).filter(|seed| live::<S>(*seed, shared).is_err()).count()
}

fn assert_often_enough(found: usize, what: &str) {
    assert!(found as u64 * 100 >= BROKEN_SEEDS, "{what} is found out {found} times in {BROKEN_SEEDS}");
}

#[test]
fn every_lapse_is_found_out() {
    for lapse in Lapse::ALL {
        let found = found_out::<Engine>(&|clock| Arc::new(Lapsed::new(ModelBackend::new(clock), lapse)));
        assert_often_enough(found, &format!("{lapse:?}"));
    }
}

#[test]
fn every_broken_sentence_of_the_protocol_is_found_out() {
    let defects = [
        Defect::RemovesWithoutRevoking,
        Defect::RemovesOnlyWhatIsStored,
        Defect::ExpiresWithoutAMark,
        Defect::ExpiresWithoutRevoking,
        Defect::IgnoresTheToken,
        Defect::AcceptsAnEarlierToken,
        Defect::StoresOnAbsent,
    ];
    for defect in defects {
        let found =
            found_out::<Engine>(&|clock| Arc::new(BrokenBackend::new(ModelBackend::new(clock), defect)));
        assert_often_enough(found, &format!("{defect:?}"));
    }
}

#[test]
fn a_memory_without_fences_is_found_out() {
    let found = found_out::<Unfenced<Engine>>(&|clock| Arc::new(ModelBackend::new(clock)));
    assert_often_enough(found, "a memory without fences");
}
