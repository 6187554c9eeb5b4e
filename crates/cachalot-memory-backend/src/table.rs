//! The sets of a shard, and where an entry lies among them.
//!
//! An entry lies in the first set with room from its home on. A set counts the entries that passed it on
//! their way, so a search ends at the first set that none has passed. The home comes from the high bits of a
//! hash, so that a table may have any number of sets.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use cachalot_core::Timestamp;

use crate::life::{Coded, LIFE, Life, base_at, is_graded, is_odd, is_old};
use crate::policy::{Sets, Slot, State, WAYS, Ways};
use crate::readers::{Readers, Visit};
use crate::set::{Hold, Hot, Set, SetGuard};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

/// Room for entries `(K, T)`, with a weight, a life and what the policy knows of each.
pub(crate) struct Table<K, T> {
    sets: Box<[Set<K, T>]>,
    weights: Weights,
    /// Hard expiries where soft ones differ. There from the first such entry on.
    seconds: OnceLock<Box<[AtomicU32]>>,
    odd: Mutex<HashMap<usize, Life>>,
    /// Whether there ever were any.
    any_odd: AtomicBool,
}

/// What entries weigh.
enum Weights {
    Each(u64),
    Own(Box<[AtomicU64]>),
}

/// What was known of an entry.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    mark: u8,
    pub(crate) state: State,
    pub(crate) epoch: u16,
}

impl Known {
    fn of(ways: &Ways, way: usize) -> Self {
        Self { mark: ways.mark(way), state: ways.state(way), epoch: ways.epoch(way) }
    }

    pub(crate) fn is_timed(self) -> bool {
        self.mark & LIFE != 0
    }
}

/// What is known of an entry to be published, and the time if it has an end.
pub(crate) struct New {
    pub(crate) hash: u64,
    pub(crate) weight: u64,
    pub(crate) life: Life,
    pub(crate) now: Timestamp,
}

/// What the policy begins with.
#[derive(Clone, Copy)]
pub(crate) struct Begin {
    pub(crate) state: State,
    pub(crate) epoch: u16,
}

