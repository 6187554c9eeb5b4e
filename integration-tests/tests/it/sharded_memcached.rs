//! One tier over three real memcacheds, by the ring that clients of other makes use: each server holds the keys that the
//! ring says, and no other, so that such a client finds them.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cachalot::ring::{Ketama, Placement};
use cachalot::{
    Cache, Inserted, Key, Memcached, MemcachedBackend, Memory, Removal, Shard, Sharded, TokioSpawn,
};
use cachalot_testkit::{CountingSource, MemcachedServer};

const KEYS: u64 = 300;

/// A connection past all clients.
struct Wire(BufReader<TcpStream>);

impl Wire {
    fn to(server: &MemcachedServer) -> Self {
        let stream = TcpStream::connect(server.addr()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, command: &str) -> String {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes()).unwrap();
        self.line()
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// What it has under `key`, header and payload.
    fn value(&mut self, key: &str) -> Option<Vec<u8>> {
        let answer = self.ask(&format!("mg {key} v"));
        if answer == "EN" {
            return None;
        }
        let size: usize = answer.strip_prefix("VA ").unwrap().parse().unwrap();
        let mut value = vec![0; size + 2];
        self.0.read_exact(&mut value).unwrap();
        value.truncate(size);
        Some(value)
    }

    /// How many items it has, of any kind.
    fn items(&mut self) -> usize {
        let mut line = self.ask("stats");
        let mut count = None;
        while line != "END" {
            count = count.or_else(|| line.strip_prefix("STAT curr_items ")?.parse().ok());
            line = self.line();
        }
        count.expect("it counts its items")
    }
}

struct Three {
    /// What the ring knows them by, as a client of another make is told.
    names: [&'static str; 3],
    servers: [MemcachedServer; 3],
}

impl Three {
    fn start() -> Self {
        let names = ["10.0.0.1:11211", "10.0.0.2:11211", "10.0.0.3:11211"];
        Self { names, servers: names.map(|_| MemcachedServer::start()) }
    }

    fn tier(&self) -> Sharded<MemcachedBackend> {
        let shard = |(name, server): (&&str, &MemcachedServer)| {
            let backend = Memcached::builder(server.url()).deadline(Duration::from_secs(60));
            Shard::new(*name, backend.connect_lazy().unwrap())
        };
        let shards = self.names.iter().zip(&self.servers).map(shard);
        Sharded::builder(Ketama::new, TokioSpawn).shards(shards).build().unwrap()
    }

    /// The keys that each one has, asked one by one for each.
    fn held(&self) -> [BTreeSet<String>; 3] {
        self.servers.each_ref().map(|server| {
            let mut wire = Wire::to(server);
            let held: BTreeSet<String> = names().filter(|key| wire.value(key).is_some()).collect();
            assert_eq!(wire.items(), held.len(), "and nothing else: {held:?}");
            held
        })
    }

    /// The keys that `owner` says are each one's.
    fn owned(&self, owner: impl Fn(&str) -> String) -> [BTreeSet<String>; 3] {
        self.names.map(|name_of| names().filter(|key| owner(key) == name_of).collect())
    }
}

fn name(id: u64) -> String {
    format!("users:{id}")
}

/// Of all records, and of the token of the whole cache, which lies where a key of its name would.
fn names() -> impl Iterator<Item = String> {
    (0..KEYS).map(name).chain(["users#".to_owned()])
}

fn cache(tier: Sharded<MemcachedBackend>) -> Cache<u64, String> {
    let memory = Memory::entries(10);
    Cache::builder("users").memory(memory).ttl(Duration::from_secs(600)).backend(tier).build().unwrap()
}

async fn read(cache: &Cache<u64, String>, source: &CountingSource<u64, String>, id: u64) -> String {
    let source = source.clone();
    let load = cache.get_or_load(&id, |load| async move { Ok(source.fetch(load.key()).await?) });
    load.await.unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_server_holds_exactly_the_keys_that_the_ring_says() {
    let three = Three::start();
    let ring = Ketama::new(three.names).unwrap();
    let tier = three.tier();
    let by_ring = three.owned(|key| ring.nodes()[ring.owner(key.as_bytes())].name().to_owned());
    let by_tier = three.owned(|key| tier.owners(&Key::new(key.to_owned())).concat());
    assert_eq!(by_tier, by_ring);
    assert!(by_ring.iter().all(|owned| owned.len() > 50), "all three have work to do: {by_ring:?}");

    let source = CountingSource::with((0..KEYS).map(|id| (id, format!("user {id}"))));
    let writer = cache(tier);
    for id in 0..KEYS {
        match id % 2 {
            0 => assert_eq!(read(&writer, &source, id).await, format!("user {id}")),
            _ => assert_eq!(writer.insert(id, format!("user {id}")).await.unwrap(), Inserted::Stored),
        }
    }
    assert_eq!(three.held(), by_ring);

    // Another process finds all of them, and what it removes is gone from the one server that had it.
    let reader = cache(three.tier());
    for id in 0..KEYS {
        assert_eq!(reader.get(&id).await.as_deref(), Some(&format!("user {id}")));
    }
    for id in (0..KEYS).step_by(3) {
        assert_eq!(reader.remove(&id).await.unwrap(), Removal::Removed);
    }
    let removed: BTreeSet<String> = (0..KEYS).step_by(3).map(name).collect();
    let left = by_ring.map(|owned| owned.difference(&removed).cloned().collect());
    assert_eq!(three.held(), left);
    assert_eq!(source.loads() as u64, KEYS / 2, "nothing was loaded twice");
}
