use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use crate::RingError;

/// A place on a continuum.
pub(crate) trait Point: Copy + Ord {
    /// Its highest 32 bits.
    fn high(self) -> u32;
}

impl Point for u32 {
    #[inline]
    fn high(self) -> u32 {
        self
    }
}

impl Point for u128 {
    #[inline]
    fn high(self) -> u32 {
        (self >> 96) as u32
    }
}

/// Points in order, each with the node it belongs to, and a table in front of them.
///
/// The owner of a place is the node of the first point at or behind it, of the first point of all if there is none.
#[derive(Clone, Debug)]
pub(crate) struct Continuum<P> {
    points: Box<[(P, u16)]>,
    /// For each value that the highest bits of a place can have: how many points lie before all such places.
    starts: Box<[u32]>,
    shift: u32,
    /// How many nodes have a point.
    owners: usize,
}

impl<P: Point> Continuum<P> {
    /// Of points in any order. Of several at one place the first one counts.
    pub(crate) fn new(points: Vec<(P, u16)>) -> Result<Self, RingError> {
        if points.is_empty() {
            return Err(RingError::Empty);
        }
        // One point or two a slot; there are far fewer than 2^31.
        let shift = 32 - points.len().ilog2().max(1);
        let owners = distinct(&points);
        let (points, starts) = sorted(points, shift);
        Ok(Self { points, starts, shift, owners })
    }

    /// How many points there are.
    pub(crate) fn len(&self) -> usize {
        self.points.len()
    }

    #[inline]
    pub(crate) fn owner(&self, place: P) -> usize {
        usize::from(self.points[self.position(place)].1)
    }

    /// The owner and the nodes of the points behind it, each once.
    pub(crate) fn owners(&self, place: P, count: usize) -> Vec<usize> {
        let first = self.position(place);
        let (before, behind) = self.points.split_at(first);
        let walk = behind.iter().chain(before).map(|(_, node)| usize::from(*node));
        distinct_of(walk, count.min(self.owners))
    }

    #[inline]
    fn position(&self, place: P) -> usize {
        let start = self.starts[(place.high() >> self.shift) as usize] as usize;
        let found = self.points[start..].iter().position(|(point, _)| *point >= place);
        found.map_or(0, |steps| start + steps)
    }
}

/// The first `count` distinct values of `walk`, which must have as many.
pub(crate) fn distinct_of(walk: impl Iterator<Item = usize>, count: usize) -> Vec<usize> {
    let mut found = Vec::with_capacity(count);
    if count > 0 {
        for node in walk {
            if !found.contains(&node) {
                found.push(node);
                if found.len() == count {
                    break;
                }
            }
        }
    }
    found
}

type Sorted<P> = (Box<[(P, u16)]>, Box<[u32]>);

/// The points by their places, and for each slot of the table how many points lie before it.
fn sorted<P: Point>(mut points: Vec<(P, u16)>, shift: u32) -> Sorted<P> {
    let slot = |point: &(P, u16)| (point.0.high() >> shift) as usize;
    let mut ends = vec![0_u32; 1 << (32 - shift)];
    points.iter().for_each(|point| ends[slot(point)] += 1);
    let mut before = 0;
    for end in &mut ends {
        before += core::mem::replace(end, before);
    }
    // Into their slots first, since that leaves next to nothing to compare.
    let mut in_slots = points.clone();
    for point in points.drain(..) {
        let end = &mut ends[slot(&point)];
        in_slots[*end as usize] = point;
        *end += 1;
    }
    // Stable, so that points at the same place keep the order of their nodes; and the latter of them are never found.
    let mut start = 0;
    for end in ends.iter_mut() {
        let from = core::mem::replace(&mut start, *end);
        in_slots[from as usize..*end as usize].sort_by_key(|(place, _)| *place);
        *end = from;
    }
    (in_slots.into(), ends.into())
}

fn distinct<P>(points: &[(P, u16)]) -> usize {
    let mut nodes: Vec<u16> = points.iter().map(|(_, node)| *node).collect();
    nodes.sort_unstable();
    nodes.dedup();
    nodes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_is_the_first_point_at_or_behind_the_place() {
        let ring = Continuum::new(vec![(0x8000_0000_u32, 1), (10, 0), (0x8000_0001, 2)]).unwrap();
        let places = [0, 10, 11, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0x8000_0002, u32::MAX];
        assert_eq!(places.map(|place| ring.owner(place)), [0, 0, 1, 1, 1, 2, 0, 0]);
    }

    #[test]
    fn the_table_answers_as_a_search_through_all_points() {
        let hashes = (0..3_000_u64).map(crate::hash::remix);
        let points: Vec<(u32, u16)> = hashes.map(|hash| ((hash >> 32) as u32, hash as u16 % 40)).collect();
        let ring = Continuum::new(points.clone()).unwrap();
        for key in 10_000..60_000 {
            let place = (crate::hash::remix(key) >> 32) as u32;
            let behind = points.iter().filter(|(point, _)| *point >= place).min();
            let expected = behind.or_else(|| points.iter().min()).unwrap().1;
            assert_eq!(ring.owner(place), usize::from(expected));
        }
    }

    #[test]
    fn of_two_points_at_one_place_the_first_counts() {
        let ring = Continuum::new(vec![(7_u32, 3), (9, 2), (7, 1)]).unwrap();
        assert_eq!([0, 7, 8, 10].map(|place| ring.owner(place)), [3, 3, 2, 3]);
    }
}
