//! First in, first out.

use super::Policy;
use super::hash::KeyMap;
use super::list::List;

/// Evicts whoever came first, used or not.
#[derive(Clone, Debug)]
pub struct Fifo {
    capacity: usize,
    held: KeyMap<()>,
    queue: List<()>,
}

impl Fifo {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self { capacity: capacity.max(1), held: KeyMap::default(), queue: List::new() }
    }
}

impl Policy for Fifo {
    fn access(&mut self, key: u64) -> bool {
        if self.held.contains_key(&key) {
            return true;
        }
        if self.queue.len() == self.capacity
            && let Some((victim, ())) = self.queue.pop()
        {
            self.held.remove(&victim);
        }
        self.queue.push(key, ());
        self.held.insert(key, ());
        false
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
