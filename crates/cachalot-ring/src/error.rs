use alloc::string::String;
use core::fmt;

/// Why there is no ring of these nodes. Found when a ring is built; a lookup never fails.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// There is no node, or none that any part of the ring falls to: all weights are 0.
    Empty,
    /// Two nodes have this name, or names that the layout takes for the same.
    Duplicate(String),
    /// More nodes than the algorithm can tell apart.
    TooMany {
        /// How many there are.
        nodes: usize,
        /// How many there may be.
        nodes_max: usize,
    },
    /// The algorithm knows no weights, and this node has another than 1.
    Unweighted(String),
    /// There is no node of this name to leave.
    Unknown(String),
    /// The table cannot have this size.
    Table(usize),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no node to place keys on: none, or all of weight 0"),
            Self::Duplicate(name) => write!(f, "node {name:?} is there twice"),
            Self::TooMany { nodes, nodes_max } => write!(f, "{nodes} nodes, at most {nodes_max}"),
            Self::Unweighted(name) => write!(f, "node {name:?} has a weight; all must have weight 1 here"),
            Self::Unknown(name) => write!(f, "no node {name:?}"),
            Self::Table(size) => write!(f, "a table cannot have {size} slots"),
        }
    }
}

impl core::error::Error for RingError {}