/// What a reader found.
pub(crate) enum Seek<'a, K, T> {
    /// Without a lock.
    Hot(Hot<'a, K, T>),
    /// Under the lock of its set.
    Locked(SetGuard<'a, K, T>, Slot),
    Absent,
    /// The table is being replaced.
    Retired,
}

/// More sets than this a table never has: homes come from 32 bits.
const MAX_SETS: usize = 1 << 27;

/// So many hashes a home can tell apart.
pub(crate) const HASHES: u64 = 1 << 32;

impl<K, T> Table<K, T> {
    /// With so many sets. Entries weigh `each`, or what they are put in with.
    pub(crate) fn new(sets: usize, each: Option<u64>) -> Self {
        let sets = sets.min(MAX_SETS);
        let own = || Weights::Own((0..sets * WAYS).map(|_| AtomicU64::new(0)).collect());
        Self {
            sets: Set::some(sets),
            weights: each.map_or_else(own, Weights::Each),
            seconds: OnceLock::new(),
            odd: Mutex::default(),
            any_odd: AtomicBool::new(false),
        }
    }

    pub(crate) fn sets(&self) -> usize {
        self.sets.len()
    }

    /// What it takes, itself included.
    pub(crate) fn bytes(&self) -> usize {
        let weights = match &self.weights {
            Weights::Each(_) => 0,
            Weights::Own(weights) => size_of_val(&**weights),
        };
        let seconds = self.seconds.get().map_or(0, |seconds| size_of_val(&**seconds));
        // Seven eighths of a map are in use, with a byte more for each.
        let odd = self.odd().capacity() * 8 / 7 * (size_of::<(usize, Life)>() + 1);
        size_of::<Self>() + size_of_val(&*self.sets) + weights + seconds + odd
    }

    /// The number of cells, taken or not.
    pub(crate) fn cells(&self) -> usize {
        self.sets.len() * WAYS
    }

    /// How full it may be: so many of so many cells. Where a free cell is dear, longer searches are cheaper.
    const LOAD: (usize, usize) = if size_of::<(K, T)>() > 64 { (12, 13) } else { (8, 9) };

    /// Whether `len` entries and one more would make searches long.
    pub(crate) fn is_crowded(&self, len: usize) -> bool {
        (len + 1) * Self::LOAD.1 > self.cells() * Self::LOAD.0
    }

    /// Sets that hold so many entries without being crowded, and a little more: no shard has exactly its part.
    pub(crate) fn sets_for(entries: usize) -> usize {
        let entries = entries.min(1 << 40);
        (entries + entries / 64) * Self::LOAD.1 / Self::LOAD.0 / WAYS + 1
    }

    /// Whether it can neither take another entry nor grow.
    pub(crate) fn is_full(&self, len: usize) -> bool {
        self.sets.len() >= MAX_SETS && self.is_crowded(len)
    }

    /// The number of the set in which a search begins. There must be a set.
    #[inline]
    pub(crate) fn home(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.sets.len() as u64) >> 32) as usize
    }

    /// The set with a number that came from this table.
    #[inline]
    pub(crate) fn set(&self, at: usize) -> &Set<K, T> {
        &self.sets[at]
    }

    /// The least part of a hash, as [`Table::home`] looks at it, whose search begins in a set or behind it.
    pub(crate) fn first_hash(&self, set: usize) -> u64 {
        (set as u64 * HASHES).div_ceil(self.sets.len().max(1) as u64)
    }

    pub(crate) fn after(&self, set: usize) -> usize {
        if set + 1 == self.sets.len() { 0 } else { set + 1 }
    }

    /// The set in which a search begins, if there is any, and its number.
    #[inline]
    pub(crate) fn home_set(&self, hash: u64) -> Option<(usize, &Set<K, T>)> {
        let home = self.home(hash);
        Some((home, self.sets.get(home)?))
    }

    /// Looks for an entry on behalf of a reader, who has said that it is here or keeps the table where it is.
    #[inline]
    pub(crate) fn seek<'a>(
        &'a self,
        visit: Option<&'a Visit<'_>>,
        hash: u64,
        mut same: impl FnMut(&K) -> bool,
    ) -> Seek<'a, K, T> {
        let mut at = self.home(hash);
        for _ in 0..self.sets.len() {
            let set = &self.sets[at];
            let ways = set.hot(tag(hash));
            if ways != 0
                && let Some(hot) = visit.and_then(|visit| set.read_hot(visit, ways, &mut same))
            {
                return Seek::Hot(hot);
            }
            let Some(guard) = set.lock() else {
                return Seek::Retired;
            };
            if let Some(way) = guard.find(tag(hash), &mut same) {
                return Seek::Locked(guard, Slot { set: at, way });
            }
            if set.past() == 0 {
                return Seek::Absent;
            }
            drop(guard);
            at = self.after(at);
        }
        Seek::Absent
    }

    /// Looks for an entry on behalf of the one who has the hold.
    pub(crate) fn find(&self, hold: &Hold, hash: u64, mut same: impl FnMut(&K) -> bool) -> Option<Slot> {
        if self.sets.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        for _ in 0..self.sets.len() {
            let set = &self.sets[at];
            if let Some(way) = set.find(hold, tag(hash), &mut same) {
                return Some(Slot { set: at, way });
            }
            if set.past() == 0 {
                return None;
            }
            at = self.after(at);
        }
        None
    }

    /// Puts an entry into the first free way from its home on. It comes back if there is none.
    pub(crate) fn put(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        new: &New,
        begins: Begin,
        mut entry: (K, T),
    ) -> Result<Slot, (K, T)> {
        let home = self.home(new.hash);
        let mut at = home;
        for _ in 0..self.sets.len() {
            let Some(mut guard) = self.sets[at].lock() else { return Err(entry) };
            match guard.put(hold, tag(new.hash), at != home, entry) {
                Ok(way) => {
                    let slot = Slot { set: at, way };
                    guard.ways_mut().place(way, begins.state, begins.epoch);
                    self.set_weight(slot, new.weight);
                    if !new.life.is_endless() {
                        self.set_life(hold, readers, &mut guard, slot, new.life, new.now);
                    }
                    return Ok(slot);
                }
                Err(back) => entry = back,
            }
            guard.set().add_past(hold);
            at = self.after(at);
        }
        // Nobody lies behind them after all.
        self.sets.iter().for_each(|set| set.sub_past(hold));
        Err(entry)
    }

    /// Takes an entry out, whose hash is known, and forgets its life.
    pub(crate) fn take(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        slot: Slot,
        hash: u64,
    ) -> Option<((K, T), Known)> {
        let mut guard = self.sets[slot.set].lock()?;
        if guard.set().is_displaced(slot.way) {
            let mut at = self.home(hash);
            while at != slot.set {
                self.sets[at].sub_past(hold);
                at = self.after(at);
            }
        }
        let (ways, way) = (guard.ways(), slot.way);
        let known = Known::of(ways, way);
        if is_odd(known.mark) {
            self.odd().remove(&cell(slot));
        }
        Some((guard.take(hold, readers, slot.way)?, known))
    }

    /// Puts a value in the place of another one.
    pub(crate) fn replace(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        slot: Slot,
        new: &New,
        epoch: u16,
        value: T,
    ) -> Option<(T, Known)> {
        let mut guard = self.sets[slot.set].lock()?;
        let old = guard.replace(hold, readers, slot.way, value)?;
        let (ways, way) = (guard.ways_mut(), slot.way);
        let known = Known::of(ways, way);
        ways.touch(way, epoch);
        if known.is_timed() || !new.life.is_endless() {
            self.set_life(hold, readers, &mut guard, slot, new.life, new.now);
        }
        self.set_weight(slot, new.weight);
        Some((old, known))
    }

    /// Ends all reads without a lock with one fence of all threads, so that changes of many sets need not run
    /// one each.
    pub(crate) fn cool(&self, hold: &mut Hold, readers: &Readers) {
        let mut any = false;
        for set in &self.sets {
            if let Some(mut guard) = set.lock() {
                any |= guard.begin_to_cool(hold);
            }
        }
        if any {
            let first = self.sets.as_ptr().addr();
            readers.wait_for_reads_among(first..first + size_of_val(&*self.sets));
        }
    }

    /// Moves the entries of a set, whose hashes are known, into another table, and retires the set.
    pub(crate) fn hand_over(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        set: usize,
        entries: &[(Slot, u64)],
        next: &Self,
        next_hold: &mut Hold,
    ) {
        // Locked once for all: nobody misses an entry that has left for a table that nobody sees yet.
        let Some(mut guard) = self.sets[set].lock() else { return };
        for &(slot, hash) in entries {
            let (life, ways) = (self.life(&guard, slot), *guard.ways());
            let Some(entry) = guard.take(hold, readers, slot.way) else { continue };
            let new = New { hash, weight: self.weight(slot), life: Life::ENDLESS, now: Timestamp::default() };
            let begins = Begin { state: ways.state(slot.way), epoch: ways.epoch(slot.way) };
            // The other table has room for all.
            let Ok(new) = next.put(next_hold, readers, &new, begins, entry) else { continue };
            let Some(mut other) = next.sets[new.set].lock() else { continue };
            other.ways_mut().copy(new.way, &ways, slot.way);
            if other.base() == 0 && guard.base() > 0 {
                // With entries in it already: a clock may begin near zero.
                next.rebase(next_hold, readers, &mut other, new.set, guard.base());
            }
            next.write_life(next_hold, readers, &mut other, new, life);
        }
        guard.retire(hold, readers);
    }

    /// Whether an entry of a set may be past its hard expiry. For the one who has the hold.
    pub(crate) fn has_any_over(&self, set: usize, now: Timestamp) -> bool {
        self.set(set).soonest() <= now || self.any_odd.load(Ordering::Relaxed)
    }

    /// The ways of a set whose entries are past their hard expiry.
    pub(crate) fn over_in(&self, set: usize, now: Timestamp) -> u32 {
        if !self.has_any_over(set, now) {
            return 0;
        }
        let Some(guard) = self.sets[set].lock() else { return 0 };
        let taken = self.sets[set].taken();
        let is_over = |way: &usize| {
            let timed = taken >> way & 1 != 0 && guard.ways().mark(*way) & LIFE != 0;
            timed && self.life(&guard, Slot { set, way: *way }).is_over(now)
        };
        (0..WAYS).filter(is_over).fold(0, |over, way| over | 1 << way)
    }

    pub(crate) fn weight(&self, slot: Slot) -> u64 {
        match &self.weights {
            Weights::Each(each) => *each,
            Weights::Own(weights) => weights[cell(slot)].load(Ordering::Relaxed),
        }
    }

    /// Where all weigh the same, nothing else is asked for.
    fn set_weight(&self, slot: Slot, weight: u64) {
        match &self.weights {
            Weights::Each(each) => debug_assert_eq!(*each, weight),
            Weights::Own(weights) => weights[cell(slot)].store(weight, Ordering::Relaxed),
        }
    }

    /// The life of the entry in a way of a locked set.
    #[inline]
    pub(crate) fn life(&self, guard: &SetGuard<'_, K, T>, slot: Slot) -> Life {
        let mark = guard.ways().mark(slot.way);
        if mark & LIFE == 0 {
            return Life::ENDLESS;
        }
        if is_odd(mark) {
            return self.odd().get(&cell(slot)).copied().unwrap_or(Life::ENDLESS);
        }
        let second = if is_graded(mark) { self.second(slot) } else { 0 };
        Coded::life(guard.base(), mark, guard.end(slot.way), second)
    }

    /// Gives an entry of a locked set another life.
    pub(crate) fn set_life(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        guard: &mut SetGuard<'_, K, T>,
        slot: Slot,
        life: Life,
        now: Timestamp,
    ) {
        if !life.is_endless() && is_old(guard.base(), now) {
            self.write_life(hold, readers, guard, slot, Life::ENDLESS);
            self.rebase(hold, readers, guard, slot.set, base_at(now));
        }
        self.write_life(hold, readers, guard, slot, life);
    }

    /// Gives all lives of a set another base.
    fn rebase(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        guard: &mut SetGuard<'_, K, T>,
        set: usize,
        base: u64,
    ) {
        let timed = |way: &usize| guard.ways().mark(*way) & LIFE != 0;
        let lives: Vec<(Slot, Life)> = (0..WAYS)
            .filter(timed)
            .map(|way| (Slot { set, way }, self.life(guard, Slot { set, way })))
            .collect();
        guard.rebase(hold, readers, base);
        for (slot, life) in lives {
            self.write_life(hold, readers, guard, slot, life);
        }
    }

    fn write_life(
        &self,
        hold: &mut Hold,
        readers: &Readers,
        guard: &mut SetGuard<'_, K, T>,
        slot: Slot,
        life: Life,
    ) {
        let before = guard.ways().mark(slot.way);
        let coded = Coded::new(guard.base(), life);
        if is_odd(before) {
            self.odd().remove(&cell(slot));
        }
        if is_odd(coded.bits) {
            self.any_odd.store(true, Ordering::Relaxed);
            self.odd().insert(cell(slot), life);
        }
        if let Some(second) = coded.second {
            self.set_second(slot, second);
        }
        if before & LIFE != 0 || coded.bits != 0 {
            guard.set_end(hold, readers, slot.way, coded.first);
            guard.ways_mut().set_flags(slot.way, coded.bits);
        }
    }

    fn second(&self, slot: Slot) -> u32 {
        self.seconds.get().map_or(0, |seconds| seconds[cell(slot)].load(Ordering::Relaxed))
    }

    fn set_second(&self, slot: Slot, code: u32) {
        let seconds = self.seconds.get_or_init(|| (0..self.cells()).map(|_| AtomicU32::new(0)).collect());
        seconds[cell(slot)].store(code, Ordering::Relaxed);
    }

    fn odd(&self) -> std::sync::MutexGuard<'_, HashMap<usize, Life>> {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Its number among all cells.
