//! Invalidations that every process confirms: whoever lives has given the old value up, and whoever was stopped,
//! cut off or has not come yet serves nothing from before.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use cachalot_core::{
    Body, BoxFuture, Bus, BusInfo, ErrorKind, MemberBackend, Message, Namespace, Pattern, Result, Spawn,
    Subscription, Tags, Tier,
};
use cachalot_invalidation::LocalBus;
use cachalot_strategies::{Confirmation, Removal};
use cachalot_testkit::{Fault, Faulty, ModelBackend, Operation};
use tokio::time::Instant;

use crate::world::{Users, UsersBuilder, World, pass, secs, settle};

const TERM: Duration = Duration::from_secs(10);

/// What runs the tasks of a process that can be stopped in its tracks.
#[derive(Clone, Default)]
struct Stoppable {
    is_stopped: Arc<AtomicBool>,
    waiting: Arc<Mutex<Vec<Waker>>>,
}

struct Stopped {
    task: BoxFuture<'static, ()>,
    by: Stoppable,
}

impl Stoppable {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }

    fn go_on(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
    }
}

impl Spawn for Stoppable {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(Stopped { task, by: self.clone() });
    }
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.by.is_stopped.load(Ordering::SeqCst) {
            self.by.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.task.as_mut().poll(cx)
    }
}

/// A bus that loses the next so many messages of a kind.
#[derive(Clone, Debug, Default)]
struct Picky {
    inner: LocalBus,
    invalidations: Arc<AtomicUsize>,
    acks: Arc<AtomicUsize>,
}

#[async_trait]
impl Bus for Picky {
    fn info(&self) -> BusInfo {
        self.inner.info()
    }

    async fn publish(&self, message: &Message) -> Result<()> {
        let losses = match message.body {
            Body::Invalidations { .. } => Some(&self.invalidations),
            Body::Ack { .. } => Some(&self.acks),
            _ => None,
        };
        let is_lost = losses.is_some_and(|left| {
            left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
        });
        if is_lost { Ok(()) } else { self.inner.publish(message).await }
    }

    async fn subscribe(&self) -> Result<Box<dyn Subscription>> {
        self.inner.subscribe().await
    }
}

struct Fleet {
    world: World,
    shared: ModelBackend,
    bus: Picky,
}

impl Fleet {
    /// A fleet whose registry is old enough.
    async fn new() -> Self {
        let world = World::new();
        let shared = ModelBackend::new(world.clock.clone());
        let fleet = Self { world, shared, bus: Picky::default() };
        let first = fleet.node("first").await;
        wait(TERM).await;
        first.shutdown(secs(5)).await.unwrap();
        fleet
    }

    fn builder(&self, name: &str) -> UsersBuilder {
        let builder = self.world.builder().ttl(secs(600)).stale_if_error(secs(600)).bus(self.bus.clone());
        builder.membership(TERM).member_name(name)
    }

    async fn node(&self, name: &str) -> Users {
        self.build(self.builder(name).backend(self.shared.clone())).await
    }

    async fn build(&self, builder: UsersBuilder) -> Users {
        let node = builder.build().unwrap();
        settle().await;
        node
    }

    /// A process that can be stopped.
    async fn stoppable(&self, name: &str) -> (Users, Stoppable) {
        let stoppable = Stoppable::default();
        let builder = self.builder(name).backend(self.shared.clone()).spawn(stoppable.clone());
        (self.build(builder).await, stoppable)
    }

    /// A process whose way to the shared tier can be blocked.
    async fn cut_off(&self, name: &str) -> (Users, Faulty) {
        let tier = Faulty::new(self.shared.clone());
        let builder = self.builder(name).backend(tier.clone()).backend_timeout(secs(8));
        (self.build(builder).await, tier)
    }

    /// All of them hold user 1 in memory.
    async fn warm(&self, nodes: &[&Users]) {
        for node in nodes {
            self.world.load(node, 1).await.unwrap();
            assert!(node.get_local(&1).is_some());
        }
    }
}

