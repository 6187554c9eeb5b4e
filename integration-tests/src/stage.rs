//! One victim and one invalidator, interleaved at a chosen step, and what may be seen afterwards.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot::{Cached, Freshness, Inserted, LoadError, LoaderError, Memory, Removal, Store};
use cachalot_core::{Backend, BoxFuture, Clock, Entropy, Entry, mutant};
use cachalot_strategies::{Cache, CacheBuilder, Load, LoadMany};
use cachalot_testkit::CountingSource;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::{Actor, ActorSpawn, Script, Stepped, Steps, Unfenced};

/// A cache over memory tier `S`.
pub type Node<S> = Cache<u64, String, S>;

type Engine = Memory<u64, Arc<Entry<String>>>;

/// A memory tier as the stage opens it.
pub trait L1: Store<u64, String> {
    /// How it is built.
    fn config() -> Self::Config;
}

impl L1 for Engine {
    fn config() -> Self::Config {
        Memory::entries(16).hash_seed(1)
    }
}

impl L1 for Unfenced<Engine> {
    fn config() -> Self::Config {
        Memory::entries(16).hash_seed(1)
    }
}

/// Who is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Victim {
    /// Loads a key that no tier knows.
    ColdLoad,
    /// The same, with others waiting for that load.
    JoinedLoad,
    /// Serves a stale value of memory and refreshes it behind.
    Refresh,
    /// Serves a stale value of the shared tier and refreshes it behind.
    RefreshBelow,
    /// Loads because the value in the shared tier is too old to be served.
    StaleBelow,
    /// Loads because the value in the shared tier has another schema, and is refused by its nonce.
    RefusedBelow,
    /// Loads over a stale value, and fails.
    FailingLoad,
    /// Copies from the shared tier to memory by `get`.
    CopyByGet,
    /// Copies from the shared tier to memory by `get_or_load`.
    CopyByLoad,
    /// Loads over a stale value of memory, which its caller is served when it has waited for long enough.
    LeftLoad,
    /// The same over a stale value of the shared tier.
    LeftLoadBelow,
    /// Serves a fresh value of memory and refreshes it behind.
    EarlyRefresh,
    /// Serves a fresh value of the shared tier and refreshes it behind.
    EarlyRefreshBelow,
    /// Loads many keys that no tier knows.
    BatchLoad,
    /// Loads many keys because their values in the shared tier are too old to be served.
    BatchOverStale,
    /// Copies many keys from the shared tier to memory.
    BatchCopy,
}

impl Victim {
    /// Whether there must be a shared tier to bring it about.
    pub fn needs_a_shared_tier(self) -> bool {
        !matches!(
            self,
            Self::ColdLoad
                | Self::JoinedLoad
                | Self::Refresh
                | Self::FailingLoad
                | Self::LeftLoad
                | Self::EarlyRefresh
                | Self::BatchLoad
        )
    }

    /// Whether it needs what memory has.
    fn finds_in_memory(self) -> bool {
        matches!(self, Self::Refresh | Self::FailingLoad | Self::LeftLoad | Self::EarlyRefresh)
    }

    /// The settings of a cache in which it comes about.
    fn settle<S: L1>(self, builder: Builder<S>) -> Builder<S> {
        match self {
            Self::Refresh | Self::RefreshBelow => builder.stale_while_revalidate(HOUR),
            Self::LeftLoad | Self::LeftLoadBelow => builder.soft_timeout(AT_ONCE),
            // Almost at once; only one, lest those who check begin another.
            Self::EarlyRefresh | Self::EarlyRefreshBelow => builder.early_refresh(1e-7).refresh_budget(1, 1),
            _ => builder,
        }
    }
}

/// Who acts meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidator {
    /// `remove`
    Remove,
    /// `expire`
    Expire,
    /// `insert` of the new value
    Insert,
    /// `remove_many`
    RemoveMany,
    /// `insert_many` of the new value, and one of another key
    InsertMany,
}

