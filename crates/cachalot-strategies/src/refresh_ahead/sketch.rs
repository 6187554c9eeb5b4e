//! Which keys are read most often, in bounded memory.

use std::collections::HashMap;
use std::hash::Hash;

/// Counts the most frequent of many keys with a fixed number of counters: Space-Saving (Metwally, Agrawal, El Abbadi,
/// "Efficient Computation of Frequent and Top-k Elements in Data Streams", ICDT 2005). A key without a counter takes
/// over the lowest one, and with it what that had counted as its error; so any key that makes up more than one in as many
/// reads as there are counters has one.
///
/// A read of a key that has a counter is one look-up and constant work; no allocation.
pub(super) struct Sketch<K> {
    slots: Vec<Slot<K>>,
    index: HashMap<K, usize>,
    /// The slots by count, lowest first.
    order: Vec<usize>,
    /// Runs of equal counts in `order`; those in `free` are unused.
    runs: Vec<Run>,
    free: Vec<usize>,
    capacity: usize,
}

struct Slot<K> {
    key: K,
    error: u64,
    /// Where it stands in the order.
    place: usize,
    run: usize,
}

#[derive(Clone, Copy)]
struct Run {
    count: u64,
    from: usize,
    to: usize,
}

impl<K: Hash + Eq + Clone> Sketch<K> {
    /// With this many counters, one at least.
    pub(super) fn new(counters: usize) -> Self {
        let capacity = counters.max(1);
        // More only when so many keys are read.
        let at_first = capacity.min(1 << 16);
        Self {
            slots: Vec::with_capacity(at_first),
            index: HashMap::with_capacity(at_first),
            order: Vec::with_capacity(at_first),
            runs: Vec::new(),
            free: Vec::new(),
            capacity,
        }
    }

    /// Counts a read.
    pub(super) fn count(&mut self, key: &K) {
        let slot = match self.index.get(key) {
            Some(slot) => *slot,
            None if self.slots.len() < self.capacity => self.add(key),
            None => self.replace_lowest(key),
        };
        self.raise(slot);
    }

    /// The up to `k` keys with the highest counts, highest first. Of each only what was counted of itself for certain
    /// counts: a newcomer is not taken for what it has replaced.
    pub(super) fn top(&self, k: usize) -> Vec<K> {
        let certain = |slot: &Slot<K>| self.runs[slot.run].count - slot.error;
        let mut hot: Vec<(u64, &K)> = self.slots.iter().map(|slot| (certain(slot), &slot.key)).collect();
        hot.retain(|(count, _)| *count > 0);
        hot.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
        hot.truncate(k);
        hot.into_iter().map(|(_, key)| key.clone()).collect()
    }

    /// Halves all counts, so that what was read long ago counts ever less. What has none left is forgotten.
    pub(super) fn halve(&mut self) {
        let order = std::mem::take(&mut self.order);
        let mut slots: Vec<Option<Slot<K>>> = std::mem::take(&mut self.slots).into_iter().map(Some).collect();
        let runs = std::mem::take(&mut self.runs);
        self.free.clear();
        self.index.clear();
        for at in order {
            let Some(slot) = slots[at].take() else { continue };
            let count = runs[slot.run].count / 2;
            if count == 0 {
                continue;
            }
            let place = self.order.len();
            if self.runs.last().is_none_or(|run| run.count != count) {
                self.runs.push(Run { count, from: place, to: place });
            }
            let run = self.runs.len() - 1;
            self.runs[run].to = place + 1;
            self.index.insert(slot.key.clone(), self.slots.len());
            self.order.push(self.slots.len());
            self.slots.push(Slot { error: (slot.error / 2).min(count), place, run, ..slot });
        }
    }

    /// How many keys have a counter.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// A new counter at zero, which is the lowest.
    fn add(&mut self, key: &K) -> usize {
        let slot = self.slots.len();
        self.index.insert(key.clone(), slot);
        // Those at zero stand first; none stays there, so the new one is alone.
        let run = self.take_run(Run { count: 0, from: 0, to: 1 });
        self.slots.push(Slot { key: key.clone(), error: 0, place: 0, run });
        self.make_room(slot);
        slot
    }

    /// Puts `slot` first: each run gives its first place to the run before it and takes the one behind its last.
    fn make_room(&mut self, slot: usize) {
        self.order.push(slot);
        let mut at = self.order.len() - 1;
        while at > 0 {
            // The run that ends here moves up by one: its first slot goes to its end.
            let run = self.slots[self.order[at - 1]].run;
            let from = self.runs[run].from;
            self.runs[run] = Run { from: from + 1, to: at + 1, ..self.runs[run] };
            self.swap(from, at);
            at = from;
        }
        self.slots[slot].place = 0;
    }

