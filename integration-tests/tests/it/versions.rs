//! Versions over a real server: in whatever order they come, the newest one is left, or nothing.

use std::sync::Arc;
use std::time::Duration;

use cachalot::{Entry, Memory};
use cachalot_core::{Backend, Entropy};
use cachalot_strategies::Cache;
use cachalot_testkit::{Faulty, Odds, RedisServer, block_on};
use integration_tests::connect;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::sleep;

type Node = Cache<u64, String, Memory<u64, Arc<Entry<String>>>>;

const SEEDS: u64 = 200;
const KEY: u64 = 1;

#[test]
fn any_order_over_redis_ends_with_the_newest_version_or_nothing() {
    let server = RedisServer::start();
    block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(connect(&server).await);
        let mut worlds = JoinSet::new();
        for seed in 0..SEEDS {
            worlds.spawn(live(seed, backend.clone()));
        }
        let mut kept = 0;
        while let Some(left) = worlds.join_next().await {
            kept += usize::from(left.unwrap());
        }
        assert!(kept > 20, "only {kept} of {SEEDS} worlds were left with a value");
    });
}

#[test]
fn all_64_bits_of_a_version_count_over_redis() {
    let server = RedisServer::start();
    block_on(async {
        let backend: Arc<dyn Backend> = Arc::new(connect(&server).await);
        let node = node("wide", &backend, 1);
        let mut before = None;
        for version in [1, (1 << 53) - 1, 1 << 53, (1 << 53) + 1, 1 << 63, u64::MAX] {
            insert(&node, version).await;
            insert(&node, before.unwrap_or(version)).await;
            let found = node.get(&KEY).await.map(|found| found.version());
            assert_eq!(found, Some(version));
            before = Some(version);
        }
    });
}

/// Some deeds that overlap, in two processes, as `seed` has it. Whether a value is left.
async fn live(seed: u64, backend: Arc<dyn Backend>) -> bool {
    let lots = Entropy::seeded(seed);
    let name = format!("versions{seed}");
    let tier = Faulty::new(backend.clone());
    let longest_delay = Duration::from_millis(6);
    tier.at_random(Odds { delay: 0.8, longest_delay, ..Odds::default() }, seed);
    let tier: Arc<dyn Backend> = Arc::new(tier);
    let nodes = [1, 2].map(|place| node(&name, &tier, 2 * seed + place));
    let mut deeds = JoinSet::new();
    let mut told = Vec::new();
    for _ in 0..2 + lots.draw_u64() % 8 {
        let [deed, version, place, at] = [3, 5, 2, 12].map(|most| lots.draw_u64() % most);
        told.push((deed, version + 1, place, at));
        let node = nodes[place as usize].clone();
        deeds.spawn(async move {
            sleep(Duration::from_millis(at)).await;
            act(&node, deed, version + 1).await
        });
    }
    let newest = deeds.join_all().await.into_iter().max().unwrap_or(0);
    let left = node(&name, &backend, 0).get(&KEY).await.map(|found| found.version());
    assert!(left.is_none_or(|left| left == newest), "{left:?}, not {newest}: seed {seed}, {told:?}");
    left.is_some()
}

/// The version that it named.
async fn act(node: &Node, deed: u64, version: u64) -> u64 {
    match deed {
        0 => insert(node, version).await,
        1 => drop(node.remove_older(&KEY, version).await.unwrap()),
        _ => {
            let (says, hears) = oneshot::channel();
            let load = node.get_or_load(&KEY, |load| async move {
                let _ = says.send(());
                sleep(Duration::from_millis(version)).await;
                load.version(version);
                Ok(version.to_string())
            });
            load.await.unwrap();
            // Else it found something, and named none.
            return if hears.await.is_ok() { version } else { 0 };
        }
    }
    version
}

async fn insert(node: &Node, version: u64) {
    node.with(|options| options.version(version)).insert(KEY, version.to_string()).await.unwrap();
}

fn node(name: &str, backend: &Arc<dyn Backend>, seed: u64) -> Node {
    let builder = Cache::builder(name).memory(Memory::entries(16)).entropy(Entropy::seeded(seed));
    builder.versioned().backend(backend.clone()).backend_timeout(Duration::from_secs(30)).build().unwrap()
}
