//! Processes that can be stopped and killed at any await.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot::Spawn;
use cachalot_core::{BoxFuture, Entropy, Key, Token};
use cachalot_testkit::history::InvalidationId;
use tokio::sync::watch;
use tokio::task::{AbortHandle, Id, JoinHandle};
use tokio::time::sleep;

use super::Action;
use super::landings::Landings;
use super::plan::What;
use super::routes::{Routes, Shards};

tokio::task_local! {
    static ACT: Arc<Act>;
}

/// Whether anything may go wrong. Clones are the same weather.
#[derive(Clone, Debug, Default)]
pub(super) struct Weather {
    is_calm: Arc<AtomicBool>,
}

impl Weather {
    pub(super) fn clear_up(&self) {
        self.is_calm.store(true, Ordering::SeqCst);
    }

    pub(super) fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::SeqCst)
    }
}

/// What the tasks of one action have in common: its lots, so that they do not depend on other actions.
#[derive(Debug)]
pub(super) struct Act {
    pub(super) id: u64,
    pub(super) lots: Entropy,
    /// Which of three paces its commands have.
    pub(super) pace: usize,
    weather: Weather,
    is_calm: bool,
    /// The step at which its process dies.
    dies: Option<usize>,
    steps: AtomicUsize,
    /// How many tasks work for it.
    tasks: watch::Sender<usize>,
    /// When its writer's hold has landed, at the first of those that have it all.
    held: watch::Sender<Option<Duration>>,
    /// The invalidations that it is about, and the holds for them.
    landings: Mutex<Landings>,
}

impl Act {
    pub(super) fn new(lots: Entropy, weather: &Weather, action: Action) -> Arc<Self> {
        let Action { id, is_calm, dies, .. } = action;
        let (pace, weather) = ((lots.draw_u64() % 3) as usize, weather.clone());
        let (tasks, held) = (watch::Sender::new(0), watch::Sender::new(None));
        let (steps, landings) = (AtomicUsize::new(0), Mutex::default());
        Arc::new(Self { id, lots, pace, weather, is_calm, dies, steps, tasks, held, landings })
    }

    /// What a process does on its own.
    pub(super) fn chores(lots: Entropy, weather: &Weather) -> Arc<Self> {
        let action = Action::extra(0, What::Look);
        Self::new(lots, weather, Action { is_calm: false, ..action })
    }

    /// What the tasks of `action` have in common if nothing goes wrong.
    pub(super) fn calm(action: Action) -> Arc<Self> {
        let weather = Weather::default();
        weather.clear_up();
        Self::new(Entropy::seeded(0), &weather, action)
    }

    /// Whose task this is. A task that works for no action belongs to no world.
    pub(super) fn current() -> Arc<Self> {
        ACT.with(Arc::clone)
    }

    /// Whether all its commands arrive at once.
    pub(super) fn is_calm(&self) -> bool {
        self.is_calm || self.weather.is_calm.load(Ordering::SeqCst)
    }

    /// Waits until no task but one works for it any more.
    pub(super) async fn alone(&self) {
        // Fails only when the sender is gone, and `self` is here.
        let _ = self.tasks.subscribe().wait_for(|tasks| *tasks <= 1).await;
    }

    /// From now on it is about `begun`, which has landed when what ends `name` has.
    pub(super) fn is_about(&self, begun: InvalidationId, name: Key) {
        self.landings().expect(begun, name);
    }

    /// `shard` has taken what ends `names`. What has landed by that.
    pub(super) fn has_ended(&self, names: &[Key], shard: usize, routes: &Routes) -> Vec<InvalidationId> {
        self.landings().ended(names, shard, routes)
    }

    /// `shard` holds `name` for `token`.
    pub(super) fn has_held(&self, name: &Key, token: Token, shard: usize, routes: &Routes, now: Duration) {
        if let Some(since) = self.landings().held(name, token, shard, routes, now) {
            self.held.send_replace(Some(since));
        }
    }

    fn landings(&self) -> MutexGuard<'_, Landings> {
        self.landings.lock().unwrap()
    }

    pub(super) fn held_at(&self) -> Option<Duration> {
        *self.held.borrow()
    }

    /// Waits until a hold for it has landed.
    pub(super) async fn held(&self) {
        let _ = self.held.subscribe().wait_for(Option::is_some).await;
    }

    /// One step further. Whether the process dies at it.
    fn is_last_step(&self) -> bool {
        let step = self.steps.fetch_add(1, Ordering::SeqCst);
        self.dies == Some(step) && !self.weather.is_calm.load(Ordering::SeqCst)
    }
}

/// The life of a process. Clones are the same life; it spawns the tasks of its cache.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    state: Arc<LifeState>,
}

