//! Servers, tiers over them, and what these hold.

use std::time::Duration;

use benches::concurrently;
use cachalot_core::{Backend, Entropy, Key, Namespace, Nonce, Put, PutReply, Token};
use cachalot_redis_backend::{Redis, RedisBackend};
use cachalot_ring::{Shard, Sharded, ShardedBuilder, SlotRing};
use cachalot_stampede::TokioSpawn;
use cachalot_testkit::RedisServer;

pub(crate) const NODES: usize = 8;
pub(crate) const VALUE: [u8; 100] = [b'v'; 100];

pub(crate) fn keys(count: u64) -> Vec<Key> {
    let namespace = Namespace::new("bench").expect("a name");
    (0..count).map(|n| namespace.key(&n)).collect()
}

/// A builder of a tier over `servers`, and their names.
pub(crate) async fn sharded(servers: &[RedisServer]) -> ShardedBuilder<RedisBackend> {
    let mut builder = Sharded::builder(SlotRing::new, TokioSpawn);
    for (at, server) in servers.iter().enumerate() {
        let backend = Redis::connect(server.url()).await.expect("a connection");
        builder = builder.shard(Shard::new(name(at), backend));
    }
    builder
}

pub(crate) fn name(at: usize) -> String {
    format!("redis-{at}")
}

/// Stores all of `keys`, a few at a time.
pub(crate) async fn fill<B: Backend + Clone>(tier: &B, keys: &[Key]) {
    let lots: Vec<Vec<Key>> = keys.chunks(keys.len().div_ceil(16)).map(<[Key]>::to_vec).collect();
    let next = std::sync::atomic::AtomicUsize::new(0);
    concurrently(lots.len(), || {
        let lot = lots[next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)].clone();
        let tier = tier.clone();
        async move {
            for key in &lot {
                store(&tier, key).await;
            }
        }
    })
    .await;
}

async fn store(tier: &impl Backend, key: &Key) {
    let (entropy, leases) = (Entropy::thread(), tier.leases().expect("a tier with leases"));
    let put =
        Put { payload: VALUE.to_vec().into(), nonce: Nonce::draw(&entropy), ttl: Duration::from_secs(3600) };
    let token = Token::draw(&entropy);
    leases.hold(key, token, Duration::from_secs(10)).await.expect("a hold");
    let reply = leases.put_held(key, token, put).await.expect("a reply");
    assert_eq!(reply, PutReply::Stored);
}
