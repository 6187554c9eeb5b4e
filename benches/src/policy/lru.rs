//! Least recently used.

use super::Policy;
use super::hash::KeyMap;
use super::list::{List, Place};

/// Evicts whoever was read longest ago.
#[derive(Clone, Debug)]
pub struct Lru {
    capacity: usize,
    held: KeyMap<Place>,
    queue: List<()>,
}

impl Lru {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), held: KeyMap::default(), queue: List::new() }
    }
}

impl Policy for Lru {
    fn access(&mut self, key: u64) -> bool {
        if let Some(&place) = self.held.get(&key) {
            self.queue.renew(place);
            return true;
        }
        if self.queue.len() == self.capacity
            && let Some((victim, ())) = self.queue.pop()
        {
            self.held.remove(&victim);
        }
        self.held.insert(key, self.queue.push(key, ()));
        false
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
