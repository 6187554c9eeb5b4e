//! What the callers of a fleet feel of the death of one of its servers, and when they have it back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use benches::{Figure, Sheet, rounds, runtime};
use cachalot_core::{Backend, Key};
use cachalot_redis_backend::RedisBackend;
use cachalot_ring::{Failover, Sharded};
use cachalot_testkit::RedisServer;

use crate::Scale;
use crate::fixture::{NODES, fill, keys, name, sharded};

const SLOWEST: Figure = Figure::new("slowest read", "ms");
const ERRORS: Figure = Figure::new("reads that failed", "calls");
const SETTLED: Figure = Figure::new("reads quick again after", "ms");
const BACK: Figure = Figure::new("served again, after its return", "ms");

/// A read that the dead server plays no part in.
const QUICK: Duration = Duration::from_millis(5);
/// As many quick ones in a row, and it is over.
const CALM: u32 = 50;
/// Between two reads.
const PACE: Duration = Duration::from_millis(1);

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let case = format!("a server of {NODES} dies and returns");
    let next = Failover::NextNode { ttl: Duration::from_secs(60) };
    let mut contenders = [("its keys are misses", Failover::Miss), ("the next one stands in", next)];
    rounds(scale.deaths, &format!("fleet  {case}"), &mut contenders, |(contender, failover)| {
        let felt = runtime().block_on(death(*failover));
        sheet.add(&case, contender, SLOWEST, felt.slowest.as_secs_f64() * 1e3);
        sheet.add(&case, contender, ERRORS, f64::from(felt.errors));
        sheet.add(&case, contender, SETTLED, felt.settled.as_secs_f64() * 1e3);
        sheet.add(&case, contender, BACK, felt.back.as_secs_f64() * 1e3);
    });
}

struct Felt {
    slowest: Duration,
    errors: u32,
    settled: Duration,
    back: Duration,
}

async fn death(failover: Failover) -> Felt {
    let servers: Vec<RedisServer> = (0..NODES).map(|_| RedisServer::start()).collect();
    let tier = Arc::new(sharded(&servers).await.failover(failover).build().expect("a tier"));
    let keys = keys(200);
    fill(&tier, &keys).await;
    let victim = 3;
    let its: Vec<Key> = keys.into_iter().filter(|key| tier.owners(key) == [name(victim)]).collect();
    servers[victim].kill();
    let (slowest, errors, settled) = until_calm(&tier, &its).await;
    servers[victim].restart();
    let back = until_served(&tier, &its, &name(victim)).await;
    Felt { slowest, errors, settled, back }
}

/// Reads the dead server's keys until that is quick again and no error.
async fn until_calm(tier: &Sharded<RedisBackend>, keys: &[Key]) -> (Duration, u32, Duration) {
    let (begin, mut slowest, mut errors) = (Instant::now(), Duration::ZERO, 0);
    let (mut settled, mut calm) = (Duration::ZERO, 0);
    for key in keys.iter().cycle() {
        let asked = Instant::now();
        let is_error = tier.get(key).await.is_err();
        let took = asked.elapsed();
        slowest = slowest.max(took);
        errors += u32::from(is_error);
        (calm, settled) = if is_error || took > QUICK { (0, begin.elapsed()) } else { (calm + 1, settled) };
        if calm == CALM {
            break;
        }
        tokio::time::sleep(PACE).await;
    }
    (slowest, errors, settled)
}

/// Reads until the server is asked again.
async fn until_served(tier: &Sharded<RedisBackend>, keys: &[Key], name: &str) -> Duration {
    let begin = Instant::now();
    for key in keys.iter().cycle() {
        if tier.health().iter().any(|shard| shard.name == name && !shard.is_ejected) {
            break;
        }
        let _ = tier.get(key).await;
        tokio::time::sleep(PACE).await;
    }
    begin.elapsed()
}
