//! The keys that have a tag: listed, and deleted after the tag was removed.

use std::collections::BTreeSet;

use cachalot_core::{Backend, ErrorKind, Key, Namespace, Tags};
use cachalot_strategies::{Inserted, Load, Removal};
use cachalot_testkit::{Faulty, ModelBackend, ModelIndex, Operation};

use crate::world::{Users, UsersBuilder, World, secs, settle};

struct Indexed {
    model: ModelBackend,
    index: ModelIndex,
    cache: Users,
}

impl Indexed {
    fn new(build: impl Fn(UsersBuilder) -> UsersBuilder) -> Self {
        let world = World::new();
        let model = ModelBackend::new(world.clock.clone());
        let namespace = Namespace::new("users").unwrap();
        let index = ModelIndex::new(namespace, model.clone(), world.clock.clone());
        let builder = world.builder().ttl(secs(60)).backend(model.clone()).tag_index(index.clone());
        let cache = build(builder).build().unwrap();
        Self { model, index, cache }
    }

    /// Loads `key`, whose loader says that it has the tag `name`.
    async fn load(&self, key: u64, name: &'static str) {
        let load = |load: Load<u64>| async move {
            load.tag(name);
            Ok("value".to_owned())
        };
        self.cache.get_or_load(&key, load).await.unwrap();
    }

    async fn keys(&self, name: &str) -> BTreeSet<u64> {
        let (mut keys, mut pages) = (BTreeSet::new(), self.cache.keys_of_tag(name).unwrap());
        while let Some(page) = pages.next().await.unwrap() {
            keys.extend(page);
        }
        keys
    }

    /// Whether the shared tier holds a record for `key`, good or not.
    async fn is_there(&self, key: u64) -> bool {
        self.model.get(&Key::new(format!("users:{key}"))).await.unwrap().is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn the_keys_of_a_tag_are_listed_and_deleted_when_it_is_removed_and_no_others() {
    let it = Indexed::new(|builder| builder);
    for key in 0..10 {
        it.load(key, "even or odd").await;
        it.load(100 + key, "other").await;
    }
    let tagged = it.cache.with(|options| options.tags(Tags::new(["even or odd"]).unwrap()));
    assert_eq!(tagged.insert(50, "inserted".into()).await.unwrap(), Inserted::Stored);
    it.cache.insert(51, "without".into()).await.unwrap();
    assert_eq!(it.keys("even or odd").await, (0..10).chain([50]).collect());
    assert_eq!(it.index.adds(), 21, "one for each that has tags");

    assert_eq!(it.cache.remove_tag("even or odd").await.unwrap(), Removal::Removed);
    settle().await;
    assert!(it.keys("even or odd").await.is_empty());
    for key in (0..10).chain([50]) {
        assert!(!it.is_there(key).await, "{key}");
        assert!(key == 50 || it.is_there(100 + key).await, "{key}");
    }
    assert!(it.is_there(51).await);
    assert_eq!(it.keys("other").await, (100..110).collect());
    tokio::time::sleep(secs(120)).await;
    assert!(it.keys("other").await.is_empty(), "their time is over");
}

#[tokio::test(start_paused = true)]
async fn an_expired_tag_and_one_whose_removal_waits_delete_nothing() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let tier = Faulty::new(model.clone());
    let index = ModelIndex::new(Namespace::new("users").unwrap(), model.clone(), world.clock.clone());
    let cache = world.builder().ttl(secs(60)).stale_if_error(secs(60)).backend(tier.clone());
    let cache = cache.tag_index(index.clone()).build().unwrap();
    let tagged = cache.with(|options| options.tags(Tags::new(["a"]).unwrap()));
    tagged.insert(1, "value".into()).await.unwrap();
    cache.expire_tag("a").await.unwrap();
    settle().await;
    assert!(model.get(&Key::new("users:1")).await.unwrap().is_some(), "to be served if a load fails");
    tier.next_of(Operation::RotateTags, cachalot_testkit::Fault::Refuse);
    assert_eq!(cache.remove_tag("a").await.unwrap(), Removal::Deferred);
    settle().await;
    assert_eq!(index.keys_known().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_index_does_not_take_is_not_stored_below() {
    let it = Indexed::new(|builder| builder);
    it.index.down(true);
    it.load(1, "a").await;
    assert!(!it.is_there(1).await);
    let tagged = it.cache.with(|options| options.tags(Tags::new(["a"]).unwrap()));
    assert_eq!(tagged.insert(2, "value".into()).await.unwrap(), Inserted::Dropped);
    it.cache.insert(3, "without tags".into()).await.unwrap();
    assert!(!it.is_there(2).await && it.is_there(3).await);
    it.index.down(false);
    it.load(1, "a").await;
    assert!(it.is_there(1).await);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_that_breaks_off_leaves_the_rest_to_the_next_and_serves_nothing() {
    let it = Indexed::new(|builder| builder);
    for key in 0..10 {
        it.load(key, "a").await;
    }
    it.index.down(true);
    it.cache.remove_tag("a").await.unwrap();
    settle().await;
    assert!(it.is_there(1).await && it.cache.get(&1).await.is_none(), "there, and not good");
    it.index.down(false);
    it.cache.remove_tag("a").await.unwrap();
    settle().await;
    assert!(!it.is_there(1).await);
}

#[tokio::test(start_paused = true)]
async fn the_tags_of_a_cache_itself_are_not_indexed() {
    let it = Indexed::new(|builder| builder.clearable().dependencies());
    it.cache.with(|options| options).depends_on(&1).unwrap().insert(2, "value".into()).await.unwrap();
    assert_eq!((it.index.adds(), it.is_there(2).await), (0, true));
}

#[tokio::test(start_paused = true)]
async fn an_index_of_another_cache_and_none_are_clear_errors() {
    let world = World::new();
    let model = ModelBackend::new(world.clock.clone());
    let index = |name| ModelIndex::new(Namespace::new(name).unwrap(), model.clone(), world.clock.clone());
    let refused = world.builder().backend(model.clone()).tag_index(index("usersAbc")).build();
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.builder().tag_index(index("users")).build().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(world.node().keys_of_tag("a").unwrap_err().kind(), ErrorKind::Config);
}
