//! The same over three nodes, with keys in all slots.

use cachalot_core::ErrorKind;
use cachalot_core::codec::Json;
use cachalot_redis_backend::patterns::{Leaderboard, Queue, ReliableQueue};
use cachalot_testkit::RedisCluster as Servers;
use tokio::time::timeout;

use super::*;
use crate::support::patient;

async fn start_cluster() -> (Servers, RedisPatterns) {
    let servers = Servers::start(3);
    let urls = servers.urls();
    let cluster = patient(&urls[0]).connect_cluster(&urls[1..]).await.unwrap();
    (servers, cluster.patterns())
}

#[tokio::test]
async fn every_pattern_works_whichever_node_has_its_key() {
    let (servers, patterns) = start_cluster().await;
    let space = namespace("x");
    let hashes = patterns.hashes(&space, Json);
    let counter = patterns.capped_counter(&namespace("c"), 1, MINUTE).unwrap();
    let limit = patterns.rate_limit(&namespace("l"), 1, MINUTE).unwrap();
    for key in 0..20_u32 {
        hashes.set(&key, &hashes.object().with("f", &key).unwrap(), MINUTE).await.unwrap();
        assert!(hashes.update(&key, "g", &key).await.unwrap());
        assert_eq!(hashes.get(&key).await.unwrap().unwrap().len(), 2);
        let board: Leaderboard = patterns.leaderboard(&namespace("b"), &key);
        board.add("m", 1.0).await.unwrap();
        assert_eq!(board.around("m", 1).await.unwrap().unwrap().len(), 1);
        assert_eq!(counter.increment(&key).await.unwrap(), Some(1));
        assert_eq!(counter.increment(&key).await.unwrap(), None);
        assert!(limit.check(&key).await.unwrap().is_allowed());
        assert!(!limit.check(&key).await.unwrap().is_allowed());
        let queue: Queue<u32> = patterns.queue(&namespace("q"), &key, Json);
        queue.push(&[key]).await.unwrap();
        assert_eq!(queue.pop(MINUTE).await.unwrap(), Some(key));
        let reliable: ReliableQueue<u32> = patterns.reliable_queue(&namespace("r"), &key, Json);
        reliable.push(&[key, key]).await.unwrap();
        let mut ann = reliable.consumer("ann", MINUTE).unwrap();
        let one = ann.take(MINUTE).await.unwrap().unwrap();
        assert!(one.nack().await.unwrap());
        let (one, other) =
            (ann.take(MINUTE).await.unwrap().unwrap(), ann.take(MINUTE).await.unwrap().unwrap());
        assert!(one.ack().await.unwrap());
        assert_eq!(reliable.recover().await.unwrap(), 0);
        drop(other);
    }
    let batch = patterns.batch::<u32>(&namespace("v"), Json);
    let values: Vec<(u32, u32)> = (0..300).map(|n| (n, n)).collect();
    assert!(batch.set(&values, MINUTE).await.into_iter().all(|outcome| outcome.is_ok()));
    let keys: Vec<u32> = (0..300).collect();
    let found: Vec<_> = batch.get(&keys).await.into_iter().map(|found| found.unwrap().unwrap()).collect();
    assert_eq!(found, keys);
    for node in servers.primaries() {
        assert!(ask::<usize>(node, &["DBSIZE"]) > 20, "each node has its own");
    }
    let error = patterns.topic::<u32>(&space, "a", Json).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}

#[tokio::test]
async fn a_pop_goes_on_where_its_slot_went_while_it_waited() {
    let (servers, patterns) = start_cluster().await;
    let queue: Queue<u32> = patterns.queue(&namespace("q"), "a", Json);
    queue.push(&[1]).await.unwrap();
    let nodes = servers.primaries();
    let slot: u16 = ask(&nodes[0], &["CLUSTER", "KEYSLOT", "q:a"]);
    let slot = slot.to_string();
    let from =
        nodes.iter().position(|node| ask::<i64>(node, &["CLUSTER", "COUNTKEYSINSLOT", &slot]) == 1).unwrap();
    assert_eq!(queue.pop(MINUTE).await.unwrap(), Some(1));
    let (from, to) = (&nodes[from], &nodes[(from + 1) % 3]);
    let waiting = tokio::spawn({
        let queue = queue.clone();
        async move { queue.pop(MINUTE).await.unwrap() }
    });
    until_blocked(from, 1).await;
    tell(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &servers.id(from)]);
    tell(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &servers.id(to)]);
    for node in [to, from] {
        tell(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &servers.id(to)]);
    }
    until_blocked(to, 1).await;
    queue.push(&[2]).await.unwrap();
    assert_eq!(timeout(AGES, waiting).await.unwrap().unwrap(), Some(2));
}
