//! Processes on a bus that ends, panics or is not there, and whose users' code panics.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Body, Bus, BusEvent, BusInfo, Entry, Error, ErrorKind, Event, Key, Message, Namespace, Observer, Pattern,
    PublisherId, Result, Subscription, Tier,
};
use cachalot_invalidation::LocalBus;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Removal};
use cachalot_testkit::{Fault, Faulty, Operation};

use crate::fleet::Fleet;
use crate::world::{World, pass, secs, settle};

#[tokio::test(start_paused = true)]
async fn callers_share_one_load_also_while_nothing_is_heard() {
    let fleet = Fleet::new();
    fleet.bus.is_interrupted.store(true, Ordering::SeqCst);
    let cache = fleet.world.builder().bus(fleet.bus.clone()).build().unwrap();
    settle().await;
    let gate = fleet.world.source.stop_after_reading();
    let callers: Vec<_> = (0..10).map(|_| fleet.world.spawn_load(&cache, 1)).collect();
    gate.reached(1).await;
    gate.open();
    for caller in callers {
        assert_eq!(*caller.await.unwrap().unwrap(), "Ada");
    }
    assert_eq!(fleet.world.source.loads(), 1);
    assert!(cache.get_local(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_clear_does_not_make_memory_trusted_while_nothing_is_heard() {
    let fleet = Fleet::new();
    fleet.bus.is_interrupted.store(true, Ordering::SeqCst);
    let cache = fleet.node().await;
    cache.clear().await.unwrap();
    fleet.world.load(&cache, 1).await.unwrap();
    assert!(cache.get_local(&1).is_none());
}
