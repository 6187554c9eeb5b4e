use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::hash::hash;
use crate::node::{Members, NODES_MAX};
use crate::{Node, Placement, Reshape, RingError};

mod claim;
use claim::{Bid, Claimant, Prices};

/// cachalot's own ring: one look into a table whose slots were given away by rendezvous.
///
/// The highest bits of XXH3(key) name one of 2¹⁶ slots. Each node has an order of its own over all slots, made from
/// its name alone; for a slot that stands at place k of its order a node of weight w bids
/// −ln(1 − (k + ½) / 2¹⁶) / w, and the lowest bid has the slot. So a node that joins takes slots from others, a node
/// that leaves gives its own away, and no slot changes hands between others, whatever the weights are.
///
/// Lookup: XXH3 of the key and one load, about 5 ns for any number of nodes. Building: about a millisecond, also for
/// 1,000 nodes, since they claim the slots they want most and only the few that nobody claimed are auctioned. Memory:
/// 128 KiB and 48 bytes a node. Balance: one standard deviation of a share is at most √(n / 2¹⁶) of it with n nodes:
/// the fullest of 10 has about 1.02 times the mean, of 100 about 1.07 times, of 1,000 about 1.3 times, or 1.1 times
/// with 2²⁰ slots.
///
/// ```
/// use cachalot_ring::{Node, Placement, Reshape, SlotRing};
///
/// let ring = SlotRing::new([Node::with_weight("big", 3), Node::new("small"), Node::new("tiny")])?;
/// let owner = ring.owner(b"user:42");
///
/// let larger = ring.with("fourth")?;
/// assert!(larger.owner(b"user:42") == owner || larger.owner(b"user:42") == 3);
/// # Ok::<_, cachalot_ring::RingError>(())
/// ```
///
/// # To the bit
///
/// With s = XXH3(name) and b bits to a slot's number, place k of a node's order is found in two rounds, x = k at first:
/// x = (x × f + c) mod 2ᵇ, then x = x xor (x >> ⌈b / 2⌉). f and c are the lower half, its lowest bit set, and the upper
/// half of mix(s) in the first round, of mix(not s) in the second; mix is what XXH3 does with an input of 8 bytes after
/// its secret has been added. A bid is computed as binary32, the logarithm before that as binary64, the product with
/// 1 / w after it; of its bits the highest 17 count. Of equal bids the one with the lower s wins.
///
/// Sources: rendezvous as in [`Rendezvous`](crate::Rendezvous); orders of slots that each node goes through, as in
/// [`Maglev`](crate::Maglev), but with bids instead of turns, which is what keeps others' slots in place.
#[derive(Clone, Debug)]
pub struct SlotRing {
    members: Members,
    bits: u32,
    table: Box<[u16]>,
    claimants: Box<[Claimant]>,
}

const BITS: u32 = 16;

impl SlotRing {
    /// With 2¹⁶ slots, for up to a few hundred nodes.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Duplicate`], [`RingError::TooMany`].
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        Self::with_slots(nodes, 1 << BITS)
    }

    /// With `slots` slots, a power of two from 2⁴ to 2²⁰. More of them even out the shares of more nodes and take
    /// longer to build. All who place the same keys must agree on it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`RingError::Table`] for another number.
    pub fn with_slots<N: Into<Node>>(
        nodes: impl IntoIterator<Item = N>,
        slots: usize,
    ) -> Result<Self, RingError> {
        if !slots.is_power_of_two() || !(4..=20).contains(&slots.ilog2()) {
            return Err(RingError::Table(slots));
        }
        let (members, bits) = (Members::new(nodes)?, slots.ilog2());
        if members.all().len() > NODES_MAX - 1 {
            return Err(RingError::TooMany { nodes: members.all().len(), nodes_max: NODES_MAX - 1 });
        }
        let claimant = |(index, node): (u16, &Node)| Claimant::new(hash(node.name().as_bytes()), node, index);
        let mut claimants: Box<[Claimant]> = members.live().map(claimant).collect();
        // Bids are compared by sixteen bits; who comes first in case of a draw has nothing to do with the alphabet.
        claimants.sort_by_key(|claimant| claimant.seed());
        let table = fill(&claimants, bits);
        Ok(Self { members, bits, table, claimants })
    }

    #[inline]
    fn slot(&self, key: &[u8]) -> usize {
        (hash(key) >> (64 - self.bits)) as usize
    }
}

impl Placement for SlotRing {
    fn nodes(&self) -> &[Node] {
        self.members.all()
    }

    #[inline]
    fn owner(&self, key: &[u8]) -> usize {
        usize::from(self.table[self.slot(key)])
    }

    /// The nodes by their bids: the second is the one that would own the key without the first. Takes about 5 ns a
    /// node if `count` is above 1.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        if count == 1 {
            return vec![self.owner(key)];
        }
        let best = lowest(&self.claimants, self.bits, self.slot(key) as u32, count);
        best.into_iter().map(|bid| usize::from(self.claimants[bid.claimant()].index())).collect()
    }
}

impl Reshape for SlotRing {
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError> {
        Self::with_slots(nodes, 1 << self.bits)
    }
}

/// Who has each slot.
fn fill(claimants: &[Claimant], bits: u32) -> Box<[u16]> {
    let mut best = claimed(claimants, bits);
    for (slot, bid) in best.iter_mut().enumerate().filter(|(_, bid)| **bid == Bid::NONE) {
        *bid = lowest(claimants, bits, slot as u32, 1).first().copied().unwrap_or(Bid::NONE);
    }
    best.into_iter().map(|bid| claimants[bid.claimant()].index()).collect()
}

/// The lowest bid in each slot for which there is one below a limit; [`Bid::NONE`] in the others.
///
/// The limit changes how long it takes, not who gets what.
fn claimed(claimants: &[Claimant], bits: u32) -> Vec<Bid> {
    let weights: f32 = claimants.iter().map(Claimant::weight).sum();
    let heaviest = claimants.iter().map(Claimant::weight).fold(0.0, f32::max);
    // So many bids a slot on average that those without any are about as many as there are nodes.
    let bids = 0.6 * (claimants.len().ilog2() + 2) as f32;
    let limit = claim::rounded(bids / weights);
    let prices = Prices::below(limit * heaviest, bits);
    let mut best = vec![Bid::NONE; 1 << bits];
    for (at, claimant) in claimants.iter().enumerate() {
        claimant.claim(at, &prices, limit, &mut best);
    }
    best
}

/// The `count` lowest bids for a slot, the lowest first.
fn lowest(claimants: &[Claimant], bits: u32, slot: u32, count: usize) -> Vec<Bid> {
    let mut lowest: Vec<Bid> = Vec::with_capacity(count.min(claimants.len()) + 1);
    if count == 0 {
        return lowest;
    }
    for (at, claimant) in claimants.iter().enumerate() {
        let worst = lowest.get(count - 1).copied().unwrap_or(Bid::NONE);
        if let Some(bid) = claimant.bid_below(at, slot, bits, worst) {
            let place = lowest.partition_point(|other| *other < bid);
            lowest.insert(place, bid);
            lowest.truncate(count);
        }
    }
    lowest
}

#[cfg(test)]
mod tests;
