//! Which configuration fits the traffic: small caches that see a sample of it vote.

use super::{CONFIGS, Config, Policy, Sets, Slot, State, WAYS, Ways, mix};

/// Shadows hold at most this many keys, unless that would take a rarer sample than [`RATE_MAX`].
const SHADOW_MAX: usize = 256;
const RATE_MAX: usize = 1 << 16;

/// A lead over the chosen one must be at least this many times its square root, or it may be chance.
const SURE: f32 = 0.25;

/// Votes of one round count this much in the next.
const DECAY: f32 = 0.9;

/// No round is of fewer samples.
const ROUND_MIN: usize = 64;

/// Small caches without values, one for each configuration.
#[derive(Debug)]
pub(crate) struct Chooser {
    shadows: Vec<(Shadow, f32)>,
    chosen: usize,
    sampled: usize,
    round: usize,
}

impl Chooser {
    /// One key in how many is to be shown to it, for a memory of about `capacity` entries; a power of two.
    pub(crate) fn rate(capacity: usize) -> u64 {
        let mut rate = 2;
        while capacity / rate > SHADOW_MAX && rate < RATE_MAX {
            rate *= 2;
        }
        rate as u64
    }

    /// For a memory of about `capacity` entries that runs the configuration `chosen` now.
    pub(crate) fn new(capacity: usize, chosen: usize) -> Self {
        let rate = Self::rate(capacity) as usize;
        let size = (capacity / rate).max(1);
        Self {
            shadows: CONFIGS.iter().map(|&config| (Shadow::new(size, config), 0.0)).collect(),
            chosen,
            sampled: 0,
            round: size.max(ROUND_MIN),
        }
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        let shadow = |(shadow, _): &(Shadow, f32)| size_of_val(&*shadow.sets.sets) + shadow.policy.bytes();
        size_of_val(&*self.shadows) + self.shadows.iter().map(shadow).sum::<usize>()
    }

    #[cfg(test)]
    pub(crate) fn sampled(&self) -> usize {
        self.sampled
    }

    /// Shows the hash of a key that was read or came in to the shadows, and returns a configuration if it is
    /// time for another.
    pub(crate) fn observe(&mut self, hash: u64) -> Option<usize> {
        // Other bits than those that chose the sample.
        let hash = mix(hash);
        for (shadow, score) in &mut self.shadows {
            *score += f32::from(u8::from(shadow.access(hash)));
        }
        self.sampled += 1;
        if !self.sampled.is_multiple_of(self.round) {
            return None;
        }
        let before = self.chosen;
        self.choose();
        (self.chosen != before).then_some(self.chosen)
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

/// A cache of prints of keys.
#[derive(Debug)]
struct Shadow {
    capacity: usize,
    held: usize,
    policy: Policy,
    config: Config,
    sets: Prints,
}

impl Shadow {
    fn new(capacity: usize, config: Config) -> Self {
        // Half of the ways stay free: the bad luck of a full set says nothing of the memory.
        let sets = (2 * capacity).div_ceil(WAYS);
        Self { capacity, held: 0, policy: Policy::new(capacity), config, sets: Prints::new(sets) }
    }

    /// Whether it was a hit.
    fn access(&mut self, hash: u64) -> bool {
        let set = self.sets.home(hash);
        let now = self.policy.now();
        if self.sets.touch(set, hash, now) {
            return true;
        }
        let pressed = self.held >= self.capacity - self.capacity / 16;
        let state = self.policy.admit(&mut self.sets, set, ghost_hash(hash), pressed, self.config);
        if self.held >= self.capacity || self.sets.with(set, |ways| ways.is_full()) {
            self.evict(set);
        }
        if let Some(slot) = self.sets.put(set, hash) {
            self.sets.with(set, |ways| ways.place(slot.way, state, self.policy.now()));
            self.policy.placed(&mut self.sets, set, state, self.config);
            self.held += 1;
        }
        false
    }

    fn evict(&mut self, own: usize) {
        let Some(victim) = self.policy.victim(&mut self.sets, own, None, self.config) else {
            return;
        };
        let (state, epoch, hash) = self.sets.take(victim.slot);
        self.policy.evicted(&victim, state, epoch, ghost_hash(hash));
        self.held -= 1;
    }
}

fn ghost_hash(hash: u64) -> u64 {
    mix(hash ^ 0x6057_0000)
}

/// The sets of a shadow.
#[derive(Debug)]
struct Prints {
    sets: Vec<PrintSet>,
}

#[derive(Clone, Debug)]
struct PrintSet {
    hashes: [u64; WAYS],
    ways: Ways,
}

impl Prints {
    fn new(sets: usize) -> Self {
        Self { sets: vec![PrintSet { hashes: [0; WAYS], ways: Ways::default() }; sets.max(1)] }
    }

    fn home(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.sets.len() as u128) >> 64) as usize
    }

    /// Whether the key is there; counts it as read.
    fn touch(&mut self, set: usize, hash: u64, now: u16) -> bool {
        let PrintSet { hashes, ways } = &mut self.sets[set];
        let held = (0..WAYS).find(|&way| hashes[way] == hash && ways.state(way) != State::Empty);
        if let Some(way) = held {
            ways.touch(way, now);
        }
        held.is_some()
    }

    fn put(&mut self, set: usize, hash: u64) -> Option<Slot> {
        let PrintSet { hashes, ways } = &mut self.sets[set];
        let way = (0..WAYS).find(|&way| ways.state(way) == State::Empty)?;
        hashes[way] = hash;
        Some(Slot { set, way })
    }

    fn take(&mut self, Slot { set, way }: Slot) -> (State, u16, u64) {
        let PrintSet { hashes, ways } = &mut self.sets[set];
        let taken = (ways.state(way), ways.epoch(way), hashes[way]);
        ways.clear(way);
        taken
    }
}

impl Sets for Prints {
    fn count(&self) -> usize {
        self.sets.len()
    }

    fn with<R>(&mut self, set: usize, look: impl FnOnce(&mut Ways) -> R) -> R {
        look(&mut self.sets[set].ways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::START;

    /// What is chosen after a million reads of the keys that `next` gives.
    fn chosen(capacity: usize, mut next: impl FnMut(u64) -> u64) -> usize {
        let (rate, mut chosen) = (Chooser::rate(capacity), START);
        let mut chooser = Chooser::new(capacity, START);
        for step in 0..1_000_000 {
            let hash = mix(next(step));
            if hash.is_multiple_of(rate) {
                chosen = chooser.observe(hash).unwrap_or(chosen);
            }
        }
        chosen
    }

    #[test]
    fn a_loop_wants_few_on_trial_and_recency_many() {
        assert_eq!(chosen(10_000, |step| step % 15_000), 0, "a loop");
        let recent =
            chosen(10_000, |step| if step % 3 == 2 { step.saturating_sub(9_000 + step % 7) } else { step });
        assert!(recent >= 2, "recency: {recent}");
    }

    #[test]
    fn at_most_256_keys_are_in_a_shadow() {
        for capacity in [1, 2, 100, 512, 513, 100_000, 1 << 24] {
            let held = capacity / Chooser::rate(capacity) as usize;
            assert!(held <= SHADOW_MAX && (held > 100 || capacity < 512), "{held} of {capacity}");
        }
    }
}
