//! Processes on one bus: what one invalidates the others give up, and what was missed is noticed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Body, Bus, BusEvent, BusInfo, Entry, Message, Pattern, Result, Subject, Subscription, Tags, Tier,
};
use cachalot_invalidation::LocalBus;
use cachalot_memory_backend::Memory;
use cachalot_strategies::{Cache, Removal};
use cachalot_testkit::Faulty;

use crate::world::{Users, World, pass, secs, settle};

/// A bus whose way can be blocked: what is published then is lost without a word.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lossy {
    pub(crate) inner: LocalBus,
    loses: Arc<AtomicBool>,
    invalidations: Arc<AtomicUsize>,
    pub(crate) is_interrupted: Arc<AtomicBool>,
}

struct Ear {
    inner: Box<dyn Subscription>,
    is_interrupted: Arc<AtomicBool>,
    said: bool,
}

#[async_trait]
impl Bus for Lossy {
    fn info(&self) -> BusInfo {
        self.inner.info()
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let is_news = matches!(message.body, Body::Invalidations { .. });
        self.invalidations.fetch_add(usize::from(is_news), Ordering::SeqCst);
        if self.loses.load(Ordering::SeqCst) { Ok(()) } else { self.inner.publish(message).await }
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        let inner = self.inner.subscribe().await?;
        Ok(Box::new(Ear { inner, is_interrupted: self.is_interrupted.clone(), said: false }))
    }
}

#[async_trait]
impl Subscription for Ear {
    async fn next(&mut self) -> Result<BusEvent> {
        if self.is_interrupted.load(Ordering::SeqCst) && !self.said {
            self.said = true;
            return Ok(BusEvent::Interrupted);
        }
        while self.is_interrupted.load(Ordering::SeqCst) {
            tokio::time::sleep(secs(1)).await;
        }
        if std::mem::take(&mut self.said) {
            return Ok(BusEvent::Confirmed);
        }
        self.inner.next().await
    }
}

pub(crate) struct Fleet {
    pub(crate) world: World,
    pub(crate) bus: Lossy,
}

impl Fleet {
    pub(crate) fn new() -> Self {
        Self { world: World::new(), bus: Lossy::default() }
    }

    /// A process that has subscribed.
    pub(crate) async fn node(&self) -> Users {
        let builder = self.world.builder().ttl(secs(600)).backend(self.world.shared.clone());
        let node = builder.bus(self.bus.clone()).build().unwrap();
        settle().await;
        node
    }

    /// What was said is sent, in its batch, and heard.
    pub(crate) async fn told(&self) {
        pass(Duration::from_millis(5)).await;
    }

    fn lose(&self, loses: bool) {
        self.bus.loses.store(loses, Ordering::SeqCst);
    }

