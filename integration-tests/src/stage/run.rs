//! One run of a cell: what is under way, what acts meanwhile, and in which order.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use cachalot::{Cached, Inserted, LoaderError, LocalBus, Pattern, Removal};
use cachalot_core::BoxFuture;
use cachalot_strategies::{Load, LoadMany};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::cell::TAG;
use super::source::Rows;
use super::{A_MOMENT, AT_ONCE, Builder, HOUR, Node, SCHEMA, Stage};
use crate::{Actor, Came, Cell, Invalidator, L1, Place, Probe, Script, Step, Victim};

pub(super) const OLD: &str = "old";
pub(super) const NEW: &str = "new";

/// One run: a source, two processes and a key.
pub(super) struct Run<'a, S> {
    pub(super) stage: &'a Stage,
    pub(super) cell: Cell,
    pub(super) key: u64,
    /// The cache's: each run clears its own.
    pub(super) name: String,
    pub(super) script: Script,
    pub(super) source: Arc<Rows>,
    /// The victim's process.
    pub(super) here: Node<S>,
    /// The invalidator's, perhaps the same.
    pub(super) there: Node<S>,
    pub(super) memory_ttl: Duration,
    /// Both have ended, and whoever was to be told has been.
    pub(super) is_settled: AtomicBool,
    /// The victim's write came between the caller's own one and its insert, which nobody can know.
    pub(super) insert_came_late: AtomicBool,
    /// The insert waits for the victim: it is not done yet.
    pub(super) is_waiting: AtomicBool,
}

impl<'a, S: L1> Run<'a, S> {
    pub(super) fn new(stage: &'a Stage, cell: Cell) -> Self {
        let (script, key) = (Script::new(), stage.next_run());
        // Where no message tells another process its own memory must not outlive the check.
        let memory_ttl = match (cell.place, cell.victim) {
            (Place::Here | Place::OnABus, _) => HOUR,
            // The stale value must still be in memory when the victim comes for it.
            (Place::Elsewhere, victim) if victim.finds_in_memory() => 20 * A_MOMENT,
            (Place::Elsewhere, _) => AT_ONCE,
        };
        let (name, bus) = (format!("users{key}"), LocalBus::new());
        let settle = |builder| match cell.place {
            Place::OnABus => cell.victim.settle(builder).bus(bus.clone()),
            _ => cell.victim.settle(builder),
        };
        let settle = |builder| cell.invalidator.settle(settle(builder));
        let node = || stage.node_with(&name, &script, memory_ttl, SCHEMA, settle);
        let here = node();
        let there = match cell.place {
            Place::Here => here.clone(),
            Place::Elsewhere | Place::OnABus => node(),
        };
        let source = Arc::new(Rows::new(script.clone(), cell, key));
        Self {
            stage,
            cell,
            key,
            name,
            script,
            source,
            here,
            there,
            memory_ttl,
            is_settled: AtomicBool::default(),
            insert_came_late: AtomicBool::default(),
            is_waiting: AtomicBool::default(),
        }
    }

    /// Brings the old value to where the victim is to find it.
    pub(super) async fn set_the_stage(&self) {
        for node in [&self.here, &self.there] {
            while self.cell.place == Place::OnABus && node.stats().gaps == 0 {
                sleep(AT_ONCE).await;
            }
        }
        let seeder = || self.node(AT_ONCE, SCHEMA, |builder| builder);
        match self.cell.victim {
            Victim::ColdLoad | Victim::JoinedLoad | Victim::BatchLoad | Victim::WriteCold => {}
            Victim::CopyByGet
            | Victim::CopyByLoad
            | Victim::BatchCopy
            | Victim::BatchCopyByLoad
            | Victim::EarlyRefreshBelow => {
                self.seed(&seeder(), HOUR).await;
            }
            Victim::StaleBelow | Victim::RefreshBelow | Victim::LeftLoadBelow | Victim::BatchOverStale => {
                self.seed(&seeder(), AT_ONCE).await
            }
            Victim::EarlyRefresh
            | Victim::WriteWarm
            | Victim::Delete
            | Victim::WriteMany
            | Victim::Flush
            | Victim::FlushDelete => self.seed(&self.here, HOUR).await,
            Victim::RefusedBelow => {
                let older = self.node(AT_ONCE, SCHEMA - 1, |builder| builder);
                self.seed(&older, HOUR).await;
            }
            Victim::Refresh | Victim::FailingLoad | Victim::LeftLoad => {
                self.seed(&self.here, AT_ONCE).await;
            }
        }
        sleep(A_MOMENT).await;
    }

