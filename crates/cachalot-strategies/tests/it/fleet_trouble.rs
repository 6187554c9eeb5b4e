//! Processes on a bus that ends, panics or is not there, and whose users' code panics.

use std::panic::panic_any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Backend, BackendInfo, Body, Bus, BusEvent, BusInfo, Entry, Error, ErrorKind, Event, Expired, Key,
    KeyPattern, LeaseBackend, LoaderError, MemberBackend, Message, Namespace, Nonce, Observer, Pattern,
    PublisherId, Record, Removed, Result, Subscription, SweepCursor, Swept, TagBackend, Tier,
};
use cachalot_invalidation::LocalBus;
use cachalot_memory_backend::{Memory, MemoryBackend};
use cachalot_strategies::{Cache, Removal};
use cachalot_testkit::{Faulty, ModelBus};

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

/// A value whose end panics, once.
struct Mine(&'static str, Arc<AtomicBool>);

impl Drop for Mine {
    fn drop(&mut self) {
        if self.1.swap(false, Ordering::SeqCst) {
            panic_any("a value's end");
        }
    }
}

type Mines = Cache<u64, Mine, Memory<u64, Arc<Entry<Mine>>>>;

async fn mines(world: &World, bus: &LocalBus) -> Mines {
    let builder = Cache::builder("mines").memory(Memory::entries(10)).clock(world.clock.clone());
    let cache = builder.ttl(secs(600)).bus(bus.clone()).build().unwrap();
    settle().await;
    cache
}

async fn lay(cache: &Mines, key: u64, armed: bool) -> Arc<AtomicBool> {
    let fuse = Arc::new(AtomicBool::new(false));
    let mine = Mine("old", fuse.clone());
    assert_eq!(cache.get_or_load(&key, |_| async move { Ok(mine) }).await.unwrap().0, "old");
    fuse.store(armed, Ordering::SeqCst);
    fuse
}

#[tokio::test(start_paused = true)]
async fn who_listens_survives_a_value_whose_end_panics() {
    let (world, bus) = (World::new(), LocalBus::new());
    let (here, there) = (mines(&world, &bus).await, mines(&world, &bus).await);
    lay(&there, 1, true).await;
    lay(&there, 2, false).await;
    here.remove(&1).await.unwrap();
    pass(Duration::from_millis(5)).await;
    assert!(there.get_local(&1).is_none());
    assert!(there.get_local(&2).is_none(), "what else the message said is not known: nothing is trusted");
    pass(secs(2)).await;
    lay(&there, 2, false).await;
    assert!(there.get_local(&2).is_some(), "it listens again");
    here.remove(&2).await.unwrap();
    pass(Duration::from_millis(5)).await;
    assert!(there.get_local(&2).is_none());
}

#[tokio::test(start_paused = true)]
async fn others_are_told_also_if_the_end_of_the_value_panics_here() {
    for name in ["remove", "remove_many", "insert", "pattern", "clear"] {
        let (world, bus) = (World::new(), LocalBus::new());
        let (here, there) = (mines(&world, &bus).await, mines(&world, &bus).await);
        lay(&here, 1, true).await;
        lay(&there, 1, false).await;
        let new = Mine("new", Arc::default());
        let is_panic = match name {
            "remove" => here.remove(&1).await.is_err(),
            "remove_many" => here.remove_many(&[1]).await.is_err(),
            "insert" => here.insert(1, new).await.is_err(),
            "pattern" => here.remove_pattern(&Pattern::any()).await.is_err(),
            _ => here.clear().await.is_err(),
        };
        pass(Duration::from_millis(5)).await;
        assert!(is_panic && here.get_local(&1).is_none(), "{name}");
        assert!(there.get_local(&1).is_none(), "{name}");
    }
}

/// A bus that panics, or whose subscriptions end at once.
#[derive(Clone, Debug, Default)]
struct Wild {
    inner: LocalBus,
    panics: Arc<AtomicBool>,
    ends: Arc<AtomicBool>,
    subscribed: Arc<AtomicUsize>,
}

struct Ended;

#[async_trait]
impl Bus for Wild {
    fn info(&self) -> BusInfo {
        self.inner.info()
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        if self.panics.swap(false, Ordering::SeqCst) {
            panic_any("a bus");
        }
        self.inner.publish(message).await
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        self.subscribed.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        if self.ends.load(Ordering::SeqCst) { Ok(Box::new(Ended)) } else { self.inner.subscribe().await }
    }
}

#[async_trait]
impl Subscription for Ended {
    async fn next(&mut self) -> Result<BusEvent> {
        Err(Error::new(ErrorKind::Closed, "wild bus next"))
    }
}

#[tokio::test(start_paused = true)]
async fn who_speaks_survives_a_bus_that_panics() {
    let (world, bus) = (World::new(), Wild::default());
    let node = || world.builder().ttl(secs(600)).backend(world.shared.clone()).bus(bus.clone());
    let (here, there) = (node().build().unwrap(), node().build().unwrap());
    settle().await;
    for key in [1, 2] {
        world.source.set(key, "old".into());
        world.load(&there, key).await.unwrap();
    }
    bus.panics.store(true, Ordering::SeqCst);
    here.remove(&1).await.unwrap();
    pass(secs(3)).await;
    world.load(&there, 2).await.unwrap();
    here.remove(&2).await.unwrap();
    pass(secs(1)).await;
    assert!(there.get_local(&1).is_none() && there.get_local(&2).is_none());
    here.shutdown(secs(5)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_ends_at_once_is_renewed_with_pauses() {
    let (world, bus) = (World::new(), Wild::default());
    bus.ends.store(true, Ordering::SeqCst);
    let cache = world.builder().bus(bus.clone()).build().unwrap();
    settle().await;
    assert!(bus.subscribed.load(Ordering::SeqCst) <= 2);
    world.load(&cache, 1).await.unwrap();
    assert!(cache.get_local(&1).is_none());
    bus.ends.store(false, Ordering::SeqCst);
    pass(secs(2)).await;
    world.load(&cache, 1).await.unwrap();
    assert!(cache.get_local(&1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_woken_often_does_not_lose_its_patience() {
    let fleet = Fleet::new();
    let (here, there) = (fleet.node().await, fleet.node().await);
    let gate = fleet.world.source.stop_after_reading();
    let leader = fleet.world.spawn_load(&here, 1);
    gate.reached(1).await;
    let waiter = fleet.world.spawn_load(&there, 1);
    settle().await;
    let namespace = Namespace::new("users").unwrap();
    for _ in 0..1000 {
        let body = Body::LeasesEnded { keys: vec![Key::new("users:1")] };
        let publisher = PublisherId::from_bytes([7; 16]);
        fleet.bus.publish(&Message { publisher, namespace: namespace.clone(), body }).await.unwrap();
        settle().await;
    }
    assert_eq!(gate.arrivals(), 1, "its load would be a second one");
    gate.open();
    leader.await.unwrap().unwrap();
    waiter.await.unwrap().unwrap();
    assert_eq!(fleet.world.source.loads(), 1);
}

/// Panics over the first replay.
struct Fragile(AtomicBool);

impl Observer for Fragile {
    fn on_event(&self, event: &Event<'_>) {
        if matches!(event, Event::Replayed) && !self.0.swap(true, Ordering::SeqCst) {
            panic_any("an observer");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_over_a_replay_does_not_end_it() {
    let fleet = Fleet::new();
    let tier = Faulty::new(fleet.world.shared.clone());
    let builder = fleet.world.builder().ttl(secs(600)).backend(tier.clone()).bus(fleet.bus.clone());
    let here = builder.observer(Fragile(AtomicBool::new(false))).build().unwrap();
    let there = fleet.node().await;
    for key in 1..4 {
        fleet.world.source.set(key, "old".into());
        fleet.world.load(&here, key).await.unwrap();
    }
    tier.down();
    for key in 1..4 {
        assert_eq!(here.remove(&key).await.unwrap(), Removal::Deferred);
    }
    fleet.told().await;
    tier.up();
    for _ in 0..3 {
        pass(secs(10)).await;
    }
    assert_eq!(here.stats().pending_invalidations, 0);
    for key in 1..4 {
        fleet.world.load(&there, key).await.unwrap();
        let again = fleet.world.load(&there, key).await.unwrap();
        assert_eq!(again.tier(), Tier::Memory, "told that {key} was taken");
    }
}

#[tokio::test(start_paused = true)]
async fn any_number_of_deferred_patterns_is_over_once_they_are_replayed() {
    let world = World::new();
    let tier = Faulty::new(world.shared.clone());
    let cache = world.over(tier.clone());
    tier.down();
    for n in 0..100 {
        let pattern = Pattern::new(format!("{n}x*"));
        assert_eq!(cache.remove_pattern(&pattern).await.unwrap(), Removal::Deferred);
    }
    tier.up();
    for _ in 0..60 {
        pass(secs(1)).await;
    }
    assert_eq!(cache.stats().pending_invalidations, 0);
    for tier in [Tier::Loader, Tier::Memory] {
        assert_eq!(world.load(&cache, 1).await.unwrap().tier(), tier);
    }
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_that_cannot_tell_the_others_says_so() {
    let (world, bus) = (World::new(), Stuck);
    let cache = world.builder().backend(world.shared.clone()).bus(bus).build().unwrap();
    cache.remove_many(&[1, 2]).await.unwrap();
    let left = cache.shutdown(secs(5)).await.unwrap_err();
    assert_eq!((left.tasks, left.invalidations, left.messages), (0, 0, 2));
    assert!(left.to_string().contains("2 "), "{left}");
}

/// A bus that takes nothing.
#[derive(Debug)]
struct Stuck;

#[async_trait]
impl Bus for Stuck {
    fn info(&self) -> BusInfo {
        BusInfo::new("stuck", "")
    }

    async fn publish(&self, _: &Message) -> Result<()> {
        Err(Error::new(ErrorKind::Unavailable, "stuck bus publish"))
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        LocalBus::new().subscribe().await
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_heartbeat_is_no_silence() {
    let fleet = Fleet::new();
    let node = || fleet.world.builder().bus(fleet.bus.clone()).heartbeat(secs(400)).build().unwrap();
    let (here, there) = (node(), node());
    settle().await;
    here.remove(&1).await.unwrap();
    fleet.told().await;
    let before = there.stats().gaps;
    for _ in 0..20 {
        pass(secs(100)).await;
    }
    assert_eq!(there.stats().gaps, before);
}

/// A tier whose first sweep fails; the second one waits for the third to succeed, and then fails, as do all others
/// while it is down.
#[derive(Debug)]
struct Turns {
    inner: Arc<MemoryBackend>,
    sweeps: AtomicUsize,
    is_down: AtomicBool,
}

#[async_trait]
impl Backend for Turns {
    fn info(&self) -> BackendInfo {
        self.inner.info()
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>> {
        self.inner.get(key).await
    }

    async fn get_many(&self, keys: &[Key]) -> Vec<Result<Option<Record>>> {
        self.inner.get_many(keys).await
    }

    async fn remove(&self, key: &Key) -> Result<Removed> {
        self.inner.remove(key).await
    }

    async fn remove_many(&self, keys: &[Key]) -> Vec<Result<Removed>> {
        self.inner.remove_many(keys).await
    }

    async fn sweep(&self, _: &KeyPattern, _: &SweepCursor) -> Result<Swept> {
        let number = 1 + self.sweeps.fetch_add(1, Ordering::SeqCst);
        while number == 2 && self.sweeps.load(Ordering::SeqCst) < 3 {
            tokio::task::yield_now().await;
        }
        match number == 3 || !self.is_down.load(Ordering::SeqCst) {
            true => Ok(Swept { removed: 0, next: None }),
            false => Err(Error::new(ErrorKind::Unavailable, "sweep")),
        }
    }

    async fn expire(&self, key: &Key, keep: Duration) -> Result<Expired> {
        self.inner.expire(key, keep).await
    }

    async fn touch(&self, key: &Key, nonce: Nonce, ttl: Duration) -> Result<bool> {
        self.inner.touch(key, nonce, ttl).await
    }

    fn leases(&self) -> Option<&dyn LeaseBackend> {
        self.inner.leases()
    }

    fn tags(&self) -> Option<&dyn TagBackend> {
        self.inner.tags()
    }

    fn members(&self) -> Option<&dyn MemberBackend> {
        self.inner.members()
    }

    fn incarnation(&self) -> u64 {
        self.inner.incarnation()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pattern_that_is_deferred_again_during_its_replay_stays_bypassed() {
    let world = World::new();
    let (sweeps, is_down) = (AtomicUsize::new(0), AtomicBool::new(true));
    let tier = Arc::new(Turns { inner: world.shared.clone(), sweeps, is_down });
    let cache = world.over(tier.clone());
    assert_eq!(cache.remove_pattern(&Pattern::any()).await.unwrap(), Removal::Deferred);
    let again = cache.clone();
    let again = tokio::spawn(async move { again.remove_pattern(&Pattern::any()).await.unwrap() });
    settle().await;
    pass(Duration::from_millis(100)).await;
    assert_eq!(again.await.unwrap(), Removal::Deferred);
    world.node().insert(1, "old".into()).await.unwrap();
    settle().await;
    assert_eq!(cache.stats().pending_invalidations, 1);
    assert!(cache.get(&1).await.is_none(), "it may be one that the pattern is about");
    tier.is_down.store(false, Ordering::SeqCst);
    pass(secs(10)).await;
    assert_eq!(cache.stats().pending_invalidations, 0);
    assert!(cache.get(&1).await.is_some(), "this tier only says that it has swept");
}

#[tokio::test(start_paused = true)]
async fn a_gap_ends_the_pauses_after_failures() {
    let bus = ModelBus::new();
    let world = World::new();
    let builder = world.builder().bus(bus.clone()).error_backoff(secs(600), secs(600));
    let cache = builder.build().unwrap();
    settle().await;
    let fails = |_| async { Err::<String, _>(LoaderError::new("down")) };
    cache.get_or_load(&1, fails).await.unwrap_err();
    assert!(world.load(&cache, 1).await.is_err(), "it is remembered");
    bus.break_connections();
    bus.mend();
    pass(secs(2)).await;
    assert_eq!(*world.load(&cache, 1).await.unwrap(), "Ada", "a removal may have been missed");
}
