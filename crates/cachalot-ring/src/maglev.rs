use alloc::boxed::Box;
use alloc::collections::BinaryHeap;
use alloc::vec;
use alloc::vec::Vec;
use core::cmp::Ordering;

use crate::continuum::distinct_of;
use crate::hash::{hash, remix};
use crate::node::{Members, NODES_MAX};
use crate::{Node, Placement, Reshape, RingError};

/// Google's load balancer's table: even shares, one look.
///
/// Each node has an order of its own over the slots of the table; in turns, more of them for more weight, each takes
/// the first slot in its order that is free. A key looks into the slot of its hash.
///
/// Shares are even to one slot, which is more than [`SlotRing`](crate::SlotRing) can say. For that, a node that comes
/// or goes also moves a few keys between others, 0.2 % of all keys with 10 nodes and 0.6 % with 1,000, which is then
/// six times what must move. As owner of data choose a ring without that; to spread requests this is the best there is.
///
/// Lookup: XXH3 of the key and one slot. Building: a few milliseconds. Memory: 2 bytes a slot. Weights: a share is
/// rounded to whole slots, so a node of a tiny one may get none.
///
/// Source: Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016, §3.4. The order of
/// a node is (XXH3(name) + k × (1 + mix(XXH3(name)) mod (size − 1))) mod size; the slot of a key is XXH3(key) × size / 2⁶⁴.
/// It is the turn of the node with the lowest (2 × slots taken + 1) / weight, of equal ones the first by name.
#[derive(Clone, Debug)]
pub struct Maglev {
    members: Members,
    table: Box<[u16]>,
    /// How many nodes have a slot.
    owners: usize,
}

/// The paper's smaller table, good for hundreds of nodes.
const SLOTS: usize = 65_537;
/// As large as anyone has made it.
const SLOTS_MAX: usize = 5_000_011;
const FREE: u16 = u16::MAX;

impl Maglev {
    /// With a table of 65,537 slots, for up to 650 nodes or so; with more the shares get uneven by over a percent.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Duplicate`], [`RingError::TooMany`].
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        Self::with_slots(nodes, SLOTS)
    }

    /// With a table of `slots` slots: a prime, at most 5,000,011, better 100 times as many as nodes. All who place the
    /// same keys must agree on it.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`RingError::Table`] for another number.
    pub fn with_slots<N: Into<Node>>(
        nodes: impl IntoIterator<Item = N>,
        slots: usize,
    ) -> Result<Self, RingError> {
        if slots > SLOTS_MAX || !is_prime(slots) {
            return Err(RingError::Table(slots));
        }
        let members = Members::new(nodes)?;
        let nodes_max = NODES_MAX.min(slots) - 1;
        if members.all().len() > nodes_max {
            return Err(RingError::TooMany { nodes: members.all().len(), nodes_max });
        }
        let (table, owners) = fill(&members, slots);
        Ok(Self { members, table, owners })
    }

    #[inline]
    fn slot(&self, key: &[u8]) -> usize {
        ((u128::from(hash(key)) * self.table.len() as u128) >> 64) as usize
    }
}

impl Placement for Maglev {
    fn nodes(&self) -> &[Node] {
        self.members.all()
    }

    #[inline]
    fn owner(&self, key: &[u8]) -> usize {
        usize::from(self.table[self.slot(key)])
    }

    /// The nodes of the key's slot and of those behind it, each once.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        let (before, behind) = self.table.split_at(self.slot(key));
        distinct_of(behind.iter().chain(before).map(|node| usize::from(*node)), count.min(self.owners))
    }
}

impl Reshape for Maglev {
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError> {
        Self::with_slots(nodes, self.table.len())
    }
}

/// A node's way through the slots, and how often it took one.
struct Taker {
    slot: usize,
    step: usize,
    index: u16,
    taken: u64,
    weight: u64,
    order: usize,
}

impl Taker {
    fn new(order: usize, index: u16, node: &Node, slots: usize) -> Self {
        let first = hash(node.name().as_bytes());
        let (slot, step) = (first % slots as u64, 1 + remix(first) % (slots as u64 - 1));
        let weight = u64::from(node.weight());
        Self { slot: slot as usize, step: step as usize, index, taken: 0, weight, order }
    }

    fn take(&mut self, table: &mut [u16]) {
        loop {
            let slot = self.slot;
            self.slot += self.step;
            if self.slot >= table.len() {
                self.slot -= table.len();
            }
            if table[slot] == FREE {
                table[slot] = self.index;
                self.taken += 1;
                return;
            }
        }
    }
}

/// Greatest is who has its turn: the one with the least before the middle of its next slot for its weight, which is
/// Sainte-Laguë's way to give seats to parties.
impl Ord for Taker {
    fn cmp(&self, other: &Self) -> Ordering {
        let (ours, theirs) = ((2 * self.taken + 1) * other.weight, (2 * other.taken + 1) * self.weight);
        theirs.cmp(&ours).then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Taker {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Taker {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Taker {}

/// The full table, and how many nodes are in it.
fn fill(members: &Members, slots: usize) -> (Box<[u16]>, usize) {
    let mut table = vec![FREE; slots];
    let takers =
        members.live().enumerate().map(|(order, (index, node))| Taker::new(order, index, node, slots));
    let mut turns: BinaryHeap<Taker> = takers.collect();
    for _ in 0..slots {
        if let Some(mut next) = turns.peek_mut() {
            next.take(&mut table);
        }
    }
    let owners = turns.iter().filter(|taker| taker.taken > 0).count();
    (table.into(), owners)
}

fn is_prime(number: usize) -> bool {
    let divisors = (2..).take_while(|divisor| divisor * divisor <= number);
    number > 2 && divisors.into_iter().all(|divisor| !number.is_multiple_of(divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots_of(ring: &Maglev, node: usize) -> usize {
        ring.table.iter().filter(|owner| usize::from(**owner) == node).count()
    }

    #[test]
    fn equal_nodes_have_equal_shares_to_a_slot() {
        let ring = Maglev::new(["a", "b", "c", "d", "e", "f", "g"]).unwrap();
        assert!((0..7).all(|node| [9_362, 9_363].contains(&slots_of(&ring, node))));
    }

    #[test]
    fn shares_follow_weights_to_a_slot() {
        let weights = [1, 2, 5, 92];
        let nodes =
            weights.iter().zip(["a", "b", "c", "d"]).map(|(weight, name)| Node::with_weight(name, *weight));
        let ring = Maglev::new(nodes).unwrap();
        for (node, weight) in weights.into_iter().enumerate() {
            let ideal = 65_537.0 * f64::from(weight) / 100.0;
            assert!((slots_of(&ring, node) as f64 - ideal).abs() <= 1.0);
        }
    }

    #[test]
    fn a_table_is_of_a_prime_size_and_larger_than_the_number_of_nodes() {
        assert_eq!(Maglev::with_slots(["a"], 65_536).unwrap_err(), RingError::Table(65_536));
        assert_eq!(Maglev::with_slots(["a"], 0).unwrap_err(), RingError::Table(0));
        let full = Maglev::with_slots(["a", "b", "c"], 3).unwrap_err();
        assert_eq!(full, RingError::TooMany { nodes: 3, nodes_max: 2 });
        assert!(Maglev::with_slots(["a", "b"], 3).is_ok());
    }

    #[test]
    fn a_weight_too_small_for_a_slot_gets_no_key_and_hangs_nothing() {
        let nodes = [Node::with_weight("big", u32::MAX), Node::new("small")];
        assert_eq!(Maglev::new(nodes).unwrap().owners(b"key", 2), [0]);
    }
}
