//! A shared tier over many servers: which of them has a key, says a ring.
//!
//! # Why nothing old comes back
//!
//! Each server keeps the protocol by itself: once it has taken a removal, it stores nothing from a load that began
//! before. So a read is right as long as the server it comes from has taken every removal that was acknowledged. Here
//! is how that is seen to, whatever servers do and whatever processes believe of them.
//!
//! - **A removal is acknowledged when every server has taken it that may hold something trusted**: the owners; with
//!   [`Failover::NextNode`] always the next one too, as another process may have ejected the owner and stored there;
//!   during a move the owners in both rings; and those that owned the key before and are still here. Removals,
//!   expirations, holds of writers, changes of tags and raised floors of versions all go this way. Who may be read
//!   depends on the health that one process sees; who has to hear of a removal does not.
//! - **A server that is away makes it an error**, of kind `Unavailable`. The cache then keeps the removal, reads past the
//!   key meanwhile, and does it again until it is taken. So a server that comes back has missed nothing that anybody was
//!   told is done: it is as a single server that was out of reach. An ejection by one process alone brings back no old
//!   value for another, since that other's removals are not acknowledged without it.
//! - **Rights stay where they were given**: a token is compared by the server that gave it and unknown to any other.
//! - **Tokens of tags differ from server to server**, so that the one can't say for good what the other says is gone.
//! - **An ejection and a return are [turns](Backend::turns)**: the cache voids what is in flight. Nobody has forgotten
//!   anything, so it does nothing again.
//! - **Each step of a move changes the [incarnation](Backend::incarnation)**, as a restart of a server does: the cache also
//!   does again what it has removed of late.
//! - **A server that was out of the ring comes back with a higher [era](Shard::era)**, and what it held before is not
//!   seen.

use std::boxed::Box;
use std::fmt;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{Backend, BackendInfo, Error, ErrorKind, Key, Result, Spawn};

use crate::{Node as RingNode, Placement, RingError};

mod builder;
pub use builder::ShardedBuilder;
mod shard;
pub use shard::{Shard, ShardHealth};
mod health;
pub use health::Health;
mod topology;
use topology::{Plan, Topology, View};
mod node;
use node::{Effects, Node};
mod backend;
mod calls;
mod grouped;
mod lease;
mod members;
mod routes;
mod sweep;
mod tags;
mod versions;

/// What becomes of the keys of a node that is ejected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failover {
    /// They are misses: each process loads them for itself, and keeps them in its memory. No other node gets more to do.
    #[default]
    Miss,
    /// The next node of the ring stands in: it is read, and stores what is loaded. If it is away too, they are misses.
    ///
    /// The price: every invalidation, and every hold of a writer, goes to both nodes, always; each counts as done only
    /// when both have taken it. So an insert is deferred as long as either is away.
    NextNode {
        /// The longest that the next node keeps what it stores as a stand-in. What is there when the owner is back is not
        /// read any more, and not wrong either.
        ttl: Duration,
    },
}

