//! Readers say where they are, so that nobody takes away what they look at.
//!
//! Each thread has a stripe of its own and writes nothing that another thread writes. Whoever replaces a table,
//! or changes an entry that is read without a lock, first takes it out of reach and then waits for those who
//! said that they were there. After hazard pointers (Michael, IEEE TPDS 15(6), 2004); the fence that every
//! reader would need is run by the waiter on behalf of all threads, where the system can do that.

use std::ops::Range;
use std::sync::OnceLock;
use std::thread;

mod number;
use number::{new_number, thread_number};

use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering, compiler_fence, fence};
use crate::sync::pause;

/// The stripes of one memory.
pub(crate) struct Readers {
    /// Of threads whose fences a waiter can run.
    stripes: Box<[Stripe]>,
    /// Of threads that have to run them themselves. Either there are only these or only those.
    fenced: Box<[Stripe]>,
    /// Counts those who had no stripe.
    others: Stripe,
}

/// One thread's place; its own cache line and the one that is fetched with it.
#[derive(Default)]
#[repr(align(128))]
struct Stripe {
    /// One more than the shard that is visited; 0 is none.
    visiting: AtomicUsize,
    /// The address of the set that is read without its lock; 0 is none.
    reading: AtomicUsize,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl Readers {
    pub(crate) fn new() -> Self {
        let cores = thread::available_parallelism().map_or(4, usize::from);
        Self::with_stripes((4 * cores).clamp(STRIPES.0, STRIPES.1))
    }

    /// For so many threads at most; those beyond take locks.
    pub(crate) fn with_stripes(stripes: usize) -> Self {
        let some = |count| (0..count).map(|_| Stripe::default()).collect();
        let (stripes, fenced) = if can_fence_all() { (stripes, 0) } else { (0, stripes) };
        Self { stripes: some(stripes), fenced: some(fenced), others: Stripe::default() }
    }

    /// Says that this thread looks into a shard, if that takes neither a fence nor a number for the thread:
    /// otherwise, ask [`Readers::enter`].
    #[inline]
    pub(crate) fn enter_at_once(&self, shard: usize) -> Option<Visit<'_>> {
        Visit::begin(self.stripes.get(thread_number())?, shard, false)
    }

    /// Says that this thread looks into a shard. `None` if it has no stripe, or is in a visit already.
    pub(crate) fn enter(&self, shard: usize) -> Option<Visit<'_>> {
        let number = new_number();
        match self.stripes.get(number) {
            Some(stripe) => Visit::begin(stripe, shard, false),
            None => Visit::begin(self.fenced.get(number)?, shard, true),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Stripe> {
        self.stripes.iter().chain(&self.fenced)
    }

    /// Waits until everyone has left the table of a shard that has just been replaced.
    pub(crate) fn wait_for_visitors(&self, shard: usize) {
        self.fence_of_waiter();
        for stripe in self.all() {
            wait_while(|| stripe.visiting.load(Ordering::Acquire) == shard + 1);
        }
    }

    /// Waits until nobody reads entries of `set` without its lock that were open to that before.
    pub(crate) fn wait_for_reads(&self, set: usize) {
        self.fence_of_waiter();
        for stripe in self.all() {
            wait_while(|| stripe.reading.load(Ordering::Acquire) == set);
        }
    }

    /// As [`Readers::wait_for_reads`], of all sets whose addresses are among `sets`.
    pub(crate) fn wait_for_reads_among(&self, sets: Range<usize>) {
        self.fence_of_waiter();
        for stripe in self.all() {
            let seen = stripe.reading.load(Ordering::Acquire);
            wait_while(|| sets.contains(&seen) && stripe.reading.load(Ordering::Acquire) == seen);
        }
    }

    /// What it has allocated.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.stripes) + size_of_val(&*self.fenced)
    }

    /// Hits and misses of all threads.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let count = |(hits, misses), stripe: &Stripe| {
            (hits + stripe.hits.load(Ordering::Relaxed), misses + stripe.misses.load(Ordering::Relaxed))
        };
        self.all().chain([&self.others]).fold((0, 0), count)
    }

    /// Counts a read of a thread without a visit.
    pub(crate) fn count_other(&self, hit: bool) {
        let counter = if hit { &self.others.hits } else { &self.others.misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn fence_of_waiter(&self) {
        if self.fenced.is_empty() {
            fence_all();
        } else {
            fence(Ordering::SeqCst);
        }
    }
}

/// The presence of a thread in a shard. Ends when dropped.
pub(crate) struct Visit<'a> {
    stripe: &'a Stripe,
    /// Whether its reader has to run fences itself.
    fenced: bool,
}

