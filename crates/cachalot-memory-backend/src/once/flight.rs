//! The runs in progress, by key, and those who wait for them.

use std::hash::Hash;

use ahash::RandomState;
use cachalot_core::Fence;
use equivalent::Equivalent;

use super::sync::{Arc, Condvar, Mutex, MutexGuard, Running, lock, wait};
use super::waits::{Reentrant, Run, Wait};

/// The runs in progress of one memory. A run leads for its key while the key's fences stand as they stood
/// when it began; after that it is nobody's to join, and the next caller's own run takes its place.
pub(crate) struct Flights<K, T> {
    shards: Box<[Mutex<Shard<K, T>>]>,
    hasher: RandomState,
}

/// Never more than there are threads, so a list will do.
type Shard<K, T> = Vec<Entry<K, T>>;

struct Entry<K, T> {
    hash: u64,
    key: K,
    flight: Arc<Flight<T>>,
}

/// One run, and what comes of it.
pub(crate) struct Flight<T> {
    run: Arc<Run>,
    /// Slot and generation of the fence it began with.
    right: (usize, u64),
    state: Mutex<State<T>>,
    ended: Condvar,
}

enum State<T> {
    Running,
    Landed(T),
    /// It failed or panicked: those who wait try for themselves.
    Abandoned,
}

/// What a caller is to do about a key.
pub(crate) enum Joined<'a, K, T> {
    Lead(Lead<'a, K, T>, Fence),
    Follow(Arc<Flight<T>>),
}

impl<K, T> Flights<K, T> {
    pub(crate) fn new() -> Self {
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), hasher: RandomState::new() }
    }

    /// What it has allocated, apart from the runs.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.shards)
    }

    /// The number of runs that can be joined. Takes each shard's lock in turn.
    pub(crate) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard<K, T>> {
        lock(&self.shards[hash as usize % SHARDS])
    }
}

impl<K: Hash + Eq, T> Flights<K, T> {
    /// Joins the run of `key`, or leads one. `begin` takes the key's fence; `own` makes the key.
    ///
    /// # Errors
    /// This thread itself runs for `key`.
    pub(crate) fn join<Q>(
        &self,
        key: &Q,
        begin: impl Fn() -> Fence,
        own: impl Fn() -> K,
    ) -> Result<Joined<'_, K, T>, Reentrant>
    where
        Q: Hash + Equivalent<K> + ?Sized,
    {
        let hash = self.hasher.hash_one(key);
        let mut owned = None;
        loop {
            let mut shard = self.shard(hash);
            // Under the lock: whoever comes later holds no older fence.
            let fence = begin();
            let right = (fence.slot(), fence.generation());
            let entry = shard.iter_mut().find(|entry| entry.hash == hash && key.equivalent(&entry.key));
            if let Some(entry) = entry {
                if entry.flight.run.is_own() {
                    return Err(Reentrant);
                }
                if entry.flight.right == right {
                    return Ok(Joined::Follow(entry.flight.clone()));
                }
                // Its leader holds it still, so nothing of the user's is dropped here.
                entry.flight = Flight::begin(right);
                return Ok(self.lead(hash, entry.flight.clone(), fence));
            }
            let Some(key) = owned.take() else {
                drop(shard);
                // Code of the user, so without the lock.
                owned = Some(own());
                continue;
            };
            let flight = Flight::begin(right);
            shard.push(Entry { hash, key, flight: flight.clone() });
            return Ok(self.lead(hash, flight, fence));
        }
    }

    fn lead(&self, hash: u64, flight: Arc<Flight<T>>, fence: Fence) -> Joined<'_, K, T> {
        Joined::Lead(Lead { flights: self, hash, flight, _running: Running::begin() }, fence)
    }
}

impl<T> Flight<T> {
    fn begin(right: (usize, u64)) -> Arc<Self> {
        Arc::new(Self {
            run: Arc::new(Run::new()),
            right,
            state: Mutex::new(State::Running),
            ended: Condvar::new(),
        })
    }

    /// Waits for what the run gives; `None` if nothing came of it.
    pub(crate) fn wait(&self) -> Result<Option<T>, Reentrant>
    where
        T: Clone,
    {
        let _noted = Wait::begin(&self.run)?;
        let mut state = lock(&self.state);
        loop {
            match &*state {
                State::Running => state = wait(&self.ended, state),
                State::Landed(value) => return Ok(Some(value.clone())),
                State::Abandoned => return Ok(None),
            }
        }
    }

    fn end(&self, end: State<T>) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Running) {
            *state = end;
            drop(state);
            self.ended.notify_all();
        }
    }
}

/// The right and duty to run for a key. Dropped without a value, those who wait try for themselves.
pub(crate) struct Lead<'a, K, T> {
    flights: &'a Flights<K, T>,
    hash: u64,
    flight: Arc<Flight<T>>,
    _running: Running,
}

impl<K, T> Lead<'_, K, T> {
    /// Gives a copy of `value` to all who wait.
    pub(crate) fn land(self, value: &T)
    where
        T: Clone,
    {
        // Dropped when all are served.
        let _key = self.leave();
        // Nobody joins any more: whoever has not come needs no copy.
        if Arc::strong_count(&self.flight) > 1 {
            self.flight.end(State::Landed(value.clone()));
        }
    }

    /// Leaves the table, unless another run has taken its place.
    fn leave(&self) -> Option<K> {
        self.flight.run.end();
        let mut shard = self.flights.shard(self.hash);
        let at = shard.iter().position(|entry| Arc::ptr_eq(&entry.flight, &self.flight))?;
        Some(shard.swap_remove(at).key)
    }
}

impl<K, T> Drop for Lead<'_, K, T> {
    fn drop(&mut self) {
        let _key = (!self.flight.run.is_over()).then(|| self.leave());
        // Unless it has landed, or nobody came.
        self.flight.end(State::Abandoned);
    }
}

/// Looked at by misses alone. A power of two.
#[cfg(not(cachalot_loom))]
const SHARDS: usize = 32;
#[cfg(cachalot_loom)]
const SHARDS: usize = 1;
