use alloc::vec::Vec;
use core::hint::select_unpredictable;
use core::num::NonZeroU32;

use crate::hash::{hash, remix};
use crate::node::Members;
use crate::{Node, Placement, RingError};

/// Jump consistent hash: perfect balance out of no memory, for nodes that are numbered.
///
/// The place of a node in the list is its identity, its name is not: the list may only grow and shrink at its end.
/// So there is no [`Reshape`](crate::Reshape) here, only [`with_last`](Self::with_last) and
/// [`without_last`](Self::without_last), and no weights. For shards of storage that get more over time, not for caches
/// whose nodes die in any order.
///
/// ```compile_fail
/// use cachalot_ring::{Jump, Reshape};
/// Jump::new(["a", "b", "c"]).unwrap().without("a"); // Every key but a few would move.
/// ```
///
/// Lookup: XXH3 of the key, then ln(n) + 0.6 steps of 4 ns or so. Building: nothing. Memory: the names. Balance: ideal,
/// only the keys' own chance remains.
///
/// Source: Lamping and Veach, "A Fast, Minimal Memory, Consistent Hash Algorithm", arXiv 1406.2294, 2014.
#[derive(Clone, Debug)]
pub struct Jump {
    nodes: Vec<Node>,
    buckets: NonZeroU32,
}

impl Jump {
    /// Of these nodes in this order.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Duplicate`], [`RingError::TooMany`], and [`RingError::Unweighted`] for a
    /// weight other than 1.
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        let nodes = Members::new(nodes)?.unweighted()?.all().to_vec();
        let buckets = u32::try_from(nodes.len()).ok().and_then(NonZeroU32::new).ok_or(RingError::Empty)?;
        Ok(Self { nodes, buckets })
    }

    /// This placement and `node` at its end. Moves 1 key of n + 1, all of them to `node`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_last(&self, node: impl Into<Node>) -> Result<Self, RingError> {
        Self::new(self.nodes.iter().cloned().chain([node.into()]))
    }

    /// This placement without its last node. Moves that node's keys and no others.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`] if it was the only one.
    pub fn without_last(&self) -> Result<Self, RingError> {
        Self::new(self.nodes[..self.nodes.len() - 1].iter().cloned())
    }

    /// The function alone: the bucket of a 64-bit hash, below `buckets`.
    #[inline]
    pub fn bucket(hash: u64, buckets: NonZeroU32) -> u32 {
        let (mut state, mut bucket, mut over) = (hash, 0_u32, false);
        while !over {
            // Where the leaps end nobody can predict: four at a time cost less than a wrong guess.
            for _ in 0..4 {
                state = state.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
                let next = leap(bucket + 1, (state >> 33) as u32 + 1);
                over |= next >= u64::from(buckets.get());
                bucket = select_unpredictable(over, bucket, next as u32);
            }
        }
        bucket
    }
}

impl Placement for Jump {
    fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    #[inline]
    fn owner(&self, key: &[u8]) -> usize {
        Self::bucket(hash(key), self.buckets) as usize
    }

    /// The owner, then for each further copy the bucket of another hash among the nodes that are left.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..self.nodes.len()).collect();
        let mut owners = Vec::with_capacity(count.min(left.len()));
        let mut state = hash(key);
        while let Some(buckets) = NonZeroU32::new(left.len() as u32).filter(|_| owners.len() < count) {
            owners.push(left.remove(Self::bucket(state, buckets) as usize));
            state = remix(state);
        }
        owners
    }
}

/// `(from as f64 * (2^31 / divisor)) as u64`, as the paper has it, to the bit.
///
/// Only the multiplication by `from` waits for the step before, so it is done in integers, which take a third of the
/// time of a conversion to floating point and back.
#[inline]
fn leap(from: u32, divisor: u32) -> u64 {
    let stretch = (1_u64 << 31) as f64 / i64::from(divisor) as f64;
    // The same with 32 bits behind the point, cut off: `divisor` is at most 2^31, so the exponent is 0 to 31.
    let bits = stretch.to_bits();
    let exponent = (bits >> 52) - 1023;
    let fixed = ((bits | (1 << 52)) << 11) >> (31 - exponent);
    let product = u128::from(from) * u128::from(fixed);
    let next = (product >> 32) as u64;
    // What was cut off may add `from` in the last place, rounding to 53 bits less than 2^12.
    let above = u64::from(product as u32) + u64::from(from) + (1 << 12);
    if above >> 32 == 0 { next } else { rounded(from, stretch) }
}

