//! A counter for what happens tens of millions of times a second.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A counter that many threads increment without sharing a cache line. The first threads have a lane each, where
/// counting needs no locked instruction; those beyond share some.
#[derive(Default)]
pub(super) struct Striped {
    own: [Lane; OWN],
    shared: [Lane; SHARED],
}

#[derive(Default)]
#[repr(align(128))]
struct Lane(AtomicU64);

const OWN: usize = u32::BITS as usize;
const SHARED: usize = 8;

impl Striped {
    #[inline]
    pub(super) fn increment(&self) {
        match self.own.get(LANE.get()) {
            Some(lane) => lane.0.store(lane.0.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed),
            None => self.increment_beyond(),
        }
    }

    #[cold]
    #[inline(never)]
    fn increment_beyond(&self) {
        let at = match LANE.get() {
            NONE => take_lane(),
            at => at,
        };
        let lane = self.own.get(at).unwrap_or_else(|| &self.shared[at % SHARED]);
        lane.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn sum(&self) -> u64 {
        self.own.iter().chain(&self.shared).map(|lane| lane.0.load(Ordering::Relaxed)).sum()
    }
}

/// Of a thread that has not counted yet.
const NONE: usize = usize::MAX;

thread_local! {
    /// The lane of this thread; from [`OWN`] on, a shared one.
    static LANE: Cell<usize> = const { Cell::new(NONE) };
    static LEASE: Lease = const { Lease };
}

/// The lanes that have a thread, a bit each.
static TAKEN: AtomicU32 = AtomicU32::new(0);

fn take_lane() -> usize {
    // While a thread ends, what would give its lane back may be gone already.
    let may_own = LEASE.try_with(|_| ()).is_ok();
    let free = |taken: u32| (may_own && taken != u32::MAX).then_some(taken | taken.wrapping_add(1));
    // What the last thread on it has counted is seen by the next.
    let lane = match TAKEN.fetch_update(Ordering::Acquire, Ordering::Relaxed, free) {
        Ok(taken) => taken.trailing_ones() as usize,
        Err(_) => take_shared(),
    };
    LANE.set(lane);
    lane
}

/// The threads beyond take the shared lanes in turn.
fn take_shared() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    OWN + NEXT.fetch_add(1, Ordering::Relaxed) % SHARED
}

/// Gives the lane of its thread back.
struct Lease;

impl Drop for Lease {
    fn drop(&mut self) {
        let lane = LANE.replace(take_shared());
        if lane < OWN {
            TAKEN.fetch_and(!(1 << lane), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn threads_lose_no_count_however_many_there_are_at_once() {
        let (striped, threads) = (Striped::default(), 2 * OWN);
        let all = Barrier::new(threads);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    striped.increment();
                    all.wait();
                    (0..1000).for_each(|_| striped.increment());
                });
            }
        });
        assert_eq!(striped.sum(), threads as u64 * 1001);
    }

    #[test]
    fn threads_one_after_another_lose_no_count() {
        let striped = std::sync::Arc::new(Striped::default());
        for _ in 0..10 * OWN {
            let striped = striped.clone();
            std::thread::spawn(move || striped.increment()).join().unwrap();
        }
        assert_eq!(striped.sum(), 10 * OWN as u64);
    }

    #[test]
    fn what_a_thread_counts_while_it_ends_is_counted() {
        static STRIPED: std::sync::LazyLock<Striped> = std::sync::LazyLock::new(Striped::default);
        struct Last;
        impl Drop for Last {
            fn drop(&mut self) {
                STRIPED.increment();
            }
        }
        thread_local!(static LAST: Last = const { Last });
        for count_first in [true, false] {
            let thread = std::thread::spawn(move || {
                if count_first {
                    STRIPED.increment();
                }
                LAST.with(|_| ());
                STRIPED.increment();
            });
            thread.join().unwrap();
        }
        assert_eq!(STRIPED.sum(), 5);
    }
}
