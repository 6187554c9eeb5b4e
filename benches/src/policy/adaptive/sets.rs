//! The policy over sets of 32 ways, as a memory engine keeps its entries: no lists, no order but ages.
//!
//! Of an entry it keeps a state (2 bits), a count of reads (3 bits) and an epoch (2 bytes). A miss looks into
//! the set of its key and, when that has nothing old enough, into two sets under a hand.

use super::ghost::Ghost;
use super::{Config, GHOST_EPOCHS, REMEMBERED, Shell, ghost_hash, set_hash};

/// Entries of a set.
const WAYS: usize = 32;

/// Entries have finer epochs than ghosts, this many to one.
const FINE: usize = 16;

/// Reads of a kept entry beyond this many are not counted. Each counted one is a reprieve.
const READS_MAX: u8 = 7;

/// Sets under the hand among which the oldest entry on trial is evicted.
const WINDOW: usize = 2;

/// Sets, the key's own first, in which the oldest kept entry is looked for.
const KEPT_WINDOW: usize = 2;

/// Epochs wrap. A look into a set makes its older entries this old, long before they would look young.
const AGE_MAX: u16 = 60_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Trial,
    /// On trial again, after it was kept: read once more, it is still no newcomer.
    Demoted,
    Kept,
}

#[derive(Clone, Copy, Debug)]
struct Way {
    key: u64,
    state: State,
    reads: u8,
    /// The epoch of the last read if kept, of the first one if on trial.
    epoch: u16,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    capacity: usize,
    config: Config,
    ways: Vec<Way>,
    sets: usize,
    held: usize,
    kept: usize,
    trial_hand: usize,
    kept_hand: usize,
    /// The age in epochs at which entries on trial were evicted lately.
    victim_age: f32,
    ghost: Ghost,
    misses: usize,
}

impl Shell for Sets {
    fn new(capacity: usize, config: Config) -> Self {
        // One way in nine stays free, so that few sets are full before the cache is.
        let sets = (capacity * 9).div_ceil(8 * WAYS);
        let empty = Way { key: 0, state: State::Empty, reads: 0, epoch: 0 };
        Self {
            capacity,
            config,
            ways: vec![empty; sets * WAYS],
            sets,
            held: 0,
            kept: 0,
            trial_hand: 0,
            kept_hand: 0,
            victim_age: 0.0,
            ghost: Ghost::new(REMEMBERED * capacity, (REMEMBERED * GHOST_EPOCHS) as u16 + 1),
            misses: 0,
        }
    }

    fn configure(&mut self, config: Config) {
        self.config = config;
    }

    fn access(&mut self, key: u64) -> bool {
        let (now, set) = (self.now(), self.set_of(key));
        let mut ways = self.ways[set * WAYS..][..WAYS].iter_mut();
        match ways.find(|way| way.state != State::Empty && way.key == key) {
            Some(way) if way.state == State::Kept => {
                way.reads = (way.reads + 1).min(READS_MAX);
                way.epoch = now;
                true
            }
            Some(way) => {
                way.reads = 1;
                true
            }
            None => {
                self.miss(key, set);
                false
            }
        }
    }

    fn held(&self) -> usize {
        self.held
    }
}

impl Sets {
    fn now(&self) -> u16 {
        (self.misses * GHOST_EPOCHS * FINE / self.capacity) as u16
    }

    fn set_of(&self, key: u64) -> usize {
        ((u128::from(set_hash(key)) * self.sets as u128) >> 64) as usize
    }

    fn age(&self, at: usize) -> u16 {
        self.now().wrapping_sub(self.ways[at].epoch)
    }

    /// The age in the ghost's epochs.
    fn ghost_age(&self, at: usize) -> u16 {
        self.age(at) / FINE as u16
    }

    fn ghost_now(&self) -> u16 {
        self.now() / FINE as u16
    }

    fn kept_max(&self) -> usize {
        self.config.kept_max(self.capacity)
    }

    fn miss(&mut self, key: u64, set: usize) {
        self.misses += 1;
        let ghost_now = self.ghost_now();
        self.ghost.sweep(ghost_now);
        let seen = self.ghost.take(ghost_hash(key), ghost_now);
        let keep = self.proves_itself(seen, set);
        if self.held >= self.capacity {
            self.evict(set);
        }
        let at = self.free_way(set);
        let state = if keep { State::Kept } else { State::Trial };
        self.ways[at] = Way { key, state, reads: 0, epoch: self.now() };
        self.held += 1;
        if keep {
            self.count_kept(set);
        }
    }

    /// Whether a key that comes in deserves to be kept: it was seen more recently than a kept entry.
    fn proves_itself(&mut self, seen: Option<u16>, set: usize) -> bool {
        let room = self.kept < self.kept_max();
        // Near the bound a free way is an accident, of a full set for instance, and no reason to trust a newcomer.
        if self.held < self.capacity - self.capacity / 16 {
            return room;
        }
        match seen {
            Some(age) => room || age * self.config.strict < self.bottom_age(set),
            None if self.config.drains(self.misses) => {
                usize::from(self.bottom_age(set)) > REMEMBERED * GHOST_EPOCHS
            }
            None => false,
        }
    }

    /// A free way of `set`; makes one if there is none.
    fn free_way(&mut self, set: usize) -> usize {
        let mut ways = set * WAYS..(set + 1) * WAYS;
        ways.find(|&at| self.ways[at].state == State::Empty).unwrap_or_else(|| {
            let at = self.crowded_out(set);
            self.drop(at);
            at
        })
    }

