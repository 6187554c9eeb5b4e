//! The table of loads in progress.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::task::{Context, Poll, Waker};

use hashbrown::HashTable;

use crate::sync::{Arc, Mutex, lock};
use crate::waits::{FlightId, Reentrant, Wait};

/// The loads in progress, by key. Clones share one table.
///
/// `O` is what a load gives; it is cloned for each participant.
pub struct Flights<K, O> {
    table: Arc<Table<K, O>>,
}

/// What [`Flights::join`] made of the caller.
pub enum Joined<K, O> {
    /// Nobody loads this key: the caller must, with the first half; the second waits like any follower.
    Lead(Lead<K, O>, Follow<O>),
    /// Somebody loads it already.
    Follow(Follow<O>),
}

/// What a [`Follow`] waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing<O> {
    /// What the load gave.
    Final(O),
    /// What the leader offered meanwhile. The load goes on.
    Interim(O),
    /// The leader was dropped without landing.
    Abandoned,
}

impl<K, O> Flights<K, O> {
    const SHARDS: usize = 16;

    /// An empty table.
    pub fn new() -> Self {
        let shards = (0..Self::SHARDS).map(|_| Mutex::new(HashTable::new())).collect();
        Self { table: Arc::new(Table { shards, hasher: RandomState::new() }) }
    }

    /// How many keys are being loaded, voided flights not counted.
    pub fn len(&self) -> usize {
        self.table.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// Whether nothing is being loaded.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Detaches all flights, as [`Flights::void`] does one.
    pub fn void_all(&self) {
        for shard in &self.table.shards {
            let flights = mem::take(&mut *lock(shard));
            for flight in flights {
                lock(&flight.cell.state).void = true;
            }
        }
    }
}

impl<K: Hash + Eq + Clone, O: Clone> Flights<K, O> {
    /// Joins the load of `key`, or opens it.
    pub fn join(&self, key: &K) -> Joined<K, O> {
        let hash = self.table.hasher.hash_one(key);
        let mut shard = lock(self.table.shard(hash));
        if let Some(flight) = shard.find(hash, |flight| flight.key == *key) {
            return Joined::Follow(Follow::new(flight.cell.clone()));
        }
        let cell = Arc::new(Cell { id: FlightId::next(), state: Mutex::new(State::new()) });
        let flight = Flight { key: key.clone(), hash, cell: cell.clone() };
        shard.insert_unique(hash, flight, |flight| flight.hash);
        let lead = Lead { table: self.table.clone(), key: key.clone(), hash, cell: cell.clone() };
        Joined::Lead(lead, Follow::new(cell))
    }

    /// Detaches the flight of `key`, if there is one: its participants still get what it lands, and whoever
    /// joins from now on opens a new one. Whether there was one.
    pub fn void<Q: Hash + equivalent::Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        let hash = self.table.hasher.hash_one(key);
        let mut shard = lock(self.table.shard(hash));
        let Ok(found) = shard.find_entry(hash, |flight| key.equivalent(&flight.key)) else {
            return false;
        };
        let (flight, _) = found.remove();
        drop(shard);
        lock(&flight.cell.state).void = true;
        true
    }
}

impl<K, O> Clone for Flights<K, O> {
    fn clone(&self) -> Self {
        Self { table: self.table.clone() }
    }
}

impl<K, O> Default for Flights<K, O> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, O> fmt::Debug for Flights<K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flights").field("len", &self.len()).finish()
    }
}

/// The duty to load a key. [`land`](Lead::land) ends it; a drop without landing abandons the flight.
pub struct Lead<K, O> {
    table: Arc<Table<K, O>>,
    key: K,
    hash: u64,
    cell: Arc<Cell<O>>,
}

impl<K, O> Lead<K, O> {
    /// The flight's name, for [`loading`](crate::loading).
    pub fn id(&self) -> FlightId {
        self.cell.id
    }

    /// The key to load.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Whether the flight was detached by [`Flights::void`]: what it gives is for those who joined before.
    pub fn is_void(&self) -> bool {
        lock(&self.cell.state).void
    }

    /// Offers something for those who rather take this than wait: a stale value. The load goes on.
    pub fn offer(&self, interim: O) {
        let wakers = {
            let mut state = lock(&self.cell.state);
            state.interim = Some(interim);
            // Cloned, not taken: those who don't want it keep their places.
            state.wakers.clone()
        };
        wakers.wake();
    }

    /// Hands `outcome` to all participants and ends the flight.
    pub fn land(self, outcome: O) {
        self.end(Landing::Final(outcome));
    }

