//! The matrix over a tier of three servers, with copies and with stand-ins.

use cachalot::ring::SlotRing;
use cachalot::{Failover, Shard, Sharded, TokioSpawn};

use super::*;

#[test]
fn foreground_load() {
    holds(Column::ForegroundLoad);
}

#[test]
fn soft_timeout() {
    holds(Column::SoftTimeout);
}

#[test]
fn early_refresh() {
    holds(Column::EarlyRefresh);
}

#[test]
fn stale_while_revalidate() {
    holds(Column::StaleWhileRevalidate);
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

/// How keys lie on the servers.
#[derive(Clone, Copy, Debug)]
struct Layout {
    copies: usize,
    failover: Failover,
}

const COPIES: Layout = Layout { copies: 2, failover: Failover::Miss };
const STAND_IN: Layout =
    Layout { copies: 1, failover: Failover::NextNode { ttl: Duration::from_secs(3600) } };

/// Over models every pair of steps where there are copies, and every step of the victim where the next server stands in;
/// over real servers every step of the victim where there are copies.
fn holds(column: Column) {
    for row in Row::ALL {
        let cells = cells(row, column, true);
        let stage =
            |layout: Layout| paused(|clock| layout.over([(); 3].map(|()| model(clock.clone())), clock));
        block_on_paused(async {
            holds_over(&stage(COPIES), &cells).await;
            let stops = one_preemption::<Engine>(&stage(STAND_IN), cells.clone()).await;
            assert_stopped(stops, &cells);
        });
    }
    let servers = [(); 3].map(|()| RedisServer::start());
    block_on(async {
        let mut shards = Vec::new();
        for server in &servers {
            shards.push(connect(server).await);
        }
        let tier = COPIES.over(shards, Clock::system());
        let stage = Arc::new(Stage::over(tier, Clock::system()));
        for row in Row::ALL {
            let cells = cells(row, column, true);
            assert_stopped(one_preemption::<Engine>(&stage, cells.clone()).await, &cells);
        }
    });
}

impl Layout {
    fn over<B: Backend>(self, shards: impl IntoIterator<Item = B>, clock: Clock) -> Arc<dyn Backend> {
        let shards = shards.into_iter().enumerate();
        let tier = Sharded::builder(SlotRing::new, TokioSpawn)
            .shards(shards.map(|(at, backend)| Shard::new(format!("10.0.0.{at}:6379"), backend)))
            .copies(self.copies)
            .failover(self.failover)
            .clock(clock);
        Arc::new(tier.build().unwrap())
    }
}
