//! What is committed is invalidated, whatever dies in between, and what is rolled back is not.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::path::PathBuf;
use std::sync::Mutex;

use cachalot::units::{millis, minutes, seconds};
use cachalot::{Cache, Clock, Memory, MemoryBackend, Removal};
use cachalot_testkit::{Faulty, Operation};
use rusqlite::Connection;
use storefront::outbox::{self, Relay, Relayed, Stale};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

type Names = Cache<u64, String>;

/// A database of names, a shared tier, and its plug.
struct World {
    _directory: TempDir,
    path: PathBuf,
    database: Mutex<Connection>,
    tier: Faulty,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("names.sqlite");
        let database = Connection::open(&path).unwrap();
        outbox::create(&database).unwrap();
        database.execute_batch("CREATE TABLE names (id INTEGER PRIMARY KEY, name TEXT NOT NULL)").unwrap();
        let tier = Faulty::new(MemoryBackend::with_limit(1 << 20, Clock::system()));
        Self { _directory: directory, path, database: Mutex::new(database), tier }
    }

    /// A process.
    fn cache(&self) -> Names {
        let builder = Cache::builder("names").memory(Memory::entries(100)).ttl(minutes(10));
        builder.backend(self.tier.clone()).build().unwrap()
    }

    fn relay(&self, cache: &Names) -> Relay<u64, String> {
        Relay::open(&self.path, cache.clone()).unwrap()
    }

    /// Sets a name and says what that makes wrong, in one transaction.
    fn change(&self, id: u64, name: &str, stale: &[Stale<'_, u64>], commits: bool) {
        let mut database = self.database.lock().unwrap();
        let transaction = database.transaction().unwrap();
        let set = "INSERT INTO names VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE SET name = ?2";
        transaction.execute(set, (id, name)).unwrap();
        stale.iter().for_each(|stale| outbox::record(&transaction, *stale).unwrap());
        if commits { transaction.commit().unwrap() } else { transaction.rollback().unwrap() }
    }

    /// Rows that are not done.
    fn left(&self) -> u64 {
        let database = self.database.lock().unwrap();
        database.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap()
    }

    async fn name(&self, cache: &Names, id: u64) -> String {
        let path = self.path.clone();
        let load = |load: cachalot::Load<u64>| async move {
            let query = "SELECT name FROM names WHERE id = ?1";
            let name: String = Connection::open(path)?.query_row(query, [*load.key()], |row| row.get(0))?;
            load.tag(format!("letter:{}", &name[..1]));
            Ok(name)
        };
        cache.get_or_load(&id, load).await.unwrap().to_string()
    }
}

#[tokio::test]
async fn a_committed_change_is_invalidated_and_a_rolled_back_one_is_not() {
    let world = World::new();
    let cache = world.cache();
    let relay = world.relay(&cache);
    world.change(1, "Ada", &[], true);
    world.change(2, "Bob", &[], true);
    for id in [1, 2] {
        world.name(&cache, id).await;
    }

    world.change(1, "Augusta", &[Stale::Key(&1), Stale::Tag("letter:B")], false);
    assert_eq!(relay.pass().await.unwrap(), Relayed::default());
    assert!(cache.get_local(&1).is_some() && cache.get_local(&2).is_some(), "nobody was told");

    world.change(1, "Augusta", &[Stale::Key(&1)], true);
    assert_eq!(world.name(&cache, 1).await, "Ada", "until it is relayed");
    assert_eq!(relay.pass().await.unwrap(), Relayed { done: 1, is_stuck: false });
    assert_eq!((world.name(&cache, 1).await.as_str(), world.left()), ("Augusta", 0));
    assert!(cache.get_local(&2).is_some());

    world.change(2, "Barbara", &[Stale::Tag("letter:B")], true);
    assert_eq!(relay.pass().await.unwrap().done, 1);
    assert_eq!(world.name(&cache, 2).await, "Barbara");
}

#[tokio::test]
async fn a_crash_between_commit_and_relay_loses_nothing() {
    let world = World::new();
    let (crashed, other) = (world.cache(), world.cache());
    world.change(1, "Ada", &[], true);
    world.name(&crashed, 1).await;
    let relay = tokio::spawn(world.relay(&crashed).run());
    relay.abort();
    let _ = relay.await;
    world.change(1, "Augusta", &[Stale::Key(&1)], true);
    drop(crashed);
    assert_eq!((world.name(&other, 1).await.as_str(), world.left()), ("Ada", 1), "still to be done");

    let restarted = world.cache();
    let relay = world.relay(&restarted);
    relay.committed().notify_one();
    let running = tokio::spawn(relay.run());
    let done = async {
        while world.left() > 0 {
            sleep(millis(5)).await;
        }
    };
    timeout(seconds(60), done).await.unwrap();
    assert_eq!(world.name(&restarted, 1).await, "Augusta");
    assert_eq!(world.name(&world.cache(), 1).await, "Augusta", "below too");
    running.abort();
}

#[tokio::test]
async fn a_row_that_was_done_and_not_deleted_is_done_again_and_harms_nothing() {
    let world = World::new();
    let cache = world.cache();
    world.change(1, "Ada", &[Stale::Key(&1)], true);
    // A relay that dies between the two.
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
    assert_eq!(world.name(&cache, 1).await, "Ada");
    assert_eq!(world.relay(&cache).pass().await.unwrap().done, 1);
    assert_eq!((world.name(&cache, 1).await.as_str(), world.left()), ("Ada", 0));
}

#[tokio::test]
async fn what_the_shared_tier_cannot_take_stays_with_all_after_it_even_if_the_process_dies() {
    let world = World::new();
    let cache = world.cache();
    for id in [1, 2] {
        world.change(id, "Ada", &[], true);
        world.name(&cache, id).await;
    }
    world.tier.down();
    world.change(1, "Augusta", &[Stale::Key(&1)], true);
    world.change(2, "Grace", &[Stale::Key(&2)], true);
    let relay = world.relay(&cache);
    assert_eq!(relay.pass().await.unwrap(), Relayed { done: 0, is_stuck: true });
    assert_eq!(world.left(), 2);
    // With it dies what the cache itself would have tried again.
    drop((relay, cache));
    world.tier.up();
    let cache = world.cache();
    assert_eq!(world.relay(&cache).pass().await.unwrap(), Relayed { done: 2, is_stuck: false });
    assert_eq!(world.name(&world.cache(), 1).await, "Augusta");
    assert_eq!(world.name(&world.cache(), 2).await, "Grace");
}

#[tokio::test]
async fn rows_are_done_in_their_order_and_one_that_nobody_understands_clears_the_cache() {
    let world = World::new();
    let cache = world.cache();
    world.change(1, "Ada", &[], true);
    world.name(&cache, 1).await;
    for id in 1..=150 {
        world.change(id, "x", &[Stale::Key(&id)], true);
    }
    let relay = world.relay(&cache);
    assert_eq!(relay.pass().await.unwrap().done, 100);
    assert_eq!(relay.pass().await.unwrap().done, 50);
    assert_eq!((world.tier.calls_of(Operation::Remove), world.left()), (150, 0));

    world.name(&cache, 1).await;
    world
        .database
        .lock()
        .unwrap()
        .execute("INSERT INTO outbox (kind, name) VALUES ('moon', x'00')", [])
        .unwrap();
    assert_eq!(relay.pass().await.unwrap().done, 1);
    assert!(cache.get(&1).await.is_none());
}