/// One shared tier over many: each key lies at one of the shards, or at several, by a ring.
///
/// ```
/// # cachalot_testkit::block_on(async {
/// use cachalot_core::{Backend, Key, ManualClock, Removed};
/// use cachalot_ring::{Shard, Sharded, SlotRing};
/// # struct TokioSpawn;
/// # impl cachalot_core::Spawn for TokioSpawn {
/// #     fn spawn(&self, task: cachalot_core::BoxFuture<'static, ()>) {
/// #         std::thread::spawn(|| cachalot_testkit::block_on(task));
/// #     }
/// # }
/// # let connect = |_: &str| cachalot_testkit::ModelBackend::new(ManualClock::new().clock());
///
/// let names = ["10.0.0.1:6379", "10.0.0.2:6379", "10.0.0.3:6379"];
/// let tier = Sharded::builder(SlotRing::new, TokioSpawn)
///     .shards(names.map(|name| Shard::new(name, connect(name))))
///     .build()?;
/// assert_eq!(tier.remove(&Key::new("users:7")).await?, Removed::Nothing);
/// assert_eq!(tier.owners(&Key::new("users:7")).len(), 1);
/// # Ok::<_, cachalot_core::Error>(())
/// # }).unwrap();
/// ```
///
/// # Where a key is
///
/// The ring is asked with the bytes of the key as the cache gives it, `namespace:key`, without the era of the shard: what
/// a client of another make hashes too, as long as it uses the same keys and the same ring. Tokens of tags, floors and
/// lists of members lie where keys of their names would.
///
/// # What fails
///
/// A call that concerns one node costs one round trip there. Many keys are grouped by node and asked for at once; answers
/// are in the order of the keys, and a node that fails costs its own keys. A node that fails again and again is ejected
/// ([`Health`]) and not asked until probes find it well: they are sent by the way, when a call comes that would go there,
/// so no timer runs. Reads then are misses or served by the next node ([`Failover`]), and no error; leases are refused by
/// an error, after which a cache loads without storing below. Removals are errors until the node is back, or has left the
/// ring: then they are kept and done again by the cache. One that is gone for good has to be [taken out](Sharded::change).
///
/// The list of members has no stand-in: while its node is away, nobody's registration can be renewed.
///
/// # Cost
///
/// Finding the node of a key takes a lookup in the ring and no allocation, unless there are copies or stand-ins. A sweep
/// goes over all nodes, one after the other. [`incarnation`](Backend::incarnation) takes one atomic load a node.
///
/// A call that is given up after three quarters of the time that its cache waits ([`bound`](Backend::bound)) counts as a
/// failure of its node. So a node that hangs fails the first reads of many keys in whole, until it is ejected: their
/// caller waits for all nodes, and no longer.
pub struct Sharded<B> {
    plan: Plan,
    /// What each operation begins with; behind it, how it changes.
    view: RwLock<Arc<View<B>>>,
    topology: Mutex<Topology<B>>,
    effects: Arc<Effects>,
    has: Has,
    failover: Failover,
    copies: usize,
    longest_life: Duration,
    /// Spreads reads over copies.
    next_copy: AtomicUsize,
    /// Copies that sweeps have removed and that do not make up a record yet.
    odd_copies: AtomicU64,
}

/// What it can do, because all shards can.
struct Has {
    info: BackendInfo,
    tags: bool,
    members: bool,
    versions: bool,
}

