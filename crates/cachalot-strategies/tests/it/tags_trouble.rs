//! Tags where the shared tier has none, or has lost them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Expired, Key, KeyPattern, LeaseBackend, Nonce, Record, Removed, Result, SweepCursor,
    Swept, TagBackend, Tags, Tier, Ttl,
};
use cachalot_memory_backend::MemoryBackend;
use cachalot_strategies::{Cached, Load};
use cachalot_testkit::ModelBackend;

use crate::world::{Users, World, pass, secs, settle};

fn spawn(world: &World, cache: &Users) -> tokio::task::JoinHandle<Cached<String>> {
    let (source, cache) = (world.source.clone(), cache.clone());
    tokio::spawn(async move {
        let load = |load: Load<u64>| async move {
            let name = source.fetch(load.key()).await?;
            load.tag("a");
            Ok(name)
        };
        cache.get_or_load(&1, load).await.unwrap()
    })
}

#[tokio::test(start_paused = true)]
async fn a_removal_of_a_tag_costs_those_who_wait_already_no_further_load() {
    let world = World::new();
    let cache = world.alone();
    let gate = world.source.stop_after_reading();
    let callers: Vec<_> = (0..5).map(|_| spawn(&world, &cache)).collect();
    gate.reached(1).await;
    settle().await;
    cache.remove_tag("a").await.unwrap();
    gate.open();
    for caller in callers {
        assert_eq!(*caller.await.unwrap(), "Ada", "it asked before");
    }
    assert_eq!(world.source.loads(), 1);
    assert!(cache.get_local(&1).is_none());
}
