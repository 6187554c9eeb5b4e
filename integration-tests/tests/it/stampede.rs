//! Ten thousand callers of one cold key over Redis.

use std::time::Duration;

use cachalot::{Cache, Memory, Redis};
use cachalot_testkit::{CountingSource, RedisServer};
use tokio::time::sleep;

type Users = Cache<u64, String>;

async fn node(server: &RedisServer) -> Users {
    let redis = Redis::connect(server.url()).await.unwrap();
    Cache::builder("users").memory(Memory::entries(100)).backend(redis).build().unwrap()
}

/// Lets `callers` come to each of `nodes` at once. How often the source was asked.
async fn storm(nodes: &[Users], callers: usize) -> usize {
    let source = CountingSource::with([(1, "Ada".to_owned())]);
    let gate = source.stop_after_reading();
    let tasks: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..callers).map(|_| node.clone()))
        .map(|node| {
            let source = source.clone();
            tokio::spawn(async move {
                node.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) }).await
            })
        })
        .collect();
    gate.reached(1).await;
    while nodes.iter().any(|node| node.stats().coalesced + 1 < callers as u64) {
        sleep(Duration::from_millis(1)).await;
    }
    gate.open();
    for task in tasks {
        assert_eq!(*task.await.unwrap().unwrap(), "Ada");
    }
    assert!(nodes.iter().all(|node| node.stats().flights == 0));
    source.loads()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_of_a_cold_key_over_redis_share_one_load() {
    let server = RedisServer::start();
    assert_eq!(storm(&[node(&server).await], 10_000).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_callers_in_four_caches_over_redis_share_one_load() {
    let server = RedisServer::start();
    let mut nodes = Vec::new();
    for _ in 0..4 {
        nodes.push(node(&server).await);
    }
    assert_eq!(storm(&nodes, 2_500).await, 1);
}
