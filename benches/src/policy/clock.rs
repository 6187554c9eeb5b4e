//! CLOCK: a second chance for whoever was read since the hand last came by.

use super::Policy;
use super::hash::KeyMap;
use super::list::{List, Place};

/// FIFO with one bit that a hit sets and a reprieve clears (Corbató, 1968).
#[derive(Clone, Debug)]
pub struct Clock {
    capacity: usize,
    held: KeyMap<Place>,
    queue: List<bool>,
}

impl Clock {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), held: KeyMap::default(), queue: List::new() }
    }

    fn evict(&mut self) {
        while let Some(place) = self.queue.oldest() {
            if !std::mem::take(self.queue.mark(place)) {
                let (victim, _) = self.queue.remove(place);
                self.held.remove(&victim);
                return;
            }
            self.queue.renew(place);
        }
    }
}

impl Policy for Clock {
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
