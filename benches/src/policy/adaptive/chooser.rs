//! Which configuration fits the traffic: small caches that see a sample of it vote.

use super::rings::Rings;
use super::{CONFIGS, Config, START, Shell, sample_hash};

/// Shadows hold at most this many keys.
const SHADOW_MAX: usize = 256;

/// A lead over the chosen one must be at least this many times its square root, or it may be chance.
const SURE: f32 = 0.25;

/// Votes of one round count this much in the next.
const DECAY: f32 = 0.9;

/// No round is of fewer samples.
const ROUND_MIN: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Chooser {
    /// One key in this many is sampled; a power of two.
    rate: u64,
    shadows: Vec<(Rings, f32)>,
    chosen: usize,
    sampled: usize,
    round: usize,
}

impl Chooser {
    pub(super) fn new(capacity: usize) -> Self {
        let mut rate = 2;
        while capacity / rate > SHADOW_MAX {
            rate *= 2;
        }
        let size = (capacity / rate).max(1);
        Self {
            rate: rate as u64,
            shadows: CONFIGS.iter().map(|&config| (Rings::new(size, config), 0.0)).collect(),
            chosen: START,
            sampled: 0,
            round: size.max(ROUND_MIN),
        }
    }

    /// Shows a read to the shadows, and returns a configuration if it is time for another.
    pub(super) fn observe(&mut self, key: u64) -> Option<Config> {
        if sample_hash(key) & (self.rate - 1) != 0 {
            return None;
        }
        for (shadow, score) in &mut self.shadows {
            *score += f32::from(u8::from(shadow.access(key)));
        }
        self.sampled += 1;
        if !self.sampled.is_multiple_of(self.round) {
            return None;
        }
        let before = self.chosen;
        self.choose();
        (self.chosen != before).then(|| CONFIGS[self.chosen])
    }

    fn choose(&mut self) {
        let score = |at: usize| self.shadows[at].1;
        let best =
            (0..self.shadows.len()).fold(0, |best, at| if score(at) > score(best) { at } else { best });
        if score(best) - score(self.chosen) > SURE * score(best).sqrt() {
            self.chosen = best;
        }
        for (_, score) in &mut self.shadows {
            *score *= DECAY;
        }
    }
}
