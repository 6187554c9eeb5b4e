//! What a sharded tier is made of.

use std::fmt;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{Backend, BackendInfo, Clock, Entropy, Error, ErrorKind, Result, Spawn};

use super::node::{Effects, Node};
use super::topology::{Layout, Plan, Topology};
use super::{Failover, Has, Health, Shard, Sharded};
use crate::Node as RingNode;

/// No server counts in less.
pub(super) const SHORTEST: Duration = Duration::from_millis(1);

/// Builds a [`Sharded`]. Made by [`Sharded::builder`].
pub struct ShardedBuilder<B> {
    plan: Plan,
    shards: Vec<Shard<B>>,
    former: Vec<Vec<RingNode>>,
    spawn: Arc<dyn Spawn>,
    clock: Clock,
    entropy: Entropy,
    health: Health,
    failover: Failover,
    copies: usize,
    longest_life: Duration,
}

impl<B: Backend> ShardedBuilder<B> {
    pub(super) fn new(plan: Plan, spawn: Arc<dyn Spawn>) -> Self {
        Self {
            plan,
            shards: Vec::new(),
            former: Vec::new(),
            spawn,
            clock: Clock::system(),
            entropy: Entropy::thread(),
            health: Health::default(),
            failover: Failover::Miss,
            copies: 1,
            longest_life: Duration::from_secs(30 * 24 * 3600),
        }
    }

    /// Adds a shard.
    #[must_use]
    pub fn shard(mut self, shard: Shard<B>) -> Self {
        self.shards.push(shard);
        self
    }

    /// Adds shards.
    #[must_use]
    pub fn shards(mut self, shards: impl IntoIterator<Item = Shard<B>>) -> Self {
        self.shards.extend(shards);
        self
    }

    /// The nodes that there were before, once for each change within the [longest life](Self::longest_life): a key that
    /// returns to a node that held it then may find there what it was. Removals reach those too that are still here.
    /// A running process remembers its own changes; this is for one that starts after them.
    #[must_use]
    pub fn formerly(mut self, nodes: impl IntoIterator<Item = RingNode>) -> Self {
        self.former.push(nodes.into_iter().collect());
        self
    }

    /// Sets what becomes of the keys of a node that is ejected. Default: [`Failover::Miss`].
    #[must_use]
    pub fn failover(mut self, failover: Failover) -> Self {
        self.failover = failover;
        self
    }

    /// Sets how many nodes hold each key. Reads ask one of them and go on to the next if it has nothing; what is stored
    /// goes to all of them, and an invalidation has to reach all. Default: 1.
    #[must_use]
    pub fn copies(mut self, copies: usize) -> Self {
        self.copies = copies;
        self
    }

    /// Sets when a node is ejected and when it is taken back.
    #[must_use]
    pub fn health(mut self, health: Health) -> Self {
        self.health = health;
        self
    }

    /// Sets how long anything is kept, which is as long as former owners are remembered: a longer time to live is cut.
    /// Default: 30 days.
    #[must_use]
    pub fn longest_life(mut self, longest_life: Duration) -> Self {
        self.longest_life = longest_life;
        self
    }

    /// Sets the clock. Default: the system's.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Sets the randomness that spreads probes. Default: the thread's.
    #[must_use]
    pub fn entropy(mut self, entropy: Entropy) -> Self {
        self.entropy = entropy;
        self
    }

    /// Puts them together. Nothing is sent.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: the ring refuses the nodes; there are no copies to be made, or no health to be had; a stand-in, or
    /// anything, is to be kept for less than a millisecond; some
    /// shards keep bare values and others do not, or not of the same codec.
    pub fn build(self) -> Result<Sharded<B>> {
        if self.copies == 0 {
            return Err(refused("a key of no copies is nowhere"));
        }
        if !self.health.is_sound() {
            return Err(refused(
                "failures, probes and pauses are above zero, and the longest pause the longest",
            ));
        }
        let stand_in = match self.failover {
            Failover::NextNode { ttl } => ttl,
            Failover::Miss => self.longest_life,
        };
        if stand_in.min(self.longest_life) < SHORTEST {
            return Err(refused("what is kept for less than a millisecond is not kept"));
        }
        let has = Has::of(&self.shards)?;
        let effects = Arc::new(Effects {
            clock: self.clock,
            entropy: self.entropy,
            spawn: self.spawn,
            health: self.health,
            turns: AtomicU64::new(0),
            steps: AtomicU64::new(0),
            limit: AtomicU64::new(u64::MAX),
        });
        let made = self.shards.into_iter().map(|shard| node(shard, &effects));
        let (ring_nodes, nodes): (Vec<_>, Vec<_>) = made.unzip();
        let current = layout(&self.plan, ring_nodes, &nodes)?;
        let former = self.former.into_iter().map(|former| layout(&self.plan, former, &nodes));
        let former = former.collect::<Result<Vec<_>>>()?;
        let topology = Topology::new(current, former, self.longest_life, effects.clock.now());
        Ok(Sharded {
            plan: self.plan,
            view: RwLock::new(Arc::new(topology.view())),
            topology: Mutex::new(topology),
            effects,
            has,
            failover: self.failover,
            copies: self.copies,
            longest_life: self.longest_life,
            next_copy: AtomicUsize::new(0),
            odd_copies: AtomicU64::new(0),
        })
    }
}

pub(super) fn node<B: Backend>(shard: Shard<B>, effects: &Arc<Effects>) -> (RingNode, Arc<Node<B>>) {
    let name = shard.node.name().to_string();
    (shard.node, Arc::new(Node::new(name, shard.era, shard.backend, effects.clone())))
}

/// A ring of `ring_nodes`, with those of `nodes` at its places that have their names.
pub(super) fn layout<B: Backend>(
    plan: &Plan,
    ring_nodes: Vec<RingNode>,
    nodes: &[Arc<Node<B>>],
) -> Result<Layout<B>> {
    let placement = plan(ring_nodes).map_err(|error| refused(error.to_string()).caused_by(error))?;
    let find = |it: &RingNode| nodes.iter().find(|node| node.name == it.name()).cloned();
    let places = placement.nodes().iter().map(find).collect();
    Ok(Layout::new(placement, places))
}

pub(super) fn refused(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Config, "sharding").detail(detail.into())
}

impl Has {
    /// What all of `shards` have.
    pub(super) fn of<B: Backend>(shards: &[Shard<B>]) -> Result<Self> {
        let infos: Vec<BackendInfo> = shards.iter().map(|shard| shard.backend.info()).collect();
        let all = |has: fn(&B) -> bool| shards.iter().all(|shard| has(&shard.backend));
        let bare = infos.first().and_then(|info| info.bare);
        if infos.iter().any(|info| info.bare != bare) {
            return Err(refused("some shards keep bare values of a codec, and others do not"));
        }
        let leases = infos.iter().all(|info| info.leases);
        let info = BackendInfo::new("sharded", std::format!("{} shards", shards.len()), leases).scattered();
        Ok(Self {
            info: bare.map_or(info.clone(), |codec| info.with_bare(codec)),
            tags: all(|backend| backend.tags().is_some()),
            members: all(|backend| backend.members().is_some()),
            versions: all(|backend| backend.versions().is_some()),
        })
    }

    /// Whether whoever has this can do all that `other` can.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let of = |it: &Self| [it.info.leases, it.tags, it.members, it.versions];
        self.info.bare == other.info.bare && of(self).iter().zip(of(other)).all(|(has, wants)| *has || !wants)
    }
}

impl<B> fmt::Debug for ShardedBuilder<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedBuilder").field("shards", &self.shards).finish_non_exhaustive()
    }
}
