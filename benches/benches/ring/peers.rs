//! Other projects' placements, each with 160 points a node if it has points.

use anchorhash::AnchorHash;
use jumphash::JumpHasher;

use crate::contender::{Contender, Shift};

const POINTS: u32 = 160;

/// hashring: points are nodes of its own, so they carry their number.
pub(crate) struct HashRing(hashring::HashRing<(u32, u32)>);

fn points(node: usize) -> impl Iterator<Item = (u32, u32)> {
    (0..POINTS).map(move |point| (node as u32, point))
}

impl Contender for HashRing {
    fn of(names: &[String]) -> Self {
        let mut ring = hashring::HashRing::new();
        ring.batch_add((0..names.len()).flat_map(points).collect());
        Self(ring)
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        self.0.get(&key).map_or(usize::MAX, |(node, _)| *node as usize)
    }

    fn join(&mut self, _: &str) {
        let next = self.0.len() / POINTS as usize;
        self.0.batch_add(points(next).collect());
    }

    fn leave(&mut self, _: &str, number: usize) -> Shift {
        points(number).for_each(|point| {
            self.0.remove(&point);
        });
        Shift::Kept
    }
}

pub(crate) struct ConsistentHashRing(consistent_hash_ring::Ring<u32>);

impl Contender for ConsistentHashRing {
    fn of(names: &[String]) -> Self {
        let builder = consistent_hash_ring::RingBuilder::default().vnodes(POINTS as usize);
        Self(builder.nodes_iter(0..names.len() as u32).build())
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        *self.0.get(key) as usize
    }

    fn join(&mut self, _: &str) {
        self.0.insert(self.0.len() as u32);
    }

    fn leave(&mut self, _: &str, number: usize) -> Shift {
        self.0.remove(&(number as u32));
        Shift::Kept
    }
}

/// ketama: cannot be changed, so it is built anew.
pub(crate) struct KetamaCrate {
    ring: ketama::Ring,
    names: Vec<String>,
}

impl KetamaCrate {
    fn rebuild(&mut self) {
        self.ring = Self::of(&self.names).ring;
    }
}

impl Contender for KetamaCrate {
    fn of(names: &[String]) -> Self {
        let servers: Vec<&str> = names.iter().map(String::as_str).collect();
        Self { ring: ketama::Ring::build(&servers), names: names.to_vec() }
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        self.ring.route(key.as_bytes())
    }

    fn join(&mut self, name: &str) {
        self.names.push(name.to_owned());
        self.rebuild();
    }

    fn leave(&mut self, _: &str, number: usize) -> Shift {
        self.names.remove(number);
        self.rebuild();
        Shift::Down
    }
}

pub(crate) struct JumpHash {
    hasher: JumpHasher,
    nodes: u32,
}

impl Contender for JumpHash {
    fn of(names: &[String]) -> Self {
        Self { hasher: JumpHasher::new_with_keys(1, 2), nodes: names.len() as u32 }
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        self.hasher.slot(&key, self.nodes) as usize
    }

    fn join(&mut self, _: &str) {
        self.nodes += 1;
    }

    fn leave(&mut self, _: &str, _: usize) -> Shift {
        self.nodes -= 1;
        Shift::Kept
    }

    fn leaver(nodes: usize) -> usize {
        nodes - 1
    }
}

/// anchorhash: with room for twice as many nodes.
pub(crate) struct Anchor {
    ring: AnchorHash<&'static str, u32, std::hash::RandomState>,
    next: u32,
}

impl Contender for Anchor {
    fn of(names: &[String]) -> Self {
        let next = names.len() as u32;
        let builder = anchorhash::Builder::default().with_resources(0..next);
        Self { ring: builder.build(2 * names.len() as u16), next }
    }

    #[inline]
    fn owner(&self, key: &'static str) -> usize {
        self.ring.get_resource(key).map_or(usize::MAX, |node| *node as usize)
    }

    fn join(&mut self, _: &str) {
        assert!(self.ring.add_resource(self.next).is_ok(), "there is room");
        self.next += 1;
    }

    fn leave(&mut self, _: &str, number: usize) -> Shift {
        assert!(self.ring.remove_resource(&(number as u32)).is_ok(), "it is there");
        Shift::Kept
    }
}