    async fn seed(&self, node: &Node<S>, ttl: Duration) {
        let (cell, key) = (self.cell, self.key);
        let short = node.with(|options| options.ttl(ttl).tags(cell.invalidator.declared()));
        let load = |load: Load<u64>| async move {
            mark(cell, &load, OLD);
            Ok(OLD.to_owned())
        };
        assert_eq!(*short.get_or_load(&key, load).await.unwrap(), OLD);
    }

    /// A process of this run.
    pub(super) fn node(
        &self,
        memory_ttl: Duration,
        schema: u32,
        settle: impl FnOnce(Builder<S>) -> Builder<S>,
    ) -> Node<S> {
        let settle = |builder| self.cell.invalidator.settle(settle(builder));
        self.stage.node_with(&self.name, &self.script, memory_ttl, schema, settle)
    }

    pub(super) async fn begin_with_the_victim(&self, step: Step) -> Result<Came, String> {
        self.script.stop(Actor::First, step.victim);
        self.start_the_victim();
        let victim = self.script.stopped(Actor::First).await;
        self.start_followers().await;

        self.source.renew();
        if let Some(boundary) = step.invalidator {
            self.script.stop(Actor::Second, boundary);
        }
        let invalidation = self.start_the_invalidator();
        let stopped = self.stopped_in_turn(Actor::Second).await;
        let (stopped, is_waiting) = (stopped == Some(true), stopped.is_none());
        self.note_late_insert(step, is_waiting);
        let mut later = None;
        if !stopped && !is_waiting {
            self.told().await?;
        }
        if step.probe == Probe::Between && !stopped && !is_waiting {
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
        self.told().await?;
        self.settle().await?;
        self.check_the_promised().await?;
        self.check_the_rest().await?;
        Ok(Came { victim, invalidator: stopped || step.invalidator.is_none() })
    }

    pub(super) async fn begin_with_the_invalidator(&self, step: Step) -> Result<Came, String> {
        self.source.renew();
        if let Some(boundary) = step.invalidator {
            self.script.stop(Actor::Second, boundary);
        }
        let invalidation = self.start_the_invalidator();
        let stopped = self.script.stopped(Actor::Second).await;
        self.note_late_insert(step, false);
        self.script.stop(Actor::First, step.victim);
        self.start_the_victim();
        let victim = self.stopped_in_turn(Actor::First).await == Some(true);
        self.start_followers().await;

        self.script.release(Actor::Second);
        // One that stood for too long may have lost its hold.
        if !invalidation.await.map_err(|error| error.to_string())? && !stopped {
            return Err("the invalidation was not done, although nobody stood in its way".into());
        }
        self.told().await?;
        let mut later = None;
        if step.probe == Probe::Between && stopped {
            later = self.check_meanwhile().await?;
        }
        self.script.release(Actor::First);
        self.script.ended(Actor::First).await;
        self.judge_later(later).await?;
        self.script.ended(Actor::Bystander).await;
        self.settle().await?;
        self.check_the_promised().await?;
        self.check_the_rest().await?;
        Ok(Came { victim, invalidator: stopped || step.invalidator.is_none() })
    }

    fn start_the_victim(&self) {
        let (node, key) = (self.here.clone(), self.key);
        let load = self.loader(self.cell.victim == Victim::FailingLoad);
        let (victim, load_many) = (self.cell.victim, self.loader_of_many());
        let tags = self.cell.invalidator.declared();
        if victim.writes() {
            return self.start_the_writer();
        }
        drop(self.script.spawn(Actor::First, async move {
            let view = node.with(|options| options.tags(tags));
            // What it gets began before the invalidation: either value will do, or an error.
            match victim {
                Victim::CopyByGet => drop(node.get(&key).await),
                Victim::BatchCopy => drop(node.get_many(&[other(key), key]).await),
                Victim::BatchLoad | Victim::BatchOverStale | Victim::BatchCopyByLoad => {
                    drop(view.get_many_or_load(&[other(key), key], load_many).await);
                }
                _ => drop(view.get_or_load(&key, load).await),
            }
        }));
    }

    async fn start_followers(&self) {
        if self.cell.victim != Victim::JoinedLoad {
            return;
        }
        for _ in 0..2 {
            let (node, key, load) = (self.here.clone(), self.key, self.loader(false));
            let tags = self.cell.invalidator.declared();
            let follow = async move {
                drop(node.with(|options| options.tags(tags)).get_or_load(&key, load).await);
            };
            drop(self.script.spawn(Actor::Bystander, follow));
        }
        // They join at their first poll.
        tokio::task::yield_now().await;
    }

    /// Starts a load in a fresh process that stands once it has read the source, if it gets that far.
    async fn start_another_load(&self) {
        let (node, key, load) = (self.fresh(), self.key, self.loader(false));
        self.script.stop(Actor::Third, AFTER_READING);
        let tags = self.cell.invalidator.declared();
        drop(self.script.spawn(Actor::Third, async move {
            drop(node.with(|options| options.tags(tags)).get_or_load(&key, load).await);
        }));
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
        // What a writer was in the way of is left to the source.
        let gives_way = self.cell.victim.writes();
        let is_done = move |inserted| match inserted {
            Inserted::Stored => true,
            inserted => gives_way && inserted != Inserted::Deferred,
        };
        self.script.spawn(Actor::Second, async move {
            match how {
                Invalidator::Remove => node.remove(&key).await.unwrap() == Removal::Removed,
                Invalidator::Expire => node.expire(&key).await.unwrap() == Removal::Removed,
                Invalidator::Insert => is_done(node.insert(key, NEW.to_owned()).await.unwrap()),
                Invalidator::RemoveMany => {
                    node.remove_many(&[other(key), key]).await.unwrap()[1] == Removal::Removed
                }
                Invalidator::InsertMany => {
                    let pairs = [other(key), key].map(|key| (key, NEW.to_owned()));
                    node.insert_many(pairs).await[1].clone().is_ok_and(is_done)
                }
                Invalidator::DecidedTag | Invalidator::DeclaredTag => {
                    node.remove_tag(TAG).await.unwrap() == Removal::Removed
                }
                Invalidator::ExpiredTag => node.expire_tag(TAG).await.unwrap() == Removal::Removed,
                Invalidator::Pattern => {
                    node.remove_pattern(&Pattern::any()).await.unwrap() == Removal::Removed
                }
                Invalidator::Clear => node.clear().await.unwrap() == Removal::Removed,
                Invalidator::RemoveOlder => {
                    node.remove_older(&key, how.version_of_new()).await.unwrap() == Removal::Removed
                }
                Invalidator::InsertNewer => {
                    let newer = node.with(|options| options.version(how.version_of_new()));
                    is_done(newer.insert(key, NEW.to_owned()).await.unwrap())
                }
            }
        })
    }

    /// Reads the source, with a boundary before and after.
    pub(super) fn loader(&self, fails: bool) -> impl FnOnce(Load<u64>) -> LoadFuture + Send + 'static {
        let (source, cell) = (self.source.clone(), self.cell);
        move |load| {
            Box::pin(async move {
                let value = source.read(load.key()).await?;
                mark(cell, &load, &value);
                if fails { Err(LoaderError::new("the load fails")) } else { Ok(value) }
            })
        }
    }

