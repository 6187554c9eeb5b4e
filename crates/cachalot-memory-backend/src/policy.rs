//! What to evict: S3-FIFO over indices.
//!
//! New entries pass a small queue, about a tenth of the weight; those read meanwhile move on to the main
//! queue, which gives every read entry another round. What leaves the small queue unread is remembered by
//! its hash; if it comes back it goes to the main queue at once. Knows neither keys nor values.
//!
//! Source: Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023.

/// Orders the entries of one shard, which it knows by their index in the shard's slots.
#[derive(Default)]
pub(crate) struct Policy {
    nodes: Vec<Node>,
    small: Queue,
    main: Queue,
    ghost: Ghost,
    len: usize,
}

impl Policy {
    /// An entry now stands at `index`, which was free.
    pub(crate) fn insert(&mut self, index: u32, hash: u64, weight: u64) {
        let at = index as usize;
        if self.nodes.len() <= at {
            self.nodes.resize(at + 1, Node::default());
        }
        self.len += 1;
        self.ghost.grow_to(self.len);
        let place = if self.ghost.recall(hash) { Place::Main } else { Place::Small };
        self.nodes[at] = Node { weight, ..Node::default() };
        self.push(place, index);
    }

    /// The entry at `index` was read or written.
    pub(crate) fn touch(&mut self, index: u32) {
        let node = &mut self.nodes[index as usize];
        node.reads = (node.reads + 1).min(MAX_READS);
    }

    /// The entry at `index` weighs `weight` from now on.
    pub(crate) fn reweigh(&mut self, index: u32, weight: u64) {
        let node = &mut self.nodes[index as usize];
        let before = std::mem::replace(&mut node.weight, weight);
        let place = node.place;
        let queue = self.queue(place);
        queue.weight = queue.weight - before + weight;
    }

    /// The weight of all entries.
    pub(crate) fn weight(&self) -> u64 {
        self.small.weight.saturating_add(self.main.weight)
    }

    /// The entry at `index` is gone for a reason of its own.
    pub(crate) fn remove(&mut self, index: u32) {
        self.unlink(index);
        self.len -= 1;
    }

    /// Chooses an entry to evict, never `spared`, and forgets it, apart from a trace of `hash_of` it. `None`
    /// if there is none.
    pub(crate) fn evict(&mut self, spared: Option<u32>, hash_of: impl FnOnce(u32) -> u64) -> Option<u32> {
        if let Some(spared) = spared {
            self.unlink(spared);
        }
        let victim = self.choose();
        if let Some(spared) = spared {
            let place = self.nodes[spared as usize].place;
            self.push(place, spared);
        }
        let victim = victim?;
        if self.nodes[victim as usize].place == Place::Small {
            self.ghost.remember(hash_of(victim));
        }
        self.remove(victim);
        Some(victim)
    }

    fn choose(&mut self) -> Option<u32> {
        for _ in 0..MAX_STEPS {
            let place = self.next_place();
            let candidate = self.queue(place).tail.index()?;
            let node = &mut self.nodes[candidate as usize];
            if node.reads == 0 {
                return Some(candidate);
            }
            node.reads = if place == Place::Small { 0 } else { node.reads - 1 };
            self.unlink(candidate);
            self.push(Place::Main, candidate);
        }
        let place = self.next_place();
        self.queue(place).tail.index()
    }

    /// The small queue gives as long as it has more than its share.
    fn next_place(&self) -> Place {
        let over = self.small.weight > self.weight() / SMALL_SHARE;
        if over || self.main.tail == Link::NONE { Place::Small } else { Place::Main }
    }

    fn queue(&mut self, place: Place) -> &mut Queue {
        match place {
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
        }
    }

    /// Puts `index`, which is in no queue, at the head of one.
    fn push(&mut self, place: Place, index: u32) {
        let weight = self.nodes[index as usize].weight;
        let queue = self.queue(place);
        queue.weight += weight;
        let older = std::mem::replace(&mut queue.head, Link(index));
        match older.index() {
            Some(older) => self.nodes[older as usize].newer = Link(index),
            None => self.queue(place).tail = Link(index),
        }
        let node = &mut self.nodes[index as usize];
        node.place = place;
        node.older = older;
        node.newer = Link::NONE;
    }

