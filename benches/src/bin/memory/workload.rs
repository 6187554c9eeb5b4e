//! What the contenders have to do, one operation at a time.

use std::hint::black_box;
use std::sync::Arc;

use super::zipf::{self, DRAWS};
use super::{Data, Key, Subject};
use benches::policy::mix;
use benches::{Value, value};

/// A stream of operations. Threads begin at different places of it.
pub(crate) trait Workload<K: Key, V: Data>: Send + Sync {
    /// How many entries a cache may hold.
    fn capacity(&self) -> usize;

    /// Fills an empty cache.
    fn prepare<S: Subject<K, V>>(&self, subject: &S);

    /// The operation at a place of the stream. Whether it was a hit.
    fn step<S: Subject<K, V>>(&self, subject: &S, at: usize) -> bool;
}

/// Reads of keys that are all held.
#[derive(Debug)]
pub(crate) struct Hits<K> {
    held: usize,
    /// A power of two of them.
    keys: Box<[K]>,
}

impl<K: Key> Hits<K> {
    /// Reads of `held` keys in an order that looks random; each is read before one is read twice.
    pub(crate) fn of(held: usize, key: impl Fn(u64) -> K) -> Self {
        let length = held.next_power_of_two();
        let mut order: Vec<u64> = (0..held as u64).collect();
        order.sort_unstable_by_key(|&at| mix(at));
        let keys = order.iter().cycle().take(length).map(|&at| key(at)).collect();
        Self { held, keys }
    }
}

impl<K: Key> Workload<K, Value> for Hits<K> {
    fn capacity(&self) -> usize {
        // Room for every key, whatever a cache thinks of its own bound.
        2 * self.held
    }

    fn prepare<S: Subject<K, Value>>(&self, subject: &S) {
        // In another order than they are read in: values that are read as they lie in memory are fetched ahead.
        let mut keys: Vec<&K> = self.keys[..self.held].iter().collect();
        keys.sort_unstable();
        for (at, key) in keys.into_iter().enumerate() {
            subject.write(key.clone(), value(at as u64));
        }
    }

    #[inline(always)]
    fn step<S: Subject<K, Value>>(&self, subject: &S, at: usize) -> bool {
        subject.read(&self.keys[at & (self.keys.len() - 1)])
    }
}

/// Reads of one key by everybody.
#[derive(Debug)]
pub(crate) struct HotKey;

impl Workload<u64, Value> for HotKey {
    fn capacity(&self) -> usize {
        20_000
    }

    fn prepare<S: Subject<u64, Value>>(&self, subject: &S) {
        (0..10_000).for_each(|key| subject.write(key, value(key)));
    }

    #[inline(always)]
    fn step<S: Subject<u64, Value>>(&self, subject: &S, _: usize) -> bool {
        // Or the compiler hashes it once for all.
        subject.read(black_box(&7))
    }
}

/// Zipf 0.99 over a million keys, a tenth of which there is room for.
#[derive(Clone, Debug)]
pub(crate) struct Popular(Arc<[u32]>);

impl Popular {
    pub(crate) fn new() -> Self {
        Self(zipf::draws(10 * Self::CAPACITY as u32, 0.99).into())
    }

    const CAPACITY: usize = 100_000;

    #[inline(always)]
    fn key(&self, at: usize) -> u64 {
        u64::from(self.0[at & (DRAWS - 1)])
    }

    #[inline(always)]
    fn get_or_fill<S: Subject<u64, Value>>(&self, subject: &S, at: usize) -> bool {
        let key = self.key(at);
        let hit = subject.read(&key);
        if !hit {
            subject.fill(key, value(key));
        }
        hit
    }

    /// Lets a policy see enough to settle.
    fn settle<S: Subject<u64, Value>>(&self, subject: &S) {
        (DRAWS - SETTLING..DRAWS).for_each(|at| {
            self.get_or_fill(subject, at);
        });
    }
}

const SETTLING: usize = 500_000;

/// A read, and a store if it misses.
#[derive(Debug)]
pub(crate) struct GetOrFill(pub(crate) Popular);

impl Workload<u64, Value> for GetOrFill {
    fn capacity(&self) -> usize {
        Popular::CAPACITY
    }

    fn prepare<S: Subject<u64, Value>>(&self, subject: &S) {
        self.0.settle(subject);
    }

    #[inline(always)]
    fn step<S: Subject<u64, Value>>(&self, subject: &S, at: usize) -> bool {
        self.0.get_or_fill(subject, at)
    }
}

/// Three reads, then a store, whatever was held. The store counts as no hit.
#[derive(Debug)]
pub(crate) struct Mixed(pub(crate) Popular);

impl Workload<u64, Value> for Mixed {
    fn capacity(&self) -> usize {
        Popular::CAPACITY
    }

    fn prepare<S: Subject<u64, Value>>(&self, subject: &S) {
        self.0.settle(subject);
    }

    #[inline(always)]
    fn step<S: Subject<u64, Value>>(&self, subject: &S, at: usize) -> bool {
        let key = self.0.key(at);
        if at % 4 == 3 {
            subject.write(key, value(key));
            return false;
        }
        subject.read(&key)
    }
}