/// Where the invalidator is, as seen from the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the same process.
    Here,
    /// In another process over the same shared tier.
    Elsewhere,
}

/// Whether anybody reads while the victim still stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Only when all have ended.
    After,
    /// Also between the end of the invalidation and the victim's going on.
    Between,
    /// Another process loads: it begins when the invalidation has ended, and holds its lease until the
    /// victim has ended.
    Loading,
}

impl Probe {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::After, Self::Between, Self::Loading];
}

/// What is interleaved with what: a part of a cell of the matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Who is interrupted.
    pub victim: Victim,
    /// Who acts meanwhile.
    pub invalidator: Invalidator,
    /// Where.
    pub place: Place,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The victim stands when the invalidator begins; the victim goes on first.
    VictimFirst,
    /// The invalidator stands when the victim begins; the invalidator goes on first.
    InvalidatorFirst,
}

/// At which steps the two are stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The victim stops at this boundary.
    pub victim: usize,
    /// The invalidator stops at this one. `None`: it goes to its end.
    pub invalidator: Option<usize>,
    /// Who begins, and who goes on first when both stand.
    pub order: Order,
    /// Who reads meanwhile.
    pub probe: Probe,
}

/// Whether both came to the boundaries they were to stop at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// The victim did.
    pub victim: bool,
    /// The invalidator did, or was not to stop.
    pub invalidator: bool,
}

/// What a run is done on: the shared tier, if there is one, and the clock. Each run has a key of its own.
#[derive(Debug)]
pub struct Stage {
    backend: Option<Arc<dyn Backend>>,
    clock: Clock,
    runs: AtomicU64,
}

impl Stage {
    /// Over memory alone.
    pub fn alone(clock: Clock) -> Self {
        Self { backend: None, clock, runs: AtomicU64::new(1) }
    }

    /// Over `backend`, shared by all processes.
    pub fn over(backend: Arc<dyn Backend>, clock: Clock) -> Self {
        Self { backend: Some(backend), clock, runs: AtomicU64::new(1) }
    }

    /// Whether there is a shared tier.
    pub fn is_shared(&self) -> bool {
        self.backend.is_some()
    }

    /// The shared tier.
    pub fn backend(&self) -> Option<&Arc<dyn Backend>> {
        self.backend.as_ref()
    }

    /// A number no other run has: its key, and the seed of its randomness.
    pub fn next_run(&self) -> u64 {
        self.runs.fetch_add(1, Ordering::Relaxed)
    }

    /// Interleaves the two of `cell` at `step`, and reads everything that must not be old afterwards.
    ///
    /// # Errors
    /// The trace of a run that broke the promise.
    pub async fn run<S: L1>(&self, cell: Cell, step: Step) -> Result<Came, String> {
        let run = Run::<S>::new(self, cell);
        run.set_the_stage().await;
        let outcome = match step.order {
            Order::VictimFirst => run.begin_with_the_victim(step).await,
            Order::InvalidatorFirst => run.begin_with_the_invalidator(step).await,
        };
        outcome.map_err(|complaint| format!("{cell:?} at {step:?}: {complaint}\n{}", run.script.trace()))
    }

    /// A process of the fleet, whose steps belong to `script`.
    pub fn node<S: L1>(
        &self,
        script: &Script,
        memory_ttl: Duration,
        window: Duration,
        schema: u32,
    ) -> Node<S> {
        self.node_with(script, memory_ttl, schema, |builder| builder.stale_while_revalidate(window))
    }

