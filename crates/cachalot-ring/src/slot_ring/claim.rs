use alloc::vec::Vec;

use crate::Node;
use crate::hash::remix;
use crate::logarithm::minus_ln_1_minus;

/// What a node bids for a slot: the price in the upper half, the node in the lower, so that the lower one wins and
/// a draw is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bid(u32);

impl Bid {
    /// Above every bid.
    pub(super) const NONE: Self = Self(u32::MAX);

    #[inline]
    fn new(price: f32, claimant: usize) -> Self {
        Self(((price.to_bits() >> DROPPED) << 16) | claimant as u32)
    }

    /// The place among the claimants of the one who bids.
    pub(super) fn claimant(self) -> usize {
        usize::from(self.0 as u16)
    }
}

/// Bits of an `f32` that a bid leaves out: sign and exponent take nine, eight remain of the fraction, so sixteen of
/// a positive one.
const DROPPED: u32 = 15;

/// `price`, which is above 0, rounded down to what a bid can say.
pub(super) fn rounded(price: f32) -> f32 {
    f32::from_bits(price.to_bits() >> DROPPED << DROPPED)
}

/// What a node of weight 1 bids for the slots in its order, the first of them.
pub(super) struct Prices(Vec<f32>);

impl Prices {
    /// Those below `limit`.
    pub(super) fn below(limit: f32, bits: u32) -> Self {
        Self((0..1 << bits).map(|rank| price(rank, bits)).take_while(|price| *price < limit).collect())
    }
}

fn price(rank: u32, bits: u32) -> f32 {
    minus_ln_1_minus((f64::from(rank) + 0.5) / f64::from(1_u32 << bits)) as f32
}

/// A node with its order over the slots: a permutation of as many bits as there are in a slot's number.
#[derive(Clone, Debug)]
pub(super) struct Claimant {
    seed: u64,
    rounds: [Round; 2],
    weight: f32,
    /// One by the weight.
    ease: f32,
    index: u16,
}

/// A multiplication by an odd number and a sum, and back.
#[derive(Clone, Copy, Debug)]
struct Round {
    factor: u32,
    inverse: u32,
    summand: u32,
}

impl Claimant {
    /// A node of this hash, whose index among all nodes is `index`.
    pub(super) fn new(seed: u64, node: &Node, index: u16) -> Self {
        let rounds = [Round::new(remix(seed)), Round::new(remix(!seed))];
        let weight = node.weight() as f32;
        Self { seed, rounds, weight, ease: 1.0 / weight, index }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn weight(&self) -> f32 {
        self.weight
    }

    pub(super) fn index(&self) -> u16 {
        self.index
    }

    /// Bids for every slot for which this node, number `at`, bids less than `limit`.
    pub(super) fn claim(&self, at: usize, prices: &Prices, limit: f32, best: &mut [Bid]) {
        let bits = best.len().ilog2();
        let wanted = prices.0.partition_point(|price| price * self.ease < limit);
        for (price, rank) in prices.0[..wanted].iter().zip(0..) {
            let slot = &mut best[self.slot(rank, bits) as usize];
            *slot = Bid::new(price * self.ease, at).min(*slot);
        }
    }

    /// What this node, number `at`, bids for `slot`, if it is below `bid`.
    #[inline]
    pub(super) fn bid_below(&self, at: usize, slot: u32, bits: u32, bid: Bid) -> Option<Bid> {
        let rank = self.rank(slot, bits);
        // Without the logarithm it would be less still.
        let floor = 0.999 * self.ease * rank as i32 as f32 / (1_i32 << bits) as f32;
        let ours = (Bid::new(floor, at) < bid).then(|| Bid::new(price(rank, bits) * self.ease, at));
        ours.filter(|ours| *ours < bid)
    }

    /// The slot at this place of the order.
    #[inline]
    fn slot(&self, rank: u32, bits: u32) -> u32 {
        self.rounds.iter().fold(rank, |slot, round| {
            let slot = slot.wrapping_mul(round.factor).wrapping_add(round.summand) & mask(bits);
            slot ^ (slot >> half(bits))
        })
    }

    /// The place of this slot in the order.
    #[inline]
    fn rank(&self, slot: u32, bits: u32) -> u32 {
        self.rounds.iter().rev().fold(slot, |rank, round| {
            // The lower half only: what was added to it is still there above.
            let rank = rank ^ (rank >> half(bits));
            rank.wrapping_sub(round.summand).wrapping_mul(round.inverse) & mask(bits)
        })
    }
}

impl Round {
    fn new(random: u64) -> Self {
        let factor = random as u32 | 1;
        // Newton's method: each turn doubles the bits that are right, and an odd number is its own inverse in three.
        let inverse = (0..4).fold(factor, |inverse, _| {
            inverse.wrapping_mul(2_u32.wrapping_sub(factor.wrapping_mul(inverse)))
        });
        Self { factor, inverse, summand: (random >> 32) as u32 }
    }
}

#[inline]
fn mask(bits: u32) -> u32 {
    (1 << bits) - 1
}

/// Half of `bits` or a bit more, so that a shift by it taken twice is nothing.
#[inline]
fn half(bits: u32) -> u32 {
    bits.div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_goes_through_every_slot_and_back() {
        for bits in [4, 9, 17, 20] {
            let claimant = Claimant::new(remix(u64::from(bits)), &Node::new("a"), 0);
            let mut slots: Vec<u32> = (0..1 << bits).map(|rank| claimant.slot(rank, bits)).collect();
            assert!((0..).zip(&slots).all(|(rank, slot)| claimant.rank(*slot, bits) == rank));
            slots.sort_unstable();
            slots.dedup();
            assert_eq!(slots.len(), 1 << bits);
        }
    }

    #[test]
    fn a_lower_price_is_a_lower_bid() {
        let bids = [1e-16, 1e-7, 0.5, 0.51, 1.0, 12.5].map(|price| Bid::new(price, 9));
        assert!(bids.is_sorted() && bids[5] < Bid::NONE);
        assert!(bids.iter().all(|bid| bid.claimant() == 9));
        assert!(rounded(0.7) <= 0.7 && Bid::new(rounded(0.7), 0) == Bid::new(0.7, 0));
    }
}