fn cell(slot: Slot) -> usize {
    slot.set * WAYS + slot.way
}

/// Eight bits that choose neither shard nor set; never zero.
#[inline]
pub(crate) fn tag(hash: u64) -> u8 {
    let tag = (hash >> 56) as u8;
    tag + u8::from(tag == 0)
}

impl<K, T> Drop for Table<K, T> {
    fn drop(&mut self) {
        if std::mem::needs_drop::<(K, T)>() {
            self.drain(drop);
        }
    }
}

impl<K, T> Table<K, T> {
    /// Hands out all entries, of a table that nobody uses any more. If `take` panics, the others are dropped.
    pub(crate) fn drain(&mut self, mut take: impl FnMut((K, T))) {
        let mut rest = Rest { sets: &mut self.sets, at: 0 };
        rest.drain(&mut take);
    }
}

/// What is left to drop when one drop has panicked.
struct Rest<'a, K, T> {
    sets: &'a mut [Set<K, T>],
    at: usize,
}

impl<K, T> Rest<'_, K, T> {
    fn drain(&mut self, take: &mut impl FnMut((K, T))) {
        while let Some(set) = self.sets.get_mut(self.at) {
            match set.pop() {
                Some(entry) => take(entry),
                None => self.at += 1,
            }
        }
    }
}

