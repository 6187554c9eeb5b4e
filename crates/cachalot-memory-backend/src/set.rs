//! One set: the entries of thirty-two ways inline, and what is looked at before and after them.
//!
//! Who may do what:
//! - The *hold* is the right to change which entries a shard has; there is one, guarded by the shard's lock.
//! - The *lock* of a set keeps its marks together, and keeps entries where they are while they are read.
//!   Entries, tags and ends change under both.
//! - A *hot* way is also read without the lock, by threads that say so. Before one changes, all ways of the set
//!   are cooled: taken out of reach, and those who are at them are waited for.
//!
//! The ways of a set become hot when it was read often since it last changed, or its lock was fought for.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;

use cachalot_core::Timestamp;

use crate::life::{self, LIFE, is_readable_by_end};
use crate::policy::{WAYS, Ways};
use crate::readers::{Readers, Reading, Visit};
use crate::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use crate::sync::{Locked, SetLock};

/// The right to replace the table of a shard, and with it the hold. Exactly one exists per shard, in what the
/// shard's lock guards.
pub(crate) struct Owner {
    pub(crate) hold: Hold,
}

/// The right to change which entries a table has.
pub(crate) struct Hold(());

impl Owner {
    /// For a shard that is being made.
    pub(crate) fn new() -> Self {
        Self { hold: Hold(()) }
    }
}

/// See the module.
#[repr(C, align(64))]
pub(crate) struct Set<K, T> {
    /// Eight bits of the hash of each entry, none of them zero; zero where there is none. A cell is initialised
    /// exactly if its tag is not zero.
    tags: [AtomicU64; WAYS / 8],
    lock: SetLock,
    /// How often the ways had to be cooled, up to [`COOL_MAX`].
    cool: AtomicU8,
    /// Reads under the lock since they were cooled; one that fought for it counts as several.
    heat: AtomicU16,
    /// The ways that may be read without the lock.
    hot: AtomicU32,
    /// The hot ways that were read without the lock since the policy looked.
    touched: AtomicU32,
    /// The ways whose entry has an end.
    timed: AtomicU32,
    /// What the ends count from, in milliseconds after the Unix epoch. Changes with no hot ways only.
    base: AtomicU64,
    /// How many entries passed this set on their way from their home to where they lie.
    past: AtomicU32,
    /// The first of the ends; zero if no entry has one. Before it has come, nothing else is asked.
    soonest: AtomicU32,
    ways: UnsafeCell<Ways>,
    /// When entries end: see [`crate::life`].
    ends: [AtomicU32; WAYS],
    /// The entries that passed another set on their way here.
    displaced: AtomicU32,
    cells: [UnsafeCell<MaybeUninit<(K, T)>>; WAYS],
}

// SAFETY: entries are handed from thread to thread (`Send`) and read by several at once (`Sync`). Of the cells
// and the ways, the first change under hold and lock only and after all readers without the lock were waited
// for, and the second are reached under the lock only.
unsafe impl<K: Send + Sync, T: Send + Sync> Sync for Set<K, T> {}

const FULL: u32 = u32::MAX;

impl<K, T> Set<K, T> {
    /// Empty ones. Made where they stay: one of them may be larger than a stack.
    #[cfg(not(all(test, cachalot_loom)))]
    pub(crate) fn some(count: usize) -> Box<[Self]> {
        let mut sets = Box::new_uninit_slice(count);
        // SAFETY: the bytes are those of the box. Zero is a value of each field: of integers, atomic or not, and
        // of cells that may be anything.
        unsafe {
            sets.as_mut_ptr().write_bytes(0, count);
            sets.assume_init()
        }
    }

    /// Empty ones, whose atomics are more than integers.
    #[cfg(all(test, cachalot_loom))]
    pub(crate) fn some(count: usize) -> Box<[Self]> {
        (0..count).map(|_| Self::new()).collect()
    }

    #[cfg(all(test, cachalot_loom))]
    pub(crate) fn new() -> Self {
        Self {
            tags: std::array::from_fn(|_| AtomicU64::new(0)),
            lock: SetLock::default(),
            cool: AtomicU8::new(0),
            heat: AtomicU16::new(0),
            hot: AtomicU32::new(0),
            touched: AtomicU32::new(0),
            timed: AtomicU32::new(0),
            base: AtomicU64::new(0),
            past: AtomicU32::new(0),
            soonest: AtomicU32::new(0),
            ways: UnsafeCell::default(),
            ends: std::array::from_fn(|_| AtomicU32::new(0)),
            displaced: AtomicU32::new(0),
            cells: [const { UnsafeCell::new(MaybeUninit::uninit()) }; WAYS],
        }
    }

