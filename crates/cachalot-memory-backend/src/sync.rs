//! Locks for short holds, and the seam to the standard library's atomics, so that a schedule explorer can stand
//! in for them.
//! It does so for the tests of this crate's own parts alone: those who explore what is built on a memory see the
//! memory's operations as single steps.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::panic::{RefUnwindSafe, UnwindSafe};
#[cfg(not(all(test, cachalot_loom)))]
pub(crate) use std::thread;

use atomic::{AtomicBool, AtomicU8, Ordering};

#[cfg(all(test, cachalot_loom))]
pub(crate) use loom::thread;

/// The atomics of this crate.
#[cfg(not(all(test, cachalot_loom)))]
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::*;
}

/// Those of the schedule explorer.
#[cfg(all(test, cachalot_loom))]
pub(crate) mod atomic {
    pub(crate) use std::sync::atomic::compiler_fence;

    pub(crate) use loom::sync::atomic::*;
}

#[cfg(all(test, cachalot_loom))]
pub(crate) use loom::sync::Mutex;
#[cfg(not(all(test, cachalot_loom)))]
pub(crate) use std::sync::Mutex;

/// Its hashes are another memory's never.
#[cfg(not(all(test, cachalot_loom)))]
pub(crate) fn new_hasher() -> ahash::RandomState {
    ahash::RandomState::new()
}

/// The same in each run: a schedule is run again.
#[cfg(all(test, cachalot_loom))]
pub(crate) fn new_hasher() -> ahash::RandomState {
    ahash::RandomState::with_seeds(1, 2, 3, 4)
}

/// A mutex for short holds that outlives panics: one atomic exchange to lock, a plain store to unlock. On a
/// line of its own with the first fields of what it guards.
///
/// It does not poison. Code of the user (`Eq`, `Hash`, closures) runs under it only before an operation changes
/// entries, weights or counts, so what a panic leaves behind is whole.
#[repr(C, align(128))]
pub(crate) struct Lock<S> {
    held: AtomicBool,
    state: UnsafeCell<S>,
}

// SAFETY: `state` is reached through a `Guard` alone, of which there is one at a time (or through `&mut`), so
// sharing a lock hands the state from thread to thread, which `Send` allows.
unsafe impl<S: Send> Sync for Lock<S> {}

// As for a mutex: nobody sees a state that a panic left in the midst of a change.
impl<S> UnwindSafe for Lock<S> {}
impl<S> RefUnwindSafe for Lock<S> {}

impl<S> Lock<S> {
    pub(crate) fn new(state: S) -> Self {
        Self { held: AtomicBool::new(false), state: UnsafeCell::new(state) }
    }

    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_, S> {
        if !self.try_hold() {
            self.wait();
        }
        Guard { lock: self, bound_to_thread: PhantomData }
    }

    #[inline]
    fn try_hold(&self) -> bool {
        self.held.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self) {
        let mut tries = 0;
        loop {
            if !self.held.load(Ordering::Relaxed) && self.try_hold() {
                return;
            }
            pause(tries);
            tries += 1;
        }
    }
}

/// The lock of a set: a byte among what it guards. It can be retired, for good.
pub(crate) struct SetLock {
    state: AtomicU8,
}

const FREE: u8 = 0;
const HELD: u8 = 1;
const RETIRED: u8 = 2;

/// How a [`SetLock`] was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Locked {
    AtOnce,
    /// Somebody else had it.
    Contended,
    /// Not got: what it guards has moved elsewhere.
    Retired,
}

#[cfg(all(test, cachalot_loom))]
impl Default for SetLock {
    fn default() -> Self {
        Self { state: AtomicU8::new(FREE) }
    }
}

impl SetLock {
    #[inline]
    pub(crate) fn lock(&self) -> Locked {
        if self.try_lock() { Locked::AtOnce } else { self.wait() }
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    pub(crate) fn unlock(&self) {
        self.state.store(FREE, Ordering::Release);
    }

    /// In place of [`SetLock::unlock`].
    pub(crate) fn retire(&self) {
        self.state.store(RETIRED, Ordering::Release);
    }

    #[cold]
    fn wait(&self) -> Locked {
        let mut tries = 0;
        loop {
            match self.state.load(Ordering::Acquire) {
                RETIRED => return Locked::Retired,
                FREE => {
                    let got = self.state.compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
                    if got.is_ok() {
                        return Locked::Contended;
                    }
                }
                _ => {}
            }
            pause(tries);
            tries += 1;
        }
    }
}

/// Nobody is told of an unlock, so nobody can miss it. Who holds the lock for long has been preempted or runs
/// code of the user: first that thread gets the processor, then this one sleeps, at most a millisecond.
#[cfg(not(all(test, cachalot_loom)))]
pub(crate) fn pause(tries: u32) {
    const SPINS: u32 = 64;
    const YIELDS: u32 = SPINS + 32;
    match tries {
        0..SPINS => std::hint::spin_loop(),
        SPINS..YIELDS => thread::yield_now(),
        _ => thread::sleep(std::time::Duration::from_micros(50 << (tries - YIELDS).min(4))),
    }
}

/// Nothing changes before another thread has run.
#[cfg(all(test, cachalot_loom))]
pub(crate) fn pause(_tries: u32) {
    thread::yield_now();
}

/// The right to the state, given back when dropped. Stays in its thread.
pub(crate) struct Guard<'a, S> {
    lock: &'a Lock<S>,
    bound_to_thread: PhantomData<*const ()>,
}

impl<S> Deref for Guard<'_, S> {
    type Target = S;

    #[inline]
    fn deref(&self) -> &S {
        // SAFETY: this guard holds the lock, and no other guard exists while it does.
        unsafe { &*self.lock.state.get() }
    }
}

impl<S> DerefMut for Guard<'_, S> {
    #[inline]
    fn deref_mut(&mut self) -> &mut S {
        // SAFETY: as for `deref`; this guard is borrowed for as long as the state is.
        unsafe { &mut *self.lock.state.get() }
    }
}

impl<S> Drop for Guard<'_, S> {
    #[inline]
    fn drop(&mut self) {
        self.lock.held.store(false, Ordering::Release);
    }
}

#[cfg(all(test, not(cachalot_loom)))]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn one_thread_at_a_time_is_in() {
        let lock = Lock::new((0u64, 0u64));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let mut both = lock.lock();
                        both.0 += 1;
                        both.1 += 1;
                        assert_eq!(both.0, both.1);
                    }
                });
            }
        });
        assert_eq!(*lock.lock(), (80_000, 80_000));
    }

    #[test]
    fn a_panic_gives_the_lock_back() {
        let lock = Lock::new(7);
        let held = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock();
            panic!("under the lock");
        }));
        assert!(held.is_err());
        assert_eq!(*lock.lock(), 7);
    }

    #[test]
    fn a_waiter_outlasts_a_long_hold() {
        let (lock, waiting) = (Lock::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            let guard = lock.lock();
            scope.spawn(|| {
                waiting.store(true, Ordering::Relaxed);
                *lock.lock() += 1;
            });
            while !waiting.load(Ordering::Relaxed) {
                thread::yield_now();
            }
            // Long enough for the waiter to come to its last resort, which changes nothing.
            (0..1000).for_each(|_| thread::yield_now());
            drop(guard);
        });
        assert_eq!(*lock.lock(), 1);
    }
}