    /// Two processes that hold user 1 in memory.
    pub(crate) async fn two(&self) -> (Users, Users) {
        let (here, there) = (self.node().await, self.node().await);
        for node in [&here, &there] {
            self.world.load(node, 1).await.unwrap();
            assert!(node.get_local(&1).is_some());
        }
        (here, there)
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_process_invalidates_the_others_give_up() {
    let fleet = Fleet::new();
    let (here, there) = fleet.two().await;
    let tags = Tags::new(["a"]).unwrap();
    for (n, name) in
        ["remove", "expire", "insert", "remove_many", "tag", "pattern", "clear"].iter().enumerate()
    {
        here.with(|options| options.tags(tags.clone())).insert(1, format!("v{n}")).await.unwrap();
        fleet.told().await;
        assert_eq!(**there.get(&1).await.as_ref().unwrap(), format!("v{n}"), "{name}");
        assert!(there.get_local(&1).is_some(), "{name}");
        match *name {
            "remove" => drop(here.remove(&1).await.unwrap()),
            "expire" => drop(here.expire(&1).await.unwrap()),
            "insert" => drop(here.insert(1, "new".into()).await.unwrap()),
            "remove_many" => drop(here.remove_many(&[1, 2]).await.unwrap()),
            "tag" => drop(here.remove_tag("a").await.unwrap()),
            "pattern" => drop(here.remove_pattern(&Pattern::new("[0-3]")).await.unwrap()),
            _ => drop(here.clear().await.unwrap()),
        }
        fleet.told().await;
        assert!(there.get_local(&1).is_none(), "{name}");
        let below = there.get(&1).await.map(cachalot_strategies::Cached::into_inner);
        assert_eq!(below.as_deref(), (*name == "insert").then_some("new"), "{name}");
    }
    assert_eq!(here.stats().heard, 0, "its own messages are no news");
    assert_eq!(there.stats().gaps, 1, "the first subscription, and nothing since");
}

#[tokio::test(start_paused = true)]
async fn memory_serves_nothing_before_the_subscription_stands_nor_while_it_is_interrupted() {
    let fleet = Fleet::new();
    fleet.bus.is_interrupted.store(true, Ordering::SeqCst);
    let cache = fleet.node().await;
    for tier in [Tier::Loader, Tier::Backend, Tier::Backend] {
        assert_eq!(fleet.world.load(&cache, 1).await.unwrap().tier(), tier);
        assert!(cache.get_local(&1).is_none());
    }
    fleet.bus.is_interrupted.store(false, Ordering::SeqCst);
    pass(secs(3)).await;
    pass(secs(3)).await;
    assert_eq!(fleet.world.load(&cache, 1).await.unwrap().tier(), Tier::Backend, "what is there is suspect");
    assert_eq!(fleet.world.load(&cache, 1).await.unwrap().tier(), Tier::Memory);
    fleet.bus.is_interrupted.store(true, Ordering::SeqCst);
    pass(secs(3)).await;
    assert!(cache.get_local(&1).is_none());
    assert_eq!(fleet.world.source.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_is_noticed_by_the_next_heartbeat_and_nobody_rushes() {
    let fleet = Fleet::new();
    let (here, there) = fleet.two().await;
    let tier = Faulty::new(fleet.world.shared.clone());
    let third =
        fleet.world.builder().ttl(secs(600)).backend(tier.clone()).bus(fleet.bus.clone()).build().unwrap();
    settle().await;
    for key in 2..50 {
        fleet.world.source.set(key, format!("v{key}"));
        fleet.world.load(&third, key).await.unwrap();
    }
    fleet.lose(true);
    fleet.world.source.set(1, "Augusta".into());
    here.remove(&1).await.unwrap();
    settle().await;
    fleet.lose(false);
    assert_eq!(*there.get_local(&1).unwrap(), "Ada", "nobody told it yet");
    let (calls, loads) = (tier.calls(), fleet.world.source.loads());
    pass(secs(2)).await;
    assert!(there.get_local(&1).is_none());
    assert_eq!(*fleet.world.load(&there, 1).await.unwrap(), "Augusta");
    assert_eq!(tier.calls(), calls, "a gap alone reads nothing");
    assert_eq!(
        fleet.world.load(&third, 2).await.unwrap().tier(),
        Tier::Backend,
        "asked for, it is looked up"
    );
    assert_eq!(fleet.world.load(&third, 2).await.unwrap().tier(), Tier::Memory, "once");
    assert_eq!(fleet.world.source.loads(), loads + 1);
    assert!(third.stats().gaps >= 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_flight_when_the_message_comes_is_kept_nowhere_and_joined_by_nobody() {
    for lost in [false, true] {
        let fleet = Fleet::new();
        let (here, there) = (fleet.node().await, fleet.node().await);
        let gate = fleet.world.source.stop_after_reading();
        let before = fleet.world.spawn_load(&there, 1);
        gate.reached(1).await;
        fleet.world.source.set(1, "Augusta".into());
        fleet.lose(lost);
        here.remove(&1).await.unwrap();
        settle().await;
        fleet.lose(false);
        // The message, or the heartbeat that tells of the lost one.
        pass(secs(2)).await;
        let after = fleet.world.spawn_load(&there, 1);
        settle().await;
        gate.open();
        assert_eq!(*before.await.unwrap().unwrap(), "Ada", "lost {lost}");
        assert_eq!(*after.await.unwrap().unwrap(), "Augusta", "lost {lost}");
        settle().await;
        assert_eq!(*there.get_local(&1).unwrap(), "Augusta");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_the_tier_could_not_take_is_told_twice_and_bypassed_meanwhile() {
    let fleet = Fleet::new();
    let tier = Faulty::new(fleet.world.shared.clone());
    let build = |builder: crate::world::UsersBuilder| builder.bus(fleet.bus.clone()).build().unwrap();
    let here = build(fleet.world.builder().ttl(secs(600)).backend(tier.clone()));
    let there = fleet.node().await;
    let tags = Tags::new(["a"]).unwrap();
    for name in ["key", "tag", "pattern", "clear"] {
        fleet.world.source.set(1, "Ada".into());
        here.remove(&1).await.unwrap();
        here.with(|options| options.tags(tags.clone())).insert(1, "Ada".into()).await.unwrap();
        fleet.told().await;
        assert_eq!(*there.get(&1).await.unwrap(), "Ada");
        tier.down();
        fleet.world.source.set(1, "Augusta".into());
        let removal = match name {
            "key" => here.remove(&1).await,
            "tag" => here.remove_tag("a").await,
            "pattern" => here.remove_pattern(&Pattern::any()).await,
            _ => here.clear().await,
        };
        assert_eq!(removal.unwrap(), Removal::Deferred, "{name}");
        fleet.told().await;
        for node in [&here, &there] {
            assert_eq!(
                *fleet.world.load(node, 1).await.unwrap(),
                "Augusta",
                "{name}: past the old value below"
            );
        }
        tier.up();
        pass(secs(10)).await;
        assert_eq!(here.stats().pending_invalidations, 0, "{name}");
        assert!(there.get_local(&1).is_none(), "{name}: told once more");
        assert_eq!(*fleet.world.load(&there, 1).await.unwrap(), "Augusta", "{name}");
        assert_eq!(
            fleet.world.load(&there, 1).await.unwrap().tier(),
            Tier::Memory,
            "{name}: as always again"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_says_goodbye_is_no_gap_and_one_that_falls_silent_is() {
    let fleet = Fleet::new();
    let stays = fleet.node().await;
    let gaps = |node: &Users| node.stats().gaps;
    let before = gaps(&stays);
    let leaves = fleet.node().await;
    leaves.insert(7, "seven".into()).await.unwrap();
    leaves.shutdown(secs(5)).await.unwrap();
    drop(leaves);
    let dropped = fleet.node().await;
    dropped.insert(8, "eight".into()).await.unwrap();
    drop(dropped);
    pass(secs(60)).await;
    assert_eq!(gaps(&stays), before);
    assert_eq!(fleet.bus.inner.subscribers(), 1, "who is gone listens no more");

    let silent = fleet.node().await;
    silent.insert(9, "nine".into()).await.unwrap();
    settle().await;
    fleet.lose(true);
    for _ in 0..20 {
        pass(secs(1)).await;
    }
    assert!(gaps(&stays) > before);
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_invalidations_is_sent_in_batches() {
    let fleet = Fleet::new();
    let (here, there) = fleet.two().await;
    let keys: Vec<u64> = (0..5000).collect();
    let before = fleet.bus.invalidations.load(Ordering::SeqCst);
    here.remove_many(&keys).await.unwrap();
    here.remove_many(&keys).await.unwrap();
    for _ in 0..100 {
        pass(Duration::from_millis(2)).await;
    }
    let sent = fleet.bus.invalidations.load(Ordering::SeqCst) - before;
    assert!(sent <= 40, "{sent} messages");
    assert_eq!(here.stats().pending_messages, 0);
    assert!(there.get_local(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn keys_that_do_not_come_back_from_their_bytes_are_invalidated_all_the_same() {
    let world = World::new();
    let bus = LocalBus::new();
    type Borrowed = Cache<&'static str, String, Memory<&'static str, Arc<Entry<String>>>>;
    let node = || -> Borrowed {
        let builder = Cache::builder("users").memory(Memory::entries(10)).clock(world.clock.clone());
        builder.backend(world.shared.clone()).bus(bus.clone()).build().unwrap()
    };
    let (here, there) = (node(), node());
    pass(Duration::from_millis(5)).await;
    here.insert("a", "old".into()).await.unwrap();
    pass(Duration::from_millis(5)).await;
    assert_eq!(*there.get(&"a").await.unwrap(), "old");
    here.remove(&"a").await.unwrap();
    pass(Duration::from_millis(5)).await;
    assert!(there.get_local(&"a").is_none());
}

#[tokio::test(start_paused = true)]
async fn foreign_and_hostile_messages_cost_trust_not_values() {
    let fleet = Fleet::new();
    let (_, there) = fleet.two().await;
    let publisher = cachalot_core::PublisherId::from_bytes([7; 16]);
    let namespace = cachalot_core::Namespace::new("users").unwrap();
    let subjects = vec![
        Subject::Key { key: cachalot_core::Key::new("orders:1"), pending: false },
        Subject::Key { key: cachalot_core::Key::new("users:not a number"), pending: true },
        Subject::Tag { tag: vec![b'x'; 300].into(), pending: false },
    ];
    for subject in subjects {
        let body = Body::Invalidations { sequence: 1, confirm: false, subjects: vec![subject] };
        let message = Message { publisher, namespace: namespace.clone(), body };
        fleet.bus.publish(&message).await.unwrap();
        settle().await;
        assert!(there.get_local(&1).is_none());
        assert_eq!(*fleet.world.load(&there, 1).await.unwrap(), "Ada");
        assert!(there.get_local(&1).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_anothers_lease_is_woken_when_it_ends() {
    let fleet = Fleet::new();
    let (here, there) = (fleet.node().await, fleet.node().await);
    let gate = fleet.world.source.stop_after_reading();
    let leader = fleet.world.spawn_load(&here, 1);
    gate.reached(1).await;
    let waiter = fleet.world.spawn_load(&there, 1);
    pass(secs(2)).await;
    gate.open();
    leader.await.unwrap().unwrap();
    settle().await;
    assert!(waiter.is_finished(), "without a wait for its next look");
    assert_eq!(waiter.await.unwrap().unwrap().tier(), Tier::Backend);
    assert_eq!(fleet.world.source.loads(), 1);
}