    /// The set, for those who may look at it alone or change which entries it has. `None`: it is retired.
    #[inline]
    pub(crate) fn lock(&self) -> Option<SetGuard<'_, K, T>> {
        match self.lock.lock() {
            Locked::AtOnce => Some(SetGuard { set: self, contended: false }),
            Locked::Contended => Some(SetGuard { set: self, contended: true }),
            Locked::Retired => None,
        }
    }

    /// As [`Set::lock`], but not if that would have to wait.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<SetGuard<'_, K, T>> {
        // Only then: a guard unlocks when it is dropped.
        self.lock.try_lock().then(|| SetGuard { set: self, contended: false })
    }

    /// The way of an entry, for the one who has the hold.
    pub(crate) fn find(&self, _hold: &Hold, tag: u8, same: impl FnMut(&K) -> bool) -> Option<usize> {
        // SAFETY: tags and cells change under the hold only.
        unsafe { self.search(tag, same) }
    }

    /// The entry in a way, for the one who has the hold.
    pub(crate) fn entry<'a>(&'a self, _hold: &'a Hold, way: usize) -> Option<&'a (K, T)> {
        let taken = self.taken() >> (way % WAYS) & 1 != 0;
        // SAFETY: the tag says that there is one, and entries change under the hold only, which is lent.
        taken.then(|| unsafe { (*self.cells[way % WAYS].get()).assume_init_ref() })
    }

    /// The ways that have an entry, for the one who has the hold or the lock.
    pub(crate) fn taken(&self) -> u32 {
        let mut taken = 0;
        for (eighth, tags) in self.tags.iter().enumerate() {
            taken |= nonzero(tags.load(Ordering::Relaxed)) << (8 * eighth);
        }
        taken
    }

    /// How many entries passed this set on their way.
    #[inline]
    pub(crate) fn past(&self) -> u32 {
        self.past.load(Ordering::Relaxed)
    }

    pub(crate) fn add_past(&self, _hold: &mut Hold) {
        self.past.store(self.past() + 1, Ordering::Relaxed);
    }

    pub(crate) fn sub_past(&self, _hold: &mut Hold) {
        self.past.store(self.past().saturating_sub(1), Ordering::Relaxed);
    }

    pub(crate) fn is_displaced(&self, way: usize) -> bool {
        self.displaced.load(Ordering::Relaxed) & bit(way) != 0
    }

    /// The ways with the tag that are hot, at a glance.
    #[inline]
    pub(crate) fn hot(&self, tag: u8) -> u32 {
        let hot = self.hot.load(Ordering::Relaxed);
        if hot == 0 { 0 } else { hot & self.tagged(tag) }
    }

    /// Looks for an entry in some ways, in those of them that are hot, without the lock.
    #[inline]
    pub(crate) fn read_hot<'a>(
        &'a self,
        visit: &'a Visit<'_>,
        ways: u32,
        mut same: impl FnMut(&K) -> bool,
    ) -> Option<Hot<'a, K, T>> {
        let reading = visit.read(self.address());
        let mut ways = ways & self.hot.load(Ordering::Acquire);
        while ways != 0 {
            let way = ways.trailing_zeros() as usize;
            // SAFETY: the way was hot after this thread had said that it reads the set, so its entry stays
            // what it is until `reading` ends. It was written before the way became hot (release, acquire).
            let (key, value) = unsafe { (*self.cells[way].get()).assume_init_ref() };
            if same(key) {
                if self.touched.load(Ordering::Relaxed) & bit(way) == 0 {
                    self.touched.fetch_or(bit(way), Ordering::Relaxed);
                }
                return Some(Hot { value, set: self, way, _key: key, _reading: reading });
            }
            ways &= ways - 1;
        }
        None
    }

    pub(crate) fn base(&self) -> u64 {
        self.base.load(Ordering::Relaxed)
    }

    /// A time before which no entry ends, if any has an end. For one who reads an entry of it, or has the hold.
    #[inline(always)]
    pub(crate) fn soonest(&self) -> Timestamp {
        // Neither may change in a way that matters to whom it is said: the base while there are hot ways, and
        // each value of the other is at most the end of the entry that is read.
        life::time(self.base(), self.soonest.load(Ordering::Relaxed))
    }

    /// Asks for what a read under the lock will look at, besides what the lock is in.
    #[inline]
    pub(crate) fn warm_ways(&self) {
        prefetch(&self.ways);
    }

    /// Asks for what the policy will look at.
    #[inline]
    pub(crate) fn warm(&self) {
        prefetch(&self.tags);
        prefetch(&self.ways);
        prefetch(&self.ends);
    }

    pub(crate) fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// # Safety
    /// No tag and no cell changes during the call.
    #[inline]
    unsafe fn search(&self, tag: u8, mut same: impl FnMut(&K) -> bool) -> Option<usize> {
        let mut ways = self.tagged(tag);
        while ways != 0 {
            let way = ways.trailing_zeros() as usize;
            // SAFETY: where the tag is that of a hash the cell is initialised, and it stays so.
            let entry = unsafe { (*self.cells[way].get()).assume_init_ref() };
            if same(&entry.0) {
                return Some(way);
            }
            ways &= ways - 1;
        }
        None
    }

    /// The ways whose tag is `tag`.
    #[inline]
    fn tagged(&self, tag: u8) -> u32 {
        tagged(&self.tags, tag)
    }
}