    /// As [`loader`](Run::loader) does, for all keys it is asked for.
    fn loader_of_many(&self) -> impl Fn(LoadMany<u64>) -> LoadManyFuture + Send + Sync + 'static {
        let (source, cell) = (self.source.clone(), self.cell);
        move |load| {
            let source = source.clone();
            Box::pin(async move {
                let values = source.read_many(load.keys()).await?;
                for (key, value) in &values {
                    if cell.invalidator.is_versioned() {
                        load.version(key, cell.version_of(value));
                    }
                    if cell.invalidator.decides() {
                        load.tag(key, TAG);
                    }
                }
                Ok(values)
            })
        }
    }
}

/// The boundary of a load over a shared tier at which it holds the lease and has read the source: the sixth,
/// after those of `get` and `get_or_lease` and the one before reading.
const AFTER_READING: usize = 5;

/// A load that began after the invalidation.
pub(super) type Later = JoinHandle<Option<Cached<String>>>;

type LoadFuture = BoxFuture<'static, Result<String, LoaderError>>;

type LoadManyFuture = BoxFuture<'static, Result<Vec<(u64, String)>, LoaderError>>;

/// Gives the `value` that is loaded its tag, if the loader is to decide it, and its version, if it has one.
fn mark(cell: Cell, load: &Load<u64>, value: &str) {
    if cell.invalidator.decides() {
        load.tag(TAG);
    }
    if cell.invalidator.is_versioned() {
        load.version(cell.version_of(value));
    }
}

/// The key that goes with `key` in a batch.
pub(super) fn other(key: u64) -> u64 {
    key | 1 << 40
}
