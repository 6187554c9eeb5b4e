//! Going over all entries, a few at a time, while everything is in use.

use std::hash::Hash;
use std::iter::FusedIterator;
use std::ops::ControlFlow;
use std::vec;

use crate::life::Life;
use crate::listener::{Cause, Garbage};
use crate::memory::Memory;
use crate::policy::{Slot, WAYS};
use crate::shard::Writing;
use crate::sync::atomic::Ordering;
use crate::table::HASHES;

/// Where a [`walk`](Memory::walk) goes on. Good for the memory it came from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cursor {
    shard: usize,
    /// Entries go by the part of the hash that tells where they lie: tables may grow meanwhile.
    hash: u64,
}

impl Cursor {
    /// Before the first entry.
    pub const START: Self = Self { shard: 0, hash: 0 };

    /// Both of its parts, to be carried elsewhere.
    pub(crate) fn parts(self) -> (u64, u64) {
        (self.shard as u64, self.hash)
    }

    /// From its parts. Beyond the last entry if they make no sense.
    pub(crate) fn from_parts(shard: u64, hash: u64) -> Self {
        Self { shard: usize::try_from(shard).unwrap_or(usize::MAX), hash }
    }
}

/// Going over all entries.
///
/// # What is seen
/// An entry that is there throughout is seen exactly once, also if tables grow or shrink meanwhile, and no key
/// is seen twice. What comes, leaves or changes meanwhile is seen as it was, as it is, or not at all. Stale
/// values are seen; entries past their hard expiry are not, and are collected by the way. The order is that of
/// hashes. Seeing an entry is no read: neither the policy nor the figures take notice.
///
/// # What closures may not do
/// They run under the lock of the one shard that is looked at: reads go on there, writes wait. So they must be
/// quick, and must not use this memory, or they wait for themselves. A panic goes to the caller; what was taken
/// out before it stays out.
impl<K: Hash + Eq, T> Memory<K, T> {
    /// Goes on from `from` over about so many `slots`, taken or not, in sets of 32, at least one set; takes out
    /// every entry that `keep` says no to, and returns where to go on; `None` at the end. Each lock is held for
    /// at most 8 sets, a few microseconds besides `keep`, and for longer only where many hashes are alike.
    ///
    /// Revokes the fences of all it takes out, and *all* fences of each shard before it looks into it: a load
    /// may be in flight for a key that is not here, which `keep` would say no to, and fences are kept for many
    /// absent keys together. So no value that was loaded before the walk began is stored behind its back; loads
    /// in flight for other keys are not stored either, which costs a load more.
    ///
    /// ```
    /// use cachalot_memory_backend::{Cursor, Memory};
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(1000).build()?;
    /// (0..1000).for_each(|key| assert!(memory.insert(key, key)));
    /// let mut next = Some(Cursor::START);
    /// while let Some(cursor) = next {
    ///     // Here others get their turn.
    ///     next = memory.walk(cursor, 256, |key, _value| key % 10 != 0);
    /// }
    /// assert_eq!(memory.len(), 900);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn walk(&self, from: Cursor, slots: usize, mut keep: impl FnMut(&K, &T) -> bool) -> Option<Cursor> {
        self.step(from, slots, true, &mut |key, value, _| keep(key, value))
    }

    /// Takes out every entry that `keep` says no to: a [`walk`](Memory::walk) over everything.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, String> = Memory::entries(100).build()?;
    /// (0..100).for_each(|key| assert!(memory.insert(key, key.to_string())));
    /// memory.retain(|_key, value| value.len() == 1);
    /// assert_eq!(memory.len(), 10);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn retain(&self, mut keep: impl FnMut(&K, &T) -> bool) {
        self.walk(Cursor::START, usize::MAX, &mut keep);
    }

    /// Takes out every entry whose key `matches`, and returns how many: a [`walk`](Memory::walk) over
    /// everything. Once it returns, no value that was loaded for such a key before it was called is held, nor
    /// will be.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<String, u64> = Memory::entries(100).build()?;
    /// for key in ["user:1", "user:2", "page:1"] {
    ///     memory.insert(key.to_owned(), 0);
    /// }
    /// assert_eq!(memory.remove_matching(|key| key.starts_with("user:")), 2);
    /// assert_eq!(memory.len(), 1);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn remove_matching(&self, mut matches: impl FnMut(&K) -> bool) -> u64 {
        let mut removed = 0;
        self.retain(|key, _| {
            let leaves = matches(key);
            removed += u64::from(leaves);
            !leaves
        });
        removed
    }

    /// Calls `see` with every entry. Nothing is removed and no fence revoked. Allocates nothing.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(100).build()?;
    /// (0..100).for_each(|key| assert!(memory.insert(key, key)));
    /// let mut sum = 0;
    /// memory.for_each(|_key, value| sum += value);
    /// assert_eq!(sum, 4950);
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn for_each(&self, mut see: impl FnMut(&K, &T)) {
        let see = &mut |key: &K, value: &T, _| {
            see(key, value);
            true
        };
        self.step(Cursor::START, usize::MAX, false, see);
    }

    /// Goes on from `from` over about so many `slots` as [`walk`](Memory::walk) does, and removes nothing.
    pub(crate) fn see(
        &self,
        from: Cursor,
        slots: usize,
        mut see: impl FnMut(&K, &T, Life),
    ) -> Option<Cursor> {
        self.step(from, slots, false, &mut |key, value, life| {
            see(key, value, life);
            true
        })
    }

    /// Clones of all entries. A few at a time are cloned under the lock of a shard; none is held between.
    ///
    /// ```
    /// use cachalot_memory_backend::Memory;
    ///
    /// let memory: Memory<u64, u64> = Memory::entries(100).build()?;
    /// (0..100).for_each(|key| assert!(memory.insert(key, key * key)));
    /// let mut squares: Vec<(u64, u64)> = memory.iter().collect();
    /// squares.sort_unstable();
    /// assert_eq!(squares[7], (7, 49));
    /// # Ok::<_, cachalot_core::Error>(())
    /// ```
    pub fn iter(&self) -> Iter<'_, K, T>
    where
        K: Clone,
        T: Clone,
    {
        Iter { memory: self, next: Some(Cursor::START), ahead: Vec::new().into_iter() }
    }

    fn step(
        &self,
        from: Cursor,
        mut slots: usize,
        removes: bool,
        keep: &mut impl FnMut(&K, &T, Life) -> bool,
    ) -> Option<Cursor> {
        let mut at = from;
        while at.shard < self.shard_count() {
            let turn = slots.min(TURN);
            at = self.turn(at, turn, removes, keep);
            slots -= turn;
            if slots == 0 {
                break;
            }
        }
        (at.shard < self.shard_count()).then_some(at)
    }

    /// What is done under one lock.
    fn turn(
        &self,
        at: Cursor,
        slots: usize,
        removes: bool,
        keep: &mut impl FnMut(&K, &T, Life) -> bool,
    ) -> Cursor {
        let mut garbage = self.garbage();
        let mut shard = self.write(at.shard);
        if removes && at.hash == 0 {
            shard.fences().void_all();
        }
        let mut hash = at.hash;
        for _ in 0..slots.div_ceil(WAYS).max(1) {
            hash = self.see_home(&mut shard, hash, removes, keep, &mut garbage);
            if hash >= HASHES {
                return Cursor { shard: at.shard + 1, hash: 0 };
            }
        }
        Cursor { hash, ..at }
    }

    /// Sees the entries from `from` on whose search begins in the same set as that of `from`, and returns
    /// where those of the next set begin.
    fn see_home(
        &self,
        shard: &mut Writing<'_, K, T>,
        from: u64,
        removes: bool,
        keep: &mut impl FnMut(&K, &T, Life) -> bool,
        garbage: &mut Garbage<'_, K, T>,
    ) -> u64 {
        if shard.table().sets() == 0 {
            return HASHES;
        }
        let home = shard.table().home(from);
        let whole = from == shard.table().first_hash(home);
        let mut set = home;
        for _ in 0..shard.table().sets() {
            let lies = shard.table().set(set);
            let mut ways = lies.taken();
            while ways != 0 {
                let way = ways.trailing_zeros() as usize;
                ways &= ways - 1;
                // What did not pass another set is at home here, and the hash need not be asked for.
                let strays = shard.table().set(set).is_displaced(way);
                if strays == (set == home) {
                    continue;
                }
                let slot = Slot { set, way };
                let belongs = |hash: u64| hash % HASHES >= from && shard.table().home(hash) == home;
                if (strays || !whole) && !shard.hash_at(slot).is_some_and(belongs) {
                    continue;
                }
                if let ControlFlow::Break(cause) = self.judge(shard, slot, keep) {
                    self.take_out(shard, slot, cause, removes, garbage);
                }
            }
            // Those it counts lie further on, so what was taken out here has not changed it.
            if shard.table().set(set).past() == 0 {
                break;
            }
            set = shard.table().after(set);
        }
        shard.table().first_hash(home + 1)
    }

    /// Whether an entry goes, and why.
    fn judge(
        &self,
        shard: &Writing<'_, K, T>,
        slot: Slot,
        keep: &mut impl FnMut(&K, &T, Life) -> bool,
    ) -> ControlFlow<Cause> {
        let any_timed = self.any_timed.load(Ordering::Relaxed);
        let life = if any_timed { shard.life(slot) } else { Life::ENDLESS };
        if self.is_over(life) {
            return ControlFlow::Break(Cause::Expired);
        }
        match shard.entry(slot) {
            Some((key, value)) if !keep(key, value, life) => ControlFlow::Break(Cause::Removed),
            _ => ControlFlow::Continue(()),
        }
    }

    fn take_out(
        &self,
        shard: &mut Writing<'_, K, T>,
        slot: Slot,
        cause: Cause,
        removes: bool,
        garbage: &mut Garbage<'_, K, T>,
    ) {
        let Some(hash) = shard.hash_at(slot) else { return };
        if removes {
            // Granted after the walk came to this shard, maybe for a load that saw what this entry is made of.
            shard.fences().void(hash);
        }
        self.discard(shard, slot, hash, cause, garbage);
    }
}

