//! What to evict: reuse distance decides, and small shadows choose how strictly.
//!
//! After LIRS (Jiang, Zhang, SIGMETRICS 2002), without its lists: a key that comes back sooner than a kept
//! entry was last read takes its place; what comes for the first time is on trial, in a small part of the
//! capacity. A hit writes into its entry only. Entries lie in sets, and know their age by an epoch that misses
//! advance; a victim is looked for in the set of the new key, then in two sets under a hand. Keys that were
//! evicted are remembered for a while, four times as many as are held.
//!
//! Knows neither keys nor values. How large the part on trial is, and whether long unread entries drain away,
//! is a [`Config`], voted for by the [`Chooser`].

mod chooser;
pub(crate) use chooser::Chooser;
mod ghost;
use ghost::Ghost;
mod ways;
pub(crate) use ways::{State, WAYS, Ways};

/// The place of an entry: set and way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) set: usize,
    pub(crate) way: usize,
}

/// The sets that a policy rules. All have the same number of ways.
pub(crate) trait Sets {
    fn count(&self) -> usize;

    /// What `look` makes of a set. Nobody else reads or changes it meanwhile.
    fn with<R>(&mut self, set: usize, look: impl FnOnce(&mut Ways) -> R) -> R;
}

/// How strict to be with newcomers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Config {
    /// The share of the capacity that is on trial.
    trial: f64,
    /// One miss in this many displaces a kept entry that is older than the ghost reaches; 0 is never.
    drain: u64,
    /// A key that comes back must have been away so many times shorter than a kept entry is unread.
    strict: u16,
}

/// What the shadows try. A loop wants few on trial, recency many; in a loop longer than the ghost remembers
/// nothing may drain. Steady popularity wants few on trial too, and none kept that came back by chance.
pub(crate) const CONFIGS: [Config; 5] = [
    Config { trial: 0.01, drain: 0, strict: 2 },
    Config { trial: 0.05, drain: 32, strict: 1 },
    Config { trial: 0.2, drain: 32, strict: 1 },
    Config { trial: 0.5, drain: 32, strict: 1 },
    Config { trial: 0.9, drain: 32, strict: 1 },
];

/// The configuration to begin with.
pub(crate) const START: usize = 1;

/// The ghost remembers this many times the capacity, keys as well as misses.
const REMEMBERED: usize = 4;

/// Epochs of the ghost in as many misses as the capacity has entries.
const GHOST_EPOCHS: usize = 12;

/// Entries have finer epochs than ghosts, this many to one.
const FINE: u16 = 16;

/// Sets under the hand among which the oldest entry on trial is evicted.
const WINDOW: usize = 2;

/// Sets, the key's own first, in which the oldest kept entry is looked for.
const KEPT_WINDOW: usize = 2;

/// The ages of one set are looked after every so many misses: of all sets in a few hundred epochs.
const AGING: u64 = 16;

/// What is known of the sets of one shard as a whole.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// How many entries there are room for, as far as is known.
    capacity: usize,
    held: usize,
    kept: usize,
    trial_hand: usize,
    kept_hand: usize,
    age_hand: usize,
    /// The age at which entries on trial were evicted lately.
    victim_age: f32,
    ghost: Ghost,
    /// Hash and epoch of the last one evicted, which the ghost is told at the next eviction: by then its bucket
    /// has come from memory.
    leaving: Option<(u64, u16)>,
    misses: u64,
    now: u16,
    /// Misses since the last epoch began, in parts of `capacity`.
    part: usize,
}

/// An entry that is to go, and whether that is for want of room in its set.
pub(crate) struct Victim {
    pub(crate) slot: Slot,
    crowded_out: bool,
}

