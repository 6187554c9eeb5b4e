//! Every schedule of a few threads, with at most a few preemptions, and every value that a relaxed load may
//! see, by loom.
//!
//! `RUSTFLAGS="--cfg cachalot_loom" cargo test -p cachalot-memory-backend --lib --release interleavings`
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

mod engine;
mod hot;
mod locks;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use loom::cell::UnsafeCell;

/// Runs `model` under all schedules with at most so many preemptions.
fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut explorer = loom::model::Builder::new();
    explorer.preemption_bound = Some(preemptions);
    explorer.max_branches = 100_000;
    explorer.check(model);
}

/// A value that fails the test if it is read or dropped while another thread may still write or read it.
#[derive(Debug)]
struct Watched {
    number: u64,
    place: UnsafeCell<()>,
    alive: Alive,
}

// SAFETY: the cell is accessed to have loom check that accesses are ordered; there is nothing in it.
unsafe impl Sync for Watched {}
// SAFETY: as above.
unsafe impl Send for Watched {}

/// How many there are. Not for loom to see.
#[derive(Clone, Debug, Default)]
struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn watched(&self, number: u64) -> Watched {
        self.0.fetch_add(1, Ordering::Relaxed);
        Watched { number, place: UnsafeCell::new(()), alive: self.clone() }
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Watched {
    /// Its number, twice: where a value is replaced under a reader, one of the looks is not allowed.
    fn look(&self) -> u64 {
        let first = self.place.with(|_| self.number);
        loom::thread::yield_now();
        assert_eq!(first, self.place.with(|_| self.number), "another one under the reader's eyes");
        first
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // A test that has failed has said enough.
        if std::thread::panicking() {
            return;
        }
        self.place.with_mut(|_| ());
        assert_ne!(self.alive.0.fetch_sub(1, Ordering::Relaxed), 0, "dropped twice");
    }
}
