//! Keys whose last load failed, and when to try again.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::mem;
use std::time::Duration;

use cachalot_core::{Entropy, Error, ErrorKind, Result, Timestamp};
use equivalent::Equivalent;
use hashbrown::HashTable;

use crate::Lead;
use crate::sync::{AtomicUsize, Mutex, MutexGuard, Ordering, lock};

/// How long a key stays closed after a failed load: `first` after the first failure, twice as long after each
/// further one in a row, up to `cap`; each pause is shortened by up to a half at random, so that processes that
/// failed together do not try together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorBackoff {
    first: Duration,
    cap: Duration,
}

impl ErrorBackoff {
    /// Pauses from `first` to `cap`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if `first` is below a millisecond, or `cap` below `first`.
    pub fn new(first: Duration, cap: Duration) -> Result<Self> {
        if first >= Duration::from_millis(1) && cap >= first {
            return Ok(Self { first, cap });
        }
        let detail = format!("pauses from {first:?} to {cap:?}: from 1 ms up, the first not above the cap");
        Err(Error::new(ErrorKind::Config, "error backoff").detail(detail))
    }

    /// The longest pause after that many failures in a row.
    fn bound(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.cap)
    }

    fn pause(self, failures: u32, entropy: &Entropy) -> Duration {
        let half = self.bound(failures) / 2;
        half.saturating_add(half.mul_f64(entropy.draw_unit()))
    }
}

impl Default for ErrorBackoff {
    /// From 1 s to 30 s.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), cap: Duration::from_secs(30) }
    }
}

/// A failed load that callers of its key get at once, in place of another load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered<E> {
    /// What the load failed with.
    pub error: E,
    /// When the next caller may load.
    pub retry_at: Timestamp,
    /// How many loads have failed in a row.
    pub failures: u32,
}

/// The keys whose last load failed. A key is closed until its `retry_at`; then it is open, and its count of
/// failures is kept for four times the cap, at least a minute, in case the next load fails too. After that
/// nothing of it is left.
///
/// Bounded: beyond [`Failures::CAPACITY`] keys the one that would be forgotten first is. Reads no clock. One lock,
/// which nobody takes while no key has failed.
///
/// ```
/// use cachalot_core::{Entropy, Timestamp};
/// use cachalot_stampede::{ErrorBackoff, Failures};
///
/// let failures: Failures<&str, &str> = Failures::new(ErrorBackoff::default());
/// let now = Timestamp::from_millis(1_000);
/// let retry_at = failures.record(&"k", "no route to host", now, &Entropy::seeded(7));
/// assert_eq!(failures.get("k", now).map(|remembered| remembered.error), Some("no route to host"));
/// assert_eq!(failures.get("k", retry_at), None);
/// ```
pub struct Failures<K, E> {
    backoff: ErrorBackoff,
    capacity: usize,
    hasher: RandomState,
    count: AtomicUsize,
    state: Mutex<State<K, E>>,
}

impl<K, E> Failures<K, E> {
    /// How many keys are remembered, unless told otherwise.
    pub const CAPACITY: usize = 10_000;

    /// None yet.
    pub fn new(backoff: ErrorBackoff) -> Self {
        let state = State { items: HashTable::new(), order: BTreeMap::new(), last: 0 };
        Self {
            backoff,
            capacity: Self::CAPACITY,
            hasher: RandomState::new(),
            count: AtomicUsize::new(0),
            state: Mutex::new(state),
        }
    }

    /// Remembers at most `keys` keys; at least one.
    #[must_use]
    pub fn capacity(mut self, keys: usize) -> Self {
        self.capacity = keys.max(1);
        self
    }

    /// How many keys are remembered at `now`, open ones with a count included.
    pub fn len(&self, now: Timestamp) -> usize {
        if self.count.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        let mut state = lock(&self.state);
        let gone = state.expire(now, usize::MAX);
        let len = self.finish(state);
        drop(gone);
        len
    }

    /// Whether none is remembered at `now`.
    pub fn is_empty(&self, now: Timestamp) -> bool {
        self.len(now) == 0
    }

    /// Forgets all: for an invalidation of everything.
    pub fn forget_all(&self) {
        let mut state = lock(&self.state);
        let gone = (mem::take(&mut state.items), mem::take(&mut state.order));
        self.finish(state);
        drop(gone);
    }

    /// Writes the count and unlocks.
    fn finish(&self, state: MutexGuard<'_, State<K, E>>) -> usize {
        let len = state.items.len();
        self.count.store(len, Ordering::SeqCst);
        len
    }
}

impl<K: Hash + Eq + Clone, E> Failures<K, E> {
    /// Notes that the load that `lead` stands for failed, as [`record`](Failures::record) does, before it lands.
    /// Not if its flight was detached: an invalidation asks for a new try. Nor if that happens meanwhile, provided
    /// that the invalidation first [voids](crate::Flights::void) the flight, then [forgets](Failures::forget).
    pub fn record_load<O>(
        &self,
        lead: &Lead<K, O>,
        error: E,
        now: Timestamp,
        entropy: &Entropy,
    ) -> Option<Timestamp> {
        if lead.is_void() {
            return None;
        }
        let retry_at = self.record(lead.key(), error, now, entropy);
        // Whoever detached it meanwhile may have looked before the note was there.
        if lead.is_void() {
            self.forget(lead.key());
            return None;
        }
        Some(retry_at)
    }