    fn replace_lowest(&mut self, key: &K) -> usize {
        let slot = self.order[0];
        let lowest = self.runs[self.slots[slot].run].count;
        self.index.remove(&self.slots[slot].key);
        self.index.insert(key.clone(), slot);
        self.slots[slot].key = key.clone();
        self.slots[slot].error = lowest;
        slot
    }

    /// Adds one to a count: the slot goes to the end of its run, and from there into the next one.
    fn raise(&mut self, slot: usize) {
        let Slot { place, run, .. } = self.slots[slot];
        let Run { count, from, to } = self.runs[run];
        self.swap(place, to - 1);
        let next = self.order.get(to).map(|above| self.slots[*above].run);
        let joined = match next.filter(|next| self.runs[*next].count == count + 1) {
            Some(next) => {
                self.runs[next].from = to - 1;
                next
            }
            None => self.take_run(Run { count: count + 1, from: to - 1, to }),
        };
        self.slots[slot].run = joined;
        self.runs[run].to = to - 1;
        if from == to - 1 {
            self.free.push(run);
        }
    }

    fn swap(&mut self, one: usize, other: usize) {
        self.order.swap(one, other);
        self.slots[self.order[one]].place = one;
        self.slots[self.order[other]].place = other;
    }

    fn take_run(&mut self, run: Run) -> usize {
        match self.free.pop() {
            Some(at) => {
                self.runs[at] = run;
                at
            }
            None => {
                self.runs.push(run);
                self.runs.len() - 1
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cachalot_core::Entropy;
    use proptest::prelude::*;

    use super::*;

    fn checked(sketch: &Sketch<u64>) {
        let mut last = 0;
        for (place, slot) in sketch.order.iter().enumerate() {
            let slot = &sketch.slots[*slot];
            let run = sketch.runs[slot.run];
            assert_eq!(slot.place, place);
            assert!((run.from..run.to).contains(&place) && run.count >= last && slot.error <= run.count);
            last = run.count;
        }
        assert_eq!(sketch.order.len(), sketch.slots.len());
        assert_eq!(sketch.index.len(), sketch.slots.len());
        assert!(sketch.runs.len() <= sketch.capacity + 2, "unused runs are used again");
    }

    #[test]
    fn what_is_read_most_is_on_top_and_its_number_is_bounded() {
        let mut sketch = Sketch::new(50);
        let entropy = Entropy::seeded(1);
        for turn in 0..20_000u64 {
            sketch.count(&(turn % 5));
            sketch.count(&(1000 + (entropy.draw_unit() * 1e6) as u64));
        }
        checked(&sketch);
        let mut top = sketch.top(5);
        top.sort_unstable();
        assert_eq!(top, [0, 1, 2, 3, 4]);
        assert_eq!(sketch.len(), 50);
    }

    #[test]
    fn what_was_hot_yesterday_leaves() {
        let mut sketch = Sketch::new(20);
        (0..1000).for_each(|_| sketch.count(&1));
        for _ in 0..6 {
            sketch.halve();
            (0..20).for_each(|_| sketch.count(&2));
        }
        assert_eq!(sketch.top(1), [2]);
        for _ in 0..11 {
            sketch.halve();
        }
        assert_eq!((sketch.len(), sketch.index.len(), sketch.top(5).len()), (0, 0, 0));
        checked(&sketch);
    }

    #[test]
    fn a_newcomer_is_not_taken_for_what_it_has_replaced() {
        let mut sketch = Sketch::new(2);
        (0..9).for_each(|_| sketch.count(&1));
        (0..5).for_each(|_| sketch.count(&2));
        sketch.count(&3);
        assert_eq!(sketch.top(2), [1, 3]);
        sketch.count(&4);
        assert_eq!(sketch.top(1), [1]);
    }

    proptest! {
        #[test]
        fn its_order_holds_and_a_count_is_never_below_the_truth(
            capacity in 1usize..8, reads in prop::collection::vec(0u64..16, 0..300),
        ) {
            let mut sketch = Sketch::new(capacity);
            let mut truth = HashMap::<u64, u64>::new();
            for key in &reads {
                sketch.count(key);
                *truth.entry(*key).or_default() += 1;
                checked(&sketch);
            }
            for slot in &sketch.slots {
                let count = sketch.runs[slot.run].count;
                let exact = truth[&slot.key];
                prop_assert!(count >= exact && count - slot.error <= exact);
            }
            for (key, count) in truth {
                let share = reads.len() as u64 / capacity as u64;
                prop_assert!(count <= share || sketch.index.contains_key(&key), "{key} has no counter");
            }
            sketch.halve();
            checked(&sketch);
        }
    }
}