impl<K, T> Drop for Rest<'_, K, T> {
    fn drop(&mut self) {
        self.drain(&mut drop);
    }
}

/// The sets of a table as the policy sees them, at an epoch. One of them is locked, the last that was looked
/// at: the next look is often at the same.
pub(crate) struct Ruled<'a, K, T> {
    table: &'a Table<K, T>,
    now: u16,
    last: Option<(usize, SetGuard<'a, K, T>)>,
}

impl<'a, K, T> Ruled<'a, K, T> {
    pub(crate) fn new(table: &'a Table<K, T>, now: u16) -> Self {
        Self { table, now, last: None }
    }

    /// Lets go of the set that was looked at last.
    pub(crate) fn let_go(&mut self) {
        self.last = None;
    }
}

impl<K, T> Sets for Ruled<'_, K, T> {
    fn count(&self) -> usize {
        self.table.sets()
    }

    #[inline]
    fn with<R>(&mut self, set: usize, look: impl FnOnce(&mut Ways) -> R) -> R {
        if let Some((last, guard)) = &mut self.last
            && *last == set
        {
            return look(guard.ways_mut());
        }
        // First the one, then the other: nobody holds two.
        self.last = None;
        match self.table.set(set).lock() {
            Some(mut guard) => {
                guard.absorb(self.now);
                let seen = look(guard.ways_mut());
                self.last = Some((set, guard));
                seen
            }
            // Not while the one who could retire it looks at it.
            None => look(&mut Ways::default()),
        }
    }
}

#[cfg(test)]
mod tests;
