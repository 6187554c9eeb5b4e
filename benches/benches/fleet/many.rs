//! Many keys in one call, over one server and over eight.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use benches::{Figure, Sheet, concurrently, rounds, runtime};
use cachalot_core::{Backend, Key};
use cachalot_redis_backend::Redis;
use cachalot_testkit::RedisServer;

use crate::Scale;
use crate::fixture::{NODES, fill, keys, sharded};

const ONE: &str = "one server, one call";
/// Single gets in flight at once.
const CALLERS: usize = 64;

const MS: Figure = Figure::new("time", "ms");
const RATIO: Figure = Figure::new("time / one server", "ratio");
/// On two cores; on many it is the slowest server alone that counts.
const CALL_RATIO: Figure = Figure::new("a call's time / one server", "ratio").at_most(1.1);

type Tier = Arc<dyn Backend>;
type Way = fn(&tokio::runtime::Runtime, &Tier, &[Key], u32) -> Duration;

pub(crate) fn play(scale: &Scale, sheet: &mut Sheet) {
    let runtime = runtime();
    let alone = RedisServer::start();
    let servers: Vec<RedisServer> = (0..NODES).map(|_| RedisServer::start()).collect();
    let keys = keys(scale.keys);
    let (one, eight) = runtime.block_on(async {
        let one: Tier = Arc::new(Redis::connect(alone.url()).await.expect("a connection"));
        let eight: Tier = Arc::new(sharded(&servers).await.build().expect("a tier"));
        for tier in [&one, &eight] {
            fill(tier, &keys).await;
        }
        (one, eight)
    });
    let case = format!("{} keys", scale.keys);
    let call = format!("{NODES} servers, one call");
    let mut contenders: [(&str, &Tier, Way); 4] = [
        (ONE, &one, calls),
        (&call, &eight, calls),
        ("one server, single gets, 64 at a time", &one, singles),
        ("8 servers, single gets, 64 at a time", &eight, singles),
    ];
    let mut times: Vec<(String, f64)> = Vec::new();
    rounds(scale.rounds, &format!("fleet  {case}"), &mut contenders, |(name, tier, way)| {
        let time = way(&runtime, tier, &keys, scale.calls).as_secs_f64() * 1e3 / f64::from(scale.calls);
        sheet.add(&case, name, MS, time);
        times.push(((*name).to_owned(), time));
    });
    sheet.compare(&case, MS.metric, ONE, RATIO);
    let of = |wanted: &str| {
        times.iter().filter(|(name, _)| name == wanted).map(|(_, time)| *time).collect::<Vec<_>>()
    };
    for (eight, one) in of(&call).iter().zip(of(ONE)) {
        sheet.add(&case, &call, CALL_RATIO, eight / one);
    }
}

fn calls(runtime: &tokio::runtime::Runtime, tier: &Tier, keys: &[Key], calls: u32) -> Duration {
    runtime.block_on(async {
        let begin = Instant::now();
        for _ in 0..calls {
            let records = tier.get_many(keys).await;
            assert!(records.iter().all(|record| matches!(record, Ok(Some(_)))), "a value that is not there");
        }
        begin.elapsed()
    })
}

fn singles(runtime: &tokio::runtime::Runtime, tier: &Tier, keys: &[Key], calls: u32) -> Duration {
    // One pass takes long enough.
    let keys: Arc<[Key]> = keys.into();
    let next = Arc::new(AtomicUsize::new(0));
    let all = concurrently(CALLERS, || {
        let (tier, keys, next) = (tier.clone(), keys.clone(), next.clone());
        async move {
            while let Some(key) = keys.get(next.fetch_add(1, Ordering::Relaxed)) {
                let record = tier.get(key).await;
                assert!(matches!(record, Ok(Some(_))), "a value that is not there");
            }
        }
    });
    runtime.block_on(all) * calls
}
