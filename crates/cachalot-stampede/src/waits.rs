//! Who waits for whom: finds loads that would wait for themselves.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    static LOADING: Loading;
}

/// What a loader loads, in ascending order.
#[derive(Clone, Debug)]
enum Loading {
    One(FlightId),
    All(Arc<[FlightId]>),
}

impl Loading {
    fn flights(&self) -> &[FlightId] {
        match self {
            Self::One(flight) => slice::from_ref(flight),
            Self::All(flights) => flights,
        }
    }

    fn contains(&self, flight: FlightId) -> bool {
        self.flights().binary_search(&flight).is_ok()
    }
}

/// Runs a loader's future as the load of `flight`, so that what it waits for is known.
pub fn loading<F: Future>(flight: FlightId, load: F) -> impl Future<Output = F::Output> {
    LOADING.scope(Loading::One(flight), load)
}

/// As [`loading`], for a loader that loads many keys at once: none of `flights` ends before it does.
pub fn loading_all<F: Future>(
    flights: impl IntoIterator<Item = FlightId>,
    load: F,
) -> impl Future<Output = F::Output> {
    let mut flights: Vec<_> = flights.into_iter().collect();
    flights.sort_unstable();
    LOADING.scope(Loading::All(flights.into()), load)
}

/// The load waits in progress, across all tables of the process: a cycle may run through many caches.
/// Touched only by loaders that load.
static WAITS: Mutex<BTreeMap<FlightId, Vec<FlightId>>> = Mutex::new(BTreeMap::new());

fn waits() -> MutexGuard<'static, BTreeMap<FlightId, Vec<FlightId>>> {
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it lives, the loads `by` wait for the load `on`.
#[derive(Debug)]
pub(crate) struct Wait {
    by: Loading,
    on: FlightId,
}

impl Wait {
    /// Notes that the calling task waits for `on`; nothing to note outside of a loader.
    pub(crate) fn begin(on: FlightId) -> Result<Option<Self>, Reentrant> {
        let Ok(by) = LOADING.try_with(Loading::clone) else {
            return Ok(None);
        };
        let mut waits = waits();
        if reaches(&waits, on, &by) {
            return Err(Reentrant);
        }
        for flight in by.flights() {
            waits.entry(*flight).or_default().push(on);
        }
        Ok(Some(Self { by, on }))
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waits = waits();
        for by in self.by.flights() {
            let Some(on) = waits.get_mut(by) else { continue };
            if let Some(at) = on.iter().position(|flight| *flight == self.on) {
                on.swap_remove(at);
            }
            if on.is_empty() {
                waits.remove(by);
            }
        }
    }
}

/// Whether `from` is among `to` or waits for one of them. The graph has no cycle, so the walk ends.
fn reaches(waits: &BTreeMap<FlightId, Vec<FlightId>>, from: FlightId, to: &Loading) -> bool {
    let mut open = vec![from];
    while let Some(flight) = open.pop() {
        if to.contains(flight) {
            return true;
        }
        open.extend(waits.get(&flight).into_iter().flatten());
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Flights, Joined, Landing};

    #[tokio::test]
    async fn a_loader_of_many_keys_may_wait_for_none_of_them() {
        let flights: Flights<u8, u8> = Flights::new();
        let leads: Vec<_> = (0..3)
            .map(|key| match flights.join(&key) {
                Joined::Lead(lead, _) => lead,
                Joined::Follow(_) => panic!("a fresh key"),
            })
            .collect();
        let ids: Vec<_> = leads.iter().rev().map(|lead| lead.id()).collect();
        for key in 0..3 {
            let Joined::Follow(follow) = flights.join(&key) else { panic!("it is loaded") };
            assert_eq!(loading_all(ids.clone(), follow.wait()).await, Err(Reentrant));
        }
    }

    #[tokio::test]
    async fn a_cycle_through_any_key_of_a_loader_of_many_is_told_at_once() {
        let flights: Flights<u8, u8> = Flights::new();
        let lead = |key| match flights.join(&key) {
            Joined::Lead(lead, follow) => (lead, follow),
            Joined::Follow(_) => panic!("a fresh key"),
        };
        let ((a, _), (b, _), (c, c_share)) = (lead(1), lead(2), lead(3));
        let (many, single) = ([a.id(), b.id()], c.id());
        let waits = tokio::spawn(loading_all(many, c_share.wait()));
        tokio::task::yield_now().await;
        for key in [1, 2] {
            let Joined::Follow(follow) = flights.join(&key) else { panic!("it is loaded") };
            assert_eq!(loading(single, follow.wait()).await, Err(Reentrant));
        }
        c.land(7);
        assert_eq!(waits.await.unwrap(), Ok(Landing::Final(7)));
        assert!(!super::waits().contains_key(&a.id()), "nothing stays behind");
    }
}
