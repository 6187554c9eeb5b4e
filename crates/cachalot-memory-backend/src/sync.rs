//! The lock of a shard: the one place that names a mutex.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex that outlives panics. Code of the user (`Eq`, `Clone`, closures) runs under it only before the
/// first change of an operation, so what a panic leaves behind is whole.
pub(crate) struct Lock<S>(Mutex<S>);

impl<S> Lock<S> {
    pub(crate) fn new(state: S) -> Self {
        Self(Mutex::new(state))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
