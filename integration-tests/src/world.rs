//! A fleet in simulated weather: processes over a shared tier, in paused time, after a seeded plan.
//!
//! Commands take their time, get lost, or land long after their caller has given up. Callers leave, processes
//! stand still for longer than any lease, die between two steps and start again with all their counters at
//! zero, cannot reach the shared tier for a while, and have clocks of their own. The shared tier restarts
//! empty. What everybody saw meanwhile goes into a history, which says what read broke the promise.
//!
//! A world is drawn from its seed alone, and lived through on one thread.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cachalot::{Cached, Freshness, Inserted, LoaderError, Removal, StaleReason};
use cachalot_core::{Backend, Clock, Entropy, mutant};
use cachalot_strategies::{Cache, LoadMany};
use cachalot_testkit::history::{Done, History, How, ReadId, Reader, Seen};
use cachalot_testkit::{ModelBackend, tokio_clock};
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{L1, Node};

mod life;
mod log;
mod net;
mod plan;
mod sweep;

use life::{Act, Life, Weather};
use log::Log;
use net::Net;
pub use plan::{Action, Plan};
use plan::{Habits, What};
pub use sweep::{Sweep, sweep};

const KEYS: usize = 2;
const NODES: usize = 3;
const LEASE_TERM: Duration = millis(300);
/// Longer than any answer, load and pause takes together.
const UNDER_WAY: Duration = millis(5_000);
/// Longer than it takes until all that is late has landed and all that is deferred is replayed.
const CALM: Duration = millis(20_000);
const SCHEMA: u32 = 1;

/// The shared tier of a world.
pub struct Server {
    backend: Arc<dyn Backend>,
    /// Restarts it empty.
    lose: Box<dyn Fn() + Send + Sync>,
}

impl Server {
    /// One that never restarts.
    pub fn lasting(backend: impl Backend) -> Self {
        Self { backend: Arc::new(backend), lose: Box::new(|| ()) }
    }

    /// The reference, as `spoil` leaves it.
    pub fn model<B: Backend>(clock: Clock, spoil: impl FnOnce(ModelBackend) -> B) -> Self {
        let model = ModelBackend::new(clock);
        Self { backend: Arc::new(spoil(model.clone())), lose: Box::new(move || model.lose_everything()) }
    }
}

/// What came of a world.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What broke the promise, if anything did.
    pub broken: Option<String>,
    /// How many reads were judged.
    pub reads: usize,
    /// How many invalidations promised something.
    pub promises: usize,
    /// How many of them had to be deferred.
    pub deferred: usize,
    /// What happened, a line each, if it was asked for.
    pub trace: String,
}

/// Lives through `plan` over the shared tier that `server` makes.
pub fn live<S: L1>(plan: &Plan, is_traced: bool, server: impl FnOnce(Clock) -> Server) -> Report {
    // With time alone: a runtime that can wait for sockets costs a world a quarter of its life.
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::<S>::new(plan, is_traced, server);
        world.clone().storm(plan).await;
        let left = world.calm().await;
        world.report(left)
    })
}

struct World<S> {
    seed: u64,
    memory_ttl: Duration,
    habits: Habits,
    /// For how long after an invalidation another process may show what it had before.
    elsewhere: Duration,
    clock: Clock,
    log: Log,
    server: Server,
    /// Held while a key is changed in the source and the cache is told: writers of one key take turns.
    turns: [tokio::sync::Mutex<()>; KEYS],
    nodes: Mutex<Vec<Arc<Process<S>>>>,
    weather: Weather,
    history: Mutex<History<usize>>,
    deferred: Mutex<usize>,
}

/// One life of a process.
struct Process<S> {
    id: usize,
    cache: Node<S>,
    life: Life,
}

impl<S: L1> World<S> {
    fn new(plan: &Plan, is_traced: bool, server: impl FnOnce(Clock) -> Server) -> Arc<Self> {
        let clock = tokio_clock();
        let memory_ttl = millis(plan.memory_ttl);
        let elsewhere = memory_ttl + UNDER_WAY;
        let world = Arc::new(Self {
            seed: plan.seed,
            log: Log::new(clock.clone(), is_traced),
            server: server(clock.clone()),
            clock,
            turns: Default::default(),
            nodes: Mutex::default(),
            weather: Weather::default(),
            history: Mutex::new(History::new(elsewhere)),
            memory_ttl,
            habits: plan.habits,
            elsewhere,
            deferred: Mutex::default(),
        });
        let processes = (0..plan.nodes).map(|id| world.start(id)).collect();
        *world.nodes.lock().unwrap() = processes;
        world
    }

