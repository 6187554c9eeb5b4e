use alloc::borrow::ToOwned;
use alloc::vec::Vec;
use core::fmt;

use crate::{Node, RingError};

/// Which of its nodes a key belongs to.
///
/// A placement is an immutable snapshot: lookups take no lock, and the same nodes and the same key give the same
/// answer in every process, on every machine, in every release. To change the nodes build another one
/// ([`Reshape`]) and put it in the old one's place, an `Arc` behind a lock or an `ArcSwap`.
pub trait Placement: fmt::Debug + Send + Sync {
    /// The nodes in the order in which they were given. Never empty.
    fn nodes(&self) -> &[Node];

    /// The index in [`nodes`](Self::nodes) of the node that `key` belongs to. Allocates nothing and cannot fail.
    fn owner(&self, key: &[u8]) -> usize;

    /// The indexes of `count` distinct nodes for `key`, the owner first: where its copies go.
    ///
    /// Fewer if fewer nodes get any key at all; none for a `count` of 0.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize>;
}

/// A placement whose nodes may come and go in any order.
///
/// [`Jump`](crate::Jump) is none: it can only lose its last node.
pub trait Reshape: Placement + Sized {
    /// The same algorithm with the same settings over other nodes.
    ///
    /// # Errors
    ///
    /// As its constructor.
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError>;

    /// This placement and `node`, which comes last in [`nodes`](Placement::nodes). Costs what building it costs.
    ///
    /// # Errors
    ///
    /// As the constructor, of which [`RingError::Duplicate`] is the likely one.
    fn with(&self, node: impl Into<Node>) -> Result<Self, RingError> {
        let mut nodes = self.nodes().to_vec();
        nodes.push(node.into());
        self.reshape(nodes)
    }

    /// This placement without the node called `name`. Costs what building it costs.
    ///
    /// # Errors
    ///
    /// [`RingError::Unknown`], and [`RingError::Empty`] if it was the last one with a weight.
    fn without(&self, name: &str) -> Result<Self, RingError> {
        let mut nodes = self.nodes().to_vec();
        let at = nodes.iter().position(|node| node.name() == name);
        nodes.remove(at.ok_or_else(|| RingError::Unknown(name.to_owned()))?);
        self.reshape(nodes)
    }
}