    fn drop(&mut self, at: usize) {
        let age = self.ghost_age(at);
        let Way { key, state, .. } = self.ways[at];
        self.kept -= usize::from(state == State::Kept);
        self.held -= 1;
        self.ways[at].state = State::Empty;
        self.ghost.put(ghost_hash(key), self.ghost_now(), age);
    }

    /// The oldest of a set, among the kept or among those on trial.
    fn oldest(&self, set: usize, kept: bool) -> Option<usize> {
        let ways = set * WAYS..(set + 1) * WAYS;
        let candidates = ways.filter(|&at| match self.ways[at].state {
            State::Empty => false,
            state => (state == State::Kept) == kept,
        });
        candidates.max_by_key(|&at| self.age(at))
    }

    fn cap_ages(&mut self, set: usize) {
        let now = self.now();
        for way in &mut self.ways[set * WAYS..][..WAYS] {
            way.epoch = now.wrapping_sub(now.wrapping_sub(way.epoch).min(AGE_MAX));
        }
    }

    fn is_full(&self, set: usize) -> bool {
        self.ways[set * WAYS..][..WAYS].iter().all(|way| way.state != State::Empty)
    }

    /// The kept entry that goes next: the oldest in a few sets, `own` first.
    fn bottom(&mut self, own: usize) -> Option<usize> {
        let first = if self.oldest(own, true).is_some() { own } else { self.kept_hand };
        for start in 0..self.sets {
            let near: [_; KEPT_WINDOW] =
                std::array::from_fn(|step| self.unread((first + start + step) % self.sets));
            // Of two equally old the one in the own set: that keeps the sets equally full.
            if let Some(at) = near.into_iter().rev().flatten().max_by_key(|&at| self.age(at)) {
                return Some(at);
            }
        }
        None
    }

    /// The oldest kept entry of a set that has no reprieve left.
    fn unread(&mut self, set: usize) -> Option<usize> {
        self.cap_ages(set);
        loop {
            let at = self.oldest(set, true)?;
            let now = self.now();
            let way = &mut self.ways[at];
            if way.reads == 0 {
                return Some(at);
            }
            way.reads -= 1;
            way.epoch = now;
        }
    }

    fn bottom_age(&mut self, own: usize) -> u16 {
        self.bottom(own).map_or(u16::MAX, |at| self.ghost_age(at))
    }

    /// Counts one more kept entry, and demotes another if that is one too many.
    fn count_kept(&mut self, own: usize) {
        self.kept += 1;
        if self.kept > self.kept_max() {
            self.demote(own);
        }
    }

    fn demote(&mut self, own: usize) {
        if let Some(at) = self.bottom(own) {
            self.ways[at].state = State::Demoted;
            self.ways[at].reads = 0;
            self.kept -= 1;
            self.kept_hand = (self.kept_hand + 1) % self.sets;
        }
    }

    fn evict(&mut self, own: usize) {
        for _ in 0..2 {
            if self.kept > self.kept_max() {
                self.demote(own);
            }
        }
        if self.is_full(own) {
            let at = self.crowded_out(own);
            return self.drop(at);
        }
        if let Some(at) = self.victim(own, 1)
            && f32::from(self.age(at)) * 2.0 >= self.victim_age
        {
            return self.drop_victim(at);
        }
        for _ in 0..2 * self.sets {
            if self.kept == self.held {
                self.demote(own);
            }
            let victim = self.victim(self.trial_hand, WINDOW);
            self.trial_hand = (self.trial_hand + 1) % self.sets;
            if let Some(at) = victim {
                return self.drop_victim(at);
            }
        }
    }

    fn drop_victim(&mut self, at: usize) {
        self.victim_age += (f32::from(self.age(at)) - self.victim_age) / 64.0;
        self.drop(at);
    }

    /// Who leaves a full set: the oldest on trial, or a kept one if all on trial have only just come.
    fn crowded_out(&mut self, set: usize) -> usize {
        match self.victim(set, 1) {
            Some(at) if f32::from(self.age(at)) * 4.0 >= self.victim_age => at,
            young => self.oldest(set, true).or(young).unwrap_or(set * WAYS),
        }
    }

    /// The oldest unread on trial in a few sets; the read ones before it are kept or tried again.
    fn victim(&mut self, first: usize, window: usize) -> Option<usize> {
        let mut best: Option<usize> = None;
        for step in 0..window {
            let set = (first + step) % self.sets;
            self.cap_ages(set);
            while let Some(at) = self.oldest(set, false) {
                if best.is_some_and(|best| self.age(best) >= self.age(at)) {
                    break;
                }
                if self.ways[at].reads == 0 {
                    best = Some(at);
                    break;
                }
                self.spare(at, set);
            }
        }
        best
    }

    /// Keeps an entry that was read on trial, or tries it again.
    fn spare(&mut self, at: usize, set: usize) {
        let newcomer = self.ways[at].state == State::Trial;
        let keep = self.kept < self.kept_max() || (newcomer && self.ghost_age(at) <= self.bottom_age(set));
        let now = self.now();
        let way = &mut self.ways[at];
        (way.reads, way.epoch) = (0, now);
        way.state = if keep { State::Kept } else { State::Trial };
        if keep {
            self.count_kept(set);
        }
    }
}