impl<B: Backend> Sharded<B> {
    /// Begins to build one. `ring` makes the ring of the shards, now and after each change: `SlotRing::new`,
    /// `Ketama::new`, or a closure with settings. `spawn` runs the probes.
    pub fn builder<P: Placement + 'static>(
        ring: impl Fn(Vec<RingNode>) -> Result<P, RingError> + Send + Sync + 'static,
        spawn: impl Spawn,
    ) -> ShardedBuilder<B> {
        let plan = move |nodes| ring(nodes).map(|ring| Box::new(ring) as Box<dyn Placement>);
        ShardedBuilder::new(Box::new(plan), Arc::new(spawn))
    }

    /// Goes over to other shards while it serves: more, fewer, other weights.
    ///
    /// From now on for `overlap` keys are read at their old owners, then at their new ones; removals reach both for twice
    /// `overlap`. **Every process has to be told within `overlap` of every other**. One that starts within `overlap` of
    /// the first that was told is built with the old shards and told so too; one that starts later waits until twice
    /// `overlap` has passed since then, and is built with the new ones: in between no way is
    /// right. Nothing is copied: what has moved is loaded anew, and so is all that has a tag whose token has moved.
    ///
    /// A shard that stays keeps its backend, whatever is given here. One that was there before and is not now needs a
    /// higher era than it had. Which keys a node held before it lost them to another is remembered for the
    /// [longest life](ShardedBuilder::longest_life), so weights may go up and down, and nodes come and go, without one.
    ///
    /// Versions: during a move the newer of both floors counts; a version that is stored or refused meanwhile
    /// carries the newest one over. Of a key of which none was, that of a node that has left is as one that has ended.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], and nothing changes: the ring refuses the nodes; an era is not higher than it was; a shard
    /// cannot do what the others can. [`ErrorKind::Conflict`]: the last change is not over; whoever rolls changes
    /// out waits for that in all processes, or one of them is not told.
    pub fn change(&self, shards: impl IntoIterator<Item = Shard<B>>, overlap: Duration) -> Result<()> {
        if overlap < builder::SHORTEST {
            return Err(builder::refused("an overlap of less than a millisecond is none"));
        }
        let shards: Vec<Shard<B>> = shards.into_iter().collect();
        if !Has::of(&shards)?.covers(&self.has) {
            return Err(builder::refused("one of the shards cannot do what those before could"));
        }
        let mut topology = self.topology();
        let now = self.effects.clock.now();
        topology.advance(now);
        if topology.is_moving() {
            return Err(Error::new(ErrorKind::Conflict, "sharding").detail("the last change is not over"));
        }
        let mut ring_nodes = Vec::with_capacity(shards.len());
        let mut nodes = Vec::with_capacity(shards.len());
        for shard in shards {
            ring_nodes.push(shard.node.clone());
            nodes.push(self.node_of(&topology, shard)?);
        }
        topology.announce(builder::layout(&self.plan, ring_nodes, &nodes)?, overlap, now);
        self.publish(&topology);
        Ok(())
    }

    /// Whether a [change](Sharded::change) is under way: until then there is none other.
    pub fn is_changing(&self) -> bool {
        self.view().is_moving
    }

    /// The names of the shards that `key` is read at and stored, healthy or not, the first one first.
    pub fn owners(&self, key: &Key) -> Vec<String> {
        let view = self.view();
        let owners = view.owners(key.as_bytes(), self.copies);
        owners.iter().map(|node| view.node(node).name.clone()).collect()
    }

    /// How the shards are, as this process sees them.
    pub fn health(&self) -> Vec<ShardHealth> {
        let health = |node: &Arc<Node<B>>| ShardHealth {
            name: node.name.to_string(),
            era: node.era,
            is_ejected: node.is_ejected(),
            failures: node.failures(),
        };
        self.view().nodes.iter().map(health).collect()
    }

    /// The node that stands for `shard`: the one that is there already, if it is the same.
    fn node_of(&self, topology: &Topology<B>, shard: Shard<B>) -> Result<Arc<Node<B>>> {
        let name = shard.node.name();
        if let Some(node) = topology.find(name) {
            if shard.era < node.era {
                let detail = std::format!("{name} has era {} and cannot go back to {}", node.era, shard.era);
                return Err(builder::refused(detail));
            }
            if shard.era == node.era {
                return Ok(node.clone());
            }
        } else if let Some(last) = topology.departed(name).filter(|last| shard.era <= *last) {
            let detail = std::format!("{name} was out of the ring: it needs an era above {last}");
            return Err(builder::refused(detail));
        }
        Ok(builder::node(shard, &self.effects).1)
    }

    /// What is true now.
    fn view(&self) -> Arc<View<B>> {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner).clone();
        if !self.effects.clock.has_reached(view.until) { view } else { self.advance() }
    }

    #[cold]
    fn advance(&self) -> Arc<View<B>> {
        let mut topology = self.topology();
        if topology.advance(self.effects.clock.now()) {
            self.publish(&topology);
        }
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn publish(&self, topology: &Topology<B>) {
        let next = Arc::new(topology.view());
        let mut view = self.view.write().unwrap_or_else(PoisonError::into_inner);
        // Whatever those count that come or go, the sum is one that never was.
        for node in view.nodes.iter().filter(|node| !next.nodes.iter().any(|it| Arc::ptr_eq(it, node))) {
            self.effects.steps.fetch_add(node.backend.incarnation(), Ordering::SeqCst);
            self.effects.turns.fetch_add(node.backend.turns(), Ordering::SeqCst);
        }
        self.effects.steps.fetch_add(1 << 32, Ordering::SeqCst);
        *view = next;
    }

    /// `own`, and what each shard counts: all only grow.
    fn sum(&self, own: &AtomicU64, of: fn(&B) -> u64) -> u64 {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        let own = own.load(Ordering::SeqCst);
        view.nodes.iter().fold(own, |sum, node| sum.wrapping_add(of(&node.backend)))
    }

    fn topology(&self) -> MutexGuard<'_, Topology<B>> {
        self.topology.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<B: Backend> fmt::Debug for Sharded<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("Sharded")
            .field("view", &*view)
            .field("failover", &self.failover)
            .field("copies", &self.copies)
            .finish_non_exhaustive()
    }
}