    fn unlink(&mut self, index: u32) {
        let Node { newer, older, place, weight, .. } = self.nodes[index as usize];
        self.queue(place).weight -= weight;
        match newer.index() {
            Some(newer) => self.nodes[newer as usize].older = older,
            None => self.queue(place).head = older,
        }
        match older.index() {
            Some(older) => self.nodes[older as usize].newer = newer,
            None => self.queue(place).tail = newer,
        }
    }
}

/// Reads that are remembered: two bits, as in the paper.
const MAX_READS: u8 = 3;

/// The small queue's share of the weight is one in this many.
const SMALL_SHARE: u64 = 10;

/// Entries given another round by one eviction. Bounds its cost; the next one goes on from there.
const MAX_STEPS: usize = 64;

#[derive(Clone, Copy, Default)]
struct Node {
    weight: u64,
    newer: Link,
    older: Link,
    place: Place,
    reads: u8,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Place {
    #[default]
    Small,
    Main,
}

#[derive(Default)]
struct Queue {
    head: Link,
    tail: Link,
    weight: u64,
}

/// An index, or none.
#[derive(Clone, Copy, PartialEq)]
struct Link(u32);

impl Link {
    const NONE: Self = Self(u32::MAX);

    fn index(self) -> Option<u32> {
        (self != Self::NONE).then_some(self.0)
    }
}

impl Default for Link {
    fn default() -> Self {
        Self::NONE
    }
}

/// Hashes of entries evicted unread: one cell per hash value, the newest wins. Forgets when it grows.
#[derive(Default)]
struct Ghost {
    cells: Vec<u32>,
}

impl Ghost {
    fn grow_to(&mut self, entries: usize) {
        if self.cells.len() < entries {
            self.cells = vec![0; entries.next_power_of_two()];
        }
    }

    fn remember(&mut self, hash: u64) {
        if let Some(cell) = self.cell(hash) {
            *cell = mark(hash);
        }
    }

    /// Whether `hash` was remembered; forgets it.
    fn recall(&mut self, hash: u64) -> bool {
        match self.cell(hash) {
            Some(cell) if *cell == mark(hash) => {
                *cell = 0;
                true
            }
            _ => false,
        }
    }