/// A bit for each of `tags` that is `tag`, each looked at in one piece.
#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(cachalot_portable, cachalot_loom, miri))
))]
#[inline(always)]
fn tagged(tags: &[AtomicU64; WAYS / 8], tag: u8) -> u32 {
    use std::arch::asm;
    use std::arch::x86_64::{__m128i, _mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set1_epi8};
    let (low, high): (__m128i, __m128i);
    // SAFETY: the address is that of four atomics, and a set begins at a multiple of 64, so the loads are aligned.
    // For the processor an aligned load of sixteen bytes is at least one of each byte, as relaxed as any other;
    // the language does not see it, so it is no race with those who store tags. Every x86-64 has SSE2.
    unsafe {
        asm!(
            "movdqa {low}, xmmword ptr [{tags}]",
            "movdqa {high}, xmmword ptr [{tags} + 16]",
            low = out(xmm_reg) low,
            high = out(xmm_reg) high,
            tags = in(reg) tags,
            options(nostack, preserves_flags, readonly),
        );
        let tag = _mm_set1_epi8(tag as i8);
        let bits = |tags| _mm_movemask_epi8(_mm_cmpeq_epi8(tags, tag)) as u32;
        bits(low) | bits(high) << 16
    }
}

#[cfg(not(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(cachalot_portable, cachalot_loom, miri))
)))]
#[inline]
fn tagged(tags: &[AtomicU64; WAYS / 8], tag: u8) -> u32 {
    let [a, b, c, d] = tags;
    let pairs = [(a, b), (c, d)]
        .map(|(low, high)| equal(low.load(Ordering::Relaxed), high.load(Ordering::Relaxed), tag));
    pairs[0] | pairs[1] << 16
}

/// A bit for each of `bytes` that equals `byte`.
#[inline]
pub(crate) fn bits_equal(bytes: &[u8; WAYS], byte: u8) -> u32 {
    let word = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[8 * at + byte]));
    equal(word(0), word(1), byte) | equal(word(2), word(3), byte) << 16
}

/// A bit for each byte, of sixteen, that equals `byte`.
#[cfg(all(target_arch = "x86_64", not(cachalot_portable)))]
#[inline]
fn equal(low: u64, high: u64, byte: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_movemask_epi8, _mm_set_epi64x, _mm_set1_epi8};
    // SAFETY: every x86-64 processor has SSE2.
    unsafe {
        let bytes = _mm_set_epi64x(high as i64, low as i64);
        _mm_movemask_epi8(_mm_cmpeq_epi8(bytes, _mm_set1_epi8(byte as i8))) as u32
    }
}

#[cfg(not(all(target_arch = "x86_64", not(cachalot_portable))))]
#[inline]
fn equal(low: u64, high: u64, byte: u8) -> u32 {
    equal_anywhere(low, high, byte)
}

