use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use crate::RingError;

/// A node: a name, which is its identity, and a weight.
///
/// The name alone decides where the node stands; any string will do, `10.0.0.3:6379` as well as `cache-eu-1`. A node
/// that changes its address and keeps its name keeps its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    name: String,
    weight: u32,
}

impl Node {
    /// A node of weight 1.
    pub fn new(name: impl Into<String>) -> Self {
        Self::with_weight(name, 1)
    }

    /// A node that gets keys in proportion to `weight`, a share of the sum of all weights.
    ///
    /// Weight 0 drains a node: it stays in the list and gets no key, exactly as if it were not there.
    pub fn with_weight(name: impl Into<String>, weight: u32) -> Self {
        Self { name: name.into(), weight }
    }

    /// What it is known by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its part of the sum of all weights.
    pub fn weight(&self) -> u32 {
        self.weight
    }
}

impl From<&str> for Node {
    fn from(name: &str) -> Self {
        Self::new(name)
    }
}

impl From<String> for Node {
    fn from(name: String) -> Self {
        Self::new(name)
    }
}

/// The most nodes a ring can have: an index into them takes 16 bits.
pub(crate) const NODES_MAX: usize = 1 << 16;

/// The nodes of a ring as they were given, and those among them that count, by name.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    all: Vec<Node>,
    /// Indexes of the nodes with a weight, sorted by name: no algorithm sees the order they were given in.
    live: Vec<u16>,
}

impl Members {
    pub(crate) fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        let all: Vec<Node> = nodes.into_iter().map(Into::into).collect();
        if all.len() > NODES_MAX {
            return Err(RingError::TooMany { nodes: all.len(), nodes_max: NODES_MAX });
        }
        let mut order: Vec<u16> = (0..all.len()).map(|index| index as u16).collect();
        order.sort_unstable_by_key(|index| all[usize::from(*index)].name());
        let name = |index: u16| all[usize::from(index)].name();
        if let Some(twice) = order.windows(2).find(|pair| name(pair[0]) == name(pair[1])) {
            return Err(RingError::Duplicate(name(twice[0]).to_owned()));
        }
        order.retain(|index| all[usize::from(*index)].weight > 0);
        if order.is_empty() { Err(RingError::Empty) } else { Ok(Self { all, live: order }) }
    }

    /// For an algorithm without weights.
    pub(crate) fn unweighted(self) -> Result<Self, RingError> {
        match self.all.iter().find(|node| node.weight != 1) {
            Some(node) => Err(RingError::Unweighted(node.name.clone())),
            None => Ok(self),
        }
    }

    pub(crate) fn all(&self) -> &[Node] {
        &self.all
    }

    /// The nodes with a weight and their indexes, by name.
    pub(crate) fn live(&self) -> impl ExactSizeIterator<Item = (u16, &Node)> {
        self.live.iter().map(|index| (*index, &self.all[usize::from(*index)]))
    }
}
