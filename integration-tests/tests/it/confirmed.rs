//! What a confirmed removal rests on, a short scene each: a process that was stopped, one that is not registered yet,
//! one that joins meanwhile, one that has more to void than it does at once.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot::{Entry, Memory};
use cachalot_core::{BoxFuture, Entropy, Pattern, Spawn};
use cachalot_strategies::{Cache, CacheBuilder};
use cachalot_testkit::{Fault, Faulty, ModelBackend, ModelBus, Operation, block_on_paused, tokio_clock};
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::scenes::scenes;

type Engine = Memory<u64, Arc<Entry<String>>>;
type Builder = CacheBuilder<u64, String, Engine>;
type Node = Cache<u64, String, Engine>;
/// Whether it ended well.
type Scene = BoxFuture<'static, bool>;

scenes! {
    who_was_stopped_after_a_late_answer_serves_nothing_old: a_late_answer;
    who_registers_before_the_members_are_read_is_waited_for: a_joiner;
    a_load_that_was_stopped_is_joined_by_nobody_who_comes_after: a_stopped_load;
    what_came_before_the_registration_is_not_served: a_late_registration;
    who_has_answered_has_given_all_of_it_up: many_to_void;
}

const TERM: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

/// What lies between processes: a shared tier whose list of members is old enough, and a bus.
struct Way {
    shared: ModelBackend,
    bus: ModelBus,
}

impl Way {
    async fn new() -> Self {
        let way = Self { shared: ModelBackend::new(tokio_clock()), bus: ModelBus::new() };
        let first = way.node(1).await;
        sleep(TERM).await;
        first.shutdown(LONG).await.unwrap();
        way
    }

    fn builder(&self, seed: u64) -> Builder {
        let memory = Memory::entries(100_000).hash_seed(1);
        let builder = Cache::builder("users").memory(memory).clock(tokio_clock());
        builder.entropy(Entropy::seeded(seed)).bus(self.bus.clone()).membership(TERM)
    }

    async fn node(&self, seed: u64) -> Node {
        built(self.builder(seed).backend(self.shared.clone())).await
    }
}

async fn built(builder: Builder) -> Node {
    let node = builder.build().unwrap();
    settle().await;
    node
}

async fn is_confirmed(node: &Node) -> bool {
    node.remove(&1).confirmed(LONG).await.unwrap().is_confirmed()
}

/// What `node` has, or loads.
async fn load(node: &Node, name: &str) -> String {
    let name = name.to_owned();
    node.get_or_load(&1, |_| async { Ok(name) }).await.unwrap().to_string()
}

fn a_late_answer() -> Scene {
    Box::pin(async {
        let way = Way::new().await;
        let here = way.node(2).await;
        let (tier, stoppable) = (Faulty::new(way.shared.clone()), Stoppable::default());
        tier.next_of(Operation::Enroll, Fault::AnswerLate(5 * SECOND));
        // Nor is it renewed before it is stopped.
        tier.next_of(Operation::Enroll, Fault::Refuse);
        let builder = way.builder(3).backend(tier).backend_timeout(LONG).spawn(stoppable.clone());
        let there = built(builder).await;
        sleep(5 * SECOND + SECOND / 10).await;
        load(&there, "old").await;
        stoppable.stop();
        is_confirmed(&here).await && there.get_local(&1).is_none()
    })
}

fn a_joiner() -> Scene {
    Box::pin(async {
        let way = Way::new().await;
        let tier = Faulty::new(way.shared.clone());
        let here = built(way.builder(2).backend(tier.clone())).await;
        // While the removal is under way somebody comes, reads what is about to be removed, and is stopped.
        way.node(4).await.insert(1, "old".into()).await.unwrap();
        tier.next_of(Operation::Remove, Fault::Delay(SECOND));
        let removal = tokio::spawn(async move { is_confirmed(&here).await });
        settle().await;
        let stoppable = Stoppable::default();
        let joiner = built(way.builder(3).backend(way.shared.clone()).spawn(stoppable.clone())).await;
        let read = load(&joiner, "old").await;
        stoppable.stop();
        read == "old" && removal.await.unwrap() && joiner.get_local(&1).is_none()
    })
}