#[cfg(any(test, not(all(target_arch = "x86_64", not(cachalot_portable)))))]
fn equal_anywhere(low: u64, high: u64, byte: u8) -> u32 {
    let bytes = low.to_le_bytes().into_iter().chain(high.to_le_bytes());
    bytes.enumerate().fold(0, |equal, (at, other)| equal | u32::from(other == byte) << at)
}

/// An entry that is read without a lock.
pub(crate) struct Hot<'a, K, T> {
    pub(crate) value: &'a T,
    set: &'a Set<K, T>,
    way: usize,
    _key: &'a K,
    /// Last, so that it ends last.
    _reading: Reading<'a>,
}

impl<K, T> Hot<'_, K, T> {
    #[inline(always)]
    pub(crate) fn is_timed(&self) -> bool {
        self.set.timed.load(Ordering::Relaxed) & bit(self.way) != 0
    }

    /// When it ends, if it does.
    pub(crate) fn end(&self) -> Timestamp {
        life::time(self.set.base(), self.set.ends[self.way % WAYS].load(Ordering::Relaxed))
    }

    /// See [`Set::soonest`].
    #[inline(always)]
    pub(crate) fn soonest(&self) -> Timestamp {
        self.set.soonest()
    }
}

/// A locked set.
pub(crate) struct SetGuard<'a, K, T> {
    set: &'a Set<K, T>,
    contended: bool,
}

impl<K, T> Drop for SetGuard<'_, K, T> {
    #[inline]
    fn drop(&mut self) {
        self.set.lock.unlock();
    }
}

impl<'a, K, T> SetGuard<'a, K, T> {
    /// The way of an entry.
    #[inline]
    pub(crate) fn find(&self, tag: u8, same: impl FnMut(&K) -> bool) -> Option<usize> {
        // SAFETY: tags and cells change under the lock only.
        unsafe { self.set.search(tag, same) }
    }

    /// As [`SetGuard::find`], with the value.
    #[inline]
    pub(crate) fn find_value(&self, tag: u8, same: impl FnMut(&K) -> bool) -> Option<(usize, &T)> {
        let way = self.find(tag, same)?;
        // SAFETY: the way was just found, so its cell is initialised; entries change under the lock only.
        let value = unsafe { &(*self.set.cells[way].get()).assume_init_ref().1 };
        prefetch_behind(value);
        Some((way, value))
    }

    /// The value in a way that [`SetGuard::find`] gave.
    #[inline]
    pub(crate) fn value(&self, way: usize) -> Option<&T> {
        let way = way % WAYS;
        let tag = self.set.tags[way / 8].load(Ordering::Relaxed) >> (8 * (way % 8)) & 0xff;
        // SAFETY: the tag says that there is an entry, and entries change under the lock only.
        (tag != 0).then(|| unsafe { &(*self.set.cells[way].get()).assume_init_ref().1 })
    }

    #[inline]
    pub(crate) fn ways(&self) -> &Ways {
        // SAFETY: the ways are reached under the lock only, and through this guard, which is borrowed.
        unsafe { &*self.set.ways.get() }
    }

    #[inline]
    pub(crate) fn ways_mut(&mut self) -> &mut Ways {
        // SAFETY: as for `ways`; the guard is borrowed exclusively.
        unsafe { &mut *self.set.ways.get() }
    }

