//! An invalidation at every step of whatever may be under way, and every step of an invalidation during it: the
//! old value never comes back. A test for each cell of the matrix, over memory and over Redis.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use cachalot::{Clock, Entry, Memory, MemoryBackend};
use cachalot_core::Backend;
use cachalot_testkit::broken::Defect;
use cachalot_testkit::{ModelBackend, RedisServer, block_on, block_on_paused, tokio_clock};
use tokio::task::JoinSet;

use integration_tests::{
    Cell, Column, L1, Lapse, Mistake, Order, Probe, Row, Stage, Step, Unfenced, cells, connect, is_live,
};

mod memcached;
mod sharded;

type Engine = Memory<u64, Arc<Entry<String>>>;

/// More steps than any of the two can have.
const ENDLESS: usize = 40;

/// Why a cell does not hold.
#[derive(Debug)]
enum Trouble {
    /// The trace of a run that broke the promise.
    Broken(String),
    /// It has more steps than it can have: nothing is known of the promise.
    Endless(Cell),
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(trace) => f.write_str(trace),
            Self::Endless(cell) => write!(f, "{cell} does not end"),
        }
    }
}

fn within_steps(cell: Cell, step: usize) -> Result<(), Trouble> {
    if step < ENDLESS { Ok(()) } else { Err(Trouble::Endless(cell)) }
}

/// Generates the tests of a cell, and the list of the cells that have some.
macro_rules! matrix {
    ($($row:ident $Row:ident: $($column:ident $Column:ident)*;)*) => {
        const TESTED: &[(Row, Column)] = &[$($((Row::$Row, Column::$Column),)*)*];

        $(mod $row {
            $(mod $column {
                use super::super::{Column, Row, holds_over_memory, holds_over_redis};

                #[test]
                fn over_memory() {
                    holds_over_memory(Row::$Row, Column::$Column);
                }

                #[test]
                fn over_redis() {
                    holds_over_redis(Row::$Row, Column::$Column);
                }
            })*
        })*
    };
}

matrix! {
    remove Remove:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    expire Expire:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    insert Insert:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    tag Tag:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    pattern Pattern:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    clear Clear:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    version_bump VersionBump:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
    message Message:
        foreground_load ForegroundLoad
        soft_timeout SoftTimeout
        early_refresh EarlyRefresh
        stale_while_revalidate StaleWhileRevalidate
        batch Batch
        copy Copy
        write_through WriteThrough
        write_behind_flush WriteBehindFlush;
}

#[test]
fn every_cell_that_can_live_is_tested_and_the_others_wait() {
    let mut waiting = Vec::new();
    for row in Row::ALL {
        for column in Column::ALL {
            let is_tested = TESTED.contains(&(row, column));
            assert_eq!(is_tested, is_live(row, column), "{row:?} x {column:?}");
            if !is_tested {
                waiting.push((row, column));
            }
        }
    }
    let live = TESTED.len();
    assert_eq!((live, waiting.len()), (64, 0), "waiting: {waiting:?}");
}

/// In memory alone, and over a memory shared by two processes.
fn holds_over_memory(row: Row, column: Column) {
    block_on_paused(async {
        let in_one = cells(row, column, false);
        let stops = one_preemption::<Engine>(&alone(), in_one.clone()).await;
        assert_stopped(stops, &in_one);
        holds_over(&over_memory(), &cells(row, column, true)).await;
    });
}

fn holds_over_redis(row: Row, column: Column) {
    let server = RedisServer::start();
    block_on(async {
        let (stage, cells) = (over_redis(&server).await, cells(row, column, true));
        if column == Column::WriteThrough && matches!(row, Row::Insert | Row::VersionBump) {
            // Two writers that meet wait for their holds to end, seconds each time: every pair of their steps takes
            // minutes here, and no time over memory.
            assert_stopped(one_preemption::<Engine>(&stage, cells.clone()).await, &cells);
        } else {
            holds_over(&stage, &cells).await;
        }
    });
}

async fn holds_over(stage: &Arc<Stage>, cells: &[Cell]) {
    assert_stopped(one_preemption::<Engine>(stage, cells.to_vec()).await, cells);
    assert_stopped(two_preemptions::<Engine>(stage, cells.to_vec()).await, cells);
}

/// A loop that has become empty proves nothing. The least a victim has is a read: two steps.
fn assert_stopped(stops: Result<usize, Trouble>, cells: &[Cell]) {
    let stops = stops.unwrap_or_else(|trouble| panic!("{trouble}"));
    assert!(stops >= 2 * cells.len(), "only {stops} stops in {} cells", cells.len());
}

/// All `cells`, with the victim stopped at every step. How many runs stopped it.
async fn one_preemption<S: L1>(stage: &Arc<Stage>, cells: Vec<Cell>) -> Result<usize, Trouble> {
    all_cells(stage, cells, |stage, cell| async move {
        let mut stops = 0;
        for probe in Probe::ALL {
            for victim in 0..=ENDLESS {
                within_steps(cell, victim)?;
                let step = Step { victim, invalidator: None, order: Order::VictimFirst, probe };
                if !stage.run::<S>(cell, step).await.map_err(Trouble::Broken)?.victim {
                    break;
                }
                stops += 1;
            }
        }
        Ok(stops)
    })
    .await
}

