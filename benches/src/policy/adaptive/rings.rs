//! The policy over two queues: exact order, one shard. The shadows have it, and the sets are measured by it.

use super::ghost::Ghost;
use super::{Config, GHOST_EPOCHS, REMEMBERED, Shell, ghost_hash};
use crate::policy::hash::KeyMap;
use crate::policy::list::{List, Place};

/// Reads of a kept entry beyond this many are not counted. Each counted one is a reprieve.
const READS_MAX: u8 = 7;

#[derive(Clone, Copy, Debug)]
struct Mark {
    reads: u8,
    demoted: bool,
    epoch: u16,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Rings {
    capacity: usize,
    config: Config,
    held: KeyMap<(bool, Place)>,
    trial: List<Mark>,
    kept: List<Mark>,
    ghost: Ghost,
    misses: usize,
}

impl Shell for Rings {
    fn new(capacity: usize, config: Config) -> Self {
        let age_max = (REMEMBERED * capacity).div_ceil((capacity / GHOST_EPOCHS).max(1));
        Self {
            capacity,
            config,
            held: KeyMap::default(),
            trial: List::new(),
            kept: List::new(),
            ghost: Ghost::new(REMEMBERED * capacity, age_max as u16 + 1),
            misses: 0,
        }
    }

    fn configure(&mut self, config: Config) {
        self.config = config;
    }

    fn access(&mut self, key: u64) -> bool {
        let now = self.now();
        if let Some(&(kept, place)) = self.held.get(&key) {
            if kept {
                let mark = self.kept.mark(place);
                mark.reads = (mark.reads + 1).min(READS_MAX);
                mark.epoch = now;
            } else {
                self.trial.mark(place).reads = 1;
            }
            return true;
        }
        self.miss(key);
        false
    }

    fn held(&self) -> usize {
        self.held.len()
    }
}

impl Rings {
    fn now(&self) -> u16 {
        (self.misses / (self.capacity / GHOST_EPOCHS).max(1)) as u16
    }

    fn kept_max(&self) -> usize {
        self.config.kept_max(self.capacity)
    }

    fn miss(&mut self, key: u64) {
        self.misses += 1;
        let now = self.now();
        self.ghost.sweep(now);
        let seen = self.ghost.take(ghost_hash(key), now);
        let full = self.held.len() >= self.capacity;
        let room = self.kept.len() < self.kept_max();
        let mut keep = match seen {
            _ if !full => room,
            Some(age) => room || age * self.config.strict < self.kept_age(),
            None => false,
        };
        if full {
            if !keep && self.config.drains(self.misses) {
                let epoch = (self.capacity / GHOST_EPOCHS).max(1);
                keep = usize::from(self.kept_age()) * epoch > REMEMBERED * self.capacity;
            }
            self.evict();
        }
        if keep {
            self.promote(key);
        } else {
            self.on_trial(key, Mark { reads: 0, demoted: false, epoch: now });
        }
    }

    fn kept_age(&mut self) -> u16 {
        let now = self.now();
        self.bottom().map_or(u16::MAX, |place| now.wrapping_sub(self.kept.mark(place).epoch))
    }

    fn bottom(&mut self) -> Option<Place> {
        loop {
            let place = self.kept.oldest()?;
            let mark = self.kept.mark(place);
            if mark.reads == 0 {
                return Some(place);
            }
            mark.reads -= 1;
            self.kept.renew(place);
        }
    }

    fn promote(&mut self, key: u64) {
        let mark = Mark { reads: 0, demoted: false, epoch: self.now() };
        let place = self.kept.push(key, mark);
        self.held.insert(key, (true, place));
        if self.kept.len() > self.kept_max() {
            self.demote();
        }
    }

    fn on_trial(&mut self, key: u64, mark: Mark) {
        let place = self.trial.push(key, mark);
        self.held.insert(key, (false, place));
    }

    fn demote(&mut self) {
        if let Some(place) = self.bottom() {
            let (key, mark) = self.kept.remove(place);
            self.on_trial(key, Mark { reads: 0, demoted: true, epoch: mark.epoch });
        }
    }

    fn evict(&mut self) {
        for _ in 0..2 {
            if self.kept.len() > self.kept_max() {
                self.demote();
            }
        }
        loop {
            if self.trial.is_empty() {
                self.demote();
            }
            let Some((key, mark)) = self.trial.pop() else {
                return;
            };
            self.held.remove(&key);
            let now = self.now();
            let age = now.wrapping_sub(mark.epoch);
            if mark.reads == 0 {
                self.ghost.put(ghost_hash(key), now, age);
                return;
            }
            let room = self.kept.len() < self.kept_max();
            if room || (!mark.demoted && age <= self.kept_age()) {
                self.promote(key);
            } else {
                self.on_trial(key, Mark { reads: 0, demoted: false, epoch: now });
            }
        }
    }
}
