//! Where entries lie: sets of fifteen cells, keys and values inline.
//!
//! An entry lies in the first set with room from its home on. A set counts the entries that passed it on
//! their way, so a search ends at the first set that none has passed. The home comes from the high bits of a
//! hash and keeps their order, so that a table of any number of sets can be filled from another one.

use std::mem::{MaybeUninit, needs_drop};

/// Cells in a set.
pub(crate) const WAYS: usize = 15;

/// Room for entries `(K, T)`, with a hash, a weight, a mark and a link for each.
#[repr(C)]
pub(crate) struct Slots<K, T> {
    heads: Box<[Head]>,
    /// Initialised exactly where the tag is not [`EMPTY`].
    cells: Box<[MaybeUninit<(K, T)>]>,
    len: usize,
    traces: Box<[Trace]>,
    weights: Weights,
}

/// What entries weigh.
pub(crate) enum Weights {
    Each(u64),
    Own(Box<[u64]>),
}

/// An entry that was looked for.
pub(crate) struct Found<'a, T> {
    pub(crate) slot: Slot,
    pub(crate) mark: u8,
    pub(crate) value: &'a T,
}

/// What only writes look at, together.
#[derive(Clone, Copy, Default)]
struct Trace {
    hash: u32,
    link: u32,
}

/// A set's line: what a search looks at before it looks at keys.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Head {
    /// Seven bits of the hash of each entry, and the number of entries that went past.
    tags: [u8; WAYS + 1],
    marks: [u8; WAYS + 1],
}

const EMPTY: u8 = 0;
const PAST: usize = WAYS;

/// The place of an entry: set and way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

impl Slot {
    fn new(set: usize, way: usize) -> Self {
        Self((set << 4 | way) as u32)
    }

    fn set(self) -> usize {
        (self.0 >> 4) as usize
    }

    fn way(self) -> usize {
        (self.0 & 15) as usize
    }

    /// Its place in arrays of all cells: fifteen of each sixteen numbers are used.
    #[inline]
    pub(crate) fn cell(self) -> usize {
        (self.0 - (self.0 >> 4)) as usize
    }
}

/// More sets than this a table never has, so that a slot fits its number.
const MAX_SETS: usize = 1 << 27;

impl<K, T> Slots<K, T> {
    /// Room for nothing. Entries weigh `each`, or what they are put in with.
    pub(crate) fn new(each: Option<u64>) -> Self {
        let weights = each.map_or_else(|| Weights::Own(Box::default()), Weights::Each);
        Self { heads: Box::default(), cells: Box::default(), len: 0, traces: Box::default(), weights }
    }

