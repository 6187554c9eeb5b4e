//! Keys that name versions: each is a value of its own, and old ones are dropped together.

use std::sync::Arc;

use cachalot_core::{Entry, ErrorKind, Tier, Versioned};
use cachalot_invalidation::LocalBus;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Removal};
use cachalot_testkit::{Faulty, Operation};

use crate::world::{World, pass, secs, settle};

type Pages = Cache<Versioned<u64>, String, Memory<Versioned<u64>, Arc<Entry<String>>>>;

fn pages(world: &World, tier: &Faulty, bus: &LocalBus) -> Pages {
    let builder = Cache::builder("pages").memory(Memory::entries(100)).clock(world.clock.clone());
    builder.backend(tier.clone()).bus(bus.clone()).build().unwrap()
}

fn page(version: u64) -> Versioned<u64> {
    Versioned::new(42, version)
}

#[tokio::test(start_paused = true)]
async fn versions_live_side_by_side_and_old_ones_are_dropped_everywhere() {
    let (world, bus) = (World::new(), LocalBus::new());
    let tier = Faulty::new(world.shared.clone());
    let (one, two) = (pages(&world, &tier, &bus), pages(&world, &tier, &bus));
    settle().await;
    for version in 4..=6 {
        one.insert(page(version), format!("revision {version}")).await.unwrap();
        one.insert(Versioned::new(43, version), "another page".into()).await.unwrap();
    }
    settle().await;
    for version in 4..=6 {
        let found = two.get(&page(version)).await.unwrap();
        assert_eq!((found.tier(), &**found), (Tier::Backend, &*format!("revision {version}")));
    }
    assert_eq!(one.remove_versions(&42, ..6).await.unwrap(), Removal::Removed);
    pass(secs(1)).await;
    assert_eq!(tier.calls_of(Operation::RemoveMany), 1, "together");
    for node in [&one, &two] {
        for version in 4..6 {
            assert!(node.get_local(&page(version)).is_none());
            assert!(node.get(&page(version)).await.is_none());
        }
        assert!(node.get(&page(6)).await.is_some() && node.get(&Versioned::new(43, 4)).await.is_some());
    }
    assert_eq!(one.remove_versions(&42, 6..6).await.unwrap(), Removal::Removed);
    assert!(one.get_local(&page(6)).is_some(), "none is none");
}

#[tokio::test(start_paused = true)]
async fn too_many_versions_are_an_error_and_an_outage_defers() {
    let (world, bus) = (World::new(), LocalBus::new());
    let tier = Faulty::new(world.shared.clone());
    let cache = pages(&world, &tier, &bus);
    settle().await;
    cache.insert(page(1), "first".into()).await.unwrap();
    assert_eq!(cache.remove_versions(&42, 1..).await.unwrap_err().kind(), ErrorKind::Config);
    assert!(cache.get_local(&page(1)).is_some(), "nothing has changed");
    tier.down();
    assert_eq!(cache.remove_versions(&42, 1..=3).await.unwrap(), Removal::Deferred);
    assert!(cache.get(&page(1)).await.is_none());
    tier.up();
    pass(secs(10)).await;
    assert!(world.is_gone(&tier, &bus).await);
}

impl World {
    async fn is_gone(&self, tier: &Faulty, bus: &LocalBus) -> bool {
        let stranger = pages(self, tier, bus);
        settle().await;
        stranger.get(&page(1)).await.is_none()
    }
}
