//! The order in which sampled keys were last read, and how deep each lies in it.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// At most [`KEYS`] keys, the last read on top. Every operation is a few dozen steps, besides a renumbering
/// every [`TIMES`] − [`KEYS`] reads.
///
/// Each read takes the next of [`TIMES`] times. A bit per time says whether it is some key's last one, and a
/// Fenwick tree (Fenwick, Softw. Pract. Exper. 24(3), 1994) over full words of bits how many such there are before.
#[derive(Debug)]
pub(super) struct Stack {
    keys: HashMap<u32, Last, BuildHasherDefault<Scatter>>,
    /// Whose time it is, if it is live.
    at: Box<[u32]>,
    live: Box<[u64]>,
    before: Box<[u16]>,
    next: usize,
    /// No word before this one has a live time.
    oldest: usize,
}

/// A key's last read, and how many there were since the key entered the stack.
#[derive(Clone, Copy, Debug)]
struct Last {
    time: u32,
    reads: u32,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// How many other keys were read since; `None` for a key that is not in the stack, or no more.
    pub(super) depth: Option<usize>,
    /// How many times the key has been read, this time included.
    pub(super) reads: u32,
}

/// How many keys are followed.
pub(super) const KEYS: usize = 4096;

const TIMES: usize = 4 * KEYS;
const WORDS: usize = TIMES / 64;

impl Stack {
    pub(super) fn new() -> Self {
        Self {
            keys: HashMap::with_capacity_and_hasher(KEYS, BuildHasherDefault::default()),
            at: vec![0; TIMES].into(),
            live: vec![0; WORDS].into(),
            before: vec![0; WORDS + 1].into(),
            next: 0,
            oldest: 0,
        }
    }

    /// What it has allocated.
    pub(super) fn bytes(&self) -> usize {
        // Seven eighths of a map are in use, with a byte more for each.
        let keys = self.keys.capacity() * 8 / 7 * (size_of::<(u32, Last)>() + 1);
        keys + size_of_val(&*self.at) + size_of_val(&*self.live) + size_of_val(&*self.before)
    }

    /// Puts `key` on top. Where it was.
    pub(super) fn read(&mut self, key: u32) -> Place {
        if self.next == TIMES {
            self.renumber();
        }
        let time = self.next;
        let before = self.keys.get_mut(&key).map(|last| {
            last.reads = last.reads.saturating_add(1);
            (std::mem::replace(&mut last.time, time as u32) as usize, last.reads)
        });
        let place = match before {
            Some((before, reads)) => {
                let depth = self.keys.len() - self.up_to(before);
                self.clear(before);
                Place { depth: Some(depth), reads }
            }
            None => {
                if self.keys.len() == KEYS {
                    self.drop_oldest();
                }
                self.keys.insert(key, Last { time: time as u32, reads: 1 });
                Place { depth: None, reads: 1 }
            }
        };
        self.at[time] = key;
        self.live[time / 64] |= 1 << (time % 64);
        self.next += 1;
        if self.next.is_multiple_of(64) {
            self.add(time / 64, self.live[time / 64].count_ones() as u16);
        }
        place
    }

    /// How many keys were last read at `time` or before.
    fn up_to(&self, time: usize) -> usize {
        let (word, bit) = (time / 64, time % 64);
        let mut count = (self.live[word] << (63 - bit)).count_ones() as usize;
        let mut node = word;
        while node > 0 {
            count += usize::from(self.before[node]);
            node &= node - 1;
        }
        count
    }

    fn clear(&mut self, time: usize) {
        let word = time / 64;
        self.live[word] &= !(1 << (time % 64));
        // The tree knows of full words only.
        if word < self.next / 64 {
            self.add(word, 1_u16.wrapping_neg());
        }
    }

    fn add(&mut self, word: usize, difference: u16) {
        let mut node = word + 1;
        while node <= WORDS {
            self.before[node] = self.before[node].wrapping_add(difference);
            node += node & node.wrapping_neg();
        }
    }

    fn drop_oldest(&mut self) {
        while let Some(&word) = self.live.get(self.oldest) {
            if word != 0 {
                let time = self.oldest * 64 + word.trailing_zeros() as usize;
                self.clear(time);
                self.keys.remove(&self.at[time]);
                return;
            }
            self.oldest += 1;
        }
    }

    /// Gives the live keys the first times, in their order.
    fn renumber(&mut self) {
        let mut next = 0;
        for word in 0..WORDS {
            let mut bits = std::mem::take(&mut self.live[word]);
            while bits != 0 {
                let key = self.at[word * 64 + bits.trailing_zeros() as usize];
                bits &= bits - 1;
                // Never ahead of what is still to be read.
                self.at[next] = key;
                if let Some(last) = self.keys.get_mut(&key) {
                    last.time = next as u32;
                }
                next += 1;
            }
        }
        self.before.fill(0);
        for time in 0..next {
            self.live[time / 64] |= 1 << (time % 64);
        }
        for word in 0..next / 64 {
            self.add(word, 64);
        }
        (self.next, self.oldest) = (next, 0);
    }
}

/// The keys are parts of hashes already; their bits only have to reach all parts of the hash that the map
/// looks at.
#[derive(Default)]
struct Scatter(u64);

impl Hasher for Scatter {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(self.0 as u32 ^ u32::from(byte));
        }
    }

    fn write_u32(&mut self, key: u32) {
        self.0 = u64::from(key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The depths as a list gives them.
    struct List(Vec<(u32, u32)>);

    impl List {
        fn read(&mut self, key: u32) -> Place {
            let depth = self.0.iter().position(|(other, _)| *other == key);
            let reads = depth.map_or(1, |depth| self.0.remove(depth).1 + 1);
            self.0.insert(0, (key, reads));
            self.0.truncate(KEYS);
            Place { depth, reads }
        }
    }

    fn draws(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed;
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        }
    }

    #[test]
    fn depths_are_those_of_a_list_also_over_many_renumberings() {
        let (mut stack, mut list, mut draw) = (Stack::new(), List(Vec::new()), draws(7));
        for step in 0..3 * TIMES {
            // Few keys, then some more than are followed.
            let key = draw(if step < 2 * TIMES { 300 } else { KEYS as u64 + 500 }) as u32;
            assert_eq!(stack.read(key), list.read(key), "read {step} of key {key}");
        }
    }

    #[test]
    fn of_ever_new_keys_the_last_are_followed() {
        let mut stack = Stack::new();
        for key in 0..100_000 {
            assert_eq!(stack.read(key).depth, None);
        }
        assert_eq!(stack.read(100_000 - KEYS as u32).depth, Some(KEYS - 1));
        assert_eq!(stack.read(100_000 - KEYS as u32 - 1).depth, None);
        assert_eq!((stack.keys.len(), stack.at.len()), (KEYS, TIMES));
    }
}
