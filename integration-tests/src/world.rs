//! A fleet in simulated weather: processes over a shared tier, in paused time, after a seeded plan.
//!
//! What is promised is written down as versions of the source: whoever invalidates a key when the source
//! stands at version 7 has, once that is acknowledged, the promise that nobody who begins later sees less
//! than 7, in the same process and in the shared tier. Every read is held against the promises of its kind.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use cachalot::{Cached, Freshness, Inserted, LoaderError, Removal, Spawn};
use cachalot_core::{Backend, BoxFuture, Clock, Entropy};
use cachalot_strategies::Cache;
use cachalot_testkit::{Faulty, Odds, tokio_clock};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};

use crate::{L1, Node, Stepped, Steps};

/// The simulated fleet.
pub struct World<S> {
    clock: Clock,
    lots: Entropy,
    shared: Arc<dyn Backend>,
    /// The version of each key in the source.
    source: Arc<Mutex<Vec<u64>>>,
    /// Held while a key is changed in the source and the cache is told: writers of one key take turns.
    turns: Vec<tokio::sync::Mutex<()>>,
    nodes: Mutex<Vec<Arc<Process<S>>>>,
    /// The networks of all processes, dead ones too: what they have under way may still land.
    networks: Mutex<Vec<Faulty>>,
    history: Mutex<History>,
}

/// How much happened in a world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Reads that were held against promises.
    pub reads: usize,
    /// Promises that were given.
    pub promises: usize,
    /// Invalidations that had to be deferred.
    pub deferred: usize,
    /// What happened, a line each.
    pub trace: String,
}

/// One life of a process.
struct Process<S> {
    id: usize,
    cache: Node<S>,
    network: Faulty,
    tasks: Mortal,
}

#[derive(Default)]
struct History {
    /// By key, what the shared tier must at least show.
    below: HashMap<usize, Floor>,
    /// By process and key, what that process must at least show.
    inside: HashMap<(usize, usize), Floor>,
    /// Deferred by a process, due in the shared tier when that has replayed it.
    deferred: Vec<(usize, usize, u64)>,
    broken: Option<String>,
    tally: Tally,
}

/// The least version that may be seen.
#[derive(Clone, Copy, Debug, Default)]
struct Floor {
    /// By any read.
    fresh: u64,
    /// By a read that is given an expired value because its load failed.
    expired: u64,
}

const KEYS: usize = 2;
const NODES: usize = 3;
const ACTIONS: usize = 120;
const STORM: u64 = 3_000;
const MEMORY_TTL: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
const SCHEMA: u32 = 1;

/// What may be done.
#[derive(Clone, Copy, Debug)]
enum Action {
    Look,
    Get,
    Load { short: bool, fails: bool, takes: u64 },
    LeaveLoad { after: u64 },
    Probe { fails: bool },
    Change(Told),
    LeaveRemove { after: u64 },
    Remove,
    Crash,
    Outage { lasts: u64 },
    Land,
}

/// How the cache is told of a change of the source.
#[derive(Clone, Copy, Debug)]
enum Told {
    Remove,
    Expire,
    Insert,
}

impl<S: L1> World<S> {
    /// Lives through the plan of `seed` over the shared tier that `shared` makes. Inside a paused runtime.
    ///
    /// # Errors
    /// The trace of a world in which a promise was broken.
    pub async fn live(seed: u64, shared: impl FnOnce(Clock) -> Arc<dyn Backend>) -> Result<Tally, String> {
        let clock = tokio_clock();
        let world = Arc::new(Self {
            shared: shared(clock.clone()),
            clock,
            lots: Entropy::seeded(seed),
            source: Arc::new(Mutex::new(vec![1; KEYS])),
            turns: (0..KEYS).map(|_| tokio::sync::Mutex::default()).collect(),
            nodes: Mutex::default(),
            networks: Mutex::default(),
            history: Mutex::default(),
        });
        for id in 0..NODES {
            let process = world.start(id);
            world.nodes.lock().unwrap().push(process);
        }
        world.clone().storm().await;
        world.calm().await;
        let history = std::mem::take(&mut *world.history.lock().unwrap());
        match history.broken {
            Some(broken) => Err(format!("seed {seed}: {broken}\n{}", history.tally.trace)),
            None => Ok(history.tally),
        }
    }

    /// Does what the plan says, each at its time, however long the others take.
    async fn storm(self: Arc<Self>) {
        let mut actions = JoinSet::new();
        for _ in 0..ACTIONS {
            let (at, node, key) = (self.draw(STORM), self.draw(NODES as u64), self.hot_key());
            let (action, world) = (self.plan(), self.clone());
            actions.spawn(async move {
                sleep(millis(at)).await;
                world.act(action, node as usize, key).await;
            });
        }
        actions.join_all().await;
    }

