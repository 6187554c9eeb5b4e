//! S3-FIFO: a small queue that most keys never leave alive, a main one, and a ghost.

use super::Policy;
use super::hash::KeyMap;
use super::list::{List, Place};

/// Hits beyond this many are not counted.
const COUNT_MAX: u8 = 3;

/// Hits in the small queue that let a key into the main one.
const PROVEN: u8 = 2;

/// Three FIFO queues: small (a tenth), main, and a ghost of keys (nine tenths)
/// (Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023; details as in libCacheSim).
#[derive(Clone, Debug)]
pub struct S3Fifo {
    capacity: usize,
    main_max: usize,
    ghost_max: usize,
    held: KeyMap<(Queue, Place)>,
    small: List<u8>,
    main: List<u8>,
    ghost_places: KeyMap<Place>,
    ghost: List<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    Small,
    Main,
}

impl S3Fifo {
    /// An empty one for `capacity` keys, at least 1.
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            main_max: capacity - capacity / 10,
            ghost_max: capacity * 9 / 10,
            held: KeyMap::default(),
            small: List::new(),
            main: List::new(),
            ghost_places: KeyMap::default(),
            ghost: List::new(),
        }
    }

    fn evict(&mut self) {
        if self.main.len() > self.main_max || self.small.is_empty() {
            self.evict_main();
        } else {
            self.evict_small();
        }
    }

    fn evict_main(&mut self) {
        while let Some(place) = self.main.oldest() {
            let count = self.main.mark(place);
            if *count == 0 {
                let (victim, _) = self.main.remove(place);
                self.held.remove(&victim);
                return;
            }
            *count -= 1;
            self.main.renew(place);
        }
    }

    /// Evicts the first unproven key; the proven ones ahead of it move to the main queue.
    fn evict_small(&mut self) {
        while let Some((key, count)) = self.small.pop() {
            if count < PROVEN {
                self.held.remove(&key);
                self.remember(key);
                return;
            }
            self.held.insert(key, (Queue::Main, self.main.push(key, 0)));
        }
    }

    fn remember(&mut self, key: u64) {
        if self.ghost_max == 0 {
            return;
        }
        if self.ghost.len() == self.ghost_max
            && let Some((forgotten, ())) = self.ghost.pop()
        {
            self.ghost_places.remove(&forgotten);
        }
        self.ghost_places.insert(key, self.ghost.push(key, ()));
    }
}

impl Policy for S3Fifo {
    fn access(&mut self, key: u64) -> bool {
        if let Some(&(queue, place)) = self.held.get(&key) {
            let list = if queue == Queue::Small { &mut self.small } else { &mut self.main };
            let count = list.mark(place);
            *count = (*count + 1).min(COUNT_MAX);
            return true;
        }
        let remembered = self.ghost_places.remove(&key);
        if let Some(place) = remembered {
            self.ghost.remove(place);
        }
        while self.held.len() >= self.capacity {
            self.evict();
        }
        let place = if remembered.is_some() {
            (Queue::Main, self.main.push(key, 0))
        } else {
            (Queue::Small, self.small.push(key, 0))
        };
        self.held.insert(key, place);
        false
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}
