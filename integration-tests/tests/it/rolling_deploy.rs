//! Two releases of a service live together over one Redis.

use std::fmt;
use std::time::Duration;

use cachalot::{Cache, Memory, Tier};
use cachalot_testkit::RedisServer;
use integration_tests::connect;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

/// As the old release knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Before {
    id: u64,
    name: String,
}

/// As the new release knows it: a field more, in the middle.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct After {
    id: u64,
    #[serde(default)]
    email: Option<String>,
    name: String,
}

fn before() -> Before {
    Before { id: 1, name: "Ada".into() }
}

fn after() -> After {
    After { id: 1, email: Some("ada@example.org".into()), name: "Ada".into() }
}

/// Short, so that every read soon comes to the shared tier again.
const MEMORY_TTL: Duration = Duration::from_millis(1);

async fn release<V>(server: &RedisServer, schema: u32) -> Cache<u64, V>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let redis = connect(server).await;
    let builder = Cache::builder("users").memory(Memory::entries(100)).backend(redis);
    builder.schema(schema).memory_ttl(MEMORY_TTL).build().unwrap()
}

/// Reads user 1 past memory. Where it came from.
async fn read<V>(cache: &Cache<u64, V>, expected: V) -> Tier
where
    V: Clone + PartialEq + fmt::Debug + Send + Sync + 'static,
{
    sleep(MEMORY_TTL * 5).await;
    let row = expected.clone();
    let read = cache.get_or_load(&1, |_| async move { Ok(row) }).await.unwrap();
    assert_eq!(*read, expected);
    read.tier()
}

#[tokio::test]
async fn a_release_with_a_new_field_reads_what_the_old_one_wrote() {
    let server = RedisServer::start();
    let (old, new) = (release::<Before>(&server, 0).await, release::<After>(&server, 0).await);
    assert_eq!(read(&old, before()).await, Tier::Loader);
    let without = After { email: None, ..after() };
    assert_eq!(read(&new, without).await, Tier::Backend);
}

#[tokio::test]
async fn a_release_without_a_new_field_reads_what_the_new_one_wrote() {
    let server = RedisServer::start();
    let (old, new) = (release::<Before>(&server, 0).await, release::<After>(&server, 0).await);
    assert_eq!(read(&new, after()).await, Tier::Loader);
    assert_eq!(read(&old, before()).await, Tier::Backend);
}

#[tokio::test]
async fn two_schemas_live_together_and_the_newer_one_stays() {
    let server = RedisServer::start();
    let (old, new) = (release::<Before>(&server, 1).await, release::<After>(&server, 2).await);
    assert_eq!(read(&old, before()).await, Tier::Loader);
    assert_eq!(read(&old, before()).await, Tier::Backend);
    assert_eq!(read(&new, after()).await, Tier::Loader, "an older schema is a miss, and is replaced");
    for _ in 0..3 {
        assert_eq!(read(&old, before()).await, Tier::Loader, "a newer one is a miss too");
        assert_eq!(read(&new, after()).await, Tier::Backend, "and is not replaced");
    }
}

#[tokio::test]
async fn a_removal_by_either_release_reaches_what_the_other_wrote() {
    let server = RedisServer::start();
    let (old, new) = (release::<Before>(&server, 1).await, release::<After>(&server, 2).await);
    read(&new, after()).await;
    old.remove(&1).await.unwrap();
    sleep(MEMORY_TTL * 5).await;
    assert!(new.get(&1).await.is_none());
    read(&old, before()).await;
    new.remove(&1).await.unwrap();
    sleep(MEMORY_TTL * 5).await;
    assert!(old.get(&1).await.is_none());
}
