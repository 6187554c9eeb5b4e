//! The seam to the standard library's threads, so that a schedule explorer can stand in for them.

use std::cell::Cell;
use std::collections::BTreeMap;
#[cfg(not(cachalot_loom))]
pub(crate) use std::sync::{
    Arc, Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};
use std::sync::{PoisonError, atomic::AtomicU64};

#[cfg(cachalot_loom)]
pub(crate) use loom::sync::{
    Arc, Condvar, Mutex, MutexGuard,
    atomic::{AtomicBool, Ordering},
};

use super::waits::Run;

/// Locks. What a panic of the user's code (`Eq`, `Clone`) leaves behind under these locks is whole, so a
/// poisoned lock is taken as it is.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sleeps until notified, or for no reason.
pub(crate) fn wait<'a, T>(condvar: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condvar.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

/// By thread, the run whose end it waits for in the midst of a run of its own.
pub(crate) type Waiting = BTreeMap<ThreadKey, Arc<Run>>;

/// All of the process: a cycle may lead through many memories.
#[cfg(not(cachalot_loom))]
pub(crate) static WAITING: Mutex<Waiting> = Mutex::new(Waiting::new());

#[cfg(cachalot_loom)]
loom::lazy_static! {
    pub(crate) static ref WAITING: Mutex<Waiting> = Mutex::new(Waiting::new());
}

// Without destructors they can be asked as long as the thread runs.
#[cfg(not(cachalot_loom))]
thread_local! {
    static NAME: Cell<Option<ThreadKey>> = const { Cell::new(None) };
    static RUNNING: Cell<usize> = const { Cell::new(0) };
}

#[cfg(cachalot_loom)]
loom::thread_local! {
    static NAME: Cell<Option<ThreadKey>> = Cell::new(None);
    static RUNNING: Cell<usize> = Cell::new(0);
}

/// Names a thread, uniquely in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ThreadKey(u64);

impl ThreadKey {
    pub(crate) fn current() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        NAME.with(|name| {
            let key =
                name.get().unwrap_or_else(|| Self(NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
            name.set(Some(key));
            key
        })
    }
}

/// While it lives, its thread runs code of the user that others may wait for.
pub(crate) struct Running;

impl Running {
    pub(crate) fn begin() -> Self {
        RUNNING.with(|depth| depth.set(depth.get() + 1));
        Self
    }

    /// Whether this thread is in the midst of a run.
    pub(crate) fn is_any() -> bool {
        RUNNING.with(|depth| depth.get() > 0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        RUNNING.with(|depth| depth.set(depth.get() - 1));
    }
}