// Out of the way: within the loop it would be computed each time.
#[cold]
#[inline(never)]
fn rounded(from: u32, stretch: f64) -> u64 {
    (f64::from(from) * stretch) as u64
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    fn bucket(hash: u64, buckets: u32) -> u32 {
        Jump::bucket(hash, NonZeroU32::new(buckets).unwrap())
    }

    /// As it stands in the paper.
    fn from_the_paper(mut key: u64, buckets: u32) -> u32 {
        let (mut bucket, mut next) = (-1_i64, 0_i64);
        while next < i64::from(buckets) {
            bucket = next;
            key = key.wrapping_mul(2_862_933_555_777_941_757).wrapping_add(1);
            next = ((bucket + 1) as f64 * ((1_i64 << 31) as f64 / ((key >> 33) + 1) as f64)) as i64;
        }
        bucket as u32
    }

    #[test]
    fn known_hashes_fall_into_their_buckets() {
        assert_eq!(bucket(256, 1024), 520);
        assert_eq!(bucket(0xdead_beef, 100), 87);
        assert_eq!(bucket(10_863_919_174_838_991, 11), 6);
        assert_eq!(bucket(2_016_238_256_797_177_309, 11), 3);
        assert_eq!(bucket(1_673_758_223_894_951_030, 11), 5);
    }

    #[test]
    fn every_step_is_that_of_the_paper() {
        for key in 0..200_000_u64 {
            let hash = remix(key);
            let buckets = 1 + (remix(hash) >> (32 + key % 32)) as u32;
            assert_eq!(bucket(hash, buckets), from_the_paper(hash, buckets), "{hash} of {buckets}");
        }
    }

    #[test]
    fn a_leap_to_the_very_edge_of_a_bucket_rounds_as_the_paper_does() {
        for divisor in (1..=1_u32 << 31).step_by(9_973).chain([1, 2, 3, 1 << 30, (1 << 31) - 1, 1 << 31]) {
            // Where from * 2^31 / divisor is, or just misses, a whole number.
            let near = [
                1,
                2,
                3,
                divisor,
                divisor - 1,
                divisor / 2,
                divisor / 3,
                divisor.saturating_mul(2),
                u32::MAX,
            ];
            for from in near.map(|from| from.max(1)) {
                let paper = (f64::from(from) * ((1_u64 << 31) as f64 / f64::from(divisor))) as u64;
                assert_eq!(leap(from, divisor), paper, "{from} / {divisor}");
            }
        }
    }

    #[test]
    fn a_node_at_the_end_takes_keys_and_gives_them_back() {
        let ten = Jump::new((0..10).map(|node| node.to_string())).unwrap();
        let eleven = ten.with_last("10").unwrap();
        let back = eleven.without_last().unwrap();
        let keys: Vec<_> = (0..20_000).map(|key| key.to_string()).collect();
        let moved = keys.iter().filter(|key| ten.owner(key.as_bytes()) != eleven.owner(key.as_bytes()));
        assert!(moved.clone().all(|key| eleven.owner(key.as_bytes()) == 10));
        assert!((1_600..2_050).contains(&moved.count()), "about one of eleven");
        assert!(keys.iter().all(|key| ten.owner(key.as_bytes()) == back.owner(key.as_bytes())));
    }

    #[test]
    fn the_last_node_of_all_stays() {
        assert_eq!(Jump::new(["a"]).unwrap().without_last().unwrap_err(), RingError::Empty);
    }

    #[test]
    fn weights_are_refused() {
        let drained = Jump::new([Node::new("a"), Node::with_weight("b", 0)]);
        assert_eq!(drained.unwrap_err(), RingError::Unweighted("b".into()));
    }
}
