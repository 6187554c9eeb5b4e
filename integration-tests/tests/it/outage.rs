//! A real Redis that dies, stops and comes back while it is needed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cachalot::{Cache, Inserted, Memory, RedisBuilder, Removal, Tier};
use cachalot_testkit::{CountingSource, RedisServer};
use integration_tests::{connect, patient};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

type Users = Cache<u64, String>;

/// Longer than anything here can take on a busy machine.
const AGES: Duration = Duration::from_secs(60);
const A_MOMENT: Duration = Duration::from_millis(5);

/// A server that keeps what it has acknowledged, a source, and a process over both.
struct World {
    server: RedisServer,
    source: CountingSource<u64, String>,
    cache: Users,
}

impl World {
    /// For servers that refuse at once, or are there.
    fn new() -> Self {
        Self::over(patient)
    }

    /// For a server that is stopped: a short deadline, which a command may miss on a busy machine too.
    fn hasty() -> Self {
        Self::over(|url| patient(url).deadline(Duration::from_millis(250)))
    }

    fn over(settings: fn(String) -> RedisBuilder) -> Self {
        let server = RedisServer::start_with(["--appendonly", "yes", "--appendfsync", "always"]);
        let source = CountingSource::with((1..=20).map(|id| (id, "old".to_owned())));
        let cache = builder().backend(settings(server.url()).connect_lazy().unwrap()).build().unwrap();
        Self { server, source, cache }
    }

    async fn load(&self, key: u64) -> String {
        load(&self.cache, &self.source, key).await
    }

    /// A load of user 1 that has read the source and got no further when this returns.
    async fn standing_load(&self) -> (cachalot_testkit::Gate, JoinHandle<String>) {
        let gate = self.source.stop_after_reading();
        let (cache, source) = (self.cache.clone(), self.source.clone());
        let load = tokio::spawn(async move { load(&cache, &source, 1).await });
        gate.reached(1).await;
        (gate, load)
    }

    /// Reads past this process's memory, as another process does.
    async fn below(&self, key: u64) -> Option<String> {
        node(&self.server).await.get(&key).await.map(|value| value.to_string())
    }

    /// Loads user 1 until the shared tier has it: until the connection has recovered.
    async fn recovered(&self) {
        let work = async {
            loop {
                self.cache.remove(&1).await.unwrap();
                self.load(1).await;
                let tier = node(&self.server).await.get(&1).await.map(|value| value.tier());
                if tier == Some(Tier::Backend) {
                    return;
                }
                sleep(A_MOMENT).await;
            }
        };
        timeout(AGES, work).await.expect("it did not recover");
    }

    async fn replayed(&self) {
        let work = async {
            while self.cache.stats().pending_invalidations > 0 {
                sleep(A_MOMENT).await;
            }
        };
        timeout(AGES, work).await.expect("nothing was replayed");
    }

    async fn leaves_nothing_behind(&self) {
        self.cache.shutdown(AGES).await.unwrap();
        let stats = self.cache.stats();
        assert_eq!((stats.flights, stats.pending_invalidations, stats.task_panics), (0, 0, 0), "{stats:?}");
    }
}

fn builder() -> cachalot::CacheBuilder<u64, String> {
    let term = Duration::from_secs(5);
    Cache::builder("users").memory(Memory::entries(100)).hard_timeout(term).lease_term(term)
}

async fn node(server: &RedisServer) -> Users {
    builder().backend(connect(server).await).build().unwrap()
}

