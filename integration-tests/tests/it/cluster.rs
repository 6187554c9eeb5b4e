//! Caches over a real Redis Cluster.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cachalot::{Cache, Key, Memory, Pattern, Removal, Tags};
use cachalot_core::{Backend, Namespace, SweepCursor};
use cachalot_testkit::{RedisCluster, RedisServer};
use integration_tests::patient;

type Users = Cache<u64, String>;

const KEYS: u64 = 60;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(work)
}

async fn backend(servers: &RedisCluster) -> cachalot::RedisCluster {
    let urls = servers.urls();
    patient(&urls[0]).connect_cluster(&urls[1..]).await.unwrap()
}

async fn node(servers: &RedisCluster) -> Users {
    let cache = Cache::builder("users").memory(Memory::entries(1_000)).ttl(Duration::from_secs(600));
    cache.backend(backend(servers).await).build().unwrap()
}

async fn fill(cache: &Users) {
    for key in 0..KEYS {
        let parity = if key % 2 == 0 { "even" } else { "odd" };
        let tagged = cache.with(|options| options.tags(Tags::new([parity]).unwrap()));
        tagged.insert(key, "old".into()).await.unwrap();
    }
}

/// The keys that a process finds which has nothing in memory.
async fn found(servers: &RedisCluster) -> Vec<u64> {
    let (cache, mut found) = (node(servers).await, Vec::new());
    for key in 0..KEYS {
        if cache.get(&key).await.is_some() {
            found.push(key);
        }
    }
    found
}

#[test]
fn keys_tags_and_patterns_are_removed_wherever_their_slots_are() {
    block_on(async {
        let servers = RedisCluster::start(3);
        let cache = node(&servers).await;
        fill(&cache).await;
        assert_eq!(found(&servers).await.len() as u64, KEYS);
        assert_eq!(cache.remove(&7).await.unwrap(), Removal::Removed);
        assert_eq!(cache.remove_many(&[0, 9]).await.unwrap(), [Removal::Removed, Removal::Removed]);
        assert!(!found(&servers).await.iter().any(|key| [0, 7, 9].contains(key)));
        assert_eq!(cache.remove_tag("even").await.unwrap(), Removal::Removed);
        assert!(found(&servers).await.iter().all(|key| key % 2 == 1));
        assert_eq!(cache.remove_pattern(&Pattern::prefix("1")).await.unwrap(), Removal::Removed);
        let left = found(&servers).await;
        assert!(!left.is_empty() && !left.iter().any(|key| key.to_string().starts_with('1')), "{left:?}");
        assert_eq!(cache.clear().await.unwrap(), Removal::Removed);
        assert!(found(&servers).await.is_empty());
    });
}

#[test]
fn a_sweep_finds_what_has_moved_behind_it() {
    assert!(block_on(a_slot_that_moves()));
}

/// The first scene that `mistake` spoils.
#[cfg(cachalot_mutants)]
pub(crate) fn spoiled_by(mistake: integration_tests::Mistake) -> Option<&'static str> {
    let is_spoiled = !mistake.under(|| block_on(a_slot_that_moves()));
    is_spoiled.then_some("a_sweep_finds_what_has_moved_behind_it")
}

/// From the primary that is walked over last to the one that was first, after that was walked over.
async fn a_slot_that_moves() -> bool {
    let servers = RedisCluster::start(3);
    fill(&node(&servers).await).await;
    let mut order: Vec<(usize, &RedisServer)> = servers.primaries().iter().enumerate().collect();
    order.sort_by_key(|(_, server)| server.port());
    let [(_, first), _, (last_at, last)] = order[..] else { panic!("there are three") };
    let slot_of = |key| tell(last, &["CLUSTER", "KEYSLOT", &format!("users:{key}")])[0][1..].to_owned();
    let is_last = |slot: &String| slot.parse::<usize>().unwrap() * 3 / 16_384 == last_at;
    let slot = (0..KEYS).map(slot_of).find(is_last).unwrap();

    let (cluster, all) = (backend(&servers).await, Pattern::any().within(&Namespace::new("users").unwrap()));
    let mut next = cluster.sweep(&all, &SweepCursor::START).await.unwrap().next;
    tell(first, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &servers.id(last)]);
    tell(last, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &servers.id(first)]);
    let names = tell(last, &["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
    for name in names.iter().filter(|line| line.starts_with("users")) {
        tell(last, &["MIGRATE", "127.0.0.1", &first.port().to_string(), name, "0", "10000"]);
    }
    for node in [first, last] {
        tell(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &servers.id(first)]);
    }
    while let Some(from) = next {
        next = cluster.sweep(&all, &from).await.unwrap().next;
    }
    let keys: Vec<Key> = (0..KEYS).map(|key| Key::new(format!("users:{key}"))).collect();
    cluster.get_many(&keys).await.iter().all(|record| record.as_ref().unwrap().is_none())
}

/// One command, past all clients, and the lines of the answer.
fn tell(server: &RedisServer, command: &[&str]) -> Vec<String> {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(format!("{}\r\n", command.join(" ")).as_bytes()).unwrap();
    let mut answer = [0; 8192];
    let length = stream.read(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    assert!(!answer.starts_with('-'), "{command:?}: {answer}");
    answer.lines().map(str::to_owned).collect()
}
