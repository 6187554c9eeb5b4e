//! Which node holds a key, while the nodes come and go.
//!
//! A [`View`] is a snapshot that one operation works with. Its first ring says who is read; all of its rings together
//! say who is told of a removal.

use std::borrow::ToOwned;
use std::boxed::Box;
use std::collections::BTreeMap;
use std::fmt;
use std::string::String;
use std::sync::Arc;
use std::time::Duration;
use std::vec::Vec;

use cachalot_core::{Backend, Timestamp, mutant};

use super::node::Node;
use crate::{Node as RingNode, Placement, RingError};

/// What builds a ring of nodes.
pub(super) type Plan = Box<dyn Fn(Vec<RingNode>) -> Result<Box<dyn Placement>, RingError> + Send + Sync>;

/// A ring and what stands at its places. `None`: a node that has left since.
pub(super) struct Layout<B> {
    placement: Arc<dyn Placement>,
    nodes: Vec<Option<Arc<Node<B>>>>,
}

impl<B> Clone for Layout<B> {
    fn clone(&self) -> Self {
        Self { placement: self.placement.clone(), nodes: self.nodes.clone() }
    }
}

impl<B> Layout<B> {
    /// `nodes` in the order of those of the placement.
    pub(super) fn new(placement: Box<dyn Placement>, nodes: Vec<Option<Arc<Node<B>>>>) -> Self {
        Self { placement: placement.into(), nodes }
    }

    /// The names at its places where nobody stands.
    fn departed(&self) -> impl Iterator<Item = String> {
        let places = self.placement.nodes().iter().zip(&self.nodes);
        places.filter(|(_, node)| node.is_none()).map(|(place, _)| place.name().to_owned())
    }

    fn has(&self, node: &Arc<Node<B>>) -> bool {
        self.nodes.iter().flatten().any(|it| Arc::ptr_eq(it, node))
    }
}

/// How far a move is.
enum Move<B> {
    /// The old ring is read, removals go to both.
    Announced { to: Layout<B>, until: Timestamp, overlap: Duration },
    /// The new ring is read, removals go to both.
    Made { from: Layout<B>, until: Timestamp },
}

pub(super) struct Topology<B> {
    /// The one that is read.
    current: Layout<B>,
    moving: Option<Move<B>>,
    /// What was before, as far as its nodes are still here: they may have kept what they held then.
    former: Vec<(Layout<B>, Timestamp)>,
    /// The last era of those that have left.
    departed: BTreeMap<String, u64>,
    generation: u64,
    /// When another ring began to be read.
    read_since: Option<Timestamp>,
    longest_life: Duration,
}

impl<B: Backend> Topology<B> {
    pub(super) fn new(
        current: Layout<B>,
        former: Vec<Layout<B>>,
        longest_life: Duration,
        now: Timestamp,
    ) -> Self {
        // Which era those had that have left is not known: the first one at least.
        let left = former.iter().flat_map(Layout::departed).map(|name| (name, 0));
        let (moving, departed) = (None, left.collect());
        let former = former.into_iter().map(|layout| (layout, now + longest_life)).collect();
        Self { current, moving, former, departed, generation: 0, read_since: None, longest_life }
    }

    pub(super) fn is_moving(&self) -> bool {
        self.moving.is_some()
    }

    /// The node of this name that is in use.
    pub(super) fn find(&self, name: &str) -> Option<&Arc<Node<B>>> {
        self.current.nodes.iter().flatten().find(|node| node.name == name)
    }

    /// The last era of a node that has left.
    pub(super) fn departed(&self, name: &str) -> Option<u64> {
        self.departed.get(name).copied()
    }

    /// The current ring is read for `overlap` more, then `to`; removals go to both for twice as long.
    pub(super) fn announce(&mut self, to: Layout<B>, overlap: Duration, now: Timestamp) {
        self.moving = Some(Move::Announced { to, until: now + overlap, overlap });
        self.generation += 1;
    }

    /// When there is something to do next.
    fn until(&self) -> Timestamp {
        let forgets = self.former.iter().map(|(_, until)| *until).min().unwrap_or(Timestamp::NEVER);
        match &self.moving {
            Some(Move::Announced { until, .. } | Move::Made { until, .. }) => forgets.min(*until),
            None => forgets,
        }
    }

    /// Does what is due by `now`. Whether there was anything.
    pub(super) fn advance(&mut self, now: Timestamp) -> bool {
        let before = self.generation;
        while self.until() <= now && self.until() != Timestamp::NEVER {
            self.generation += 1;
            self.former.retain(|(_, until)| *until > now);
            match self.moving.take() {
                Some(Move::Announced { to, until, overlap }) if until <= now => {
                    let from = std::mem::replace(&mut self.current, to);
                    self.moving = Some(Move::Made { from, until: until + overlap });
                    self.read_since = Some(until);
                }
                Some(Move::Made { from, until }) if until <= now => self.settle(from, now),
                other => self.moving = other,
            }
        }
        self.generation != before
    }

