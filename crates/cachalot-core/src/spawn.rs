//! Background work as an injected effect.

use std::future::Future;
use std::pin::Pin;

/// A boxed future that may move between threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Runs tasks in the background: loads, invalidations, refreshes, replays.
///
/// A task runs to its end whether or not anybody waits for it. An implementation may drop it only when the
/// runtime itself ends.
pub trait Spawn: Send + Sync + 'static {
    /// Starts `task`. Returns at once.
    fn spawn(&self, task: BoxFuture<'static, ()>);
}
