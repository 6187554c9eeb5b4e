//! A real Redis that comes back without what it acknowledged last: a restart from an old snapshot, and a replica that
//! takes over before it has heard of everything.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use cachalot::{Cache, Memory, Removal, Tags};
use cachalot_testkit::{CountingSource, RedisServer};
use integration_tests::patient;
use tokio::time::{sleep, timeout};

type Users = Cache<u64, String>;

const AGES: Duration = Duration::from_secs(60);

/// One command, past all clients.
fn tell(server: &RedisServer, command: &str) -> String {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(format!("{command}\r\n").as_bytes()).unwrap();
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

fn node(server: &RedisServer) -> Users {
    Cache::builder("users")
        .memory(Memory::entries(100))
        .ttl(Duration::from_secs(600))
        .backend(patient(server.url()).connect_lazy().unwrap())
        .build()
        .unwrap()
}

async fn load(cache: &Users, source: &CountingSource<u64, String>, key: u64) -> String {
    let source = source.clone();
    let load = cache.get_or_load(&key, |load| async move {
        let value = source.fetch(load.key()).await?;
        load.tag("all");
        Ok(value)
    });
    load.await.unwrap().to_string()
}

/// Fills the cache, lets `forget` take a snapshot, invalidates, and has `fail_over` bring the snapshot back.
async fn across(server: &RedisServer, forget: impl FnOnce(), fail_over: impl FnOnce()) {
    let source = CountingSource::with((1..=3).map(|id| (id, "old".to_owned())));
    let cache = node(server);
    let tagged = cache.with(|options| options.tags(Tags::new(["some"]).unwrap()));
    tagged.insert(2, "old".into()).await.unwrap();
    for key in [1, 3] {
        load(&cache, &source, key).await;
    }
    forget();
    (1..=3).for_each(|key| source.set(key, "new".into()));
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
    assert_eq!(cache.remove_tag("some").await.unwrap(), Removal::Removed);
    assert_eq!(cache.remove_tag("all").await.unwrap(), Removal::Removed);
    fail_over();
    // This process is served by nothing old, from the first read on.
    for key in 1..=3 {
        assert_eq!(load(&cache, &source, key).await, "new", "{key}");
    }
    let done = async {
        while cache.stats().fail_overs == 0 || cache.stats().pending_invalidations > 0 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(AGES, done).await.expect("what was forgotten is invalidated again");
    for key in 1..=3 {
        assert_ne!(node(server).get(&key).await.as_deref().map(String::as_str), Some("old"), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_from_an_old_snapshot_brings_nothing_back() {
    let server = RedisServer::start_with(["--save", "3600 100000"]);
    let save = || assert!(tell(&server, "SAVE").starts_with("+OK"));
    across(&server, save, || server.restart()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_missed_the_last_writes_takes_over_and_brings_nothing_back() {
    let primary = RedisServer::start_with(["--repl-diskless-sync", "no", "--save", "3600 100000"]);
    let replica = RedisServer::start_with(["--save", "3600 100000"]);
    let lag = || {
        assert!(tell(&replica, &format!("REPLICAOF 127.0.0.1 {}", primary.port())).starts_with("+OK"));
        // Until it has all there is so far.
        while !tell(&replica, "INFO replication").contains("master_link_status:up") {
            std::thread::sleep(Duration::from_millis(20));
        }
        // The link to its primary breaks, and it is promoted: whatever the primary takes now, it never hears of.
        assert!(tell(&replica, "REPLICAOF NO ONE").starts_with("+OK"));
        assert!(tell(&replica, "SAVE").starts_with("+OK"));
    };
    // The name of the primary leads to what the replica has from now on.
    let take_over = || {
        primary.kill();
        copy(replica.directory(), primary.directory());
        primary.restart();
    };
    across(&primary, lag, take_over).await;
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from.join("dump.rdb"), to.join("dump.rdb")).unwrap();
}