    /// Does what the plan says, each at its time.
    async fn storm(self: Arc<Self>, plan: &Plan) {
        let mut actions = JoinSet::new();
        for action in plan.actions.iter().copied() {
            let world = self.clone();
            actions.spawn(async move {
                sleep(millis(action.at)).await;
                world.act(action).await;
            });
        }
        actions.join_all().await;
    }

    async fn act(self: Arc<Self>, action: Action) {
        let key = action.key;
        let process = self.process(action.node);
        self.note(format_args!("process {}: {action}", process.id));
        let act = Act::new(self.lots("action", action.id), &self.weather, action);
        let life = process.life.clone();
        match action.what {
            What::Crash => life.kill(),
            What::Lose => (self.server.lose)(),
            What::Pause { lasts } => {
                life.pause(true);
                sleep(millis(lasts)).await;
                life.pause(false);
            }
            What::Outage { lasts } => {
                life.cut_off(true);
                sleep(millis(lasts)).await;
                life.cut_off(false);
            }
            What::Probe { fails } => self.probe(key, fails).await,
            What::Many { loads, fails } => {
                life.run(act, self.read_many(process, loads, fails)).await;
            }
            What::Look | What::Get | What::Load { .. } => {
                life.run(act, self.read(process, action)).await;
            }
            What::Change(how) => {
                life.run(act, self.change(process, action, how)).await;
            }
            What::Remove => {
                life.run(act, self.clone().tell(process, action, How::Remove)).await;
            }
        }
    }

    async fn read(self: Arc<Self>, process: Arc<Process<S>>, action: Action) {
        let Action { key, what, .. } = action;
        let read = self.history().begin_read(Reader::Process(process.id), key, self.now());
        let work = async {
            match what {
                What::Load { ttl, fails, before, after } => {
                    self.load(&process, key, ttl, fails, (before, after)).await
                }
                What::Get => process.cache.get(&(key as u64)).await,
                _ => process.cache.get_local(&(key as u64)),
            }
        };
        match unless_left(action, work).await {
            Some(seen) => self.end_read(read, action.id, seen),
            None => self.note(format_args!("#{} leaves", action.id)),
        }
    }

    async fn read_many(self: Arc<Self>, process: Arc<Process<S>>, loads: bool, fails: bool) {
        let keys: [u64; KEYS] = std::array::from_fn(|key| key as u64);
        let begin = |key| self.history().begin_read(Reader::Process(process.id), key as usize, self.now());
        let reads = keys.map(begin);
        let seen: Vec<_> = match loads {
            false => process.cache.get_many(&keys).await,
            true => {
                let world = self.clone();
                let load = move |load: LoadMany<u64>| world.clone().answer(load, fails);
                let loaded = process.cache.get_many_or_load(&keys, load).await;
                loaded.into_iter().map(Result::ok).collect()
            }
        };
        for (read, seen) in reads.into_iter().zip(seen) {
            self.end_read(read, EXTRA, seen);
        }
    }

    /// What the source says of many keys. It takes its time.
    async fn answer(
        self: Arc<Self>,
        load: LoadMany<u64>,
        fails: bool,
    ) -> Result<Vec<(u64, String)>, LoaderError> {
        let version = |key: &u64| (*key, self.history().version(&(*key as usize)).to_string());
        let versions: Vec<_> = load.keys().iter().map(version).collect();
        self.note(format_args!("the source says {versions:?}"));
        sleep(millis(30)).await;
        if fails { Err(LoaderError::new("the source is down")) } else { Ok(versions) }
    }

