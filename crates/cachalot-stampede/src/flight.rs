//! The table of loads in progress.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cachalot_core::Timestamp;
use hashbrown::HashTable;

use crate::sync::{Arc, Mutex, lock};
use crate::waits::FlightId;

mod cell;
use cell::Cell;
mod follow;
mod tags;
pub use follow::Follow;

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
    /// What the load gave; or, if it was [overtaken](Flights::join_at), what the first of both gave.
    Final(O),
    /// What the leader offered meanwhile. The load goes on.
    Interim(O),
    /// The leader was dropped without landing.
    Abandoned,
}

impl<K, O> Flights<K, O> {
    /// One where schedules are explored: which of several a key is in is a matter of chance.
    const SHARDS: usize = if cfg!(cachalot_loom) { 1 } else { 16 };

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

    /// Detaches all flights of keys that `test` is true of, as [`Flights::void`] does one. How many they were.
    ///
    /// `test` runs under a lock: it must be quick, and not use this table. A flight that is opened meanwhile may
    /// be missed: whoever invalidates does so below first, and then a flight that comes later finds what is new.
    pub fn void_if(&self, mut test: impl FnMut(&K) -> bool) -> usize {
        let mut voided = 0;
        for shard in &self.table.shards {
            let mut meant = |flight: &mut Flight<K, O>| {
                let goes = test(&flight.key);
                if goes {
                    // At once, since the next `test` may panic.
                    lock(&flight.cell.state).void = true;
                }
                goes
            };
            // Dropped without the lock: keys are a user's.
            let flights: Vec<_> = lock(shard).extract_if(&mut meant).collect();
            voided += flights.len();
        }
        voided
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
    /// Joins the load of `key`, however old it is, or opens it.
    pub fn join(&self, key: &K) -> Joined<K, O> {
        self.join_at(key, Timestamp::NEVER, Duration::MAX)
    }

    /// Joins the load of `key` unless it was opened longer than `max_age` before `now`; then overtakes it, as
    /// one that hangs. A flight that [`join`](Flights::join) opened has no age.
    ///
    /// The overtaken flight is detached: its [`Lead::is_void`] says so, and its result must not be stored. Its
    /// participants get what lands first, their own flight or the one that overtook it.
    pub fn join_at(&self, key: &K, now: Timestamp, max_age: Duration) -> Joined<K, O> {
        let hash = self.table.hasher.hash_one(key);
        let mut shard = lock(self.table.shard(hash));
        let (follow, landed) = match shard.find_mut(hash, |flight| flight.key == *key) {
            Some(flight) if now.since(flight.cell.opened) <= max_age => {
                return Joined::Follow(Follow::new(flight.cell.clone()));
            }
            Some(flight) => {
                let (new, landed) = Cell::overtaking(flight.cell.clone(), now);
                flight.cell = new.clone();
                (Follow::new(new), landed)
            }
            None => {
                let new = Arc::new(Cell::new(now));
                let flight = Flight { key: key.clone(), hash, cell: new.clone() };
                shard.insert_unique(hash, flight, |flight| flight.hash);
                (Follow::new(new), Vec::new())
            }
        };
        drop(shard);
        drop(landed);
        let lead = Lead { table: self.table.clone(), key: key.clone(), hash, cell: follow.cell().clone() };
        Joined::Lead(lead, follow)
    }

    /// How many callers wait for the load of `key`; those that were [overtaken](Flights::join_at) or
    /// [voided](Flights::void) not counted. 0 also if nobody loads it.
    pub fn waiting<Q: Hash + equivalent::Equivalent<K> + ?Sized>(&self, key: &Q) -> usize {
        let hash = self.table.hasher.hash_one(key);
        let shard = lock(self.table.shard(hash));
        shard.find(hash, |flight| key.equivalent(&flight.key)).map_or(0, |flight| flight.cell.waiting())
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

    /// When it was opened, by the clock of whoever [did](Flights::join_at); [`Timestamp::NEVER`] if it has no age.
    pub fn opened(&self) -> Timestamp {
        self.cell.opened
    }

    /// The key to load.
    pub fn key(&self) -> &K {
        &self.key
    }

    /// Whether the flight was detached, by [`Flights::void`], by one that [overtook](Flights::join_at) it, or
    /// since it was [deserted](Lead::deserted): what it gives is for those who joined before, and must not be
    /// stored.
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

    /// How many callers hold a share in this flight, whether or not they have been polled.
    pub fn waiting(&self) -> usize {
        self.cell.waiting()
    }

    /// Whether nobody waits for this load: no caller is left, or a flight that
    /// [overtook](Flights::join_at) this one has served them. One may still join.
    pub fn is_deserted(&self) -> bool {
        self.waiting() == 0 || self.cell.has_landed()
    }

    /// Waits until the flight [is deserted](Lead::is_deserted), and detaches it in the same step: whoever comes later opens a
    /// new one, so a load that is given up then fails nobody. Callers of a flight that this one
    /// [overtook](Flights::join_at) do not count.
    ///
    /// At most one task may wait at a time: of two, the later is woken.
    ///
    /// # Dropping the future
    /// changes nothing.
    pub async fn deserted(&self) {
        poll_fn(|cx| self.poll_deserted(cx)).await;
    }

    /// Whether the flight [is deserted](Lead::is_deserted); if not, the task of `cx` is woken when it is. Detaches
    /// nothing: for a load of several keys, which is given up when nobody waits for any of them.
    ///
    /// As for [`deserted`](Lead::deserted), one task at a time.
    pub fn watch_deserted(&self, cx: &Context<'_>) -> bool {
        // Registered before anything is read: who leaves after that finds the waker.
        let old = lock(&self.cell.state).deserted.replace(cx.waker().clone());
        drop(old);
        self.is_deserted()
    }

    fn poll_deserted(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.watch_deserted(cx) {
            return Poll::Pending;
        }
        let mut shard = lock(self.table.shard(self.hash));
        // Nobody joins while the shard is locked.
        if !self.is_deserted() {
            return Poll::Pending;
        }
        let flight = remove(&mut shard, self.hash, &self.cell);
        drop(shard);
        drop(flight);
        let mut state = lock(&self.cell.state);
        state.void = true;
        let waker = state.deserted.take();
        drop(state);
        drop(waker);
        Poll::Ready(())
    }

    /// Ends the flight without an outcome if [nobody waits](Lead::is_deserted) for it. Who comes later opens a new
    /// one.
    ///
    /// # Errors
    /// The duty, if somebody has joined.
    pub fn give_up(self) -> Result<(), Self> {
        match self.poll_deserted(&Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => Ok(()),
            Poll::Pending => Err(self),
        }
    }

    /// Lands first, then leaves the table: who joins in between gets the outcome at once.
    fn end(&self, landing: Landing<O>) {
        let Some((wakers, hanging)) = self.cell.end(landing) else {
            return;
        };
        let mut shard = lock(self.table.shard(self.hash));
        let flight = remove(&mut shard, self.hash, &self.cell);
        drop(shard);
        drop(flight);
        wakers.wake();
        drop(hanging);
    }
}

impl<K, O: Clone> Lead<K, O> {
    /// Hands `outcome` to all participants and ends the flight.
    pub fn land(self, outcome: O) {
        let overtaken = mem::take(&mut lock(&self.cell.state).overtaken);
        for hanging in overtaken {
            if let Some(wakers) = hanging.serve(outcome.clone()) {
                wakers.wake();
                hanging.wake_deserted();
            }
        }
        self.end(Landing::Final(outcome));
    }
}

impl<K, O> Drop for Lead<K, O> {
    fn drop(&mut self) {
        self.end(Landing::Abandoned);
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

/// Takes the flight of `cell` out, unless another has its place by now.
fn remove<K, O>(shard: &mut HashTable<Flight<K, O>>, hash: u64, cell: &Arc<Cell<O>>) -> Option<Flight<K, O>> {
    shard.find_entry(hash, |flight| Arc::ptr_eq(&flight.cell, cell)).ok().map(|found| found.remove().0)
}

#[cfg(test)]
mod tests;
