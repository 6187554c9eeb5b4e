//! An invalidation at every step of a load, a refresh and a copy, and every step of an invalidation during
//! them: the old value never comes back.

use std::sync::Arc;

use cachalot::{Clock, Entry, Memory, MemoryBackend};
use cachalot_core::Backend;
use cachalot_testkit::broken::{BrokenBackend, Defect};
use cachalot_testkit::{ModelBackend, RedisServer, block_on, block_on_paused, tokio_clock};
use tokio::task::JoinSet;

use integration_tests::{Cell, L1, Lapse, Lapsed, Order, Probe, Stage, Step, Unfenced, connect};

type Engine = Memory<u64, Arc<Entry<String>>>;

/// More steps than any of the two can have.
const ENDLESS: usize = 40;

/// Every cell of `stage`, with the victim stopped at every step. How many runs stopped it.
async fn one_preemption<S: L1>(stage: Stage) -> Result<usize, String> {
    all_cells(stage, |stage, cell| async move {
        let mut stops = 0;
        for probe in Probe::ALL {
            for victim in 0..=ENDLESS {
                assert!(victim < ENDLESS, "{cell} does not end");
                let step = Step { victim, invalidator: None, order: Order::VictimFirst, probe };
                if !stage.run::<S>(cell, step).await?.victim {
                    break;
                }
                stops += 1;
            }
        }
        Ok(stops)
    })
    .await
}

/// Every cell with both stopped, whoever begins: one at every step, then the other at every step of its own,
/// then the first to stop goes on to its end, then the other. How many runs stopped both.
async fn two_preemptions<S: L1>(stage: Stage) -> Result<usize, String> {
    all_cells(stage, |stage, cell| async move {
        let mut stops = 0;
        for order in [Order::VictimFirst, Order::InvalidatorFirst] {
            for victim in 0..=ENDLESS {
                assert!(victim < ENDLESS, "{cell} does not end");
                let at_this_step = every_invalidator_step::<S>(&stage, cell, order, victim).await?;
                stops += at_this_step;
                if at_this_step == 0 {
                    break;
                }
            }
        }
        Ok(stops)
    })
    .await
}

async fn every_invalidator_step<S: L1>(
    stage: &Stage,
    cell: Cell,
    order: Order,
    victim: usize,
) -> Result<usize, String> {
    let mut stops = 0;
    for invalidator in 0..=ENDLESS {
        assert!(invalidator < ENDLESS, "{cell} does not end");
        let step = Step { victim, invalidator: Some(invalidator), order, probe: Probe::Between };
        let came = stage.run::<S>(cell, step).await?;
        if !came.invalidator {
            break;
        }
        // What stands in its way may take steps from the victim.
        stops += usize::from(came.victim);
    }
    Ok(stops)
}

/// Runs all cells side by side, since on a real server they wait a lot, and adds up what they count.
async fn all_cells<F>(stage: Stage, run: impl Fn(Arc<Stage>, Cell) -> F) -> Result<usize, String>
where
    F: Future<Output = Result<usize, String>> + Send + 'static,
{
    let stage = Arc::new(stage);
    let mut cells = JoinSet::new();
    for cell in Cell::all(stage.is_shared()) {
        cells.spawn(run(stage.clone(), cell));
    }
    let mut stops = 0;
    while let Some(done) = cells.join_next().await {
        stops += done.map_err(|error| error.to_string())??;
    }
    Ok(stops)
}

/// A stage in paused time.
fn paused(backend: impl FnOnce(Clock) -> Arc<dyn Backend>) -> Stage {
    let clock = tokio_clock();
    Stage::over(backend(clock.clone()), clock)
}

fn over_memory() -> Stage {
    paused(|clock| Arc::new(MemoryBackend::with_limit(16 << 20, clock)))
}

async fn over_redis(server: &RedisServer) -> Stage {
    Stage::over(Arc::new(connect(server).await), Clock::system())
}

#[test]
fn an_invalidation_at_every_step_holds_in_memory_alone() {
    let stops = block_on_paused(async { one_preemption::<Engine>(Stage::alone(tokio_clock())).await });
    // Two boundaries: before and after reading the source.
    assert_eq!(
        stops.unwrap_or_else(|trace| panic!("{trace}")),
        Cell::all(false).len() * Probe::ALL.len() * 2
    );
}

#[test]
fn an_invalidation_at_every_step_holds_over_a_shared_memory() {
    let stops = block_on_paused(async { one_preemption::<Engine>(over_memory()).await });
    assert_eq!(stops.unwrap_or_else(|trace| panic!("{trace}")), SHARED_STOPS);
}

#[test]
fn an_invalidation_at_every_step_holds_over_redis() {
    let server = RedisServer::start();
    let stops = block_on(async { one_preemption::<Engine>(over_redis(&server).await).await });
    // Real time passes here: a machine that stalls may turn a refresh into a load, which has other steps.
    assert!(stops.unwrap_or_else(|trace| panic!("{trace}")) >= SHARED_STOPS * 9 / 10);
}

#[test]
fn every_step_of_an_invalidation_during_every_step_holds_over_a_shared_memory() {
    let stops = block_on_paused(async { two_preemptions::<Engine>(over_memory()).await });
    assert!(stops.unwrap_or_else(|trace| panic!("{trace}")) >= SHARED_DOUBLE_STOPS);
}

#[test]
fn every_step_of_an_invalidation_during_every_step_holds_over_redis() {
    let server = RedisServer::start();
    let stops = block_on(async { two_preemptions::<Engine>(over_redis(&server).await).await });
    assert!(stops.unwrap_or_else(|trace| panic!("{trace}")) >= SHARED_DOUBLE_STOPS);
}

/// How often the victim was stopped: a change in the engine's steps shows here, and so does a loop that has
/// become empty.
const SHARED_STOPS: usize = 1080;
/// How often both were, at least: a victim that waits for a writer asks again by lot.
const SHARED_DOUBLE_STOPS: usize = 2_000;

/// Whether any cell notices what is wrong.
fn is_noticed<S: L1>(stage: impl Fn() -> Stage) -> bool {
    block_on_paused(async {
        one_preemption::<S>(stage()).await.is_err() || two_preemptions::<S>(stage()).await.is_err()
    })
}

#[test]
fn every_tier_that_breaks_the_promise_is_noticed() {
    // One that holds nothing is noticed only when its puts land late.
    for lapse in Lapse::ALL.into_iter().filter(|lapse| *lapse != Lapse::HoldsNothing) {
        let stage = || paused(|clock| Arc::new(Lapsed::new(ModelBackend::new(clock), lapse)));
        assert!(is_noticed::<Engine>(stage), "{lapse:?} goes unnoticed");
    }
    let defects = [
        Defect::RemovesWithoutRevoking,
        Defect::RemovesOnlyWhatIsStored,
        Defect::ExpiresWithoutAMark,
        Defect::ExpiresWithoutRevoking,
        Defect::IgnoresTheToken,
        Defect::StoresOnAbsent,
    ];
    for defect in defects {
        let stage = || paused(|clock| Arc::new(BrokenBackend::new(ModelBackend::new(clock), defect)));
        assert!(is_noticed::<Engine>(stage), "{defect:?} goes unnoticed");
    }
}

#[test]
fn a_memory_without_fences_is_noticed() {
    assert!(is_noticed::<Unfenced<Engine>>(|| Stage::alone(tokio_clock())));
    assert!(is_noticed::<Unfenced<Engine>>(over_memory));
}
