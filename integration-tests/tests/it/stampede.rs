//! Ten thousand callers of one cold key over Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachalot::{Cache, Memory};
use cachalot_testkit::{CountingSource, RedisServer};
use integration_tests::{connect, counted};
use tokio::time::sleep;

/// Longer than anything here can take on a busy machine.
const AGES: Duration = Duration::from_secs(300);

type Users = Cache<u64, String>;

async fn node(server: &RedisServer) -> Users {
    let redis = connect(server).await;
    Cache::builder("users").memory(Memory::entries(100)).backend(redis).hard_timeout(AGES).build().unwrap()
}

/// Lets `callers` come to each of `nodes` at once. How often the source was asked.
async fn storm(nodes: &[Users], callers: usize) -> usize {
    let source = CountingSource::with([(1, "Ada".to_owned())]);
    let gate = source.stop_after_reading();
    let waiting = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = nodes
        .iter()
        .flat_map(|node| (0..callers).map(|_| node.clone()))
        .map(|node| {
            let (source, waiting) = (source.clone(), waiting.clone());
            tokio::spawn(async move {
                let read = node.get_or_load(&1, |load| async move { Ok(source.fetch(load.key()).await?) });
                counted(&waiting, read).await
            })
        })
        .collect();
    gate.reached(1).await;
    while waiting.load(Ordering::SeqCst) < nodes.len() * callers {
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