    #[inline]
    pub(crate) fn end(&self, way: usize) -> u32 {
        self.set.ends[way % WAYS].load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn base(&self) -> u64 {
        self.set.base()
    }

    /// See [`Set::soonest`].
    #[inline(always)]
    pub(crate) fn soonest(&self) -> Timestamp {
        self.set.soonest()
    }

    /// What is known of reads without the lock is told to the policy.
    #[inline]
    pub(crate) fn absorb(&mut self, now: u16) {
        if self.set.touched.load(Ordering::Relaxed) == 0 {
            return;
        }
        let mut touched = self.set.touched.swap(0, Ordering::Relaxed) & self.set.taken();
        while touched != 0 {
            self.ways_mut().touch(touched.trailing_zeros() as usize, now);
            touched &= touched - 1;
        }
    }

    /// After a read: whether there were so many since the set changed, or the lock is fought for so often, that
    /// it may be time to open the set to reads without it.
    #[inline]
    pub(crate) fn warm_up(&self) -> bool {
        let heat = &self.set.heat;
        let warmer = heat.load(Ordering::Relaxed).wrapping_add(if self.contended { FOUGHT } else { 1 });
        heat.store(warmer, Ordering::Relaxed);
        self.contended || warmer.is_multiple_of(HEAT)
    }

    /// Opens it, if it is.
    pub(crate) fn open_if_hot(&self) {
        let needed = HEAT << self.set.cool.load(Ordering::Relaxed).min(COOL_MAX);
        if self.set.heat.load(Ordering::Relaxed) >= needed {
            self.open();
        }
    }

    /// Opens the set to reads without its lock.
    pub(crate) fn open(&self) {
        self.set.heat.store(0, Ordering::Relaxed);
        // Only of lives that begin fresh the end alone tells until when, without the lock.
        let readable = |way: &usize| {
            let mark = self.ways().mark(*way);
            mark & LIFE == 0 || is_readable_by_end(mark)
        };
        let ways = (0..WAYS).filter(readable).fold(0, |ways, way| ways | bit(way)) & self.set.taken();
        self.set.hot.store(ways, Ordering::Release);
    }

    /// Takes all ways out of reach of reads without the lock, and waits for those that are under way, if one
    /// of `ways` is to change.
    fn cool(&mut self, readers: &Readers, ways: u32) {
        self.set.heat.store(0, Ordering::Relaxed);
        if self.set.hot.load(Ordering::Relaxed) & ways == 0 {
            return;
        }
        self.set.hot.store(0, Ordering::Release);
        let cool = self.set.cool.load(Ordering::Relaxed);
        self.set.cool.store((cool + 1).min(COOL_MAX), Ordering::Relaxed);
        readers.wait_for_reads(self.set.address());
    }

    /// Takes all ways out of reach of reads without the lock. The caller waits for those that are under way, for
    /// all sets of a table at once. Whether there may be any.
    pub(crate) fn begin_to_cool(&mut self, _hold: &mut Hold) -> bool {
        let hot = self.set.hot.load(Ordering::Relaxed);
        self.set.hot.store(0, Ordering::Release);
        hot != 0
    }

    /// Gives an entry another end. What ends count from stays.
    pub(crate) fn set_end(&mut self, _hold: &mut Hold, readers: &Readers, way: usize, end: u32) {
        self.cool(readers, bit(way));
        self.forget_end(way);
        if end != 0 {
            self.set.ends[way % WAYS].store(end, Ordering::Relaxed);
            set_bit(&self.set.timed, way, true);
            let soonest = self.set.soonest.load(Ordering::Relaxed);
            if soonest == 0 || end < soonest {
                self.set.soonest.store(end, Ordering::Relaxed);
            }
        }
    }

    fn forget_end(&self, way: usize) {
        if self.set.timed.load(Ordering::Relaxed) & bit(way) == 0 {
            return;
        }
        set_bit(&self.set.timed, way, false);
        let soonest = self.set.soonest.load(Ordering::Relaxed);
        if self.set.ends[way % WAYS].load(Ordering::Relaxed) == soonest {
            self.set.soonest.store(self.first_end(soonest), Ordering::Relaxed);
        }
    }

    /// The first of all ends, none of which comes before `least`.
    #[cold]
    #[inline(never)]
    fn first_end(&self, least: u32) -> u32 {
        let (mut timed, mut first) = (self.set.timed.load(Ordering::Relaxed), 0);
        while timed != 0 && first != least {
            let end = self.set.ends[timed.trailing_zeros() as usize].load(Ordering::Relaxed);
            first = if first == 0 { end } else { first.min(end) };
            timed &= timed - 1;
        }
        first
    }

    /// Changes what all ends count from; the caller then sets them all.
    pub(crate) fn rebase(&mut self, _hold: &mut Hold, readers: &Readers, base: u64) {
        self.cool(readers, FULL);
        self.set.base.store(base, Ordering::Relaxed);
        self.set.timed.store(0, Ordering::Relaxed);
        self.set.soonest.store(0, Ordering::Relaxed);
    }

    /// Puts an entry into a free way. It has no end. It comes back if there is none.
    pub(crate) fn put(
        &mut self,
        _hold: &mut Hold,
        tag: u8,
        displaced: bool,
        entry: (K, T),
    ) -> Result<usize, (K, T)> {
        let free = !self.set.taken();
        if free == 0 {
            return Err(entry);
        }
        let way = free.trailing_zeros() as usize;
        // SAFETY: a way without a tag is read by nobody: not under hold or lock, which are here, and not
        // without, since only ways with an entry become hot.
        unsafe { (*self.set.cells[way].get()).write(entry) };
        self.set_displaced(way, displaced);
        if self.set.touched.load(Ordering::Relaxed) & bit(way) != 0 {
            // Of the one before.
            self.set.touched.fetch_and(!bit(way), Ordering::Relaxed);
        }
        // From here on the cell counts as initialised.
        self.set_tag(way, tag);
        Ok(way)
    }

    /// Takes an entry out.
    pub(crate) fn take(&mut self, _hold: &mut Hold, readers: &Readers, way: usize) -> Option<(K, T)> {
        let way = way % WAYS;
        if self.set.taken() & bit(way) == 0 {
            return None;
        }
        self.cool(readers, bit(way));
        self.set_tag(way, 0);
        self.set_displaced(way, false);
        self.forget_end(way);
        self.ways_mut().clear(way);
        // SAFETY: the tag said that the cell is initialised, and says now that it no longer is. Hold and lock
        // are here, and readers without the lock have been waited for.
        Some(unsafe { (*self.set.cells[way].get()).assume_init_read() })
    }

    /// Puts a value in the place of another one.
    pub(crate) fn replace(&mut self, _hold: &mut Hold, readers: &Readers, way: usize, value: T) -> Option<T> {
        let way = way % WAYS;
        if self.set.taken() & bit(way) == 0 {
            return None;
        }
        self.cool(readers, bit(way));
        // SAFETY: the tag says that the cell is initialised. Hold and lock are here, and readers without the
        // lock have been waited for, so nobody else looks at it.
        let entry = unsafe { (*self.set.cells[way].get()).assume_init_mut() };
        Some(std::mem::replace(&mut entry.1, value))
    }

    /// Unlocks it for nobody: it is empty, and its entries are in another table now.
    pub(crate) fn retire(mut self, _hold: &mut Hold, readers: &Readers) {
        self.cool(readers, FULL);
        self.set.lock.retire();
        std::mem::forget(self);
    }

    pub(crate) fn set(&self) -> &'a Set<K, T> {
        self.set
    }