    /// Notes that a load of `key` failed with `error` at `now`, which closes the key. When it opens again.
    pub fn record(&self, key: &K, error: E, now: Timestamp, entropy: &Entropy) -> Timestamp {
        let hash = self.hasher.hash_one(key);
        let mut state = lock(&self.state);
        let gone = state.expire(now, EXPIRED_A_CALL);
        let old = state.remove(hash, |item| item.key == *key);
        let failures =
            old.as_ref().filter(|old| old.until > now).map_or(0, |old| old.failures).saturating_add(1);
        let retry_at = now + self.backoff.pause(failures, entropy);
        let until = retry_at + self.backoff.cap.saturating_mul(4).max(LEAST_MEMORY);
        let room = (state.items.len() >= self.capacity).then(|| state.remove_first()).flatten();
        state.last += 1;
        let id = state.last;
        state.order.insert((until, id), hash);
        let item = Item { key: key.clone(), hash, id, until, retry_at, failures, error };
        state.items.insert_unique(hash, item, |item| item.hash);
        self.finish(state);
        drop((gone, old, room));
        retry_at
    }
}

impl<K, E: Clone> Failures<K, E> {
    /// Why `key` must not be loaded at `now`, if so. Free while no key has failed.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, now: Timestamp) -> Option<Remembered<E>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        let hash = self.hasher.hash_one(key);
        let mut state = lock(&self.state);
        let gone = state.expire(now, EXPIRED_A_CALL);
        let item = state.items.find(hash, |item| key.equivalent(&item.key));
        let closed = item.filter(|item| now < item.retry_at).map(Item::remembered);
        self.finish(state);
        drop(gone);
        closed
    }
}

impl<K, E> Failures<K, E> {
    /// Opens `key` and forgets its failures: after a successful load, or an invalidation. Whether there was
    /// something to forget. Free while no key has failed.
    pub fn forget<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q) -> bool {
        if self.count.load(Ordering::SeqCst) == 0 {
            return false;
        }
        let hash = self.hasher.hash_one(key);
        let mut state = lock(&self.state);
        let item = state.remove(hash, |item| key.equivalent(&item.key));
        self.finish(state);
        item.is_some()
    }

    /// Forgets the failures of all keys that `test` is true of. It runs under a lock: it must be quick, and not
    /// use this.
    pub fn forget_if(&self, mut test: impl FnMut(&K) -> bool) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = lock(&self.state);
        let State { items, order, .. } = &mut *state;
        items.retain(|item| {
            let goes = test(&item.key);
            if goes {
                order.remove(&(item.until, item.id));
            }
            !goes
        });
        self.finish(state);
    }
}

impl<K, E> fmt::Debug for Failures<K, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.count.load(Ordering::SeqCst);
        f.debug_struct("Failures").field("backoff", &self.backoff).field("len", &len).finish_non_exhaustive()
    }
}

/// So many forgotten keys are cleared by a call, so that none pays for all.
const EXPIRED_A_CALL: usize = 4;
/// A load that takes long to fail must find the count of those before it.
const LEAST_MEMORY: Duration = Duration::from_secs(60);

struct State<K, E> {
    items: HashTable<Item<K, E>>,
    /// The hash of each item, by when it is forgotten.
    order: BTreeMap<(Timestamp, u64), u64>,
    last: u64,
}

struct Item<K, E> {
    key: K,
    hash: u64,
    id: u64,
    until: Timestamp,
    retry_at: Timestamp,
    failures: u32,
    error: E,
}

impl<K, E: Clone> Item<K, E> {
    fn remembered(&self) -> Remembered<E> {
        Remembered { error: self.error.clone(), retry_at: self.retry_at, failures: self.failures }
    }
}

/// What is taken out is handed out, to be dropped without the lock.
impl<K, E> State<K, E> {
    fn remove(&mut self, hash: u64, is: impl FnMut(&Item<K, E>) -> bool) -> Option<Item<K, E>> {
        let item = self.items.find_entry(hash, is).ok()?.remove().0;
        self.order.remove(&(item.until, item.id));
        Some(item)
    }

    fn remove_first(&mut self) -> Option<Item<K, E>> {
        let ((_, id), hash) = self.order.pop_first()?;
        Some(self.items.find_entry(hash, |item| item.id == id).ok()?.remove().0)
    }

    /// Takes out what is to be forgotten by `now`, `limit` items at most.
    fn expire(&mut self, now: Timestamp, limit: usize) -> Vec<Item<K, E>> {
        let mut gone = Vec::new();
        while gone.len() < limit && self.order.first_key_value().is_some_and(|((until, _), _)| *until <= now)
        {
            gone.extend(self.remove_first());
        }
        if self.items.is_empty() {
            self.items = HashTable::new();
        }
        gone
    }
}

#[cfg(test)]
mod tests;