impl Policy {
    /// For about `capacity` entries.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            held: 0,
            kept: 0,
            trial_hand: 0,
            kept_hand: 0,
            age_hand: 0,
            victim_age: 0.0,
            ghost: Ghost::default(),
            leaving: None,
            misses: 0,
            now: 0,
            part: 0,
        }
    }

    /// The present epoch.
    pub(crate) fn now(&self) -> u16 {
        self.now
    }

    #[cfg(test)]
    pub(crate) fn on_trial(&self) -> usize {
        self.held - self.kept
    }

    /// Reckons with room for about `capacity` entries from now on.
    pub(crate) fn resize(&mut self, capacity: usize) {
        self.capacity = capacity.max(1);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        self.ghost.bytes()
    }

    /// Counts a miss, and tells the state of the new entry. It is kept if its key was seen more recently than a
    /// kept entry. `pressed`: there is hardly room left. `hash` must not depend on the set.
    pub(crate) fn admit(
        &mut self,
        sets: &mut impl Sets,
        own: usize,
        hash: u64,
        pressed: bool,
        config: Config,
    ) -> State {
        self.advance(sets);
        let room = self.kept < config.kept_max(self.capacity);
        let keep = if pressed { self.proves_itself(sets, own, hash, room, config) } else { room };
        if keep { State::Kept } else { State::Trial }
    }

    fn proves_itself(
        &mut self,
        sets: &mut impl Sets,
        own: usize,
        hash: u64,
        room: bool,
        config: Config,
    ) -> bool {
        if self.leaving.is_some_and(|(last, _)| last == hash) {
            self.remember_last();
        }
        let now = self.ghost_now();
        self.ghost.sweep(now);
        match self.ghost.take(hash, now) {
            Some(age) => room || age * config.strict < self.bottom_age(sets, own),
            None if config.drains(self.misses) => {
                usize::from(self.bottom_age(sets, own)) > REMEMBERED * GHOST_EPOCHS
            }
            None => false,
        }
    }

    /// An entry was put into the set `own`, in such a state.
    pub(crate) fn placed(&mut self, sets: &mut impl Sets, own: usize, state: State, config: Config) {
        self.held += 1;
        if state == State::Kept {
            self.count_kept(sets, own, config);
        }
    }

    /// Asks for what the next miss of a key will look at, and the set of the next victim.
    pub(crate) fn warm(&self, hash: u64) {
        self.ghost.warm(hash);
    }

    /// The set in which the next victim is looked for, if not in that of the new key.
    pub(crate) fn hand(&self) -> usize {
        self.trial_hand
    }

    /// The entry in `slot`, which was in `state`, has been taken out or moved elsewhere.
    pub(crate) fn removed(&mut self, state: State) {
        self.held -= 1;
        self.kept -= usize::from(state == State::Kept);
    }

    /// The victim has been taken out for want of room; `hash` as in [`Policy::admit`].
    pub(crate) fn evicted(&mut self, victim: &Victim, state: State, epoch: u16, hash: u64) {
        let age = self.now.wrapping_sub(epoch);
        if !victim.crowded_out {
            self.victim_age += (f32::from(age) - self.victim_age) / 64.0;
        }
        self.removed(state);
        self.ghost.grow_to(REMEMBERED * self.capacity, (REMEMBERED * GHOST_EPOCHS) as u16 + 1);
        self.remember_last();
        self.ghost.warm(hash);
        self.leaving = Some((hash, self.now.wrapping_sub(age)));
    }

    fn remember_last(&mut self) {
        if let Some((hash, epoch)) = self.leaving.take() {
            let age = self.now.wrapping_sub(epoch) / FINE;
            self.ghost.put(hash, self.ghost_now(), age);
        }
    }

    /// Chooses who leaves, never `spared`, for an entry that comes into the set `own`. `None` if there is no
    /// other. Nobody has left yet.
    pub(crate) fn victim(
        &mut self,
        sets: &mut impl Sets,
        own: usize,
        spared: Option<Slot>,
        config: Config,
    ) -> Option<Victim> {
        for _ in 0..2 {
            if self.kept > config.kept_max(self.capacity) {
                self.demote(sets, own);
            }
        }
        let usual = |slot| Some(Victim { slot, crowded_out: false });
        if sets.with(own, |ways| ways.is_full()) {
            let slot = self.crowded_out(sets, own, spared, config)?;
            return Some(Victim { slot, crowded_out: true });
        }
        if let Some((slot, age)) = self.oldest_on_trial(sets, own, 1, spared, config)
            && f32::from(age) * 2.0 >= self.victim_age
        {
            return usual(slot);
        }
        for _ in 0..2 * sets.count() {
            if self.kept >= self.held {
                self.demote(sets, own);
            }
            let oldest = self.oldest_on_trial(sets, self.trial_hand, WINDOW, spared, config);
            self.trial_hand = (self.trial_hand + 1) % sets.count();
            if let Some((slot, _)) = oldest {
                return usual(slot);
            }
        }
        // All others are kept.
        let any = (0..sets.count()).find_map(|set| self.oldest_kept(sets, set, spared));
        any.and_then(|(slot, _)| usual(slot))
    }

    fn advance(&mut self, sets: &mut impl Sets) {
        self.misses += 1;
        if self.misses.is_multiple_of(AGING) {
            self.age_hand = (self.age_hand + 1) % sets.count();
            let now = self.now;
            sets.with(self.age_hand, |ways| ways.cap_ages(now));
        }
        self.part += GHOST_EPOCHS * usize::from(FINE);
        if self.part >= self.capacity {
            self.now = self.now.wrapping_add((self.part / self.capacity) as u16);
            self.part %= self.capacity;
        }
    }

    fn ghost_now(&self) -> u16 {
        self.now / FINE
    }

    /// How long ago, in epochs of the ghost, the kept entry was read that goes next.
    fn bottom_age(&mut self, sets: &mut impl Sets, own: usize) -> u16 {
        self.bottom(sets, own).map_or(u16::MAX, |(_, age)| age / FINE)
    }

    /// The kept entry that goes next: the oldest in a few sets, `own` first.
    fn bottom(&mut self, sets: &mut impl Sets, own: usize) -> Option<(Slot, u16)> {
        if self.kept == 0 {
            return None;
        }
        let first =
            if sets.with(own, |ways| ways.holds_kept()) { own } else { self.kept_hand % sets.count() };
        for start in 0..sets.count() {
            let mut oldest: Option<(Slot, u16)> = None;
            for step in 0..KEPT_WINDOW {
                let kept = self.oldest_kept(sets, (first + start + step) % sets.count(), None);
                // Of two equally old the one in the first set: that keeps the sets equally full.
                if kept.is_some_and(|(_, age)| oldest.is_none_or(|(_, most)| age > most)) {
                    oldest = kept;
                }
            }
            if oldest.is_some() {
                return oldest;
            }
        }
        None
    }

    /// The oldest kept entry of a set that has no reprieve left, and its age.
    fn oldest_kept(&mut self, sets: &mut impl Sets, set: usize, spared: Option<Slot>) -> Option<(Slot, u16)> {
        let now = self.now;
        let (way, age) = sets.with(set, |ways| ways.oldest_kept(now, way_in(set, spared)))?;
        Some((Slot { set, way }, age))
    }

    fn count_kept(&mut self, sets: &mut impl Sets, own: usize, config: Config) {
        self.kept += 1;
        if self.kept > config.kept_max(self.capacity) {
            self.demote(sets, own);
        }
    }

    fn demote(&mut self, sets: &mut impl Sets, own: usize) {
        if let Some((slot, _)) = self.bottom(sets, own) {
            sets.with(slot.set, |ways| ways.demote(slot.way));
            self.kept -= 1;
            self.kept_hand = (self.kept_hand + 1) % sets.count();
        }
    }

    /// Who leaves a full set: the oldest on trial, or a kept one if all on trial have only just come.
    fn crowded_out(
        &mut self,
        sets: &mut impl Sets,
        own: usize,
        spared: Option<Slot>,
        config: Config,
    ) -> Option<Slot> {
        let young = match self.oldest_on_trial(sets, own, 1, spared, config) {
            Some((slot, age)) if f32::from(age) * 4.0 >= self.victim_age => return Some(slot),
            young => young,
        };
        let now = self.now;
        let kept = sets.with(own, |ways| ways.oldest(true, now, way_in(own, spared)));
        kept.map(|(way, _)| Slot { set: own, way }).or(young.map(|(slot, _)| slot))
    }

    /// The oldest unread on trial in a few sets, and its age; the read ones before it are kept or tried again.
    fn oldest_on_trial(
        &mut self,
        sets: &mut impl Sets,
        first: usize,
        window: usize,
        spared: Option<Slot>,
        config: Config,
    ) -> Option<(Slot, u16)> {
        let mut best: Option<(Slot, u16)> = None;
        for step in 0..window {
            let set = (first + step) % sets.count();
            let (now, spared) = (self.now, way_in(set, spared));
            while let Some((way, age, read)) = sets.with(set, |ways| ways.oldest_on_trial(now, spared)) {
                if best.is_some_and(|(_, most)| most >= age) {
                    break;
                }
                let slot = Slot { set, way };
                if !read {
                    best = Some((slot, age));
                    break;
                }
                self.spare(sets, slot, age, config);
            }
        }
        best
    }

    /// Keeps an entry that was read on trial, or tries it again.
    fn spare(&mut self, sets: &mut impl Sets, slot: Slot, age: u16, config: Config) {
        let newcomer = sets.with(slot.set, |ways| ways.state(slot.way) == State::Trial);
        let room = self.kept < config.kept_max(self.capacity);
        let keep = room || (newcomer && age / FINE <= self.bottom_age(sets, slot.set));
        let (now, state) = (self.now, if keep { State::Kept } else { State::Trial });
        sets.with(slot.set, |ways| ways.place(slot.way, state, now));
        if keep {
            self.count_kept(sets, slot.set, config);
        }
    }
}

impl Config {
    fn kept_max(self, capacity: usize) -> usize {
        capacity - ((self.trial * capacity as f64) as usize).clamp(1, capacity)
    }

    fn drains(self, misses: u64) -> bool {
        self.drain > 0 && mix(misses).is_multiple_of(self.drain)
    }
}

fn way_in(set: usize, slot: Option<Slot>) -> Option<usize> {
    slot.filter(|slot| slot.set == set).map(|slot| slot.way)
}

/// Spreads a number over all bits (the finalizer of SplitMix64).
pub(crate) fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
