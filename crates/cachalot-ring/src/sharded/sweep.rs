//! Patterns: one node after the other.

use std::sync::atomic::Ordering;
use std::vec::Vec;

use cachalot_core::{Backend, KeyPattern, Result, SweepCursor, Swept};

use super::Sharded;

/// Where a sweep is: at a node of a view, and how far there.
struct Place {
    generation: u64,
    node: u32,
    inner: SweepCursor,
}

impl<B: Backend> Sharded<B> {
    /// A part at one node. If the nodes have changed since the last one, the sweep begins anew. A record of several
    /// copies counts once, as far as all of them are there, and in one of several sweeps that run at once.
    pub(super) async fn sweep_in_turn(&self, pattern: &KeyPattern, from: &SweepCursor) -> Result<Swept> {
        let view = self.view();
        let place = Place::read(from).filter(|place| place.generation == view.generation);
        let Place { generation, node, inner } = place.unwrap_or_else(|| Place::first(view.generation));
        let Some(at) = view.nodes.get(node as usize) else { return Ok(Swept { removed: 0, next: None }) };
        let Swept { removed, next } = at.sweep(pattern, &inner).await?;
        let next = match next {
            Some(inner) => Some(Place { generation, node, inner }),
            None if (node as usize) + 1 < view.nodes.len() => {
                Some(Place { generation, node: node + 1, inner: SweepCursor::START })
            }
            None => None,
        };
        let removed = self.records_of(removed, next.is_none());
        Ok(Swept { removed, next: next.map(|place| place.write()) })
    }

    /// How many records so many copies make up, with those left over before. These are remembered here, not in the
    /// cursor: a part that is done again would count them twice.
    fn records_of(&self, copies_removed: u64, is_last: bool) -> u64 {
        let copies = self.copies as u64;
        let removed = copies_removed + self.odd_copies.swap(0, Ordering::Relaxed);
        if is_last {
            return removed.div_ceil(copies);
        }
        self.odd_copies.fetch_add(removed % copies, Ordering::Relaxed);
        removed / copies
    }
}

impl Place {
    fn first(generation: u64) -> Self {
        Self { generation, node: 0, inner: SweepCursor::START }
    }

    /// The number of the view, the node, and the node's own cursor.
    fn write(&self) -> SweepCursor {
        let mut bytes = Vec::with_capacity(16 + self.inner.as_bytes().len());
        bytes.extend_from_slice(&self.generation.to_be_bytes());
        bytes.extend_from_slice(&self.node.to_be_bytes());
        bytes.extend_from_slice(self.inner.as_bytes());
        SweepCursor::new(bytes)
    }

    fn read(cursor: &SweepCursor) -> Option<Self> {
        let (generation, rest) = cursor.as_bytes().split_first_chunk()?;
        let (node, inner) = rest.split_first_chunk()?;
        let inner = match inner {
            [] => SweepCursor::START,
            inner => SweepCursor::new(inner.to_vec()),
        };
        let generation = u64::from_be_bytes(*generation);
        Some(Self { generation, node: u32::from_be_bytes(*node), inner })
    }
}