    fn plan(&self) -> Action {
        match self.draw(100) {
            0..10 => Action::Look,
            10..25 => Action::Get,
            25..48 => {
                Action::Load { short: self.draw(10) < 4, fails: self.draw(10) < 2, takes: self.draw(80) }
            }
            48..53 => Action::LeaveLoad { after: self.draw(60) },
            53..60 => Action::Probe { fails: self.draw(2) == 0 },
            60..67 => Action::Change(Told::Remove),
            67..72 => Action::Change(Told::Expire),
            72..79 => Action::Change(Told::Insert),
            79..82 => Action::LeaveRemove { after: self.draw(20) },
            82..88 => Action::Remove,
            88..90 => Action::Crash,
            90..94 => Action::Outage { lasts: self.draw(400) },
            _ => Action::Land,
        }
    }

    async fn act(&self, action: Action, node: usize, key: usize) {
        let process = self.process(node);
        self.note(format_args!("process {} key {key}: {action:?}", process.id));
        match action {
            Action::Look | Action::Get | Action::Load { .. } => self.read(&process, key, action).await,
            Action::LeaveLoad { after } => {
                let _ = timeout(millis(after), self.load(&process.cache, key, false, false, 50)).await;
            }
            Action::Probe { fails } => self.probe(key, fails).await,
            Action::Change(told) => self.change(&process, key, told).await,
            Action::LeaveRemove { after } => {
                let _ = timeout(millis(after), process.cache.remove(&(key as u64))).await;
            }
            Action::Remove => {
                let version = self.source.lock().unwrap()[key];
                let removed = process.cache.remove(&(key as u64)).await;
                self.promise(&process, key, version, false, removed.ok());
            }
            Action::Crash => self.crash(node),
            Action::Outage { lasts } => {
                process.network.down();
                sleep(millis(lasts)).await;
                process.network.up();
            }
            Action::Land => self.land_one().await,
        }
    }

    async fn read(&self, process: &Process<S>, key: usize, action: Action) {
        let floor = *self.history().inside.entry((process.id, key)).or_default();
        let seen = match action {
            Action::Look => process.cache.get_local(&(key as u64)),
            Action::Get => process.cache.get(&(key as u64)).await,
            Action::Load { short, fails, takes } => self.load(&process.cache, key, short, fails, takes).await,
            _ => None,
        };
        self.judge(&format!("process {}", process.id), key, floor, seen);
    }

    /// Reads what the shared tier has, as a process that has just been started, over a good network.
    async fn probe(&self, key: usize, fails: bool) {
        let floor = *self.history().below.entry(key).or_default();
        let fresh = self.cache(self.shared.clone(), Mortal::default());
        let seen = match fails {
            true => self.load(&fresh, key, false, true, 0).await,
            false => fresh.get(&(key as u64)).await,
        };
        self.judge("a fresh process", key, floor, seen);
    }

    async fn load(
        &self,
        cache: &Node<S>,
        key: usize,
        short: bool,
        fails: bool,
        takes: u64,
    ) -> Option<Cached<String>> {
        let ttl = millis(if short { 60 } else { 3_600_000 });
        let view = cache.with(|options| options.ttl(ttl));
        let source = self.source.clone();
        let load = async move {
            let version = source.lock().unwrap()[key].to_string();
            sleep(millis(takes)).await;
            if fails { Err(LoaderError::new("the source is down")) } else { Ok(version) }
        };
        view.get_or_load(&(key as u64), |_| load).await.ok()
    }

    async fn change(&self, process: &Process<S>, key: usize, told: Told) {
        let _turn = self.turns[key].lock().await;
        let version = {
            let mut source = self.source.lock().unwrap();
            source[key] += 1;
            source[key]
        };
        let id = key as u64;
        let outcome = match told {
            Told::Remove => process.cache.remove(&id).await,
            Told::Expire => process.cache.expire(&id).await,
            Told::Insert => {
                process.cache.insert(id, version.to_string()).await.map(|inserted| match inserted {
                    Inserted::Stored | Inserted::Dropped => Removal::Removed,
                    Inserted::Deferred => Removal::Deferred,
                })
            }
        };
        self.note(format_args!("process {} key {key}: version {version}, {told:?}: {outcome:?}", process.id));
        self.promise(process, key, version, matches!(told, Told::Expire), outcome.ok());
    }

    /// Writes down what an acknowledged invalidation at `version` promises. `None`: its process died.
    fn promise(&self, process: &Process<S>, key: usize, version: u64, expires: bool, done: Option<Removal>) {
        let Some(done) = done else { return };
        let mut history = self.history();
        history.tally.promises += 1;
        history.inside.entry((process.id, key)).or_default().raise(version, expires);
        if done == Removal::Removed {
            history.below.entry(key).or_default().raise(version, expires);
        } else {
            history.tally.deferred += 1;
            history.deferred.push((process.id, key, version));
        }
    }

    fn judge(&self, who: &str, key: usize, floor: Floor, seen: Option<Cached<String>>) {
        let mut history = self.history();
        history.tally.reads += 1;
        let Some(seen) = seen else { return };
        let version: u64 = seen.parse().unwrap();
        let least = if seen.freshness() == Freshness::Invalidated { floor.expired } else { floor.fresh };
        if version < least {
            let broken = format!("{who} key {key}: sees {seen:?}, was promised {least}");
            let _ = writeln!(history.tally.trace, "!! {broken}");
            history.broken.get_or_insert(broken);
        }
    }