#[derive(Debug, Default)]
struct LifeState {
    is_dead: AtomicBool,
    /// The shards that it does not reach, a bit each.
    cut_off: AtomicU8,
    is_paused: AtomicBool,
    /// Tasks that hold a thread and do nothing else.
    stuck: Mutex<Vec<Id>>,
    /// Tasks that were to go on while they could not.
    waiting: Mutex<Vec<Waker>>,
    tasks: Mutex<Vec<AbortHandle>>,
    /// What belongs to no action.
    chores: Option<Arc<Act>>,
}

impl Life {
    /// One that does `chores` of its own.
    pub(super) fn with(chores: Arc<Act>) -> Self {
        Self { state: Arc::new(LifeState { chores: Some(chores), ..LifeState::default() }) }
    }

    /// Runs `work` as a task of this process, for `act`. `None`: the process died.
    pub(super) async fn run<T>(
        &self,
        act: Arc<Act>,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T>
    where
        T: Send + 'static,
    {
        self.begin(act, work).await.ok()
    }

    fn begin<T>(&self, act: Arc<Act>, work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T>
    where
        T: Send + 'static,
    {
        act.tasks.send_modify(|tasks| *tasks += 1);
        let work = Living { life: self.clone(), act: act.clone(), work: Box::pin(work) };
        let task = tokio::spawn(ACT.scope(act, work));
        self.state.tasks.lock().unwrap().push(task.abort_handle());
        // Too late to be killed with the others.
        if self.is_dead() {
            task.abort();
        }
        task
    }

    /// Ends all its tasks where they stand, and what they spawn from now on.
    pub(super) fn kill(&self) {
        self.state.is_dead.store(true, Ordering::SeqCst);
        self.state.tasks.lock().unwrap().drain(..).for_each(|task| task.abort());
    }

    pub(super) fn is_dead(&self) -> bool {
        self.state.is_dead.load(Ordering::SeqCst)
    }

    /// Stops all its tasks where they stand, or lets them go on.
    pub(super) fn pause(&self, is_paused: bool) {
        self.state.is_paused.store(is_paused, Ordering::SeqCst);
        if !is_paused {
            self.state.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
        }
    }

    /// Holds the thread of the current task for `time`: nothing of the task goes on, not even a timeout.
    pub(super) async fn stick(&self, time: Duration) {
        let (life, stuck) = (self.clone(), tokio::task::id());
        self.state.stuck.lock().unwrap().push(stuck);
        tokio::spawn(async move {
            sleep(time).await;
            life.state.stuck.lock().unwrap().retain(|task| *task != stuck);
            life.state.waiting.lock().unwrap().drain(..).for_each(Waker::wake);
        });
        // Not polled before it is over, but once at once.
        let mut is_over = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_over, true) {
                return Poll::Ready(());
            }
            self.state.waiting.lock().unwrap().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn can_go_on(&self) -> bool {
        let stands = self.state.is_paused.load(Ordering::SeqCst);
        let stuck = self.state.stuck.lock().unwrap();
        !stands && (stuck.is_empty() || !stuck.contains(&tokio::task::id()))
    }

    /// Takes it off the network of `shards`, or puts it back.
    pub(super) fn cut_off(&self, shards: Shards, is_cut_off: bool) {
        let _ = match is_cut_off {
            true => self.state.cut_off.fetch_or(shards, Ordering::SeqCst),
            false => self.state.cut_off.fetch_and(!shards, Ordering::SeqCst),
        };
    }

    pub(super) fn is_cut_off(&self, shard: usize) -> bool {
        self.state.cut_off.load(Ordering::SeqCst) & 1 << shard != 0
    }

    /// A step of the current action. The process may die at it.
    pub(super) async fn step(&self) {
        if Act::current().is_last_step() {
            self.kill();
            std::future::pending::<()>().await;
        }
    }
}

impl Spawn for Life {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let act = ACT.try_with(Arc::clone).ok().or_else(|| self.state.chores.clone());
        drop(self.begin(act.expect("a task that belongs to somebody"), task));
    }
}

/// Work that goes on only while its process does.
struct Living<T> {
    life: Life,
    act: Arc<Act>,
    work: BoxFuture<'static, T>,
}

impl<T> Drop for Living<T> {
    fn drop(&mut self) {
        self.act.tasks.send_modify(|tasks| *tasks -= 1);
    }
}

impl<T> Future for Living<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if !self.life.can_go_on() {
            self.life.state.waiting.lock().unwrap().push(cx.waker().clone());
            return Poll::Pending;
        }
        self.work.as_mut().poll(cx)
    }
}