    /// Lands first, then leaves the table: who joins in between gets the outcome at once.
    fn end(&self, landing: Landing<O>) {
        let wakers = {
            let mut state = lock(&self.cell.state);
            if state.landing.is_some() {
                return;
            }
            state.landing = Some(landing);
            mem::take(&mut state.wakers)
        };
        let mut shard = lock(self.table.shard(self.hash));
        let own = |flight: &Flight<K, O>| Arc::ptr_eq(&flight.cell, &self.cell);
        let flight = shard.find_entry(self.hash, own).ok().map(|found| found.remove().0);
        drop(shard);
        drop(flight);
        wakers.wake();
    }
}

impl<K, O> Drop for Lead<K, O> {
    fn drop(&mut self) {
        self.end(Landing::Abandoned);
    }
}

/// A participant's share in a flight. Dropping it leaves the flight; nobody else notices.
pub struct Follow<O> {
    cell: Arc<Cell<O>>,
    waker: Option<usize>,
}

impl<O: Clone> Follow<O> {
    fn new(cell: Arc<Cell<O>>) -> Self {
        Self { cell, waker: None }
    }

    /// Waits for the end of the load.
    ///
    /// # Errors
    /// [`Reentrant`] at once, if the calling loader would wait for itself.
    ///
    /// # Dropping the future
    /// leaves the flight; the load goes on.
    pub async fn wait(self) -> Result<Landing<O>, Reentrant> {
        self.wait_or_interim(|_| false).await
    }

    /// As [`wait`](Follow::wait), but done with what the leader [offers](Lead::offer) meanwhile, if `content`
    /// says so of it. `content` is called under the flight's lock.
    ///
    /// # Errors
    /// As [`wait`](Follow::wait).
    pub async fn wait_or_interim(mut self, content: impl Fn(&O) -> bool) -> Result<Landing<O>, Reentrant> {
        let _edge = Wait::begin(self.cell.id)?;
        Ok(poll_fn(|cx| self.poll(cx, &content)).await)
    }

    fn poll(&mut self, cx: &Context<'_>, content: impl Fn(&O) -> bool) -> Poll<Landing<O>> {
        let mut state = lock(&self.cell.state);
        if let Some(landing) = &state.landing {
            return Poll::Ready(landing.clone());
        }
        if let Some(offer) = state.interim.as_ref().filter(|offer| content(offer)) {
            return Poll::Ready(Landing::Interim(offer.clone()));
        }
        self.waker = Some(state.wakers.register(self.waker, cx.waker()));
        Poll::Pending
    }
}

impl<O> Drop for Follow<O> {
    fn drop(&mut self) {
        if let Some(at) = self.waker {
            let waker = lock(&self.cell.state).wakers.remove(at);
            drop(waker);
        }
    }
}

struct Table<K, O> {
    shards: Box<[Shard<K, O>]>,
    hasher: RandomState,
}

type Shard<K, O> = Mutex<HashTable<Flight<K, O>>>;

impl<K, O> Table<K, O> {
    fn shard(&self, hash: u64) -> &Shard<K, O> {
        // The table inside a shard uses the low and the top bits.
        &self.shards[(hash >> 32) as usize % self.shards.len()]
    }
}

struct Flight<K, O> {
    key: K,
    hash: u64,
    cell: Arc<Cell<O>>,
}

/// What participants share; without the key, so that a follower's type does not name it.
struct Cell<O> {
    id: FlightId,
    state: Mutex<State<O>>,
}

struct State<O> {
    landing: Option<Landing<O>>,
    interim: Option<O>,
    void: bool,
    wakers: Wakers,
}

impl<O> State<O> {
    fn new() -> Self {
        Self { landing: None, interim: None, void: false, wakers: Wakers::default() }
    }
}

/// The wakers of the followers that have been polled. A place that was given up is used again, so the list
/// is never longer than the flight has participants at once.
#[derive(Clone, Default)]
struct Wakers {
    places: Vec<Option<Waker>>,
    free: Vec<usize>,
}

impl Wakers {
    fn register(&mut self, place: Option<usize>, waker: &Waker) -> usize {
        let at = place.or_else(|| self.free.pop()).unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        });
        match &mut self.places[at] {
            Some(held) => held.clone_from(waker),
            empty => *empty = Some(waker.clone()),
        }
        at
    }

    fn remove(&mut self, at: usize) -> Option<Waker> {
        let waker = self.places.get_mut(at)?.take();
        if waker.is_some() {
            self.free.push(at);
        }
        waker
    }

    fn wake(self) {
        self.places.into_iter().flatten().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests;
