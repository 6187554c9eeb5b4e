//! Who waits for whom: finds loads that would wait for themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names a flight, uniquely in this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightId(u64);

impl FlightId {
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Self(LAST.fetch_add(1, Ordering::Relaxed))
    }
}

/// Waiting would never end: the awaited load waits, directly or through others, for the load that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reentrant;

impl fmt::Display for Reentrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a loader asked for the key it is loading")
    }
}

impl std::error::Error for Reentrant {}

tokio::task_local! {
    static LOADING: FlightId;
}

/// Runs a loader's future as the load of `flight`, so that what it waits for is known.
pub fn loading<F: Future>(flight: FlightId, load: F) -> impl Future<Output = F::Output> {
    LOADING.scope(flight, load)
}

/// The load waits in progress, across all tables of the process: a cycle may run through many caches.
/// Touched only by loaders that load.
static WAITS: Mutex<BTreeMap<FlightId, Vec<FlightId>>> = Mutex::new(BTreeMap::new());

fn waits() -> MutexGuard<'static, BTreeMap<FlightId, Vec<FlightId>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, the load `by` waits for the load `on`.
#[derive(Debug)]
pub(crate) struct Wait {
    by: FlightId,
    on: FlightId,
}

impl Wait {
    /// Notes that the calling task waits for `on`; nothing to note outside of a loader.
    pub(crate) fn begin(on: FlightId) -> Result<Option<Self>, Reentrant> {
        let Ok(by) = LOADING.try_with(|flight| *flight) else {
            return Ok(None);
        };
        let mut waits = waits();
        if reaches(&waits, on, by) {
            return Err(Reentrant);
        }
        waits.entry(by).or_default().push(on);
        Ok(Some(Self { by, on }))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = waits();
        if let Some(on) = waits.get_mut(&self.by) {
            if let Some(at) = on.iter().position(|flight| *flight == self.on) {
                on.swap_remove(at);
            }
            if on.is_empty() {
                waits.remove(&self.by);
            }
        }
    }
}

/// Whether `from` is `to` or waits for it. The graph has no cycle, so the walk ends.
fn reaches(waits: &BTreeMap<FlightId, Vec<FlightId>>, from: FlightId, to: FlightId) -> bool {
    let mut open = vec![from];
    while let Some(flight) = open.pop() {
        if flight == to {
            return true;
        }
        open.extend(waits.get(&flight).into_iter().flatten());
    }
    false
}