/// All `cells` with both stopped, whoever begins: one at every step, then the other at every step of its own,
/// then the first to stop goes on to its end, then the other. How many runs stopped both.
async fn two_preemptions<S: L1>(stage: &Arc<Stage>, cells: Vec<Cell>) -> Result<usize, Trouble> {
    all_cells(stage, cells, |stage, cell| async move {
        let mut stops = 0;
        for order in [Order::VictimFirst, Order::InvalidatorFirst] {
            for victim in 0..=ENDLESS {
                within_steps(cell, victim)?;
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
) -> Result<usize, Trouble> {
    let mut stops = 0;
    for invalidator in 0..=ENDLESS {
        within_steps(cell, invalidator)?;
        let step = Step { victim, invalidator: Some(invalidator), order, probe: Probe::Between };
        let came = stage.run::<S>(cell, step).await.map_err(Trouble::Broken)?;
        if !came.invalidator {
            break;
        }
        // What stands in its way may take steps from the victim.
        stops += usize::from(came.victim);
    }
    Ok(stops)
}

/// Runs `cells` side by side, since on a real server they wait a lot, and adds up what they count.
async fn all_cells<F>(
    stage: &Arc<Stage>,
    cells: Vec<Cell>,
    run: impl Fn(Arc<Stage>, Cell) -> F,
) -> Result<usize, Trouble>
where
    F: Future<Output = Result<usize, Trouble>> + Send + 'static,
{
    let mut running = JoinSet::new();
    for cell in cells {
        running.spawn(run(stage.clone(), cell));
    }
    let mut stops = 0;
    while let Some(done) = running.join_next().await {
        stops += done.unwrap_or_else(|error| resume_unwind(error.into_panic()))?;
    }
    Ok(stops)
}

/// A stage in paused time.
fn paused(backend: impl FnOnce(Clock) -> Arc<dyn Backend>) -> Arc<Stage> {
    let clock = tokio_clock();
    Arc::new(Stage::over(backend(clock.clone()), clock))
}

fn alone() -> Arc<Stage> {
    Arc::new(Stage::alone(tokio_clock()))
}

fn over_memory() -> Arc<Stage> {
    paused(|clock| Arc::new(MemoryBackend::with_limit(16 << 20, clock)))
}

async fn over_redis(server: &RedisServer) -> Arc<Stage> {
    Arc::new(Stage::over(Arc::new(connect(server).await), Clock::system()))
}

/// The first cell of the matrix that notices what is wrong with `stage`.
fn noticed_in<S: L1>(stage: impl Fn() -> Arc<Stage>) -> Option<(Row, Column)> {
    TESTED.iter().copied().find(|(row, column)| {
        block_on_paused(async {
            let stage = stage();
            let cells = || cells(*row, *column, stage.is_shared());
            let is_broken = |stops| matches!(stops, Err(Trouble::Broken(_)));
            is_broken(one_preemption::<S>(&stage, cells()).await)
                || is_broken(two_preemptions::<S>(&stage, cells()).await)
        })
    })
}

/// Whose sweeps take few steps, however many runs have left their keys.
fn model(clock: Clock) -> ModelBackend {
    ModelBackend::new(clock).sweeping(1 << 16)
}

/// The first cell that notices something where nothing is wrong: what notices a mistake would prove nothing.
pub(crate) fn cell_that_notices_nothing() -> Option<(Row, Column)> {
    noticed_in::<Engine>(|| paused(|clock| Arc::new(model(clock))))
}

/// The first cell of the matrix that notices `mistake`.
pub(crate) fn cell_that_notices(mistake: Mistake) -> Option<(Row, Column)> {
    let stage = || paused(|clock| mistake.spoil(model(clock)));
    mistake.under(|| match mistake {
        Mistake::Unfenced => noticed_in::<Unfenced<Engine>>(stage),
        _ => noticed_in::<Engine>(stage),
    })
}

#[test]
fn every_tier_that_breaks_the_promise_is_noticed() {
    assert_eq!(cell_that_notices_nothing(), None, "nothing is wrong there");
    let seen_here_only_if_puts_land_late = Mistake::Tier(Lapse::HoldsNothing);
    let needs_a_lease_before_the_last = Mistake::Backend(Defect::AcceptsAnEarlierToken);
    for mistake in Mistake::of_tiers() {
        if [seen_here_only_if_puts_land_late, needs_a_lease_before_the_last].contains(&mistake) {
            continue;
        }
        assert!(cell_that_notices(mistake).is_some(), "{mistake} goes unnoticed");
    }
}

#[test]
fn a_memory_without_fences_is_noticed_without_a_shared_tier() {
    assert!(noticed_in::<Unfenced<Engine>>(alone).is_some());
}
