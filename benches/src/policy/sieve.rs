//! SIEVE: a hand that leaves the spared where they are.

use super::Policy;
use super::hash::KeyMap;
use super::list::{List, Place};

/// One queue, one bit, one hand from the oldest towards the newest
/// (Zhang et al., "SIEVE is Simpler than LRU", NSDI 2024).
#[derive(Clone, Debug)]
pub struct Sieve {
    capacity: usize,
    held: KeyMap<Place>,
    queue: List<bool>,
    hand: Option<Place>,
}

impl Sieve {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), held: KeyMap::default(), queue: List::new(), hand: None }
    }

    fn evict(&mut self) {
        while let Some(place) = self.hand.or_else(|| self.queue.oldest()) {
            self.hand = self.queue.newer(place);
            if !std::mem::take(self.queue.mark(place)) {
                let (victim, _) = self.queue.remove(place);
                self.held.remove(&victim);
                return;
            }
        }
    }
}

impl Policy for Sieve {
    fn access(&mut self, key: u64) -> bool {
        if let Some(&place) = self.held.get(&key) {
            *self.queue.mark(place) = true;
            return true;
        }
        if self.queue.len() == self.capacity {
            self.evict();
        }
        self.held.insert(key, self.queue.push(key, false));
        false
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