/// At most so many slots are looked at under one lock.
const TURN: usize = 8 * WAYS;

/// Clones of the entries of a [`Memory`], made by [`Memory::iter`]. What it promises stands there.
pub struct Iter<'a, K, T> {
    memory: &'a Memory<K, T>,
    next: Option<Cursor>,
    ahead: vec::IntoIter<(K, T)>,
}

impl<K: Hash + Eq + Clone, T: Clone> Iterator for Iter<'_, K, T> {
    type Item = (K, T);

    fn next(&mut self) -> Option<(K, T)> {
        loop {
            if let Some(entry) = self.ahead.next() {
                return Some(entry);
            }
            let mut entries = Vec::new();
            self.next = self.memory.step(self.next?, TURN, false, &mut |key, value, _| {
                entries.push((key.clone(), value.clone()));
                true
            });
            self.ahead = entries.into_iter();
        }
    }
}

impl<K: Hash + Eq + Clone, T: Clone> FusedIterator for Iter<'_, K, T> {}

impl<'a, K: Hash + Eq + Clone, T: Clone> IntoIterator for &'a Memory<K, T> {
    type Item = (K, T);
    type IntoIter = Iter<'a, K, T>;

    fn into_iter(self) -> Iter<'a, K, T> {
        self.iter()
    }
}
