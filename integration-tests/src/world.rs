//! A fleet in simulated weather: processes over a shared tier, in paused time, after a seeded plan.
//!
//! Commands take their time, get lost, or land long after their caller has given up. Callers leave, processes
//! stand still for longer than any lease, die between two steps and start again with all their counters at
//! zero, cannot reach the shared tier for a while, and have clocks of their own. The shared tier restarts
//! empty. What everybody saw meanwhile goes into a history, which says what read broke the promise.
//!
//! A world is drawn from its seed alone, and lived through on one thread.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use cachalot_core::{Backend, Clock, Entropy, Tags};
use cachalot_testkit::history::{History, How};
use cachalot_testkit::tokio_clock;
use tokio::runtime::Builder;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::{L1, Node};

mod air;
mod calm;
mod chronicle;
mod fleet;
mod landings;
mod life;
mod log;
mod net;
mod plan;
mod reads;
mod routes;
mod server;
mod sweep;
mod through;
mod writes;

use air::Air;
use chronicle::Chronicle;
use life::{Act, Life, Weather};
use log::Log;
pub use plan::{Action, Plan};
use plan::{Habits, Tagging, What};
use routes::Routes;
pub use server::Server;
pub use sweep::{Sweep, sweep};

const KEYS: usize = 2;
const NODES: usize = 3;
const LEASE_TERM: Duration = millis(300);
const HOLD_TERM: Duration = millis(150);
/// Longer than any answer, load and pause takes together.
const UNDER_WAY: Duration = millis(5_000);
/// Longer than it takes until all that is late has landed and all that is deferred is replayed.
const CALM: Duration = millis(20_000);
const SCHEMA: u32 = 1;
const NAME: &str = "users";
/// Of all that is loaded or inserted in a world that has tags.
const TAG: &str = "tag";

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
    /// How often a process has ejected a shard, or taken it back.
    pub turns: u64,
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
    /// To its shards.
    routes: Arc<Routes>,
    /// The shared tier as each life of a process has it.
    tiers: Mutex<Vec<Arc<dyn Backend>>>,
    /// Held while a key is changed in the source and the cache is told: writers of one key take turns. Those
    /// that write through the cache have one together.
    turns: [tokio::sync::RwLock<()>; KEYS],
    /// Which versions the values became that were written through.
    taken: Mutex<HashMap<String, u64>>,
    /// When the shared tier restarted last.
    lost: Mutex<Option<Duration>>,
    nodes: Mutex<Vec<Arc<Process<S>>>>,
    weather: Weather,
    chronicle: Chronicle,
    /// Between the processes, if there is anything.
    air: Option<Air>,
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
        // On a bus a copy is good until it is told otherwise, or for ever, if nobody tells.
        let (memory_ttl, elsewhere) = match plan.habits.sounds {
            Some(_) => (millis(HOUR), Duration::MAX),
            None => (millis(plan.memory_ttl), millis(plan.memory_ttl) + UNDER_WAY),
        };
        let (log, weather) = (Log::new(clock.clone(), is_traced), Weather::default());
        let history = Arc::new(Mutex::new(History::new(elsewhere)));
        let air = plan.habits.sounds.map(|sounds| Air::new(sounds, weather.clone(), log.clone()));
        let server = server(clock.clone());
        let routes = Routes::draw(plan.seed, server.shards(), &lots(plan.seed, "placement", 0));
        let world = Arc::new(Self {
            seed: plan.seed,
            chronicle: Chronicle { history, clock: clock.clone(), log: log.clone() },
            air,
            log,
            server,
            routes: Arc::new(routes),
            tiers: Mutex::default(),
            clock,
            turns: Default::default(),
            taken: Mutex::default(),
            lost: Mutex::default(),
            nodes: Mutex::default(),
            weather,
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
            What::Lose => {
                *self.lost.lock().unwrap() = Some(self.now());
                self.server.lose(action.id);
            }
            What::LoseTags => self.server.lose_tags(),
            What::Deaf { lasts } => {
                if let Some(air) = &self.air {
                    air.deafen(process.id, true);
                    sleep(millis(lasts)).await;
                    air.deafen(process.id, false);
                }
            }
            What::ChangeAll(reach) => {
                life.run(act, self.change_all(process, action, reach)).await;
            }
            What::Pause { lasts } => {
                life.pause(true);
                sleep(millis(lasts)).await;
                life.pause(false);
            }
            What::Outage { lasts } => {
                let shards = self.server.struck(action.id);
                life.cut_off(shards, true);
                sleep(millis(lasts)).await;
                life.cut_off(shards, false);
            }
            What::Probe { fails } => self.probe(action.id, key, fails).await,
            What::GetMany | What::LoadMany { .. } => {
                life.run(act, self.read_many(process, action)).await;
            }
            What::Look | What::Get | What::Load(_) => {
                life.run(act, self.read(process, action)).await;
            }
            What::Change(how) => {
                life.run(act, self.change(process, action, how)).await;
            }
            What::WriteThrough(writing) => {
                life.run(act, self.write_through(process, action, writing)).await;
            }
            What::ChangeMany(how) => {
                life.run(act, self.change_many(process, action, how)).await;
            }
            What::Remove => {
                life.run(act, self.tell(process, action, How::Remove)).await;
            }
            What::RemoveMany => {
                life.run(act, self.tell_many(process, action, How::Remove)).await;
            }
        }
    }

    /// Randomness that nothing else draws from, so that a smaller plan has the same.
    fn lots(&self, what: &str, id: u64) -> Entropy {
        lots(self.seed, what, id)
    }

    fn history(&self) -> MutexGuard<'_, History<usize>> {
        self.chronicle.history()
    }

    fn now(&self) -> Duration {
        self.chronicle.now()
    }

    /// The tags that calls declare.
    fn tags(&self) -> Tags {
        match self.habits.tagging {
            Tagging::Declared => Tags::new([TAG]).unwrap(),
            Tagging::None | Tagging::Decided => Tags::NONE,
        }
    }

    /// No loader decides those.
    fn tags_of_inserts(&self) -> Tags {
        if self.habits.tagging == Tagging::None { Tags::NONE } else { Tags::new([TAG]).unwrap() }
    }

    fn note(&self, line: fmt::Arguments<'_>) {
        self.log.note(line);
    }
}

/// The randomness of `what`, of which only the length counts, in the world of `seed`.
fn lots(seed: u64, what: &str, id: u64) -> Entropy {
    let seed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (id << 8) ^ what.len() as u64;
    Entropy::seeded(seed)
}

/// The outcome of `work`, unless its caller leaves before.
async fn unless_left<T>(action: Action, work: impl Future<Output = T>) -> Option<T> {
    match action.leaves {
        None => Some(work.await),
        Some(after) => timeout(millis(after), work).await.ok(),
    }
}

/// The number of what is in no plan. The probes after the storm are numbered from here on.
const EXTRA: u64 = 999;
/// In milliseconds.
const HOUR: u64 = 3_600_000;
const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}
