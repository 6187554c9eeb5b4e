//! The policy of the memory engine: reuse distance decides, and small shadows choose how strictly.
//!
//! After LIRS: a key that comes back sooner than a kept entry was read takes its place; what comes for the
//! first time is on trial, in a small part of the capacity. A hit writes into its entry only. How large the
//! part on trial is, and whether long unread entries drain away, is chosen while running, by the hits of five
//! small caches that see a sample of the keys.

mod chooser;
mod ghost;
mod rings;
mod sets;

use super::{Policy, mix};
use chooser::Chooser;
use rings::Rings;
use sets::Sets;

/// Adaptive by sampled shadows, over either of two layouts that decide alike.
#[derive(Clone, Debug)]
pub struct Adaptive {
    layout: Layout,
    chooser: Chooser,
}

#[derive(Clone, Debug)]
enum Layout {
    Rings(Rings),
    Sets(Sets),
}

impl Adaptive {
    /// Over sets of 32 ways whose entries know their age and no order. Holds up to `capacity` keys, at least
    /// 1; somewhat fewer if many fall into one set.
    pub fn in_sets(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self::over(Layout::Sets(Sets::new(capacity, CONFIGS[START])), capacity)
    }

    /// Over two queues in exact order; what the sets are measured by.
    pub fn in_rings(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self::over(Layout::Rings(Rings::new(capacity, CONFIGS[START])), capacity)
    }

    fn over(layout: Layout, capacity: usize) -> Self {
        Self { layout, chooser: Chooser::new(capacity) }
    }
}

impl Policy for Adaptive {
    fn access(&mut self, key: u64) -> bool {
        if let Some(config) = self.chooser.observe(key) {
            match &mut self.layout {
                Layout::Rings(rings) => rings.configure(config),
                Layout::Sets(sets) => sets.configure(config),
            }
        }
        match &mut self.layout {
            Layout::Rings(rings) => rings.access(key),
            Layout::Sets(sets) => sets.access(key),
        }
    }

    fn held(&self) -> usize {
        match &self.layout {
            Layout::Rings(rings) => rings.held(),
            Layout::Sets(sets) => sets.held(),
        }
    }
}

/// The ghost remembers this many times the capacity, keys as well as misses.
const REMEMBERED: usize = 4;

/// Epochs of the ghost in as many misses as the capacity has entries.
const GHOST_EPOCHS: usize = 12;

/// How strict to be with newcomers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Config {
    /// The share of the capacity that is on trial.
    trial: f64,
    /// One miss in this many displaces a kept entry that is older than the ghost reaches; 0 is never.
    drain: usize,
    /// A key that comes back must have been away so many times shorter than a kept entry is unread.
    strict: u16,
}

impl Config {
    fn kept_max(self, capacity: usize) -> usize {
        capacity - ((self.trial * capacity as f64) as usize).clamp(1, capacity)
    }

    fn drains(self, misses: usize) -> bool {
        self.drain > 0 && mix(misses as u64).is_multiple_of(self.drain as u64)
    }
}

/// What the shadows try. A loop wants few on trial, recency many; in a loop longer than the ghost remembers
/// nothing may drain. Steady popularity wants few on trial too, and none kept that came back by chance.
const CONFIGS: [Config; 5] = [
    Config { trial: 0.01, drain: 0, strict: 2 },
    Config { trial: 0.05, drain: 32, strict: 1 },
    Config { trial: 0.2, drain: 32, strict: 1 },
    Config { trial: 0.5, drain: 32, strict: 1 },
    Config { trial: 0.9, drain: 32, strict: 1 },
];

/// The configuration to begin with.
const START: usize = 1;

/// Something that holds entries under a configuration.
trait Shell {
    fn new(capacity: usize, config: Config) -> Self;
    fn configure(&mut self, config: Config);
    fn access(&mut self, key: u64) -> bool;
    fn held(&self) -> usize;
}

// Where a key lies, how the ghost knows it and whether it is sampled must not depend on each other.

fn set_hash(key: u64) -> u64 {
    mix(key ^ 0x5e75)
}

fn ghost_hash(key: u64) -> u64 {
    mix(key ^ 0x6057_0000)
}

fn sample_hash(key: u64) -> u64 {
    mix(key ^ 0x5a3b_1e00_0000)
}