    /// Empty, with so many sets, and weights as here.
    pub(crate) fn with_sets(&self, sets: usize) -> Self {
        let sets = sets.min(MAX_SETS);
        let cells = sets * WAYS;
        let weights = match self.weights {
            Weights::Each(each) => Weights::Each(each),
            Weights::Own(_) => Weights::Own(vec![0; cells].into_boxed_slice()),
        };
        Self {
            heads: vec![Head { tags: [EMPTY; 16], marks: [0; 16] }; sets].into_boxed_slice(),
            cells: Box::new_uninit_slice(cells),
            len: 0,
            traces: vec![Trace::default(); cells].into_boxed_slice(),
            weights,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn sets(&self) -> usize {
        self.heads.len()
    }

    /// The number of cells, taken or not.
    pub(crate) fn cells(&self) -> usize {
        self.cells.len()
    }

    /// Whether one more entry would make searches long.
    pub(crate) fn is_crowded(&self) -> bool {
        (self.len + 1) * 8 > self.cells.len() * 7
    }

    /// Whether it can neither take another entry nor grow.
    pub(crate) fn is_full(&self) -> bool {
        self.heads.len() >= MAX_SETS && self.is_crowded()
    }

    #[inline]
    pub(crate) fn find(&self, hash: u32, mut same: impl FnMut(&K) -> bool) -> Option<Found<'_, T>> {
        let mut set = self.home(hash);
        for _ in 0..self.heads.len() {
            // SAFETY: `set` is a home or the one after a set, below the number of sets if there is any.
            let head = unsafe { self.heads.get_unchecked(set) };
            let mut ways = head.ways_with(tag(hash));
            while ways != 0 {
                let way = ways.trailing_zeros() as usize;
                let slot = Slot::new(set, way);
                // SAFETY: there are cells for all ways of all sets, and this one is initialised: its tag is
                // that of a hash.
                let entry = unsafe { self.cells.get_unchecked(slot.cell()).assume_init_ref() };
                if same(&entry.0) {
                    return Some(Found { slot, mark: head.marks[way & 15], value: &entry.1 });
                }
                ways &= ways - 1;
            }
            if head.tags[PAST] == 0 {
                return None;
            }
            set = self.after(set);
        }
        None
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: Slot) -> Option<&mut (K, T)> {
        if !self.holds(slot) {
            return None;
        }
        let cell = self.cells.get_mut(slot.cell())?;
        // SAFETY: a cell is initialised where the tag says so.
        Some(unsafe { cell.assume_init_mut() })
    }

    #[inline]
    pub(crate) fn holds(&self, slot: Slot) -> bool {
        self.heads[slot.set()].tags[..WAYS][slot.way()] != EMPTY
    }

    /// Puts an entry into the first free cell from its home on. The mark of the cell stays as it is. The entry
    /// comes back if every cell is taken.
    pub(crate) fn put(&mut self, hash: u32, weight: u64, entry: (K, T)) -> Result<Slot, (K, T)> {
        if self.len == self.cells.len() {
            return Err(entry);
        }
        let mut set = self.home(hash);
        loop {
            let head = &mut self.heads[set];
            let free = head.ways_with(EMPTY);
            if free != 0 {
                let slot = Slot::new(set, free.trailing_zeros() as usize);
                self.cells[slot.cell()].write(entry);
                // From here on the cell counts as initialised.
                head.tags[slot.way()] = tag(hash);
                self.traces[slot.cell()].hash = hash;
                self.set_weight(slot, weight);
                self.len += 1;
                return Ok(slot);
            }
            // Sticks at the highest count, which then means "always look further".
            head.tags[PAST] = head.tags[PAST].saturating_add(1);
            set = self.after(set);
        }
    }

    /// Takes an entry out. The mark of the cell stays as it is.
    pub(crate) fn take(&mut self, slot: Slot) -> Option<(K, T)> {
        if !self.holds(slot) {
            return None;
        }
        let mut set = self.home(self.hash(slot));
        while set != slot.set() {
            let past = &mut self.heads[set].tags[PAST];
            *past -= u8::from(*past < u8::MAX);
            set = self.after(set);
        }
        let cell = self.cells.get(slot.cell())?;
        // SAFETY: the cell is initialised, since the tag says so; below the tag says that it no longer is, and
        // nothing in between can panic.
        let entry = unsafe { cell.assume_init_read() };
        self.heads[slot.set()].tags[slot.way()] = EMPTY;
        self.len -= 1;
        Some(entry)
    }

    /// The hash of the entry.
    pub(crate) fn hash(&self, slot: Slot) -> u32 {
        self.traces[slot.cell()].hash
    }

    /// The slot that `slot` was linked to last. For the policy; survives the entry.
    pub(crate) fn link(&self, slot: Slot) -> Slot {
        Slot(self.traces[slot.cell()].link)
    }

    pub(crate) fn set_link(&mut self, slot: Slot, to: Slot) {
        self.traces[slot.cell()].link = to.0;
    }

    pub(crate) fn weight(&self, slot: Slot) -> u64 {
        match &self.weights {
            Weights::Each(each) => *each,
            Weights::Own(weights) => weights[slot.cell()],
        }
    }

    /// Where all weigh the same, nothing else is asked for.
    pub(crate) fn set_weight(&mut self, slot: Slot, weight: u64) {
        match &mut self.weights {
            Weights::Each(each) => debug_assert_eq!(*each, weight),
            Weights::Own(weights) => weights[slot.cell()] = weight,
        }
    }

    /// Asks for the lines of an entry that will be evicted soon.
    #[inline]
    pub(crate) fn warm(&self, slot: Slot) {
        let lines = (self.heads.get(slot.set()), self.traces.get(slot.cell()), self.cells.get(slot.cell()));
        if let (Some(head), Some(trace), Some(cell)) = lines {
            prefetch(head);
            prefetch(trace);
            prefetch(cell);
        }
    }

    /// Eight bits for others to use: the policy, the times.
    #[inline]
    pub(crate) fn mark(&self, slot: Slot) -> u8 {
        self.heads[slot.set()].marks[slot.way()]
    }

    #[inline]
    pub(crate) fn set_mark(&mut self, slot: Slot, mark: u8) {
        self.heads[slot.set()].marks[slot.way()] = mark;
    }

    /// The slots of a set, those of entries only.
    pub(crate) fn in_set(&self, set: usize) -> impl Iterator<Item = Slot> + use<K, T> {
        let taken = self.heads.get(set).map_or(0, |head| !head.ways_with(EMPTY) & ALL_WAYS);
        (0..WAYS).filter(move |way| taken >> way & 1 != 0).map(move |way| Slot::new(set, way))
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        ((u64::from(hash) * self.heads.len() as u64) >> 32) as usize
    }

    fn after(&self, set: usize) -> usize {
        if set + 1 == self.heads.len() { 0 } else { set + 1 }
    }

    /// Takes any entry out, looking from `set` on.
    fn take_any(&mut self, set: &mut usize) -> Option<(K, T)> {
        while *set < self.heads.len() {
            if let Some(slot) = self.in_set(*set).next() {
                return self.take(slot);
            }
            *set += 1;
        }
        None
    }
}

impl<K, T> Drop for Slots<K, T> {
    fn drop(&mut self) {
        if needs_drop::<(K, T)>() {
            let mut rest = Rest { slots: self, set: 0 };
            rest.drain();
        }
    }
}

/// What is left to drop when one drop has panicked.
struct Rest<'a, K, T> {
    slots: &'a mut Slots<K, T>,
    set: usize,
}

