//! A server that forgets what it has acknowledged: what was invalidated of late is invalidated again.

use std::time::Duration;

use cachalot_core::{Pattern, Tags, Tier};
use cachalot_invalidation::LocalBus;
use cachalot_strategies::Removal;
use cachalot_testkit::{Faulty, ModelBackend};

use crate::world::{Users, World, pass, secs, settle};

struct Failover {
    world: World,
    server: ModelBackend,
    bus: LocalBus,
}

impl Failover {
    fn new() -> Self {
        let world = World::new();
        let server = ModelBackend::new(world.clock.clone());
        Self { world, server, bus: LocalBus::new() }
    }

    async fn node(&self, clearable: bool) -> Users {
        let builder = self.world.builder().ttl(secs(3600)).backend(self.server.clone()).bus(self.bus.clone());
        let node = if clearable { builder.clearable() } else { builder }.build().unwrap();
        settle().await;
        node
    }
}

const WAYS: [&str; 7] = ["remove", "expire", "insert", "remove_many", "tag", "pattern", "clear"];

async fn invalidate(cache: &Users, way: &str) {
    let removal = match way {
        "remove" => cache.remove(&1).await,
        "expire" => cache.expire(&1).await,
        "insert" => cache.insert(1, "new".into()).await.map(|_| Removal::Removed),
        "remove_many" => cache.remove_many(&[1]).await.map(|removals| removals[0]),
        "tag" => cache.remove_tag("a").await,
        "pattern" => cache.remove_pattern(&Pattern::literal("1")).await,
        _ => cache.clear().await,
    };
    assert_eq!(removal.unwrap(), Removal::Removed);
}

#[tokio::test(start_paused = true)]
async fn what_a_new_server_has_forgotten_is_invalidated_again_before_it_is_trusted() {
    for way in WAYS {
        for clearable in [false, true] {
            let it = Failover::new();
            let (here, there) = (it.node(clearable).await, it.node(clearable).await);
            it.world.source.set(1, "old".into());
            let tagged = here.with(|options| options.tags(Tags::new(["a"]).unwrap()));
            tagged.insert(1, "old".into()).await.unwrap();
            pass(Duration::from_millis(5)).await;
            let before = it.server.snapshot();

            it.world.source.set(1, "new".into());
            invalidate(&here, way).await;
            pass(secs(1)).await;
            it.server.restore(&before);
            let name = format!("{way}, clearable {clearable}");
            // The process that invalidated: at once. The insert has put the new value into its memory.
            let read = here.get(&1).await.map(cachalot_strategies::Cached::into_inner);
            assert_ne!(read.as_deref(), Some("old"), "{name}");
            assert_eq!(*it.world.load(&here, 1).await.unwrap(), "new", "{name}");
            // All others: once it has been done again.
            for _ in 0..10 {
                pass(secs(1)).await;
            }
            assert_eq!((here.stats().fail_overs, here.stats().pending_invalidations), (1, 0), "{name}");
            for reader in [&here, &there, &it.node(clearable).await] {
                assert_eq!(*it.world.load(reader, 1).await.unwrap(), "new", "{name}");
            }
            assert_eq!(
                it.world.load(&here, 1).await.unwrap().tier(),
                Tier::Memory,
                "{name}: as always again"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_load_across_the_fail_over_stores_nothing() {
    let it = Failover::new();
    let cache = it.node(false).await;
    let before = it.server.snapshot();
    let gate = it.world.source.stop_after_reading();
    let loading = it.world.spawn_load(&cache, 1);
    gate.reached(1).await;
    it.world.source.set(1, "new".into());
    it.server.restore(&before);
    cache.remove(&1).await.unwrap();
    gate.open();
    loading.await.unwrap().unwrap();
    settle().await;
    assert_eq!(*it.world.load(&cache, 1).await.unwrap(), "new");
    assert_eq!(*it.world.load(&it.node(false).await, 1).await.unwrap(), "new");
}

#[tokio::test(start_paused = true)]
async fn a_turn_voids_what_is_in_flight_and_defers_nothing() {
    let it = Failover::new();
    let cache = it.node(true).await;
    cache.insert(2, "there".into()).await.unwrap();
    cache.clear().await.unwrap();
    let gate = it.world.source.stop_after_reading();
    let loading = it.world.spawn_load(&cache, 1);
    gate.reached(1).await;
    it.server.turn();
    assert!(cache.get(&2).await.is_none());
    gate.open();
    loading.await.unwrap().unwrap();
    settle().await;
    assert!(cache.get_local(&1).is_none(), "a load that began with others is not kept");
    assert_eq!((cache.stats().fail_overs, cache.stats().pending_invalidations), (0, 0));
    it.world.load(&cache, 1).await.unwrap();
    assert_eq!(it.world.load(&cache, 1).await.unwrap().tier(), Tier::Memory, "as always");
    let other = it.node(true).await;
    assert_eq!(other.get(&1).await.map(|it| it.tier()), Some(Tier::Backend), "the tier is asked");
}

#[tokio::test(start_paused = true)]
async fn more_than_is_kept_clears_the_namespace() {
    let it = Failover::new();
    let cache = it.node(true).await;
    cache.insert(0, "old".into()).await.unwrap();
    let before = it.server.snapshot();
    cache.remove(&0).await.unwrap();
    let keys: Vec<u64> = (1..20_000).collect();
    cache.remove_many(&keys).await.unwrap();
    it.server.restore(&before);
    assert!(cache.get(&0).await.is_none(), "it is not among those that were kept");
    for _ in 0..20 {
        pass(secs(1)).await;
    }
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert!(it.node(true).await.get(&0).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn an_outage_however_long_lets_nothing_be_forgotten_that_a_snapshot_brings_back() {
    let it = Failover::new();
    let way = Faulty::new(it.server.clone());
    let cache = it.world.builder().ttl(secs(36_000)).backend(way.clone()).build().unwrap();
    cache.insert(1, "old".into()).await.unwrap();
    let before = it.server.snapshot();
    it.world.source.set(1, "new".into());
    assert_eq!(cache.remove(&1).await.unwrap(), Removal::Removed);
    pass(secs(5)).await;
    way.down();
    for _ in 0..1_000 {
        pass(secs(1)).await;
    }
    it.server.restore(&before);
    way.up();
    for _ in 0..10 {
        pass(secs(1)).await;
    }
    assert_eq!((cache.stats().fail_overs, cache.stats().pending_invalidations), (1, 0));
    let other = it.world.builder().backend(it.server.clone()).build().unwrap();
    assert_eq!(*it.world.load(&other, 1).await.unwrap(), "new");
    for _ in 0..61 {
        pass(secs(1)).await;
    }
    let calls = way.calls();
    pass(secs(5)).await;
    assert_eq!(way.calls(), calls, "nothing is left to watch for");
}

#[tokio::test(start_paused = true)]
async fn what_is_long_past_is_not_done_again() {
    let it = Failover::new();
    let cache = it.node(false).await;
    cache.remove(&1).await.unwrap();
    pass(secs(61)).await;
    it.server.restore(&it.server.snapshot());
    it.world.load(&cache, 1).await.unwrap();
    assert_eq!(cache.stats().deferred, 0);
    assert_eq!(cache.stats().fail_overs, 1);
}