fn a_stopped_load() -> Scene {
    Box::pin(async {
        let way = Way::new().await;
        let (here, stoppable) = (way.node(2).await, Stoppable::default());
        let there = built(way.builder(3).backend(way.shared.clone()).spawn(stoppable.clone())).await;
        let (go, wait) = oneshot::channel::<()>();
        let before = tokio::spawn({
            let there = there.clone();
            let old = async move {
                let _ = wait.await;
                Ok("old".to_owned())
            };
            async move { there.get_or_load(&1, |_| old).await.unwrap().to_string() }
        });
        settle().await;
        stoppable.stop();
        let is_confirmed = is_confirmed(&here).await;
        let after = tokio::spawn(async move { load(&there, "new").await });
        stoppable.go_on();
        settle().await;
        // It does not wait for what it is not to be given.
        let is_free = after.is_finished();
        go.send(()).unwrap();
        before.await.unwrap() == "old" && is_confirmed && is_free && after.await.unwrap() == "new"
    })
}

fn a_late_registration() -> Scene {
    Box::pin(async {
        let way = Way::new().await;
        let here = way.node(2).await;
        let (tier, stoppable) = (Faulty::new(way.shared.clone()), Stoppable::default());
        tier.next_of(Operation::Enroll, Fault::Delay(SECOND));
        let joiner = built(way.builder(3).backend(tier).spawn(stoppable.clone())).await;
        load(&joiner, "old").await;
        // It hears nothing, and nobody waits for it.
        stoppable.stop();
        is_confirmed(&here).await && joiner.get_local(&1).is_none()
    })
}

fn many_to_void() -> Scene {
    Box::pin(async {
        let way = Way::new().await;
        // Who asks has little to walk itself, and then waits.
        let small = way.builder(2).memory(Memory::entries(16).hash_seed(1));
        let (here, there) = (built(small.backend(way.shared.clone())).await, way.node(3).await);
        let all: Vec<_> = (0..5_000).map(|n| (n, "old".to_owned())).collect();
        there.insert_many(all).await;
        settle().await;
        assert!((0..5_000).all(|n| there.get_local(&n).is_some()), "there is something to void");
        let removal = here.remove_pattern(&Pattern::any()).confirmed(LONG).await;
        removal.unwrap().is_confirmed() && (0..5_000).all(|n| there.get_local(&n).is_none())
    })
}

/// What runs the tasks of a process that can be stopped in its tracks.
#[derive(Clone, Default)]
struct Stoppable {
    is_stopped: Arc<AtomicBool>,
    waiting: Arc<Mutex<Vec<Waker>>>,
}

impl Stoppable {
    fn stop(&self) {
        self.is_stopped.store(true, Ordering::SeqCst);
    }

    fn go_on(&self) {
        self.is_stopped.store(false, Ordering::SeqCst);
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..).for_each(Waker::wake);
    }
}

impl Spawn for Stoppable {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        tokio::spawn(Stopped { task, by: self.clone() });
    }
}

struct Stopped {
    task: BoxFuture<'static, ()>,
    by: Stoppable,
}

impl Future for Stopped {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.by.is_stopped.load(Ordering::SeqCst) {
            self.by.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(cx.waker().clone());
            return Poll::Pending;
        }
        self.task.as_mut().poll(cx)
    }
}

/// Lets every task run until it waits for time or for somebody else.
async fn settle() {
    for _ in 0..100 {
        yield_now().await;
    }
}

/// Each mistake of the protocol about members, and the scene that it spoils first.
#[cfg(cachalot_mutants)]
#[test]
fn each_mistake_about_members_spoils_a_scene() {
    use cachalot_core::mutants::Mutant;
    use integration_tests::Mistake;

    for (mutant, scene) in [
        (Mutant::LeasesItselfFromTheReply, "who_was_stopped_after_a_late_answer_serves_nothing_old"),
        (Mutant::ReadsTheMembersFirst, "who_registers_before_the_members_are_read_is_waited_for"),
        (Mutant::KeepsFlightsInALapse, "a_load_that_was_stopped_is_joined_by_nobody_who_comes_after"),
        (Mutant::TrustsBeforeEnrolled, "what_came_before_the_registration_is_not_served"),
        (Mutant::AcksBeforeItVoids, "who_has_answered_has_given_all_of_it_up"),
    ] {
        assert_eq!(spoiled_by(Mistake::Engine(mutant)), Some(scene), "{mutant:?}");
    }
}