/// Lets time pass so that everybody can do what is due.
async fn wait(time: Duration) {
    for _ in 0..time.as_millis() / 500 {
        pass(Duration::from_millis(500)).await;
    }
}

fn names(confirmation: &Confirmation) -> Vec<&str> {
    let Confirmation::Unconfirmed { members, .. } = confirmation else { panic!("{confirmation:?}") };
    members.iter().map(|member| member.name()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_confirmed_every_process_has_given_up() {
    let fleet = Fleet::new().await;
    let (here, b, c) = (fleet.node("here").await, fleet.node("b").await, fleet.node("c").await);
    let tags = Tags::new(["a"]).unwrap();
    for name in ["remove", "expire", "remove_many", "tag", "expire_tag", "pattern", "clear"] {
        here.with(|options| options.tags(tags.clone())).insert(1, name.into()).await.unwrap();
        pass(Duration::from_millis(5)).await;
        for node in [&b, &c] {
            assert_eq!(**node.get(&1).await.as_ref().unwrap(), name);
            assert!(node.get_local(&1).is_some());
        }
        let (long, any) = (secs(60), Pattern::any());
        let begins = Instant::now();
        let confirmation = match name {
            "remove" => here.remove(&1).confirmed(long).await,
            "expire" => here.expire(&1).confirmed(long).await,
            "remove_many" => here.remove_many(&[1, 2]).confirmed(long).await,
            "tag" => here.remove_tag("a").confirmed(long).await,
            "expire_tag" => here.expire_tag("a").confirmed(long).await,
            "pattern" => here.remove_pattern(&any).confirmed(long).await,
            _ => here.clear().confirmed(long).await,
        };
        assert_eq!(confirmation.unwrap(), Confirmation::Confirmed, "{name}");
        assert!([&here, &b, &c].iter().all(|node| node.get_local(&1).is_none()), "{name}");
        assert!(begins.elapsed() < Duration::from_millis(50), "{name}: {:?}", begins.elapsed());
    }
    assert_eq!([&here, &b, &c].map(|node| node.stats().lapses), [0; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_stopped_is_waited_for_until_its_term_ends_and_serves_nothing_old_when_it_wakes() {
    let fleet = Fleet::new().await;
    let (here, (b, stoppable)) = (fleet.node("here").await, fleet.stoppable("b").await);
    fleet.warm(&[&here, &b]).await;
    stoppable.stop();
    fleet.world.source.set(1, "Augusta".into());
    let begins = Instant::now();
    let removal = here.remove(&1).confirmed(secs(60)).await.unwrap();
    assert_eq!(removal, Confirmation::Confirmed);
    let took = begins.elapsed();
    assert!(took > secs(6) && took <= secs(10) + Duration::from_millis(10), "{took:?}");
    assert!(b.get_local(&1).is_none(), "before any task of it runs");
    assert_eq!(b.stats().lapses, 1);
    stoppable.go_on();
    assert_eq!(*fleet.world.load(&b, 1).await.unwrap(), "Augusta");
    wait(secs(1)).await;
    assert_eq!(fleet.world.load(&b, 1).await.unwrap().tier(), Tier::Backend);
    assert_eq!(fleet.world.load(&b, 1).await.unwrap().tier(), Tier::Memory, "it is a member again");
    assert_eq!(here.remove(&1).confirmed(secs(1)).await.unwrap(), Confirmation::Confirmed);
}

#[tokio::test(start_paused = true)]
async fn a_load_in_a_process_that_was_stopped_is_joined_by_nobody_who_comes_after_it_woke() {
    let fleet = Fleet::new().await;
    let (here, (b, stoppable)) = (fleet.node("here").await, fleet.stoppable("b").await);
    let gate = fleet.world.source.stop_after_reading();
    let before = fleet.world.spawn_load(&b, 1);
    gate.reached(1).await;
    stoppable.stop();
    fleet.world.source.set(1, "Augusta".into());
    assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
    let after = fleet.world.spawn_load(&b, 1);
    settle().await;
    gate.open();
    stoppable.go_on();
    assert_eq!(*before.await.unwrap().unwrap(), "Ada");
    assert_eq!(*after.await.unwrap().unwrap(), "Augusta");
    assert_eq!(*fleet.world.load(&b, 1).await.unwrap(), "Augusta");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_answer_in_time_is_named() {
    let fleet = Fleet::new().await;
    let (here, c) = (fleet.node("here").await, fleet.node("c").await);
    let (b, stoppable) = fleet.stoppable("b").await;
    fleet.warm(&[&here, &b, &c]).await;
    stoppable.stop();
    let removal = here.remove(&1).confirmed(secs(1)).await.unwrap();
    assert_eq!(names(&removal), ["b"]);
    assert!(matches!(removal, Confirmation::Unconfirmed { may_lack_some: false, .. }));
    assert!(c.get_local(&1).is_none() && !removal.is_confirmed());
    stoppable.go_on();
    assert!(here.remove(&1).confirmed(secs(1)).await.unwrap().is_confirmed());
}

#[tokio::test(start_paused = true)]
async fn who_joins_while_another_is_waited_for_is_not_waited_for() {
    let fleet = Fleet::new().await;
    let (here, (_b, stoppable)) = (fleet.node("here").await, fleet.stoppable("b").await);
    stoppable.stop();
    fleet.world.source.set(1, "Augusta".into());
    let removal = tokio::spawn(async move { here.remove(&1).confirmed(secs(60)).await });
    settle().await;
    let (joiner, stopped) = fleet.stoppable("joiner").await;
    wait(secs(4)).await;
    assert_eq!(*fleet.world.load(&joiner, 1).await.unwrap(), "Augusta");
    let begins = Instant::now();
    stopped.stop();
    assert!(removal.await.unwrap().unwrap().is_confirmed());
    assert!(begins.elapsed() < secs(7), "not for the joiner's term: {:?}", begins.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_memory_was_filled_with_before_the_registration_is_not_served_after_it() {
    let fleet = Fleet::new().await;
    let here = fleet.node("here").await;
    let tier = Faulty::new(fleet.shared.clone());
    tier.next_of(Operation::Enroll, Fault::Delay(secs(1)));
    let joiner = fleet.build(fleet.builder("joiner").backend(tier)).await;
    fleet.world.load(&joiner, 1).await.unwrap();
    assert!(joiner.get_local(&1).is_none(), "nobody waits for it yet");
    fleet.bus.invalidations.store(1, Ordering::SeqCst);
    fleet.world.source.set(1, "Augusta".into());
    let removal = here.remove(&1).confirmed(secs(60)).await.unwrap();
    assert_eq!(removal, Confirmation::Confirmed);
    assert!(joiner.get_local(&1).is_none());
    pass(secs(1)).await;
    assert!(joiner.get_local(&1).is_none(), "it is a member now, and that was a gap");
    assert_eq!(*fleet.world.load(&joiner, 1).await.unwrap(), "Augusta");
    assert!(joiner.get_local(&1).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_lost_message_and_a_lost_answer_cost_a_moment() {
    let fleet = Fleet::new().await;
    let (here, b) = (fleet.node("here").await, fleet.node("b").await);
    for (message, losses) in [(&fleet.bus.invalidations, 1), (&fleet.bus.acks, 1), (&fleet.bus.acks, 3)] {
        fleet.warm(&[&here, &b]).await;
        message.store(losses, Ordering::SeqCst);
        let begins = Instant::now();
        assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
        assert!(b.get_local(&1).is_none());
        assert!(begins.elapsed() < secs(2), "{:?}", begins.elapsed());
        assert_eq!(message.load(Ordering::SeqCst), 0, "it was lost");
    }
}

#[tokio::test(start_paused = true)]
async fn an_invalidation_that_is_deferred_is_confirmed_after_its_replay() {
    let fleet = Fleet::new().await;
    let ((here, tier), b) = (fleet.cut_off("here").await, fleet.node("b").await);
    for name in ["key", "tag", "pattern"] {
        fleet.warm(&[&here, &b]).await;
        tier.down();
        let removal = |timeout: Duration| {
            let here = &here;
            async move {
                match name {
                    "key" => here.remove(&1).confirmed(timeout).await,
                    "tag" => here.remove_tag("a").confirmed(timeout).await,
                    _ => here.remove_pattern(&Pattern::any()).confirmed(timeout).await,
                }
            }
        };
        assert_eq!(removal(secs(1)).await.unwrap(), Confirmation::Deferred, "{name}");
        let up_again = async {
            tokio::time::sleep(secs(1)).await;
            tier.up();
        };
        let (confirmed, ()) = tokio::join!(removal(secs(60)), up_again);
        assert_eq!(confirmed.unwrap(), Confirmation::Confirmed, "{name}");
        assert_eq!(here.stats().pending_invalidations, 0, "{name}");
        wait(secs(2)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_leaves_is_not_waited_for_and_serves_nothing_from_memory() {
    let fleet = Fleet::new().await;
    let (here, b) = (fleet.node("here").await, fleet.node("b").await);
    let dropped = fleet.node("dropped").await;
    fleet.warm(&[&here, &b, &dropped]).await;
    b.shutdown(secs(5)).await.unwrap();
    assert!(b.get_local(&1).is_none(), "nobody waits for it");
    drop(dropped);
    settle().await;
    let begins = Instant::now();
    assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
    assert!(begins.elapsed() < Duration::from_millis(50), "{:?}", begins.elapsed());
    let registry = Namespace::new("users").unwrap().members();
    let roll = fleet.shared.roll(&registry).await.unwrap();
    assert_eq!(roll.members.iter().map(|(member, _)| member.name()).collect::<Vec<_>>(), ["here"]);
}

#[tokio::test(start_paused = true)]
async fn a_tier_that_forgets_who_is_there_confirms_nothing_for_a_term() {
    for restarts in [false, true] {
        let fleet = Fleet::new().await;
        let (here, (b, stoppable)) = (fleet.node("here").await, fleet.stoppable("b").await);
        fleet.warm(&[&here, &b]).await;
        stoppable.stop();
        match restarts {
            false => fleet.shared.lose_members(),
            true => fleet.shared.restore(&fleet.shared.snapshot()),
        }
        fleet.world.source.set(1, "Augusta".into());
        let removal = here.remove(&1).confirmed(secs(5)).await.unwrap();
        assert!(matches!(removal, Confirmation::Unconfirmed { may_lack_some: true, .. }), "{removal:?}");
        assert_eq!(*b.get_local(&1).unwrap(), "Ada", "it believes that others know of it");
        assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
        assert!(b.get_local(&1).is_none());
        stoppable.go_on();
        wait(secs(1)).await;
        assert_eq!(*fleet.world.load(&b, 1).await.unwrap(), "Augusta");
    }
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_finds_itself_forgotten_distrusts_what_is_in_memory() {
    let fleet = Fleet::new().await;
    let b = fleet.node("b").await;
    fleet.warm(&[&b]).await;
    let gaps = b.stats().gaps;
    wait(secs(4)).await;
    assert!(b.get_local(&1).is_some() && b.stats().gaps == gaps, "a renewal is no gap");
    fleet.shared.lose_members();
    wait(secs(4)).await;
    assert!(b.get_local(&1).is_none());
    assert_eq!((b.stats().gaps, b.stats().lapses), (gaps + 1, 0));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_does_not_prolong_the_term() {
    let fleet = Fleet::new().await;
    let here = fleet.node("here").await;
    let tier = Faulty::new(fleet.shared.clone());
    tier.next_of(Operation::Enroll, Fault::AnswerLate(secs(5)));
    let stoppable = Stoppable::default();
    let builder = fleet.builder("b").backend(tier).backend_timeout(secs(8)).spawn(stoppable.clone());
    let b = fleet.build(builder).await;
    wait(secs(5)).await;
    stoppable.stop();
    // Answered by now, and filled without any task of its own.
    stoppable.go_on();
    settle().await;
    fleet.warm(&[&b]).await;
    stoppable.stop();
    let begins = Instant::now();
    assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
    assert!(begins.elapsed() < secs(11));
    assert!(b.get_local(&1).is_none());
}

#[tokio::test(start_paused = true)]
async fn memory_serves_nothing_while_the_tier_cannot_be_reached_for_a_term_and_again_after_it() {
    let fleet = Fleet::new().await;
    let (b, tier) = fleet.cut_off("b").await;
    fleet.warm(&[&b]).await;
    tier.down();
    wait(secs(6)).await;
    assert!(b.get_local(&1).is_some(), "for as long as its term lasts");
    wait(secs(4)).await;
    assert!(b.get_local(&1).is_none());
    assert_eq!(fleet.world.load(&b, 1).await.unwrap().tier(), Tier::Loader);
    tier.up();
    wait(secs(2)).await;
    fleet.world.load(&b, 1).await.unwrap();
    assert!(b.get_local(&1).is_some());
}

#[tokio::test(start_paused = true)]
async fn while_nobody_waits_for_it_a_process_gives_no_caller_what_was_read_before_it_came() {
    let fleet = Fleet::new().await;
    let (here, (b, tier)) = (fleet.node("here").await, fleet.cut_off("b").await);
    tier.down();
    wait(TERM).await;
    let gate = fleet.world.source.stop_after_reading();
    let early = fleet.world.spawn_load(&b, 1);
    gate.reached(1).await;
    fleet.world.source.set(1, "Augusta".into());
    assert!(here.remove(&1).confirmed(secs(60)).await.unwrap().is_confirmed());
    let late: Vec<_> = (0..20).map(|_| fleet.world.spawn_load(&b, 1)).collect();
    settle().await;
    let loads = fleet.world.source.loads();
    gate.open();
    assert_eq!(*early.await.unwrap().unwrap(), "Ada");
    for late in late {
        assert_eq!(*late.await.unwrap().unwrap(), "Augusta");
    }
    assert_eq!(fleet.world.source.loads(), loads + 1, "they share one load");
}

#[tokio::test(start_paused = true)]
async fn the_wait_may_be_left_and_the_removal_is_done() {
    let fleet = Fleet::new().await;
    let (here, (_b, stoppable)) = (fleet.node("here").await, fleet.stoppable("b").await);
    fleet.warm(&[&here]).await;
    stoppable.stop();
    let left = tokio::time::timeout(secs(1), here.remove(&1).confirmed(secs(60))).await;
    assert!(left.is_err());
    assert!(here.get_local(&1).is_none());
    assert!(here.get(&1).await.is_none());
}

#[tokio::test(start_paused = true)]
async fn without_membership_nothing_is_invalidated_and_what_it_needs_is_asked_for() {
    let fleet = Fleet::new().await;
    let plain = fleet.build(fleet.world.builder().backend(fleet.shared.clone()).bus(fleet.bus.clone())).await;
    fleet.warm(&[&plain]).await;
    let error = plain.remove(&1).confirmed(secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(plain.get_local(&1).is_some());
    assert_eq!(plain.remove(&1).await.unwrap(), Removal::Removed);

    let builder = || fleet.world.builder();
    for (builder, missing) in [
        (builder().backend(fleet.shared.clone()).membership(TERM), "bus"),
        (builder().bus(fleet.bus.clone()).membership(TERM), "backend"),
        (builder().member_name("x"), "membership"),
        (fleet.builder("x").backend(fleet.shared.clone()).membership(Duration::from_millis(99)), "100 ms"),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(missing), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_invalidation_is_told_and_a_closed_cache_refuses() {
    let fleet = Fleet::new().await;
    let here = fleet.node("here").await;
    let error = here.remove_tag("").confirmed(secs(1)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    here.shutdown(secs(5)).await.unwrap();
    assert_eq!(here.remove(&1).confirmed(secs(1)).await.unwrap_err().kind(), ErrorKind::Closed);
}
