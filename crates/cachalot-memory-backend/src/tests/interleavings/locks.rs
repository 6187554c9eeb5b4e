//! The two locks.

use std::sync::Arc;

use loom::cell::UnsafeCell;
use loom::thread;

use super::explore;
use crate::sync::{Lock, Locked, SetLock};

/// Written by whoever has the lock.
struct Guarded {
    lock: SetLock,
    changes: UnsafeCell<u32>,
}

// SAFETY: the cell is for loom to check that the lock keeps threads apart.
unsafe impl Sync for Guarded {}
// SAFETY: as above.
unsafe impl Send for Guarded {}

impl Guarded {
    fn new() -> Arc<Self> {
        Arc::new(Self { lock: SetLock::default(), changes: UnsafeCell::new(0) })
    }

    fn change(&self) {
        // SAFETY: loom fails the test if another access is not ordered with this one.
        self.changes.with_mut(|changes| unsafe { *changes += 1 });
    }

    fn changes(&self) -> u32 {
        // SAFETY: as above.
        self.changes.with(|changes| unsafe { *changes })
    }
}

#[test]
fn a_set_lock_lets_one_thread_in_at_a_time() {
    explore(3, || {
        let set = Guarded::new();
        let other = thread::spawn({
            let set = set.clone();
            move || {
                (0..2).for_each(|_| {
                    assert_ne!(set.lock.lock(), Locked::Retired);
                    set.change();
                    set.lock.unlock();
                });
            }
        });
        if set.lock.try_lock() {
            set.change();
            set.lock.unlock();
        } else {
            set.lock.lock();
            set.change();
            set.lock.unlock();
        }
        other.join().unwrap();
        assert_ne!(set.lock.lock(), Locked::Retired);
        assert_eq!(set.changes(), 3);
    });
}

#[test]
fn who_waits_for_a_set_that_is_retired_is_told_so_and_sees_what_was_done_before() {
    explore(3, || {
        let set = Guarded::new();
        let other = thread::spawn({
            let set = set.clone();
            move || match set.lock.lock() {
                Locked::Retired => assert_eq!(set.changes(), 10, "told when it was done"),
                _ => {
                    set.change();
                    set.lock.unlock();
                }
            }
        });
        set.lock.lock();
        (0..10).for_each(|_| set.change());
        set.lock.retire();
        other.join().unwrap();
        assert_eq!(set.lock.lock(), Locked::Retired);
        assert!(!set.lock.try_lock());
    });
}

#[test]
fn the_lock_of_a_shard_lets_one_thread_in_at_a_time() {
    explore(3, || {
        let lock = Arc::new(Lock::new(UnsafeCell::new(0)));
        let change = |lock: &Lock<UnsafeCell<u32>>| {
            // SAFETY: loom fails the test if another access is not ordered with this one.
            lock.lock().with_mut(|changes| unsafe { *changes += 1 });
        };
        let other = thread::spawn({
            let lock = lock.clone();
            move || (0..2).for_each(|_| change(&lock))
        });
        change(&lock);
        other.join().unwrap();
        // SAFETY: as above.
        assert_eq!(lock.lock().with(|changes| unsafe { *changes }), 3);
    });
}
