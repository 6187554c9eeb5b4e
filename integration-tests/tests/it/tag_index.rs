//! The index of tags, driven by a cache over a real Redis.

use std::collections::BTreeSet;
use std::time::Duration;

use cachalot::{Cache, Load, Memory, Namespace, RedisBackend, Removal, TagIndex};
use cachalot_core::{Backend, Key};
use cachalot_testkit::RedisServer;
use integration_tests::connect;
use tokio::time::{sleep, timeout};

type Products = Cache<u64, String>;

const AGES: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(5);

async fn node(backend: &RedisBackend) -> Products {
    let index = TagIndex::open(backend, &Namespace::new("products").unwrap()).await.unwrap();
    let builder = Cache::builder("products").memory(Memory::entries(5000)).tag_index(index);
    builder.backend(backend.clone()).build().unwrap()
}

async fn keys(cache: &Products, tag: &str) -> BTreeSet<u64> {
    let (mut keys, mut pages) = (BTreeSet::new(), cache.keys_of_tag(tag).unwrap());
    while let Some(page) = pages.next().await.unwrap() {
        keys.extend(page);
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_redis_the_keys_of_a_tag_are_listed_and_deleted_after_its_removal() {
    let server = RedisServer::start();
    let backend = connect(&server).await;
    let (cache, other) = (node(&backend).await, node(&backend).await);
    for key in 0..1200 {
        let load = |load: Load<u64>| async move {
            load.tag(if key < 1100 { "sale" } else { "new" });
            Ok("product".to_owned())
        };
        cache.get_or_load(&key, load).await.unwrap();
    }
    assert_eq!(keys(&other, "sale").await, (0..1100).collect(), "another process lists them too");
    assert_eq!(other.remove_tag("sale").await.unwrap(), Removal::Removed);
    let deleted = async {
        while !keys(&cache, "sale").await.is_empty() {
            sleep(A_MOMENT).await;
        }
    };
    timeout(AGES, deleted).await.expect("they stay");
    let there = |key: u64| {
        let backend = backend.clone();
        async move { backend.get(&Key::new(format!("products:{key}"))).await.unwrap().is_some() }
    };
    for key in [0, 500, 1099] {
        assert!(!there(key).await, "{key}");
    }
    assert!(there(1100).await && other.get(&1100).await.is_some());
    assert_eq!(keys(&other, "new").await.len(), 100);
}
