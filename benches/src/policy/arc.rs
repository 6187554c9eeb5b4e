//! ARC: recency against frequency, the balance set by what the ghosts regret.

use super::Policy;
use super::hash::KeyMap;
use super::list::{List, Place};

/// Adaptive replacement cache (Megiddo and Modha, FAST 2003): two LRU queues, seen once and seen again, each
/// with a ghost; a hit in a ghost makes its queue's share grow.
#[derive(Clone, Debug)]
pub struct ArcCache {
    capacity: usize,
    /// The share of the keys seen once.
    target: f64,
    places: KeyMap<(usize, Place)>,
    /// Held once, held again, and their ghosts.
    queues: [List<()>; 4],
}

const ONCE: usize = 0;
const AGAIN: usize = 1;
const ONCE_GHOST: usize = 2;
const AGAIN_GHOST: usize = 3;

impl ArcCache {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            target: 0.0,
            places: KeyMap::default(),
            queues: [List::new(), List::new(), List::new(), List::new()],
        }
    }

    fn len(&self, queue: usize) -> usize {
        self.queues[queue].len()
    }

    fn push(&mut self, queue: usize, key: u64) {
        let place = self.queues[queue].push(key, ());
        self.places.insert(key, (queue, place));
    }

    fn drop_oldest(&mut self, queue: usize) {
        if let Some((key, ())) = self.queues[queue].pop() {
            self.places.remove(&key);
        }
    }

    /// Turns the oldest key of one of the held queues into a ghost.
    fn replace(&mut self, again_regretted: bool) {
        // The share is a fraction; queues have whole keys.
        let (once, target) = (self.len(ONCE), self.target as usize);
        let from_once = once > 0 && (once > target || (again_regretted && once == target));
        let from = if from_once || self.len(AGAIN) == 0 { ONCE } else { AGAIN };
        if let Some((key, ())) = self.queues[from].pop() {
            self.push(from + ONCE_GHOST, key);
        }
    }

    fn regret(&mut self, queue: usize) {
        let (ours, theirs) = (self.len(queue) as f64, self.len(ONCE_GHOST + AGAIN_GHOST - queue) as f64);
        let step = (theirs / ours).max(1.0);
        let moved = if queue == ONCE_GHOST { self.target + step } else { self.target - step };
        self.target = moved.clamp(0.0, self.capacity as f64);
    }

    fn make_room(&mut self) {
        let once = self.len(ONCE) + self.len(ONCE_GHOST);
        let all: usize = (ONCE..=AGAIN_GHOST).map(|queue| self.len(queue)).sum();
        if once == self.capacity {
            if self.len(ONCE) < self.capacity {
                self.drop_oldest(ONCE_GHOST);
                self.replace(false);
            } else {
                self.drop_oldest(ONCE);
            }
        } else if all >= self.capacity {
            if all == 2 * self.capacity {
                self.drop_oldest(AGAIN_GHOST);
            }
            self.replace(false);
        }
    }
}

impl Policy for ArcCache {
    fn access(&mut self, key: u64) -> bool {
        match self.places.get(&key).copied() {
            Some((AGAIN, place)) => {
                self.queues[AGAIN].renew(place);
                true
            }
            Some((ONCE, place)) => {
                self.queues[ONCE].remove(place);
                self.push(AGAIN, key);
                true
            }
            Some((ghost, place)) => {
                self.regret(ghost);
                self.replace(ghost == AGAIN_GHOST);
                self.queues[ghost].remove(place);
                self.push(AGAIN, key);
                false
            }
            None => {
                self.make_room();
                self.push(ONCE, key);
                false
            }
        }
    }

    fn held(&self) -> usize {
        self.len(ONCE) + self.len(AGAIN)
    }
}
