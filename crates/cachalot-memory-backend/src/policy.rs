//! What to evict: S3-FIFO over the slots of a shard.
//!
//! New entries pass a small queue, about a tenth of the weight; those read meanwhile move on to the main
//! queue, which gives every read entry another round. What leaves the small queue unread is remembered by
//! its hash; if it comes back it goes to the main queue at once. Knows neither keys nor values.
//!
//! Source: Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023.

use crate::slots::{Slot, Slots};

/// Orders the entries of one shard. What it knows of one of them are four bits of the slot's mark and a link.
#[derive(Default)]
pub(crate) struct Policy {
    small: Queue,
    main: Queue,
    ghost: Ghost,
}

/// How often read: two bits, as in the paper.
const READS: u8 = 0b0011;
/// In the main queue; without it, in the small one.
const MAIN: u8 = 0b0100;
/// In a queue. A slot that is emptied stays in, and its next entry takes over the place.
const QUEUED: u8 = 0b1000;

/// The bits of a mark that belong to the policy.
pub(crate) const POLICY: u8 = READS | MAIN | QUEUED;

/// The small queue's share of the weight is one in this many.
const SMALL_SHARE: u64 = 10;

/// Entries given another round by one eviction. Bounds its cost; the next one goes on from there.
const MAX_STEPS: usize = 64;

impl Policy {
    /// An entry was put into `slot`.
    pub(crate) fn insert<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot) {
        self.ghost.grow_to(slots.len());
        let returned = self.ghost.recall(slots.hash(slot));
        let (mark, weight) = (slots.mark(slot), slots.weight(slot));
        if mark & QUEUED == 0 {
            return self.push(slots, slot, if returned { MAIN } else { 0 });
        }
        slots.set_mark(slot, mark & (MAIN | QUEUED) | u8::from(returned));
        self.queue(mark).weight += weight;
    }

    /// The entry in `slot`, whose mark is `mark`, was read or written.
    #[inline]
    pub(crate) fn touch<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot, mark: u8) {
        if mark & READS != READS {
            slots.set_mark(slot, mark + 1);
        }
    }

    /// The entry in `slot` weighs `weight` from now on.
    pub(crate) fn reweigh<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot, weight: u64) {
        let before = slots.weight(slot);
        let queue = self.queue(slots.mark(slot));
        queue.weight = queue.weight - before + weight;
        slots.set_weight(slot, weight);
    }

    /// The weight of all entries.
    pub(crate) fn weight(&self) -> u64 {
        self.small.weight.saturating_add(self.main.weight)
    }

    /// The entry in `slot` is about to be taken out for a reason of its own.
    pub(crate) fn remove<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot) {
        let mark = slots.mark(slot);
        self.queue(mark).weight -= slots.weight(slot);
        slots.set_mark(slot, mark & (MAIN | QUEUED));
    }

    /// Chooses an entry to evict, never `spared`, and forgets it, apart from a trace of its hash. `None` if
    /// there is no other. The caller takes it out.
    pub(crate) fn evict<K, T>(&mut self, slots: &mut Slots<K, T>, spared: Option<Slot>) -> Option<Slot> {
        let (mut steps, mut aside) = (MAX_STEPS, None);
        let victim = loop {
            let place = self.next_place();
            let Some(slot) = self.pop(slots, place) else {
                break None;
            };
            let mark = slots.mark(slot);
            if Some(slot) == spared {
                aside = Some(mark);
            } else if mark & READS == 0 || steps == 0 {
                break Some(slot);
            } else {
                steps -= 1;
                let left = if place == MAIN { (mark & READS) - 1 } else { 0 };
                self.push(slots, slot, MAIN | left);
            }
        };
        if let (Some(spared), Some(mark)) = (spared, aside) {
            self.push(slots, spared, mark);
        }
        if slots.mark(victim?) & MAIN == 0 {
            self.ghost.remember(slots.hash(victim?));
        }
        // Most evictions wait for memory; the next one need not.
        for queue in [&self.small, &self.main] {
            if let Some((oldest, _)) = queue.ends {
                slots.warm(oldest);
            }
        }
        victim
    }

    /// Forgets all places and hands them out: the slots of entries, in an order in which they may be told to
    /// [`Policy::moved`].
    pub(crate) fn unqueue<K, T>(&mut self, slots: &mut Slots<K, T>) -> Vec<Slot> {
        let mut order = Vec::with_capacity(slots.len());
        for place in [0, MAIN] {
            while let Some(slot) = self.pop(slots, place) {
                order.push(slot);
            }
        }
        order
    }

    /// An entry that was marked with `mark` now lies in `slot` of another table.
    pub(crate) fn moved<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot, mark: u8) {
        self.push(slots, slot, mark & (READS | MAIN));
    }

    /// The small queue gives as long as it has more than its share.
    fn next_place(&self) -> u8 {
        let over = self.small.weight > self.weight() / SMALL_SHARE;
        if over || self.main.weight == 0 { 0 } else { MAIN }
    }

    fn queue(&mut self, mark: u8) -> &mut Queue {
        if mark & MAIN == 0 { &mut self.small } else { &mut self.main }
    }

    /// Puts the entry in `slot`, which is in no queue, at the young end of that which `mark` names.
    fn push<K, T>(&mut self, slots: &mut Slots<K, T>, slot: Slot, mark: u8) {
        slots.set_mark(slot, slots.mark(slot) & !POLICY | mark | QUEUED);
        let weight = slots.weight(slot);
        let queue = self.queue(mark);
        queue.weight += weight;
        queue.ends = Some(match queue.ends {
            None => (slot, slot),
            Some((oldest, youngest)) => {
                slots.set_link(youngest, slot);
                (oldest, slot)
            }
        });
    }

    /// Takes the oldest entry out of a queue, and the empty slots before it.
    fn pop<K, T>(&mut self, slots: &mut Slots<K, T>, place: u8) -> Option<Slot> {
        let queue = self.queue(place);
        while let Some((oldest, youngest)) = queue.ends {
            queue.ends = (oldest != youngest).then(|| (slots.link(oldest), youngest));
            slots.set_mark(oldest, slots.mark(oldest) & !QUEUED);
            if slots.holds(oldest) {
                queue.weight -= slots.weight(oldest);
                return Some(oldest);
            }
        }
        None
    }
}