    fn cell(&mut self, hash: u64) -> Option<&mut u32> {
        let mask = self.cells.len().checked_sub(1)?;
        self.cells.get_mut(hash as usize & mask)
    }
}

/// Other bits than those that choose the cell. Zero means empty.
fn mark(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::iter;

    use super::*;

    /// A hash that spreads small numbers over all bits.
    fn hash(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    /// A cache of `capacity` unit entries over one policy; keys are their own values.
    struct Cache {
        policy: Policy,
        keys: Vec<Option<u64>>,
        hits: usize,
    }

    impl Cache {
        fn new(capacity: usize) -> Self {
            Self { policy: Policy::default(), keys: vec![None; capacity], hits: 0 }
        }

        fn holds(&self, key: u64) -> bool {
            self.keys.contains(&Some(key))
        }

        fn access(&mut self, key: u64) {
            if let Some(index) = self.keys.iter().position(|held| *held == Some(key)) {
                self.hits += 1;
                return self.policy.touch(index as u32);
            }
            let index = match self.keys.iter().position(Option::is_none) {
                Some(free) => free as u32,
                None => self.policy.evict(None, |index| hash(self.keys[index as usize].unwrap())).unwrap(),
            };
            self.keys[index as usize] = Some(key);
            self.policy.insert(index, hash(key), 1);
        }
    }

    #[test]
    fn unread_entries_leave_in_the_order_they_came() {
        let mut policy = Policy::default();
        for index in 0..4 {
            policy.insert(index, hash(u64::from(index)), 1);
        }
        let order: Vec<u32> = iter::from_fn(|| policy.evict(None, |i| hash(u64::from(i)))).collect();
        assert_eq!(order, [0, 1, 2, 3]);
    }

    #[test]
    fn a_read_entry_survives_a_scan() {
        let mut cache = Cache::new(100);
        for _ in 0..3 {
            (0..50).for_each(|hot| cache.access(hot));
        }
        (1000..2000).for_each(|scan| cache.access(scan));
        assert_eq!((0..50).filter(|hot| cache.holds(*hot)).count(), 50);
    }

    #[test]
    fn an_entry_that_returns_soon_goes_to_the_main_queue() {
        let mut cache = Cache::new(10);
        (0..20).for_each(|key| cache.access(key));
        let returned = (0..10).rev().find(|key| !cache.holds(*key)).unwrap();
        cache.access(returned);
        (100..200).for_each(|key| cache.access(key));
        assert!(cache.holds(returned));
    }

    #[test]
    fn removed_entries_are_never_chosen() {
        let mut policy = Policy::default();
        for index in 0..8 {
            policy.insert(index, hash(u64::from(index)), 1);
        }
        for index in [0, 3, 7] {
            policy.remove(index);
        }
        let order: Vec<u32> = iter::from_fn(|| policy.evict(None, |i| hash(u64::from(i)))).collect();
        assert_eq!(order, [1, 2, 4, 5, 6]);
        policy.insert(0, hash(0), 1);
        assert!(policy.evict(None, |_| 0).is_some());
        assert_eq!(policy.evict(None, |_| 0), None);
    }

    #[test]
    fn the_spared_entry_is_never_chosen() {
        for spared in 0..4 {
            let mut policy = Policy::default();
            for index in 0..4 {
                policy.insert(index, hash(u64::from(index)), 1);
            }
            let evicted = iter::from_fn(|| policy.evict(Some(spared), |i| hash(u64::from(i))));
            let mut others: Vec<u32> = evicted.collect();
            others.push(spared);
            others.sort_unstable();
            assert_eq!(others, [0, 1, 2, 3]);
            assert_eq!(policy.evict(None, |i| hash(u64::from(i))), Some(spared));
        }
    }

    #[test]
    fn reads_are_used_up_one_round_at_a_time() {
        let mut policy = Policy::default();
        policy.insert(0, hash(0), 1);
        (0..5).for_each(|_| policy.touch(0));
        policy.insert(1, hash(1), 1);
        assert_eq!(policy.evict(None, |_| hash(1)), Some(1));
        let node = policy.nodes[0];
        assert!(node.place == Place::Main && node.reads == 0, "moved on, and starts anew");
        (0..2).for_each(|_| policy.touch(0));
        policy.insert(2, hash(2), 1);
        policy.touch(2);
        assert_eq!(policy.evict(None, |_| hash(2)), Some(2));
        assert_eq!(policy.nodes[0].reads, 1, "one round in the main queue");
    }

    #[test]
    fn everything_read_often_still_gives_a_victim() {
        let mut policy = Policy::default();
        for index in 0..1000 {
            policy.insert(index, hash(u64::from(index)), 1);
            (0..5).for_each(|_| policy.touch(index));
        }
        let evicted = iter::from_fn(|| policy.evict(None, |i| hash(u64::from(i)))).count();
        assert_eq!(evicted, 1000);
        assert_eq!((policy.small.weight, policy.main.weight, policy.len), (0, 0, 0));
    }

    #[test]
    fn weights_follow_their_entries_through_the_queues() {
        let mut policy = Policy::default();
        policy.insert(0, hash(0), u64::MAX / 2);
        policy.insert(1, hash(1), 5);
        policy.reweigh(0, 7);
        policy.touch(0);
        assert_eq!(policy.evict(None, |_| hash(1)), Some(1));
        assert_eq!((policy.small.weight, policy.main.weight), (0, 7));
        policy.remove(0);
        assert_eq!(policy.main.weight, 0);
    }

    #[test]
    fn a_skewed_workload_hits_more_than_in_plain_fifo() {
        let (mut cache, mut fifo, mut fifo_hits) = (Cache::new(100), VecDeque::new(), 0);
        let mut state = 7u64;
        for _ in 0..50_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let unit = (state >> 11) as f64 / (1u64 << 53) as f64;
            // Low keys are drawn far more often than high ones.
            let key = (1000.0 * unit * unit * unit) as u64;
            cache.access(key);
            if fifo.contains(&key) {
                fifo_hits += 1;
            } else {
                fifo.push_back(key);
                fifo.drain(..fifo.len().saturating_sub(100));
            }
        }
        assert!(cache.hits > fifo_hits * 6 / 5, "{} against {fifo_hits}", cache.hits);
    }
}