    fn set_tag(&self, way: usize, tag: u8) {
        let (tags, shift) = (&self.set.tags[way / 8], 8 * (way % 8));
        let others = tags.load(Ordering::Relaxed) & !(0xff << shift);
        tags.store(others | u64::from(tag) << shift, Ordering::Relaxed);
    }

    fn set_displaced(&self, way: usize, displaced: bool) {
        if self.set.is_displaced(way) != displaced {
            set_bit(&self.set.displaced, way, displaced);
        }
    }
}

impl<K, T> Set<K, T> {
    /// Drops an entry; for a table that nobody uses any more.
    pub(crate) fn pop(&mut self) -> Option<(K, T)> {
        let way = self.taken().trailing_zeros() as usize;
        if way >= WAYS {
            return None;
        }
        let tags = &self.tags[way / 8];
        tags.store(tags.load(Ordering::Relaxed) & !(0xff << (8 * (way % 8))), Ordering::Relaxed);
        // SAFETY: the tag said that the cell is initialised, and says now that it no longer is; the set is
        // borrowed exclusively.
        Some(unsafe { self.cells[way].get_mut().assume_init_read() })
    }
}

/// After so many reads under the lock a set becomes hot: by then they have cost about what cooling will, a
/// fence of all threads. So often may that be doubled.
const HEAT: u16 = 2048;
const COOL_MAX: u8 = 4;

/// A read that fought for the lock counts as so many.
const FOUGHT: u16 = HEAT / 8;

/// For those who alone change these bits.
fn set_bit(bits: &AtomicU32, way: usize, on: bool) {
    let others = bits.load(Ordering::Relaxed) & !bit(way);
    bits.store(others | if on { bit(way) } else { 0 }, Ordering::Relaxed);
}

fn bit(way: usize) -> u32 {
    1 << (way % WAYS)
}

/// A bit for each byte that is not zero.
fn nonzero(bytes: u64) -> u32 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    // Without its top bit a byte is at most that much, so nothing is carried over.
    top_bits(((bytes & LOW) + LOW) | bytes)
}

/// The top bit of each byte.
fn top_bits(bytes: u64) -> u32 {
    ((bytes & 0x8080_8080_8080_8080) >> 7).wrapping_mul(0x0102_0408_1020_4080_u64).wrapping_shr(56) as u32
}