    /// Ends the process at once, with all it has begun, and starts it anew.
    fn crash(&self, node: usize) {
        let mut nodes = self.nodes.lock().unwrap();
        let next = nodes[node].id + NODES;
        nodes[node].tasks.kill();
        nodes[node] = self.start(next);
    }

    /// The weather clears up: what is late lands, what is deferred is replayed, and what may be kept in
    /// memory of another process's past is over. Then nobody sees anything older than was promised.
    async fn calm(&self) {
        let networks = self.networks.lock().unwrap().clone();
        for network in networks {
            network.calm();
            network.land().await;
        }
        self.note(format_args!("the weather clears up"));
        sleep(MINUTE + MEMORY_TTL).await;
        let nodes = self.nodes.lock().unwrap().clone();
        {
            let mut history = self.history();
            for (id, key, version) in std::mem::take(&mut history.deferred) {
                if nodes.iter().any(|process| process.id == id) {
                    history.below.entry(key).or_default().raise(version, true);
                }
            }
        }
        for key in 0..KEYS {
            self.probe(key, false).await;
            self.probe(key, true).await;
            let floor = *self.history().below.entry(key).or_default();
            for process in &nodes {
                let who = format!("process {} in the end", process.id);
                self.judge(&who, key, floor, process.cache.get(&(key as u64)).await);
                self.judge(&who, key, floor, self.load(&process.cache, key, false, false, 0).await);
            }
        }
        for process in &nodes {
            let left = process.cache.shutdown(MINUTE).await;
            let flights = process.cache.stats().flights;
            if left.is_err() || flights > 0 {
                let broken = format!("process {} leaves {flights} flights, {left:?}", process.id);
                self.history().broken.get_or_insert(broken);
            }
        }
    }

    async fn land_one(&self) {
        let networks = self.networks.lock().unwrap().clone();
        for network in networks {
            if network.land_one().await {
                self.note(format_args!("one lands late"));
                return;
            }
        }
    }

    fn start(&self, id: usize) -> Arc<Process<S>> {
        let pace = Pace { lots: Entropy::seeded(self.lots.draw_u64()) };
        let network = Faulty::new(Stepped::new(self.shared.clone(), pace));
        let odds = Odds { refuse: 0.02, lose_answer: 0.03, land_late: 0.04, ..Odds::default() };
        network.at_random(odds, self.lots.draw_u64());
        self.networks.lock().unwrap().push(network.clone());
        let tasks = Mortal::default();
        let cache = self.cache(network.clone(), tasks.clone());
        Arc::new(Process { id, cache, network, tasks })
    }

    fn cache(&self, backend: impl Backend, tasks: Mortal) -> Node<S> {
        Cache::builder("users")
            .memory(S::config())
            .backend(backend)
            .memory_ttl(MEMORY_TTL)
            .schema(SCHEMA)
            .clock(self.clock.clone())
            .entropy(Entropy::seeded(self.lots.draw_u64()))
            .spawn(tasks)
            .stale_while_revalidate(millis(100))
            .stale_if_error(60 * MINUTE)
            .hard_timeout(millis(1_000))
            .lease_term(millis(1_000))
            .hold_term(millis(200))
            .build()
            .unwrap()
    }

    fn process(&self, node: usize) -> Arc<Process<S>> {
        self.nodes.lock().unwrap()[node].clone()
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        let now = self.clock.now().as_millis();
        let _ = writeln!(self.history().tally.trace, "{now} {line}");
    }

    /// Four of five go to the same key: they are to meet.
    fn hot_key(&self) -> usize {
        usize::from(self.draw(5) == 0)
    }

    fn draw(&self, below: u64) -> u64 {
        self.lots.draw_u64() % below.max(1)
    }
}

impl Floor {
    fn raise(&mut self, version: u64, expires: bool) {
        self.fresh = self.fresh.max(version);
        if !expires {
            self.expired = self.expired.max(version);
        }
    }
}

/// An operation takes its time on the way there and on the way back.
#[derive(Debug)]
struct Pace {
    lots: Entropy,
}

#[async_trait]
impl Steps for Pace {
    async fn boundary(&self, _: &'static str) {
        sleep(millis(self.lots.draw_u64() % 25)).await;
    }

    fn note(&self, _: fmt::Arguments<'_>) {}
}

/// Runs the tasks of a process until that dies.
#[derive(Clone, Debug, Default)]
struct Mortal(Arc<Mutex<Vec<AbortHandle>>>);

impl Mortal {
    fn kill(&self) {
        self.0.lock().unwrap().iter().for_each(AbortHandle::abort);
    }
}

impl Spawn for Mortal {
    fn spawn(&self, task: BoxFuture<'static, ()>) {
        let task = tokio::spawn(task);
        self.0.lock().unwrap().push(task.abort_handle());
    }
}

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