    fn settle(&mut self, from: Layout<B>, now: Timestamp) {
        self.former.push((from, now + self.longest_life));
        for (layout, _) in &mut self.former {
            for place in &mut layout.nodes {
                if let Some(left) = place.take_if(|node| !self.current.has(node)) {
                    let era = self.departed.entry(left.name.clone()).or_default();
                    *era = left.era.max(*era);
                }
            }
        }
    }

    pub(super) fn view(&self) -> View<B> {
        let mut nodes: Vec<Arc<Node<B>>> = Vec::new();
        let other = match &self.moving {
            Some(Move::Announced { to: other, .. } | Move::Made { from: other, .. }) => Some(other),
            None => None,
        };
        let is_told = |_: &&Layout<B>| !mutant!(RemovesFromOneOwner);
        let layouts = [&self.current].into_iter().chain(other.into_iter().filter(is_told));
        let former = self.former.iter().map(|(layout, _)| layout).filter(is_told);
        let rings = layouts.chain(former).map(|layout| Ring::new(layout, &mut nodes)).collect();
        View {
            generation: self.generation,
            rings,
            nodes,
            is_moving: self.moving.is_some(),
            read_since: self.read_since,
            until: self.until(),
        }
    }
}

/// A ring whose places are numbers of nodes.
struct Ring {
    placement: Arc<dyn Placement>,
    places: Vec<Option<usize>>,
}

impl Ring {
    fn new<B>(layout: &Layout<B>, nodes: &mut Vec<Arc<Node<B>>>) -> Self {
        let mut number = |node: &Arc<Node<B>>| {
            let known = nodes.iter().position(|it| Arc::ptr_eq(it, node));
            known.unwrap_or_else(|| {
                nodes.push(node.clone());
                nodes.len() - 1
            })
        };
        let places = layout.nodes.iter().map(|node| node.as_ref().map(&mut number)).collect();
        Self { placement: layout.placement.clone(), places }
    }

    /// The numbers of the first `width` owners, as far as they are here.
    fn owners(&self, key: &[u8], width: usize, mut found: impl FnMut(usize)) {
        let at = |place: usize| self.places.get(place).copied().flatten();
        match width {
            1 => at(self.placement.owner(key)).into_iter().for_each(&mut found),
            _ => self.placement.owners(key, width).into_iter().filter_map(at).for_each(&mut found),
        }
    }
}

/// A snapshot for one operation.
pub(super) struct View<B> {
    pub(super) generation: u64,
    /// The first one is read, all are told of removals.
    rings: Vec<Ring>,
    /// All that any ring has.
    pub(super) nodes: Vec<Arc<Node<B>>>,
    pub(super) is_moving: bool,
    /// When the first ring began to be read, if there was another before.
    pub(super) read_since: Option<Timestamp>,
    /// When it is not up to date any more.
    pub(super) until: Timestamp,
}

impl<B> View<B> {
    /// The node of this number.
    pub(super) fn node(&self, number: usize) -> &Arc<Node<B>> {
        &self.nodes[number]
    }

    /// The first `width` owners of what is read.
    pub(super) fn owners(&self, key: &[u8], width: usize) -> Few {
        let mut owners = Few::default();
        if let Some(ring) = self.rings.first() {
            ring.owners(key, width, |node| owners.push(node));
        }
        owners
    }

    /// All that may have something of `key` that is trusted, the owners of what is read first.
    pub(super) fn takers(&self, key: &[u8], width: usize) -> Few {
        let mut takers = Few::default();
        for ring in &self.rings {
            ring.owners(key, width, |node| takers.push(node));
        }
        takers
    }

    /// Whether there was no other ring that anything may lie by.
    pub(super) fn has_one_ring(&self) -> bool {
        self.rings.len() == 1
    }

    /// The one owner in the ring that is read, then that of the other one during a move.
    pub(super) fn homes(&self, key: &[u8]) -> Few {
        let mut homes = Few::default();
        for ring in self.rings.iter().take(1 + usize::from(self.is_moving)) {
            ring.owners(key, 1, |node| homes.push(node));
        }
        homes
    }
}

/// A few numbers of nodes, each once; four of them without an allocation.
#[derive(Clone, Default)]
pub(super) struct Few {
    first: [usize; 4],
    count: usize,
    more: Vec<usize>,
}

impl Few {
    pub(super) fn push(&mut self, node: usize) {
        if self.iter().any(|it| it == node) {
            return;
        }
        match self.first.get_mut(self.count) {
            Some(place) => {
                *place = node;
                self.count += 1;
            }
            None => self.more.push(node),
        }
    }

    pub(super) fn and(mut self, node: usize) -> Self {
        self.push(node);
        self
    }

    pub(super) fn get(&self, at: usize) -> Option<usize> {
        self.iter().nth(at)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.first.iter().take(self.count).chain(&self.more).copied()
    }

    pub(super) fn only(&self) -> Option<usize> {
        if self.len() == 1 { self.iter().next() } else { None }
    }

    pub(super) fn len(&self) -> usize {
        self.count + self.more.len()
    }

    pub(super) fn has(&self, node: usize) -> bool {
        self.iter().any(|it| it == node)
    }
}

impl<B> fmt::Debug for View<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("generation", &self.generation)
            .field("is_moving", &self.is_moving)
            .field("nodes", &self.nodes)
            .finish_non_exhaustive()
    }
}