    /// As [`node`](Stage::node), with other settings.
    fn node_with<S: L1>(
        &self,
        script: &Script,
        memory_ttl: Duration,
        schema: u32,
        settle: impl FnOnce(Builder<S>) -> Builder<S>,
    ) -> Node<S> {
        let builder = Cache::builder("users")
            .memory(S::config())
            .clock(self.clock.clone())
            .entropy(Entropy::seeded(if mutant!(CountsTokens) { 0 } else { self.next_run() }))
            .spawn(ActorSpawn(script.clone()))
            .ttl(HOUR)
            .hold_term(HOLD_TERM)
            .stale_if_error(HOUR);
        let builder = settle(builder);
        let builder = match &self.backend {
            None => builder,
            Some(backend) => {
                let stepped = Stepped::new(backend.clone(), script.clone());
                // Who stands at a boundary is not an outage.
                builder.backend(stepped).backend_timeout(HOUR).memory_ttl(memory_ttl).schema(schema)
            }
        };
        builder.build().unwrap()
    }
}

const HOUR: Duration = Duration::from_secs(3600);
/// How long overlapping writers keep others from storing: longer than the two of a run take over a real server,
/// on a machine that is busy with other tests.
pub const HOLD_TERM: Duration = Duration::from_secs(3);
/// A TTL that is over after [`A_MOMENT`].
const AT_ONCE: Duration = Duration::from_millis(1);
const A_MOMENT: Duration = Duration::from_millis(3);

const OLD: &str = "old";
const NEW: &str = "new";

/// One run: a source, two processes and a key.
struct Run<'a, S> {
    stage: &'a Stage,
    cell: Cell,
    key: u64,
    script: Script,
    source: CountingSource<u64, String>,
    /// The victim's process.
    here: Node<S>,
    /// The invalidator's, perhaps the same.
    there: Node<S>,
    memory_ttl: Duration,
}

impl<'a, S: L1> Run<'a, S> {
    fn new(stage: &'a Stage, cell: Cell) -> Self {
        let (script, key) = (Script::new(), stage.next_run());
        // No message tells another process yet: there its own memory must not outlive the check.
        let memory_ttl = match (cell.place, cell.victim) {
            (Place::Here, _) => HOUR,
            // The stale value must still be in memory when the victim comes for it.
            (Place::Elsewhere, victim) if victim.finds_in_memory() => 20 * A_MOMENT,
            (Place::Elsewhere, _) => AT_ONCE,
        };
        let node = || stage.node_with(&script, memory_ttl, SCHEMA, |builder| cell.victim.settle(builder));
        let here = node();
        let there = match cell.place {
            Place::Here => here.clone(),
            Place::Elsewhere => node(),
        };
        let source = CountingSource::with([key, other(key)].map(|key| (key, OLD.to_owned())));
        Self { stage, cell, key, script, source, here, there, memory_ttl }
    }

    /// Brings the old value to where the victim is to find it.
    async fn set_the_stage(&self) {
        let seeder = || self.stage.node::<S>(&self.script, AT_ONCE, Duration::ZERO, SCHEMA);
        match self.cell.victim {
            Victim::ColdLoad | Victim::JoinedLoad | Victim::BatchLoad => {}
            Victim::CopyByGet | Victim::CopyByLoad | Victim::BatchCopy | Victim::EarlyRefreshBelow => {
                self.seed(&seeder(), HOUR).await;
            }
            Victim::StaleBelow | Victim::RefreshBelow | Victim::LeftLoadBelow | Victim::BatchOverStale => {
                self.seed(&seeder(), AT_ONCE).await
            }
            Victim::EarlyRefresh => self.seed(&self.here, HOUR).await,
            Victim::RefusedBelow => {
                let older = self.stage.node::<S>(&self.script, AT_ONCE, Duration::ZERO, SCHEMA - 1);
                self.seed(&older, HOUR).await;
            }
            Victim::Refresh | Victim::FailingLoad | Victim::LeftLoad => {
                self.seed(&self.here, AT_ONCE).await;
            }
        }
        sleep(A_MOMENT).await;
    }

