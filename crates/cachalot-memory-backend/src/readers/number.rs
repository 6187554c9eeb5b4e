//! Small numbers for threads.

#[cfg(all(test, cachalot_loom))]
pub(super) use explored::{thread_number, thread_number as new_number};
#[cfg(not(all(test, cachalot_loom)))]
pub(super) use usual::{new_number, thread_number};

#[cfg(not(all(test, cachalot_loom)))]
mod usual {
    use std::cell::Cell;
    use std::sync::{Mutex, PoisonError};

    /// The number of this thread, used again when it has ended; very large as long as it has none, or while it
    /// ends.
    #[inline]
    pub(crate) fn thread_number() -> usize {
        NUMBER.with(Cell::get)
    }

    /// As [`thread_number`], but gives it one if it has none.
    pub(crate) fn new_number() -> usize {
        match thread_number() {
            UNKNOWN => draw(),
            number => number,
        }
    }

    const NONE: usize = usize::MAX;
    const UNKNOWN: usize = usize::MAX - 1;

    thread_local! {
        static NUMBER: Cell<usize> = const { Cell::new(UNKNOWN) };
        static OWNED: Owned = const { Owned };
    }

    /// The numbers in use: which are free below the first that never was given.
    static NUMBERS: Mutex<(Vec<usize>, usize)> = Mutex::new((Vec::new(), 0));

    #[cold]
    fn draw() -> usize {
        // While a thread ends, what would give its number back may be gone already.
        if OWNED.try_with(|_| ()).is_err() {
            return NONE;
        }
        let mut numbers = NUMBERS.lock().unwrap_or_else(PoisonError::into_inner);
        let number = numbers.0.pop().unwrap_or_else(|| {
            numbers.1 += 1;
            numbers.1 - 1
        });
        NUMBER.set(number);
        number
    }

    /// Gives the number of its thread back.
    struct Owned;

    impl Drop for Owned {
        fn drop(&mut self) {
            let number = NUMBER.replace(NONE);
            if number < UNKNOWN {
                NUMBERS.lock().unwrap_or_else(PoisonError::into_inner).0.push(number);
            }
        }
    }
}

/// A run of the schedule explorer takes place in one thread of the system. Its threads are numbered anew in each
/// run, as they come.
#[cfg(all(test, cachalot_loom))]
mod explored {
    use std::sync::atomic::{AtomicUsize, Ordering};

    loom::lazy_static! {
        static ref NEXT: AtomicUsize = AtomicUsize::new(0);
    }

    loom::thread_local! {
        static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn thread_number() -> usize {
        NUMBER.try_with(|number| *number).unwrap_or(usize::MAX)
    }
}

#[cfg(all(test, not(cachalot_loom)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn numbers_of_threads_are_used_again() {
        for _ in 0..10_000 {
            thread::spawn(|| assert!(new_number() < 64)).join().unwrap();
        }
    }
}
