//! What the participants of one flight share.

use std::mem;
use std::task::Waker;

use cachalot_core::Timestamp;

use super::Landing;
use super::tags::Asked;
use crate::sync::{Arc, AtomicUsize, Mutex, OnceLock, Ordering, lock};
use crate::waits::FlightId;

/// What participants share; without the key, so that a follower's type does not name it.
pub(super) struct Cell<O> {
    pub(super) id: FlightId,
    pub(super) opened: Timestamp,
    /// How many shares there are. Grows only under the shard's lock.
    pub(super) waiting: AtomicUsize,
    /// Set under the lock, and then read without it: by all who are woken at once.
    pub(super) landing: OnceLock<Landing<O>>,
    pub(super) state: Mutex<State<O>>,
}

pub(super) struct State<O> {
    pub(super) interim: Option<O>,
    pub(super) void: bool,
    pub(super) wakers: Wakers,
    /// The leader's, while it waits for its callers to leave.
    pub(super) deserted: Option<Waker>,
    /// The flights of this key that hang. In one list, not a chain: dropping it does not recurse.
    pub(super) overtaken: Vec<Arc<Cell<O>>>,
    pub(super) end: End,
    pub(super) asked: Asked,
}

/// Whether the leader has ended its flight.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    NotYet,
    /// What has landed is its own.
    Landed,
    /// The flight that overtook it had landed by then. What it gave itself is where offers are; nothing, if it
    /// was abandoned.
    TooLate,
}

impl<O> Cell<O> {
    pub(super) fn new(opened: Timestamp) -> Self {
        let state = State {
            interim: None,
            void: false,
            wakers: Wakers::default(),
            deserted: None,
            overtaken: Vec::new(),
            end: End::NotYet,
            asked: Asked::default(),
        };
        Self {
            id: FlightId::next(),
            opened,
            waiting: AtomicUsize::new(0),
            landing: OnceLock::new(),
            state: Mutex::new(state),
        }
    }

    /// A flight that takes the place of `old`, which it voids; and flights that no longer matter, to be
    /// dropped without a lock, since what they have landed is a user's.
    pub(super) fn overtaking(old: Arc<Self>, opened: Timestamp) -> (Arc<Self>, Vec<Arc<Self>>) {
        let hanging = {
            let mut state = lock(&old.state);
            state.void = true;
            mem::take(&mut state.overtaken)
        };
        let (landed, mut hanging): (Vec<_>, Vec<_>) = hanging.into_iter().partition(|cell| cell.has_landed());
        hanging.push(old);
        let new = Self::new(opened);
        lock(&new.state).overtaken = hanging;
        (Arc::new(new), landed)
    }

    pub(super) fn has_landed(&self) -> bool {
        self.landing.get().is_some()
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Tells the leader, if it waits for that, that nobody waits for it.
    pub(super) fn wake_deserted(&self) {
        let leader = lock(&self.state).deserted.take();
        leader.into_iter().for_each(Waker::wake);
    }

    /// Lands by what the flight gave that overtook it, unless it has landed already: whom to wake.
    pub(super) fn serve(&self, outcome: O) -> Option<Wakers> {
        let mut state = lock(&self.state);
        if let Err(landing) = self.landing.set(Landing::Final(outcome)) {
            drop(state);
            drop(landing);
            return None;
        }
        Some(mem::take(&mut state.wakers))
    }

    /// Ends the flight, once: whom to wake, and which flights it has overtaken.
    pub(super) fn end(&self, landing: Landing<O>) -> Option<(Wakers, Vec<Arc<Self>>)> {
        let mut state = lock(&self.state);
        if state.end != End::NotYet {
            drop(state);
            drop(landing);
            return None;
        }
        let mut offer = None;
        state.end = match self.landing.set(landing) {
            Ok(()) => End::Landed,
            Err(landing) => {
                let own = match landing {
                    Landing::Final(own) | Landing::Interim(own) => Some(own),
                    Landing::Abandoned => None,
                };
                offer = mem::replace(&mut state.interim, own);
                End::TooLate
            }
        };
        let ended = (mem::take(&mut state.wakers), mem::take(&mut state.overtaken));
        drop(state);
        drop(offer);
        Some(ended)
    }
}

/// The wakers of the followers that have been polled. A place that was given up is used again, so the list
/// is never longer than the flight has participants at once.
#[derive(Clone, Default)]
pub(super) struct Wakers {
    pub(super) places: Vec<Option<Waker>>,
    free: Vec<u32>,
}

impl Wakers {
    pub(super) fn register(&mut self, place: Option<u32>, waker: &Waker) -> u32 {
        let Some(at) = place.or_else(|| self.free.pop()) else {
            self.places.push(Some(waker.clone()));
            return self.places.len() as u32 - 1;
        };
        match &mut self.places[at as usize] {
            Some(held) => held.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        at
    }

    pub(super) fn remove(&mut self, at: u32) -> Option<Waker> {
        let waker = self.places.get_mut(at as usize)?.take();
        if waker.is_some() {
            self.free.push(at);
        }
        waker
    }

    pub(super) fn wake(self) {
        self.places.into_iter().flatten().for_each(Waker::wake);
    }
}