    async fn seed(&self, node: &Node<S>, ttl: Duration) {
        let short = node.with(|options| options.ttl(ttl));
        let loaded = short.get_or_load(&self.key, |_| async { Ok(OLD.to_owned()) }).await.unwrap();
        assert_eq!(*loaded, OLD);
    }

    async fn begin_with_the_victim(&self, step: Step) -> Result<Came, String> {
        self.script.stop(Actor::First, step.victim);
        self.start_the_victim();
        let victim = self.script.stopped(Actor::First).await;
        self.start_followers().await;

        self.source.set(self.key, NEW.to_owned());
        if let Some(boundary) = step.invalidator {
            self.script.stop(Actor::Second, boundary);
        }
        let invalidation = self.start_the_invalidator();
        let stopped = self.script.stopped(Actor::Second).await;
        let mut later = None;
        if step.probe == Probe::Between && !stopped {
            later = self.check_meanwhile().await?;
        }
        if step.probe == Probe::Loading && self.stage.is_shared() {
            self.start_another_load().await;
        }
        self.script.release(Actor::First);
        if step.probe == Probe::Loading {
            // A victim that came too late waits for the other load, which is not what is looked for.
            let _ = timeout(10 * A_MOMENT, self.script.ended(Actor::First)).await;
            self.end_the_other_load().await?;
        }
        self.script.ended(Actor::First).await;
        self.judge_later(later).await?;
        self.script.ended(Actor::Bystander).await;
        self.script.release(Actor::Second);
        let done = invalidation.await.map_err(|error| error.to_string())?;
        if !done && !stopped {
            return Err("the invalidation was not done, although nobody stood in its way".into());
        }
        self.check_the_promised().await?;
        self.check_the_rest().await?;
        Ok(Came { victim, invalidator: stopped || step.invalidator.is_none() })
    }

    async fn begin_with_the_invalidator(&self, step: Step) -> Result<Came, String> {
        self.source.set(self.key, NEW.to_owned());
        if let Some(boundary) = step.invalidator {
            self.script.stop(Actor::Second, boundary);
        }
        let invalidation = self.start_the_invalidator();
        let stopped = self.script.stopped(Actor::Second).await;
        self.script.stop(Actor::First, step.victim);
        self.start_the_victim();
        let victim = self.script.stopped(Actor::First).await;
        self.start_followers().await;

        self.script.release(Actor::Second);
        // One that stood for too long may have lost its hold.
        if !invalidation.await.map_err(|error| error.to_string())? && !stopped {
            return Err("the invalidation was not done, although nobody stood in its way".into());
        }
        let mut later = None;
        if step.probe == Probe::Between && stopped {
            later = self.check_meanwhile().await?;
        }
        self.script.release(Actor::First);
        self.script.ended(Actor::First).await;
        self.judge_later(later).await?;
        self.script.ended(Actor::Bystander).await;
        self.check_the_promised().await?;
        self.check_the_rest().await?;
        Ok(Came { victim, invalidator: stopped || step.invalidator.is_none() })
    }

    fn start_the_victim(&self) {
        let (node, key) = (self.here.clone(), self.key);
        let load = self.loader(self.cell.victim == Victim::FailingLoad);
        let (victim, load_many) = (self.cell.victim, self.loader_of_many());
        drop(self.script.spawn(Actor::First, async move {
            // What it gets began before the invalidation: either value will do, or an error.
            match victim {
                Victim::CopyByGet => drop(node.get(&key).await),
                Victim::BatchCopy => drop(node.get_many(&[other(key), key]).await),
                Victim::BatchLoad | Victim::BatchOverStale => {
                    drop(node.get_many_or_load(&[other(key), key], load_many).await);
                }
                _ => drop(node.get_or_load(&key, load).await),
            }
        }));
    }

    async fn start_followers(&self) {
        if self.cell.victim != Victim::JoinedLoad {
            return;
        }
        for _ in 0..2 {
            let (node, key, load) = (self.here.clone(), self.key, self.loader(false));
            let follow = async move { drop(node.get_or_load(&key, load).await) };
            drop(self.script.spawn(Actor::Bystander, follow));
        }
        // They join at their first poll.
        tokio::task::yield_now().await;
    }