async fn load(cache: &Users, source: &CountingSource<u64, String>, key: u64) -> String {
    let source = source.clone();
    let loaded = cache.get_or_load(&key, |load| async move { Ok(source.fetch(load.key()).await?) }).await;
    loaded.expect("no outage of the shared tier fails a read").to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_during_a_load_fails_no_read() {
    let world = World::new();
    let (gate, standing) = world.standing_load().await;
    world.server.kill();
    gate.open();
    assert_eq!(standing.await.unwrap(), "old");
    for key in 2..=20 {
        assert_eq!(world.load(key).await, "old");
    }
    world.server.restart();
    world.recovered().await;
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_stopped_during_a_load_fails_no_read() {
    let world = World::hasty();
    let (gate, standing) = world.standing_load().await;
    world.server.pause();
    gate.open();
    assert_eq!(standing.await.unwrap(), "old");
    for key in 2..=5 {
        assert_eq!(world.load(key).await, "old");
    }
    world.server.resume();
    world.recovered().await;
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_restarted_during_a_load_forgets_the_lease_and_the_load_is_not_stored() {
    let world = World::new();
    let (gate, standing) = world.standing_load().await;
    world.source.set(1, "new".into());
    // As another process does: it removes, and the server, coming back, knows of neither lease nor value.
    assert_eq!(node(&world.server).await.remove(&1).await.unwrap(), Removal::Removed);
    world.server.restart();
    gate.open();
    assert_eq!(standing.await.unwrap(), "old", "it began before the removal");
    assert_eq!(world.below(1).await, None);
    assert!(world.cache.get_local(&1).is_none());
    assert_eq!(world.load(1).await, "new");
    world.recovered().await;
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_while_the_server_is_dead_is_replayed_when_it_is_back_with_the_old_value() {
    let world = World::new();
    assert_eq!(world.load(1).await, "old");
    world.source.set(1, "new".into());
    world.server.kill();
    assert_eq!(world.cache.remove(&1).await.unwrap(), Removal::Deferred);
    assert_eq!(world.load(1).await, "new");
    world.server.restart();
    // The server has the old value again; this process bypasses it until the replay.
    assert_eq!(world.load(1).await, "new");
    world.replayed().await;
    assert_ne!(world.below(1).await.as_deref(), Some("old"));
    assert_eq!(world.load(1).await, "new");
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_while_the_server_stands_still_is_deferred_and_done() {
    let world = World::hasty();
    assert_eq!(world.load(1).await, "old");
    world.source.set(1, "new".into());
    world.server.pause();
    assert_eq!(world.cache.remove(&1).await.unwrap(), Removal::Deferred);
    assert_eq!(world.load(1).await, "new");
    world.server.resume();
    world.replayed().await;
    assert_ne!(world.below(1).await.as_deref(), Some("old"));
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_insert_while_the_server_is_dead_leaves_no_older_value() {
    let world = World::new();
    assert_eq!(world.load(1).await, "old");
    world.source.set(1, "new".into());
    world.server.kill();
    assert_eq!(world.cache.insert(1, "new".into()).await.unwrap(), Inserted::Deferred);
    world.server.restart();
    world.replayed().await;
    assert_ne!(world.below(1).await.as_deref(), Some("old"));
    assert_eq!(world.load(1).await, "new");
    world.leaves_nothing_behind().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_and_writers_go_on_through_kills_stops_and_restarts() {
    let world = Arc::new(World::hasty());
    let over = Arc::new(AtomicBool::new(false));
    let reads = Arc::new(AtomicUsize::new(0));
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let (world, over, reads) = (world.clone(), over.clone(), reads.clone());
            tokio::spawn(async move {
                let mut key = worker;
                while !over.load(Ordering::SeqCst) {
                    key = key % 20 + 1;
                    world.load(key).await;
                    reads.fetch_add(1, Ordering::SeqCst);
                    if worker == 0 {
                        world.cache.remove(&key).await.unwrap();
                    }
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for harm in [RedisHarm::Kill, RedisHarm::Stop, RedisHarm::Kill] {
        let seen = reads.load(Ordering::SeqCst);
        let server = world.clone();
        tokio::task::spawn_blocking(move || harm.begin(&server.server)).await.unwrap();
        let reads_go_on = async {
            while reads.load(Ordering::SeqCst) < seen + 100 {
                sleep(A_MOMENT).await;
            }
        };
        timeout(AGES, reads_go_on).await.expect("reads stand still");
        let server = world.clone();
        tokio::task::spawn_blocking(move || harm.end(&server.server)).await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    for worker in workers {
        worker.await.unwrap();
    }
    world.replayed().await;
    for key in 1..=20 {
        world.source.set(key, "new".into());
        while world.cache.remove(&key).await.unwrap() == Removal::Deferred {
            world.replayed().await;
        }
        assert_eq!(world.load(key).await, "new");
        assert_ne!(world.below(key).await.as_deref(), Some("old"));
    }
    world.leaves_nothing_behind().await;
}

#[derive(Clone, Copy)]
enum RedisHarm {
    Kill,
    Stop,
}

impl RedisHarm {
    fn begin(self, server: &RedisServer) {
        match self {
            Self::Kill => server.kill(),
            Self::Stop => server.pause(),
        }
    }

    fn end(self, server: &RedisServer) {
        match self {
            Self::Kill => server.restart(),
            Self::Stop => server.resume(),
        }
    }
}