/// A queue of slots, each linked to the next younger one.
#[derive(Default)]
struct Queue {
    /// The oldest and the youngest.
    ends: Option<(Slot, Slot)>,
    /// The weight of the entries in it.
    weight: u64,
}

/// Hashes of entries evicted unread: one cell per hash value, the newest wins. Forgets when it grows.
#[derive(Default)]
struct Ghost {
    cells: Box<[u16]>,
}

impl Ghost {
    fn grow_to(&mut self, entries: usize) {
        if self.cells.len() < entries {
            self.cells = vec![0; entries.next_power_of_two()].into_boxed_slice();
        }
    }

    fn remember(&mut self, hash: u32) {
        if let Some(cell) = self.cell(hash) {
            *cell = print(hash);
        }
    }

    /// Whether `hash` was remembered; forgets it.
    fn recall(&mut self, hash: u32) -> bool {
        match self.cell(hash) {
            Some(cell) if *cell == print(hash) => {
                *cell = 0;
                true
            }
            _ => false,
        }
    }

    fn cell(&mut self, hash: u32) -> Option<&mut u16> {
        let mask = self.cells.len().checked_sub(1)?;
        self.cells.get_mut(hash as usize & mask)
    }
}

/// Other bits than those that choose the cell, unless there are very many. Zero means empty.
fn print(hash: u32) -> u16 {
    (hash.wrapping_mul(0x9e37_79b1) >> 16) as u16 | 1
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::iter;

    use super::*;

    /// A hash that spreads small numbers over all bits.
    fn hash(key: u64) -> u32 {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u32
    }

    /// A policy over slots whose keys are numbers, as a shard joins them.
    struct Queues {
        policy: Policy,
        slots: Slots<u64, ()>,
    }

    impl Queues {
        fn new() -> Self {
            let slots = Slots::new(None).with_sets(200);
            Self { policy: Policy::default(), slots }
        }

        fn slot(&self, key: u64) -> Option<Slot> {
            self.slots.find(hash(key), |held| *held == key).map(|found| found.slot)
        }

        fn insert(&mut self, key: u64, weight: u64) -> Slot {
            let slot = self.slots.put(hash(key), weight, (key, ())).unwrap();
            self.policy.insert(&mut self.slots, slot);
            slot
        }

        fn touch(&mut self, key: u64) {
            let slot = self.slot(key).unwrap();
            let mark = self.slots.mark(slot);
            self.policy.touch(&mut self.slots, slot, mark);
        }

        fn remove(&mut self, key: u64) {
            let slot = self.slot(key).unwrap();
            self.policy.remove(&mut self.slots, slot);
            self.slots.take(slot).unwrap();
        }

        fn evict(&mut self, spared: Option<u64>) -> Option<u64> {
            let spared = spared.map(|key| self.slot(key).unwrap());
            let victim = self.policy.evict(&mut self.slots, spared)?;
            self.slots.take(victim).map(|(key, ())| key)
        }

        /// Reads left, and whether in the main queue.
        fn state(&self, key: u64) -> (u8, bool) {
            let mark = self.slots.mark(self.slot(key).unwrap());
            (mark & READS, mark & MAIN != 0)
        }
    }

    /// A cache of `capacity` unit entries over one policy.
    struct Cache {
        queues: Queues,
        capacity: usize,
        hits: usize,
    }

    impl Cache {
        fn new(capacity: usize) -> Self {
            Self { queues: Queues::new(), capacity, hits: 0 }
        }

        fn holds(&self, key: u64) -> bool {
            self.queues.slot(key).is_some()
        }

        fn access(&mut self, key: u64) {
            if self.holds(key) {
                self.hits += 1;
                return self.queues.touch(key);
            }
            if self.queues.slots.len() == self.capacity {
                self.queues.evict(None).unwrap();
            }
            self.queues.insert(key, 1);
        }
    }

    #[test]
    fn unread_entries_leave_in_the_order_they_came() {
        let mut queues = Queues::new();
        for key in 0..4 {
            queues.insert(key, 1);
        }
        let order: Vec<u64> = iter::from_fn(|| queues.evict(None)).collect();
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
        let mut queues = Queues::new();
        for key in 0..8 {
            queues.insert(key, 1);
        }
        for key in [0, 3, 7] {
            queues.remove(key);
        }
        let order: Vec<u64> = iter::from_fn(|| queues.evict(None)).collect();
        assert_eq!(order, [1, 2, 4, 5, 6]);
        queues.insert(0, 1);
        assert_eq!(queues.evict(None), Some(0));
        assert_eq!(queues.evict(None), None);
    }

    #[test]
    fn an_entry_in_a_slot_that_waits_is_in_one_queue_once() {
        let mut queues = Queues::new();
        for key in 0..4 {
            queues.insert(key, 1);
        }
        for _ in 0..10 {
            let slot = queues.slot(1).unwrap();
            queues.remove(1);
            assert_eq!(queues.insert(1, 1), slot);
        }
        let order: Vec<u64> = iter::from_fn(|| queues.evict(None)).collect();
        assert_eq!(order, [0, 1, 2, 3]);
        assert_eq!((queues.policy.small.ends, queues.policy.weight()), (None, 0));
    }

    #[test]
    fn the_spared_entry_is_never_chosen() {
        for spared in 0..4 {
            let mut queues = Queues::new();
            for key in 0..4 {
                queues.insert(key, 1);
            }
            let mut others: Vec<u64> = iter::from_fn(|| queues.evict(Some(spared))).collect();
            others.push(spared);
            others.sort_unstable();
            assert_eq!(others, [0, 1, 2, 3]);
            assert_eq!(queues.evict(None), Some(spared));
        }
    }

    #[test]
    fn reads_are_used_up_one_round_at_a_time() {
        let mut queues = Queues::new();
        queues.insert(0, 1);
        (0..5).for_each(|_| queues.touch(0));
        queues.insert(1, 1);
        assert_eq!(queues.evict(None), Some(1));
        assert_eq!(queues.state(0), (0, true), "moved on, and starts anew");
        (0..2).for_each(|_| queues.touch(0));
        queues.insert(2, 1);
        queues.touch(2);
        assert_eq!(queues.evict(None), Some(2));
        assert_eq!(queues.state(0), (1, true), "one round in the main queue");
    }

    #[test]
    fn everything_read_often_still_gives_a_victim() {
        let mut queues = Queues::new();
        for key in 0..1000 {
            queues.insert(key, 1);
            (0..5).for_each(|_| queues.touch(key));
        }
        let evicted = iter::from_fn(|| queues.evict(None)).count();
        assert_eq!(evicted, 1000);
        assert_eq!((queues.policy.small.weight, queues.policy.main.weight, queues.slots.len()), (0, 0, 0));
    }

    #[test]
    fn weights_follow_their_entries_through_the_queues() {
        let mut queues = Queues::new();
        let slot = queues.insert(0, u64::MAX / 2);
        queues.insert(1, 5);
        queues.policy.reweigh(&mut queues.slots, slot, 7);
        queues.touch(0);
        assert_eq!(queues.evict(None), Some(1));
        assert_eq!((queues.policy.small.weight, queues.policy.main.weight), (0, 7));
        queues.remove(0);
        assert_eq!(queues.policy.main.weight, 0);
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
