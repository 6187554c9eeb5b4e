//! The matrix over a tier of three servers, by every way to lay keys out on them.

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

const LAYOUTS: [Layout; 3] = [
    Layout { copies: 1, failover: Failover::Miss },
    Layout { copies: 2, failover: Failover::Miss },
    Layout { copies: 1, failover: Failover::NextNode { ttl: Duration::from_secs(3600) } },
];

/// Over models every pair of steps, in each layout; over real servers every step of the victim, with copies.
fn holds(column: Column) {
    for row in Row::ALL {
        for layout in LAYOUTS {
            block_on_paused(async {
                let stage = paused(|clock| layout.over([(); 3].map(|()| model(clock.clone())), clock));
                holds_over(&stage, &cells(row, column, true)).await;
            });
        }
    }
    let servers = [(); 3].map(|()| RedisServer::start());
    block_on(async {
        let mut shards = Vec::new();
        for server in &servers {
            shards.push(connect(server).await);
        }
        let tier = LAYOUTS[1].over(shards, Clock::system());
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