    /// Starts a load in a fresh process that stands once it has read the source, if it gets that far.
    async fn start_another_load(&self) {
        let (node, key, load) = (self.fresh(), self.key, self.loader(false));
        self.script.stop(Actor::Third, AFTER_READING);
        drop(self.script.spawn(Actor::Third, async move { drop(node.get_or_load(&key, load).await) }));
        self.script.stopped(Actor::Third).await;
    }

    async fn end_the_other_load(&self) -> Result<(), String> {
        let seen = self.fresh().get(&self.key).await;
        self.judge("a fresh process", "get while another loads", seen)?;
        self.script.release(Actor::Third);
        self.script.ended(Actor::Third).await;
        Ok(())
    }

    fn start_the_invalidator(&self) -> JoinHandle<bool> {
        let (node, key, how) = (self.there.clone(), self.key, self.cell.invalidator);
        self.script.spawn(Actor::Second, async move {
            match how {
                Invalidator::Remove => node.remove(&key).await.unwrap() == Removal::Removed,
                Invalidator::Expire => node.expire(&key).await.unwrap() == Removal::Removed,
                Invalidator::Insert => node.insert(key, NEW.to_owned()).await.unwrap() == Inserted::Stored,
                Invalidator::RemoveMany => {
                    node.remove_many(&[other(key), key]).await.unwrap()[1] == Removal::Removed
                }
                Invalidator::InsertMany => {
                    let pairs = [other(key), key].map(|key| (key, NEW.to_owned()));
                    matches!(node.insert_many(pairs).await[1], Ok(Inserted::Stored))
                }
            }
        })
    }

