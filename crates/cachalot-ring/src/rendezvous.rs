use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::hash::{hash, remix};
use crate::logarithm::minus_ln_1_minus;
use crate::node::Members;
use crate::{Node, Placement, Reshape, RingError};

/// Rendezvous hashing, also called highest random weight: every node bids for a key, and the best bid gets it.
///
/// With h = XXH3(key) xor XXH3(name), mixed, as a number v between 0 and 1, a node of weight w bids −ln(1 − v) / w,
/// and the lowest bid wins: chances are exactly in proportion to the weights. A node that joins takes only the keys
/// for which it bids lowest, a node that leaves gives its keys to whoever bid second. Nothing moves between others.
///
/// Lookup: about 2 ns a node, so for tens of nodes; [`SlotRing`](crate::SlotRing) gives nearly the same placement in
/// constant time. Building: a hash a node. Memory: 16 bytes a node. Balance: ideal, only the keys' own chance remains.
///
/// Sources: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM ToN 6(1), 1998; the
/// logarithm for weights: Schindelhauer and Schomaker, "Weighted Distributed Hash Tables", SPAA 2005.
#[derive(Clone, Debug)]
pub struct Rendezvous {
    members: Members,
    groups: Vec<Group>,
}

/// Nodes of the same weight: among them the lowest v bids lowest, so only the best of them needs a logarithm.
#[derive(Clone, Debug)]
struct Group {
    weight: f64,
    /// The hash of the name, and the index of the node.
    bidders: Vec<(u64, u16)>,
}

/// A low price wins, by a lower gap if rounding makes prices of one weight equal.
#[derive(Clone, Copy)]
struct Bid {
    price: f64,
    weight: f64,
    gap: f64,
    index: u16,
}

impl Rendezvous {
    /// Of these nodes.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Duplicate`], [`RingError::TooMany`].
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        let members = Members::new(nodes)?;
        let mut groups: Vec<Group> = Vec::new();
        for (index, node) in members.live() {
            let (weight, bidder) = (f64::from(node.weight()), (hash(node.name().as_bytes()), index));
            match groups.iter_mut().find(|group| group.weight == weight) {
                Some(group) => group.bidders.push(bidder),
                None => groups.push(Group { weight, bidders: vec![bidder] }),
            }
        }
        groups.sort_by(|a, b| a.weight.total_cmp(&b.weight));
        Ok(Self { members, groups })
    }
}

impl Placement for Rendezvous {
    fn nodes(&self) -> &[Node] {
        self.members.all()
    }

    fn owner(&self, key: &[u8]) -> usize {
        let (key, mut lowest, mut owner) = (hash(key), f64::INFINITY, 0);
        for group in &self.groups {
            let (gap, index) = group.lowest(key);
            // It bids more than v / w, so the logarithm is often not needed either.
            if gap <= 1.000_001 * group.weight * lowest {
                let price = minus_ln_1_minus(gap) / group.weight;
                if price < lowest {
                    (lowest, owner) = (price, index);
                }
            }
        }
        usize::from(owner)
    }

    /// The nodes by their bids: the second is the one that would own the key without the first.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        let key = hash(key);
        let mut bids: Vec<Bid> = self.groups.iter().flat_map(|group| group.bids(key)).collect();
        bids.sort_by(Bid::cmp);
        bids.iter().take(count).map(|bid| usize::from(bid.index)).collect()
    }
}

impl Reshape for Rendezvous {
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError> {
        Self::new(nodes)
    }
}

impl Group {
    /// The lowest v and whose it is.
    #[inline]
    fn lowest(&self, key: u64) -> (f64, u16) {
        let mut best = (u64::MAX, 0);
        for (seed, index) in &self.bidders {
            let bid = remix(key ^ seed) >> DROPPED;
            best = if bid < best.0 { (bid, *index) } else { best };
        }
        (gap(best.0), best.1)
    }

    fn bids(&self, key: u64) -> impl Iterator<Item = Bid> {
        self.bidders.iter().map(move |(seed, index)| {
            let (gap, weight) = (gap(remix(key ^ seed) >> DROPPED), self.weight);
            Bid { price: minus_ln_1_minus(gap) / weight, weight, gap, index: *index }
        })
    }
}

impl Bid {
    fn cmp(&self, other: &Self) -> Ordering {
        let price = self.price.total_cmp(&other.price);
        price.then(self.weight.total_cmp(&other.weight)).then(self.gap.total_cmp(&other.gap))
    }
}

/// Bits of a hash that a number with 53 of them, one for the half, has no room for.
const DROPPED: u32 = 12;

/// The middle of one of 2^52 parts of the numbers from 0 to 1.
#[inline]
fn gap(bid: u64) -> f64 {
    (bid as f64 + 0.5) * (1.0 / (1_u64 << (64 - DROPPED)) as f64)
}