impl<'a> Visit<'a> {
    #[inline]
    fn begin(stripe: &'a Stripe, shard: usize, fenced: bool) -> Option<Self> {
        if stripe.visiting.load(Ordering::Relaxed) != 0 {
            return None;
        }
        // A waiter that sees this learns as well that the last visit is over.
        stripe.visiting.store(shard + 1, Ordering::Release);
        fence_of_reader(fenced);
        Some(Self { stripe, fenced })
    }
}

impl Visit<'_> {
    #[inline]
    pub(crate) fn hit(&self) {
        add_one(&self.stripe.hits);
    }

    #[inline]
    pub(crate) fn miss(&self) {
        add_one(&self.stripe.misses);
    }

    /// Says that this thread reads entries of `set` without its lock.
    #[inline(always)]
    pub(crate) fn read(&self, set: usize) -> Reading<'_> {
        // As for a visit: it ends the last read.
        self.stripe.reading.store(set, Ordering::Release);
        fence_of_reader(self.fenced);
        Reading { stripe: self.stripe }
    }
}

impl Drop for Visit<'_> {
    #[inline]
    fn drop(&mut self) {
        self.stripe.visiting.store(0, Ordering::Release);
    }
}

/// A read without a lock. Ends when dropped.
pub(crate) struct Reading<'a> {
    stripe: &'a Stripe,
}

impl Drop for Reading<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.stripe.reading.store(0, Ordering::Release);
    }
}

/// At least and at most so many; a thread beyond them takes locks instead.
const STRIPES: (usize, usize) = if cfg!(all(test, cachalot_loom)) { (3, 3) } else { (64, 512) };

/// Only the thread whose stripe it is counts here, so two steps will do.
#[inline]
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

#[inline]
fn fence_of_reader(fenced: bool) {
    if fenced {
        fence(Ordering::SeqCst);
    } else {
        compiler_fence(Ordering::SeqCst);
    }
}

fn wait_while(there: impl Fn() -> bool) {
    let mut tries = 0;
    while there() {
        pause(tries);
        tries = tries.saturating_add(1);
    }
}

/// Whether [`fence_all`] is to be had. Asked once.
fn can_fence_all() -> bool {
    static CAN: OnceLock<bool> = OnceLock::new();
    *CAN.get_or_init(all::enable)
}

/// As if every thread of this process ran a fence now.
fn fence_all() {
    fence(Ordering::SeqCst);
    if !all::run() {
        // Forbidden meanwhile. No store stays in a processor's buffer for a thousandth of this time.
        thread::sleep(std::time::Duration::from_millis(20));
    }
    fence(Ordering::SeqCst);
}

#[cfg(all(target_os = "linux", not(any(cachalot_portable, cachalot_loom))))]
mod all {
    use rustix::thread::{MembarrierCommand, MembarrierQuery, membarrier, membarrier_query};

    pub(super) fn enable() -> bool {
        let known = membarrier_query();
        let wanted = MembarrierQuery::PRIVATE_EXPEDITED | MembarrierQuery::REGISTER_PRIVATE_EXPEDITED;
        known.contains(wanted) && membarrier(MembarrierCommand::RegisterPrivateExpedited).is_ok() && run()
    }

    pub(super) fn run() -> bool {
        membarrier(MembarrierCommand::PrivateExpedited).is_ok()
    }
}

#[cfg(not(all(target_os = "linux", not(any(cachalot_portable, cachalot_loom)))))]
mod all {
    pub(super) fn enable() -> bool {
        false
    }

    pub(super) fn run() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visit_within_a_visit_is_refused() {
        let readers = Readers::new();
        let first = readers.enter(0).unwrap();
        assert!(readers.enter(1).is_none());
        drop(first);
        assert!(readers.enter(1).is_some());
    }

    #[test]
    fn reads_are_counted_with_a_stripe_and_without() {
        let readers = Readers::new();
        readers.enter(0).unwrap().hit();
        readers.enter(0).unwrap().miss();
        readers.count_other(true);
        assert_eq!(readers.counts(), (2, 1));
    }

    #[test]
    fn who_waits_goes_on_when_the_readers_have_left() {
        let readers = Readers::new();
        let there = AtomicUsize::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                let visit = readers.enter(3).unwrap();
                let reading = visit.read(64);
                there.store(1, Ordering::SeqCst);
                while there.load(Ordering::SeqCst) != 2 {
                    thread::yield_now();
                }
                drop(reading);
            });
            while there.load(Ordering::SeqCst) != 1 {
                thread::yield_now();
            }
            readers.wait_for_visitors(4);
            readers.wait_for_reads(65);
            readers.wait_for_reads_among(65..128);
            there.store(2, Ordering::SeqCst);
            readers.wait_for_visitors(3);
            readers.wait_for_reads(64);
            readers.wait_for_reads_among(1..128);
        });
    }
}
