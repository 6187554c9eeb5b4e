//! The matrix over Memcached, with what it can do: it sweeps no patterns and keeps no versions.

use std::time::Duration;

use cachalot::Memcached;
use cachalot_testkit::MemcachedServer;
use integration_tests::{Invalidator, Victim};

use super::*;

/// Rows in which nothing is swept and nothing has a version.
const ROWS: [Row; 5] = [Row::Remove, Row::Expire, Row::Insert, Row::Tag, Row::Message];

#[test]
fn foreground_load() {
    holds(Column::ForegroundLoad);
}

#[test]
fn early_refresh() {
    holds(Column::EarlyRefresh);
}

#[test]
fn batch() {
    holds(Column::Batch);
}

#[test]
fn copy() {
    holds(Column::Copy);
}

#[test]
fn write_through() {
    holds(Column::WriteThrough);
}

#[test]
fn write_behind_flush() {
    holds(Column::WriteBehindFlush);
}

fn holds(column: Column) {
    let server = MemcachedServer::start();
    block_on(async {
        let builder = Memcached::builder(server.url()).deadline(Duration::from_secs(30));
        let backend = Arc::new(builder.connect().await.unwrap());
        let stage = Arc::new(Stage::over(backend, Clock::system()));
        for row in ROWS {
            let cells: Vec<Cell> = cells(row, column, true).into_iter().filter(can_be).collect();
            assert!(!cells.is_empty(), "{row:?} x {column:?}");
            if column == Column::WriteThrough {
                // Who meets a hold waits for its end, in whole seconds: every pair of steps takes minutes.
                assert_stopped(one_preemption::<Engine>(&stage, cells.clone()).await, &cells);
            } else {
                holds_over(&stage, &cells).await;
            }
        }
    });
}

/// Not those who find what has just grown stale: here it does so up to a second later.
fn can_be(cell: &Cell) -> bool {
    let finds_what_is_stale = matches!(
        cell.victim,
        Victim::StaleBelow
            | Victim::RefreshBelow
            | Victim::LeftLoadBelow
            | Victim::BatchOverStale
            | Victim::Refresh
            | Victim::FailingLoad
            | Victim::LeftLoad
    );
    !finds_what_is_stale && !matches!(cell.invalidator, Invalidator::Pattern | Invalidator::Clear)
}