    /// Reads what the shared tier has, as a process that has just been started, over a good network.
    async fn probe(self: &Arc<Self>, key: usize, fails: bool) {
        let act = Act::calm(Action::extra(key, What::Probe { fails }));
        let life = Life::default();
        let world = self.clone();
        let cache = self.cache(life.clone(), self.server.backend.clone(), self.clock.clone(), 0);
        let process = Process { id: EXTRA as usize, cache, life: life.clone() };
        let reading = life.run(act, async move {
            let read = world.history().begin_read(Reader::Fresh, key, world.now());
            let seen = match fails {
                true => world.load(&process, key, HOUR, true, (0, 0)).await,
                false => process.cache.get(&(key as u64)).await,
            };
            world.end_read(read, EXTRA, seen);
        });
        reading.await.expect("nobody kills a probe");
    }

    async fn load(
        self: &Arc<Self>,
        process: &Process<S>,
        key: usize,
        ttl: u64,
        fails: bool,
        (before, after): (u64, u64),
    ) -> Option<Cached<String>> {
        let (world, life) = (self.clone(), process.life.clone());
        let view = process.cache.with(|options| options.ttl(millis(ttl)));
        let load = async move {
            life.step().await;
            sleep(millis(before)).await;
            let version = world.history().version(&key);
            world.note(format_args!("the source says that key {key} is {version}"));
            sleep(millis(after)).await;
            life.step().await;
            if fails { Err(LoaderError::new("the source is down")) } else { Ok(version.to_string()) }
        };
        view.get_or_load(&(key as u64), |_| load).await.ok()
    }

    async fn change(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let key = action.key;
        let _turn = self.turns[key].lock().await;
        let version = self.history().write(key);
        self.note(format_args!("#{} key {key} becomes {version} in the source", action.id));
        self.clone().tell(process, action, how).await;
    }

    /// Tells the cache that the source has changed.
    async fn tell(self: Arc<Self>, process: Arc<Process<S>>, action: Action, how: How) {
        let (key, id) = (action.key, action.key as u64);
        let (begun, version) = {
            let mut history = self.history();
            (history.begin_invalidation(process.id, key, how, self.now()), history.version(&key))
        };
        let work = async {
            match how {
                How::Remove => process.cache.remove(&id).await,
                How::Expire => process.cache.expire(&id).await,
                How::Insert => {
                    process.cache.insert(id, version.to_string()).await.map(|inserted| match inserted {
                        Inserted::Stored | Inserted::Dropped => Removal::Removed,
                        Inserted::Deferred => Removal::Deferred,
                    })
                }
            }
        };
        let outcome = unless_left(action, work).await;
        self.note(format_args!("#{} {how:?} of key {key} at {version}: {outcome:?}", action.id));
        let done = match outcome {
            Some(Ok(Removal::Removed)) => Done::Everywhere,
            Some(Ok(Removal::Deferred)) => Done::Deferred,
            Some(Err(_)) | None => return,
        };
        *self.deferred.lock().unwrap() += usize::from(done == Done::Deferred);
        self.history().end_invalidation(begun, done, self.now());
    }

    fn end_read(&self, read: ReadId, id: u64, seen: Option<Cached<String>>) {
        self.note(format_args!("#{id} sees {seen:?}"));
        let seen = seen.map(|seen| Seen {
            version: seen.parse().unwrap(),
            is_fallback: seen.freshness() == Freshness::Invalidated
                && matches!(seen.stale_reason(), Some(StaleReason::LoadFailed(_))),
        });
        self.history().end_read(read, seen, self.now());
    }

    /// The weather clears up: what is late lands, what is deferred is replayed, and what may be kept in
    /// memory of another process's past is over. Then everybody reads once more. Gives back what is left
    /// behind and should not be.
    async fn calm(self: &Arc<Self>) -> Option<String> {
        self.note(format_args!("the weather clears up"));
        self.weather.clear_up();
        let count = self.nodes.lock().unwrap().len();
        let nodes: Vec<_> = (0..count).map(|node| self.process(node)).collect();
        sleep(CALM).await;
        nodes.iter().for_each(|process| self.history().settle(process.id, self.now()));
        for key in 0..KEYS {
            self.probe(key, false).await;
            self.probe(key, true).await;
        }
        self.last_reads(&nodes).await;
        sleep(self.elsewhere + millis(1)).await;
        self.last_reads(&nodes).await;
        for process in &nodes {
            let stats = process.cache.stats();
            let closed = process.cache.shutdown(CALM).await;
            if closed.is_err() || stats.flights + stats.pending_invalidations + stats.task_panics > 0 {
                return Some(format!("process {} leaves behind {closed:?}, {stats:?}", process.id));
            }
        }
        None
    }