/// As [`prefetch`], of what a value points to that has the looks of a pointer: an `Arc`, a `Box`.
#[inline(always)]
pub(crate) fn prefetch_behind<T>(value: &T) {
    #[cfg(all(target_arch = "x86_64", target_pointer_width = "64", not(any(cachalot_portable, miri))))]
    if size_of::<T>() == size_of::<usize>()
        && align_of::<T>() == align_of::<usize>()
        && std::mem::needs_drop::<T>()
    {
        // SAFETY: eight bytes are read where a value of eight bytes lies, whatever they are; the language does
        // not see it. A prefetch of any address neither reads nor faults.
        unsafe {
            std::arch::asm!(
                "mov {behind}, qword ptr [{value}]",
                "prefetcht0 byte ptr [{behind}]",
                behind = out(reg) _,
                value = in(reg) std::ptr::from_ref(value),
                options(nostack, preserves_flags, readonly),
            );
        }
    }
    #[cfg(not(all(target_arch = "x86_64", target_pointer_width = "64", not(any(cachalot_portable, miri)))))]
    let _ = value;
}

/// Changes nothing but the time of the next access.
#[inline]
pub(crate) fn prefetch<P>(place: &P) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has SSE, and a prefetch neither reads nor faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_alike_with_and_without_the_processors_help() {
        let mut state = 7u64;
        for _ in 0..1000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let (low, high) = (state, state.rotate_left(29) & 0x0f0f_0f0f_0f0f_0f0f);
            for byte in low.to_le_bytes() {
                assert_eq!(equal(low, high, byte), equal_anywhere(low, high, byte));
                assert_ne!(equal(low, high, byte), 0);
            }
        }
    }

    #[test]
    fn tags_are_compared_alike_in_one_piece_and_byte_by_byte() {
        let sets = Set::<u64, u64>::some(1);
        let mut state = 7u64;
        for _ in 0..1000 {
            for tags in &sets[0].tags {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                tags.store(state >> (state & 63), Ordering::Relaxed);
            }
            let words = sets[0].tags.each_ref().map(|tags| tags.load(Ordering::Relaxed));
            for tag in [0, 1, 0x80, u8::MAX].into_iter().chain(words[2].to_le_bytes()) {
                let one_by_one =
                    equal_anywhere(words[0], words[1], tag) | equal_anywhere(words[2], words[3], tag) << 16;
                assert_eq!(sets[0].tagged(tag), one_by_one);
            }
        }
    }

    #[test]
    fn what_a_value_may_point_to_is_asked_for_whatever_the_value_is() {
        /// As large as a pointer, and mostly nothing.
        #[repr(align(8))]
        struct Sparse(u8);
        impl Drop for Sparse {
            fn drop(&mut self) {}
        }
        let (sparse, text) = (Sparse(7), String::from("text"));
        prefetch_behind(&sparse);
        prefetch_behind(&None::<Box<u8>>);
        prefetch_behind(&Some(Box::new(8)));
        prefetch_behind(&text);
        prefetch_behind(&u64::MAX);
        assert_eq!((sparse.0, &*text), (7, "text"));
    }

    #[test]
    fn bytes_that_are_not_zero_are_told_from_those_that_are() {
        for byte in 0..8 {
            for value in 1..=u64::from(u8::MAX) {
                assert_eq!(nonzero(value << (8 * byte)), 1 << byte);
                assert_eq!(nonzero(!(0xff << (8 * byte))), 0xff ^ 1 << byte);
            }
        }
    }

    #[test]
    fn the_top_bits_are_gathered_in_order() {
        assert_eq!(top_bits(u64::MAX), 0xff);
        for byte in 0..8 {
            assert_eq!(top_bits(0x80 << (8 * byte)), 1 << byte);
            assert_eq!(top_bits(0x7f << (8 * byte)), 0);
        }
    }

    #[test]
    fn what_a_search_looks_at_first_is_one_line() {
        let sets = Set::<u64, u64>::some(1);
        let set = &sets[0];
        let ways = std::ptr::from_ref(&set.ways).addr();
        assert!(ways - set.address() <= 64, "{}", ways - set.address());
        assert_eq!(size_of::<Set<u64, u64>>(), 832);
    }
}