impl<K, T> Rest<'_, K, T> {
    fn drain(&mut self) {
        while let Some(entry) = self.slots.take_any(&mut self.set) {
            drop(entry);
        }
    }
}

impl<K, T> Drop for Rest<'_, K, T> {
    fn drop(&mut self) {
        self.drain();
    }
}

const ALL_WAYS: u32 = (1 << WAYS) - 1;

impl Head {
    /// A bit for each way whose tag is `tag`.
    #[inline]
    fn ways_with(&self, tag: u8) -> u32 {
        equal(&self.tags, tag) & ALL_WAYS
    }
}

/// Never [`EMPTY`]. Bits that the home uses least.
#[inline]
fn tag(hash: u32) -> u8 {
    hash as u8 | 0x80
}

/// Changes nothing but the time of the next access.
#[inline]
fn prefetch<P>(place: &P) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has SSE, and a prefetch neither reads nor faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(place).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// A bit for each byte that equals `byte`.
#[cfg(target_arch = "x86_64")]
#[inline]
fn equal(bytes: &[u8; 16], byte: u8) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8};
    // SAFETY: every x86-64 processor has SSE2, and the load is of the sixteen bytes borrowed, at any alignment.
    unsafe {
        let all = _mm_loadu_si128(bytes.as_ptr().cast());
        _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_set1_epi8(byte as i8))) as u32
    }
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn equal(bytes: &[u8; 16], byte: u8) -> u32 {
    equal_anywhere(bytes, byte)
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_anywhere(bytes: &[u8; 16], byte: u8) -> u32 {
    bytes.iter().enumerate().fold(0, |ways, (way, other)| ways | u32::from(*other == byte) << way)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::rc::Rc;

    use super::*;

    /// Counts those of its kind, and panics in its drop if told to.
    struct Counted {
        alive: Rc<Cell<isize>>,
        armed: bool,
    }

    impl Counted {
        fn new(alive: &Rc<Cell<isize>>, armed: bool) -> Self {
            alive.set(alive.get() + 1);
            Self { alive: alive.clone(), armed }
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.alive.set(self.alive.get() - 1);
            assert!(!self.armed, "armed");
        }
    }

    fn table<K, T>(sets: usize) -> Slots<K, T> {
        Slots::new(Some(1)).with_sets(sets)
    }

    #[test]
    fn slots_are_a_map_whatever_the_hashes() {
        // From hashes that all differ to hashes that are all the same.
        for kept in [u32::MAX, 0xf000_000f, 0x8000_0000, 0] {
            let mut slots: Slots<u64, String> = table(7);
            let (mut map, mut state) = (HashMap::new(), 1u64);
            for step in 0..20_000u64 {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let key = (state >> 40) % 150;
                let hash = (key as u32).wrapping_mul(0x9e37_79b1) & kept;
                let found = slots.find(hash, |held| *held == key);
                assert_eq!(found.as_ref().map(|found| found.value), map.get(&key));
                let found = found.map(|found| found.slot);
                match found {
                    Some(slot) if state >> 63 == 0 => {
                        let taken = slots.take(slot);
                        assert_eq!(taken.map(|entry| entry.1), map.remove(&key));
                        assert!(!slots.holds(slot) && slots.take(slot).is_none());
                    }
                    Some(slot) => {
                        slots.get_mut(slot).unwrap().1 = step.to_string();
                        map.insert(key, step.to_string());
                    }
                    None => match slots.put(hash, 1, (key, step.to_string())) {
                        Ok(slot) => {
                            assert_eq!((slots.hash(slot), slots.weight(slot)), (hash, 1));
                            map.insert(key, step.to_string());
                        }
                        Err((back, _)) => assert_eq!((back, map.len()), (key, slots.cells())),
                    },
                }
                assert_eq!(slots.len(), map.len());
            }
            let held: usize = (0..slots.sets()).map(|set| slots.in_set(set).count()).sum();
            assert_eq!(held, map.len());
        }
    }

    #[test]
    fn a_table_for_nothing_holds_nothing() {
        let mut slots: Slots<u64, u64> = Slots::new(None);
        assert!(slots.find(7, |_| true).is_none());
        assert!(slots.is_crowded());
        assert_eq!(slots.put(7, 1, (7, 7)), Err((7, 7)));
    }

    #[test]
    fn each_entry_is_dropped_once_even_if_one_drop_panics() {
        for armed in [None, Some(0), Some(40), Some(99)] {
            let alive = Rc::new(Cell::new(0));
            let mut slots = table(10);
            for key in 0..100u32 {
                let entry = (Counted::new(&alive, false), Counted::new(&alive, armed == Some(key)));
                assert!(slots.put(key.wrapping_mul(0x9e37_79b1), 1, entry).is_ok());
            }
            let first = slots.in_set(0).next().unwrap();
            let taken = slots.take(first).unwrap();
            assert_eq!(alive.get(), 200);
            let dropped = catch_unwind(AssertUnwindSafe(|| drop((slots, taken))));
            assert_eq!(dropped.is_err(), armed.is_some());
            assert_eq!(alive.get(), 0);
        }
    }

    #[test]
    fn weights_and_marks_belong_to_a_slot() {
        let mut slots: Slots<u64, u64> = Slots::new(None).with_sets(3);
        let of: Vec<Slot> =
            (0..30).map(|key| slots.put(key << 27, u64::from(key), (key.into(), 0)).unwrap()).collect();
        for (key, slot) in of.iter().enumerate() {
            slots.set_mark(*slot, key as u8);
            slots.set_link(*slot, of[29 - key]);
        }
        for (key, slot) in of.iter().enumerate() {
            assert_eq!((slots.weight(*slot), slots.mark(*slot)), (key as u64, key as u8));
            assert_eq!(slots.link(*slot), of[29 - key]);
        }
    }

    #[test]
    fn bytes_are_compared_alike_on_every_machine() {
        let mut bytes = [0; 16];
        for round in 0..=u8::MAX {
            bytes.rotate_left(1);
            bytes[usize::from(round) % 16] = round % 5;
            for byte in 0..=5 {
                assert_eq!(equal(&bytes, byte), equal_anywhere(&bytes, byte));
            }
        }
    }
}
