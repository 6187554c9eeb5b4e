use std::fmt;
use std::string::String;

use crate::Node;

/// One of the backends of a [`Sharded`](crate::Sharded): a name and a weight, as a [`Node`] has them, and an era.
#[derive(Clone)]
pub struct Shard<B> {
    pub(super) node: Node,
    pub(super) era: u64,
    pub(super) backend: B,
}

impl<B> Shard<B> {
    /// A shard of weight 1. `name` is its identity, and alone decides which keys are its own: give it to the same
    /// server in every process.
    pub fn new(name: impl Into<String>, backend: B) -> Self {
        Self { node: Node::new(name), era: 0, backend }
    }

    /// Sets its weight. 0 drains it: it is told of removals and gets no key. Default: 1.
    #[must_use]
    pub fn weight(mut self, weight: u32) -> Self {
        self.node = Node::with_weight(self.node.name(), weight);
        self
    }

    /// Sets its era: raise it when a server comes back that was out of the ring, or whose content is not to be
    /// trusted for another reason. What it holds from another era is not seen, and ends with its time to live.
    ///
    /// Any other than 0 is a part of the keys that are stored, `~2~users:7`, so that clients of other makes do not find
    /// them. Default: 0.
    #[must_use]
    pub fn era(mut self, era: u64) -> Self {
        self.era = era;
        self
    }
}

impl<B> fmt::Debug for Shard<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shard").field("node", &self.node).field("era", &self.era).finish_non_exhaustive()
    }
}

/// How a shard is, as this process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShardHealth {
    /// Its name.
    pub name: String,
    /// Its era.
    pub era: u64,
    /// Whether it is not asked until probes have found it well.
    pub is_ejected: bool,
    /// Failures in a row.
    pub failures: u32,
}
