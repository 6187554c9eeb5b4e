//! One victim and one invalidator, interleaved at a chosen step, and what may be seen afterwards.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachalot::{Memory, Store};
use cachalot_core::{Backend, Clock, Entropy, Entry, mutant};
use cachalot_strategies::{Cache, CacheBuilder};

use crate::{ActorSpawn, Script, Stepped, Unfenced};

mod cell;
pub use cell::{Came, Cell, Invalidator, Order, Place, Probe, Step, Victim};
mod check;
mod run;
use run::Run;
mod source;
mod writer;

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
        self.node_with("users", script, memory_ttl, schema, |builder| builder.stale_while_revalidate(window))
    }

    /// As [`node`](Stage::node), with other settings, of the cache `name`.
    fn node_with<S: L1>(
        &self,
        name: &str,
        script: &Script,
        memory_ttl: Duration,
        schema: u32,
        settle: impl FnOnce(Builder<S>) -> Builder<S>,
    ) -> Node<S> {
        let builder = Cache::builder(name)
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
                let builder = builder.backend(stepped).backend_timeout(HOUR).memory_ttl(memory_ttl);
                // The looks at the tier that it takes would be steps of their own.
                builder.schema(schema).replay_window(Duration::ZERO)
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

const SCHEMA: u32 = 1;

type Builder<S> = CacheBuilder<u64, String, S>;
