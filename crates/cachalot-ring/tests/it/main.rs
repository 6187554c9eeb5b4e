//! What a placement promises, asked of every algorithm.
#![allow(clippy::unwrap_used, reason = "a test")]

mod golden;
mod moves;
mod nodes;
mod odd;
mod shares;

use cachalot_ring::{Node, Placement};

/// `node-0:11211`, `node-1:11211` and so on, each of weight 1.
fn equal(nodes: usize) -> Vec<Node> {
    (0..nodes).map(|node| Node::new(format!("node-{node}:11211"))).collect()
}

/// The same names, with weights 1 to 4 in turn.
fn weighted(nodes: usize) -> Vec<Node> {
    (0..nodes).map(|node| Node::with_weight(format!("node-{node}:11211"), 1 + node as u32 % 4)).collect()
}

fn keys(count: usize) -> impl Iterator<Item = Vec<u8>> {
    (0..count).map(|key| format!("user:{key}").into_bytes())
}

/// The name of the node that owns `key`.
fn owner<'a>(ring: &'a impl Placement, key: &[u8]) -> &'a str {
    ring.nodes()[ring.owner(key)].name()
}
