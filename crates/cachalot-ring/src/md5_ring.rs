use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use crate::continuum::Continuum;
use crate::md5::md5;
use crate::node::Members;
use crate::{Node, Placement, Reshape, RingError};

/// The ring that most tutorials build, so that services in other languages and this one agree.
///
/// A node has a point at MD5 of `name:i` for each i from 0 up to the number of points, 100 unless told otherwise; a
/// key stands at its own MD5. Both are read as numbers of 128 bits, the first byte highest. A key belongs to the first
/// point at or behind it, the last ones to the first point of all. In Python:
///
/// ```text
/// ring = sorted((int(md5(f"{node}:{i}".encode()).hexdigest(), 16), node) for node in nodes for i in range(100))
/// owner = ring[bisect_left(ring, (int(md5(key.encode()).hexdigest(), 16),)) % len(ring)][1]
/// ```
///
/// It knows no weights. Lookup: an MD5 of the key, about 110 ns, then one or two steps behind a table. Building: a
/// digest a point and a sort. Memory: 34 to 36 bytes a point. Balance with 100 points: the fullest of 10 nodes has
/// about 1.16 times the mean, the fullest of 100 about 1.27 times.
///
/// Source: Karger et al., "Consistent Hashing and Random Trees", STOC 1997.
#[derive(Clone, Debug)]
pub struct Md5Ring {
    members: Members,
    points: u32,
    continuum: Continuum<u128>,
}

impl Md5Ring {
    /// A ring of 100 points a node.
    ///
    /// # Errors
    ///
    /// [`RingError::Empty`], [`RingError::Duplicate`], [`RingError::TooMany`], and [`RingError::Unweighted`] for a
    /// weight other than 1.
    pub fn new<N: Into<Node>>(nodes: impl IntoIterator<Item = N>) -> Result<Self, RingError> {
        Self::with_points(nodes, 100)
    }

    /// A ring of `points` points a node.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new), and [`RingError::Table`] for no points or more than 65,536 of them.
    pub fn with_points<N: Into<Node>>(
        nodes: impl IntoIterator<Item = N>,
        points: u32,
    ) -> Result<Self, RingError> {
        if !(1..=1 << 16).contains(&points) {
            return Err(RingError::Table(points as usize));
        }
        let members = Members::new(nodes)?.unweighted()?;
        let mut all = Vec::with_capacity(members.live().len() * points as usize);
        let mut hashed = String::new();
        for (index, node) in members.live() {
            for point in 0..points {
                hashed.clear();
                // Writing to a string does not fail.
                let _ = write!(hashed, "{}:{point}", node.name());
                all.push((place(hashed.as_bytes()), index));
            }
        }
        Ok(Self { continuum: Continuum::new(all)?, members, points })
    }
}

impl Placement for Md5Ring {
    fn nodes(&self) -> &[Node] {
        self.members.all()
    }

    #[inline]
    fn owner(&self, key: &[u8]) -> usize {
        self.continuum.owner(place(key))
    }

    /// The nodes of the points behind the key's place, each once.
    fn owners(&self, key: &[u8], count: usize) -> Vec<usize> {
        self.continuum.owners(place(key), count)
    }
}

impl Reshape for Md5Ring {
    fn reshape(&self, nodes: Vec<Node>) -> Result<Self, RingError> {
        Self::with_points(nodes, self.points)
    }
}

fn place(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(md5(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by the two lines of Python above.
    const OWNERS: &str = "42134414214123223243111211342311221233243214243224\
        13322321414311433313342341232422321133324144332212";

    #[test]
    fn it_agrees_with_the_ring_of_other_languages() {
        let ring = Md5Ring::new(["cache-1", "cache-2", "cache-3", "cache-4"]).unwrap();
        let owners: String = (0..100)
            .map(|key| alloc::format!("user:{key}"))
            .map(|key| char::from(b'1' + ring.owner(key.as_bytes()) as u8))
            .collect();
        assert_eq!(owners, OWNERS);
    }

    #[test]
    fn weights_and_rings_without_points_are_refused() {
        let heavy = Md5Ring::new([Node::new("a"), Node::with_weight("b", 2)]);
        assert_eq!(heavy.unwrap_err(), RingError::Unweighted("b".into()));
        assert_eq!(Md5Ring::with_points(["a"], 0).unwrap_err(), RingError::Table(0));
    }

    #[test]
    fn copies_go_to_the_nodes_behind() {
        let ring = Md5Ring::with_points(["a", "b", "c"], 1).unwrap();
        let mut around = [("a", 0), ("b", 1), ("c", 2)];
        around.sort_by_key(|(name, _)| place(alloc::format!("{name}:0").as_bytes()));
        let first = around.iter().position(|(_, index)| *index == ring.owner(b"key")).unwrap();
        let expected: Vec<usize> = (0..3).map(|step| around[(first + step) % 3].1).collect();
        assert_eq!(ring.owners(b"key", 3), expected);
    }
}