    /// Reads the source, with a boundary before and after.
    fn loader(&self, fails: bool) -> impl FnOnce(Load<u64>) -> LoadFuture + Send + 'static {
        let (script, source) = (self.script.clone(), self.source.clone());
        move |load| {
            Box::pin(async move {
                script.boundary("before reading the source").await;
                let value = source.fetch(load.key()).await?;
                script.note(format_args!("   the source says {value}"));
                script.boundary("after reading the source").await;
                if fails { Err(LoaderError::new("the load fails")) } else { Ok(value) }
            })
        }
    }

    /// As [`loader`](Run::loader) does, for all keys it is asked for.
    fn loader_of_many(&self) -> impl Fn(LoadMany<u64>) -> LoadManyFuture + Send + Sync + 'static {
        let (script, source) = (self.script.clone(), self.source.clone());
        move |load| {
            let (script, source) = (script.clone(), source.clone());
            Box::pin(async move {
                script.boundary("before reading the source").await;
                let mut values = Vec::new();
                for key in load.keys() {
                    values.push((*key, source.fetch(key).await?));
                }
                script.note(format_args!("   the source says {values:?}"));
                script.boundary("after reading the source").await;
                Ok(values)
            })
        }
    }

    /// Somebody comes while the victim stands, and must not be given what the victim brings from before. A
    /// load that waits for the victim all the same is handed back, to be judged when that has ended.
    async fn check_meanwhile(&self) -> Result<Option<Later>, String> {
        let (node, key, load) = (self.there.clone(), self.key, self.loader(false));
        let mut later =
            self.script.spawn(Actor::Bystander, async move { node.get_or_load(&key, load).await.ok() });
        match timeout(10 * A_MOMENT, &mut later).await {
            Err(_) => {
                self.judge("a fresh process", "get", self.fresh().get(&self.key).await)?;
                Ok(Some(later))
            }
            Ok(seen) => {
                let seen = seen.map_err(|error| error.to_string())?;
                self.judge("who comes after the invalidation", "get_or_load", seen)?;
                self.check_the_promised().await?;
                Ok(None)
            }
        }
    }

    async fn judge_later(&self, later: Option<Later>) -> Result<(), String> {
        let Some(later) = later else { return Ok(()) };
        let seen = later.await.map_err(|error| error.to_string())?;
        self.judge("who came after the invalidation", "get_or_load", seen)
    }

    /// Reads as those do who were promised that they see nothing old: the invalidator's process, and a
    /// fresh one, which sees what the shared tier has.
    async fn check_the_promised(&self) -> Result<(), String> {
        if self.stage.is_shared() {
            self.check("a fresh process", &self.fresh()).await?;
        }
        self.check("the invalidator's process", &self.there).await?;
        if self.stage.is_shared() {
            self.check("another fresh process", &self.fresh()).await?;
        }
        Ok(())
    }

    /// Reads as the others do once their own memory has forgotten, and looks for what was left behind.
    async fn check_the_rest(&self) -> Result<(), String> {
        if self.cell.place == Place::Elsewhere {
            sleep(self.memory_ttl + A_MOMENT).await;
            self.check("the victim's process", &self.here).await?;
        }
        for node in [&self.here, &self.there] {
            node.shutdown(HOUR).await.map_err(|left| left.to_string())?;
            let stats = node.stats();
            if stats.flights > 0 || stats.pending_invalidations > 0 || stats.task_panics > 0 {
                return Err(format!("left behind: {stats:?}"));
            }
        }
        Ok(())
    }

    fn fresh(&self) -> Node<S> {
        self.stage.node(&self.script, HOUR, HOUR, SCHEMA)
    }

    async fn check(&self, who: &str, node: &Node<S>) -> Result<(), String> {
        self.script.note(format_args!("-- {who} reads"));
        self.judge(who, "get_local", node.get_local(&self.key))?;
        self.judge(who, "get", node.get(&self.key).await)?;
        let failing = node.get_or_load(&self.key, |_| async { Err(LoaderError::new("down")) }).await;
        self.judge_stale(who, failing)?;
        match node.get_or_load(&self.key, self.loader(false)).await {
            Ok(value) => self.judge(who, "get_or_load", Some(value))?,
            Err(error) => return Err(format!("{who}: get_or_load fails: {error}")),
        }
        self.judge(who, "get_local after get_or_load", node.get_local(&self.key))?;
        self.judge(who, "get after get_or_load", node.get(&self.key).await)
    }

    fn judge(&self, who: &str, how: &str, seen: Option<Cached<String>>) -> Result<(), String> {
        match seen {
            Some(value) if *value != NEW => Err(format!("{who} sees {value:?} by {how}")),
            _ => Ok(()),
        }
    }

    /// After a failed load an expired value may be served, and nothing else that is old.
    fn judge_stale(&self, who: &str, seen: Result<Cached<String>, LoadError>) -> Result<(), String> {
        match seen {
            Ok(value)
                if self.cell.invalidator == Invalidator::Expire
                    && value.freshness() == Freshness::Invalidated =>
            {
                Ok(())
            }
            seen => self.judge(who, "get_or_load with a failing loader", seen.ok()),
        }
    }
}

const SCHEMA: u32 = 1;

/// The boundary of a load over a shared tier at which it holds the lease and has read the source: the sixth,
/// after those of `get` and `get_or_lease` and the one before reading.
const AFTER_READING: usize = 5;

/// A load that began after the invalidation.
type Later = JoinHandle<Option<Cached<String>>>;

type LoadFuture = BoxFuture<'static, Result<String, LoaderError>>;

type LoadManyFuture = BoxFuture<'static, Result<Vec<(u64, String)>, LoaderError>>;

type Builder<S> = CacheBuilder<u64, String, S>;

/// The key that goes with `key` in a batch.
fn other(key: u64) -> u64 {
    key | 1 << 40
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} x {:?} {:?}", self.invalidator, self.victim, self.place)
    }
}