    /// Everybody reads everything once more.
    async fn last_reads(self: &Arc<Self>, nodes: &[Arc<Process<S>>]) {
        let load = What::Load { ttl: HOUR, fails: false, before: 0, after: 0 };
        for process in nodes {
            for (key, what) in (0..KEYS).flat_map(|key| [(key, What::Get), (key, load)]) {
                let action = Action::extra(key, what);
                process.life.run(Act::calm(action), self.clone().read(process.clone(), action)).await;
            }
        }
    }

    fn report(&self, left: Option<String>) -> Report {
        let history = self.history();
        let broken = history.check().err().map(|broken| broken.to_string()).or(left);
        if let Some(broken) = &broken {
            self.note(format_args!("!! {broken}"));
        }
        Report {
            broken,
            reads: history.reads(),
            promises: history.promises(),
            deferred: *self.deferred.lock().unwrap(),
            trace: self.log.lines(),
        }
    }

    /// The process of `node`; started again if it has died.
    fn process(&self, node: usize) -> Arc<Process<S>> {
        let mut nodes = self.nodes.lock().unwrap();
        if nodes[node].life.is_dead() {
            nodes[node] = self.start(nodes[node].id + NODES);
        }
        nodes[node].clone()
    }

    fn start(&self, id: usize) -> Arc<Process<S>> {
        let lots = self.lots("process", id as u64);
        let life = Life::default();
        let net = Net { server: self.server.backend.clone(), life: life.clone(), log: self.log.clone() };
        let seed = if mutant!(CountsTokens) { 0 } else { lots.draw_u64() };
        let cache = self.cache(life.clone(), net, self.clock_of(&lots), seed);
        Arc::new(Process { id, cache, life })
    }

    /// Each process has a clock of its own, off by up to a quarter of an hour.
    fn clock_of(&self, lots: &Entropy) -> Clock {
        let (clock, ahead) = (self.clock.clone(), millis(lots.draw_u64() % 1_800_000));
        Clock::custom(move || clock.now().back(QUARTER) + ahead)
    }

    fn cache(&self, life: Life, backend: impl Backend, clock: Clock, seed: u64) -> Node<S> {
        let builder = Cache::builder("users")
            .memory(S::config())
            .backend(backend)
            .memory_ttl(self.memory_ttl)
            .schema(SCHEMA)
            .clock(clock)
            .entropy(Entropy::seeded(seed))
            .spawn(life)
            .stale_while_revalidate(millis(100))
            .stale_if_error(millis(HOUR))
            .hard_timeout(millis(200))
            .lease_term(LEASE_TERM)
            .hold_term(millis(150));
        let Habits { soft_timeout, early_refresh, error_backoff } = self.habits;
        let builder = if soft_timeout { builder.soft_timeout(millis(10)) } else { builder };
        let builder = if early_refresh { builder.early_refresh(0.3) } else { builder };
        let builder = if error_backoff { builder.error_backoff(millis(20), millis(100)) } else { builder };
        builder.build().unwrap()
    }

    /// Randomness that nothing else draws from, so that a smaller plan has the same.
    fn lots(&self, what: &str, id: u64) -> Entropy {
        let seed = self.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (id << 8) ^ what.len() as u64;
        Entropy::seeded(seed)
    }

    fn history(&self) -> MutexGuard<'_, History<usize>> {
        self.history.lock().unwrap()
    }

    fn now(&self) -> Duration {
        Duration::from_millis(self.clock.now().as_millis())
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        self.log.note(line);
    }
}

/// The outcome of `work`, unless its caller leaves before.
async fn unless_left<T>(action: Action, work: impl Future<Output = T>) -> Option<T> {
    match action.leaves {
        None => Some(work.await),
        Some(after) => timeout(millis(after), work).await.ok(),
    }
}

/// The number of what is in no plan.
const EXTRA: u64 = 999;
/// In milliseconds.
const HOUR: u64 = 3_600_000;
const QUARTER: Duration = millis(900_000);

const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
