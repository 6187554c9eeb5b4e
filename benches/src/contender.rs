//! Who takes part in the comparison of hit ratios: policies, our engine, and with `peers` other caches.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cachalot_memory_backend::Memory;

use crate::policy::{Adaptive, ArcCache, Clock, Fifo, Lru, Policy, S3Fifo, Sieve};

#[cfg(feature = "peers")]
mod peers;

/// A way to decide what to hold.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What tables call it.
    pub name: &'static str,
    /// What it is in the comparison.
    pub role: Role,
    /// An empty one for so many keys.
    pub build: fn(usize) -> Box<dyn Policy>,
}

/// What a contender is in the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Our engine, as its users get it.
    Engine,
    /// A policy by the book or a simulation, apart from any shell.
    Policy,
    /// What users have instead of us: a cache of another project, or plain LRU.
    Peer,
}

/// The name of our engine.
pub const ENGINE: &str = "cachalot";

/// The name of the policy that our engine carries out.
pub const POLICY: &str = "adaptive";

/// Everybody: our engine, its policy simulated over sets and over rings, the policies by the book, then other
/// projects' caches.
pub fn all() -> Vec<Contender> {
    let policy = |name, build| Contender { name, role: Role::Policy, build };
    let all = vec![
        Contender { name: ENGINE, role: Role::Engine, build: |capacity| Box::new(Engine::new(capacity)) },
        policy(POLICY, |capacity| Box::new(Adaptive::in_sets(capacity))),
        policy("rings", |capacity| Box::new(Adaptive::in_rings(capacity))),
        policy("fifo", |capacity| Box::new(Fifo::new(capacity))),
        Contender { name: "lru", role: Role::Peer, build: |capacity| Box::new(Lru::new(capacity)) },
        policy("clock", |capacity| Box::new(Clock::new(capacity))),
        policy("sieve", |capacity| Box::new(Sieve::new(capacity))),
        policy("s3-fifo", |capacity| Box::new(S3Fifo::new(capacity))),
        policy("arc", |capacity| Box::new(ArcCache::new(capacity))),
    ];
    #[cfg(feature = "peers")]
    let all = [all, peers::all().to_vec()].concat();
    all
}

/// Our engine with one entry a key.
#[derive(Debug)]
struct Engine(Memory<u64, ()>);

impl Engine {
    fn new(capacity: usize) -> Self {
        match Memory::entries(capacity as u64).build() {
            Ok(memory) => Self(memory),
            Err(error) => panic!("no memory: {error}"),
        }
    }

    fn read_or_insert(&self, key: u64) -> bool {
        let held = self.0.get(&key).is_some();
        if !held {
            self.0.insert(key, ());
        }
        held
    }
}

impl Policy for Engine {
    fn access(&mut self, key: u64) -> bool {
        self.read_or_insert(key)
    }

    fn held(&self) -> usize {
        self.0.len()
    }
}

/// How many of `keys` our engine with room for `capacity` has hits on, read by `threads` threads at once.
/// Each takes the next few keys whenever it is done, so the order is kept as far as threads keep any.
///
/// # Panics
/// If the engine refuses that capacity.
pub fn engine_hits(capacity: usize, keys: &[u64], threads: usize) -> u64 {
    let (engine, next) = (Engine::new(capacity), AtomicUsize::new(0));
    let work = || {
        let mut hits = 0;
        while let Some(from) = Some(next.fetch_add(CHUNK, Ordering::Relaxed)).filter(|&at| at < keys.len()) {
            let chunk = &keys[from..keys.len().min(from + CHUNK)];
            hits += chunk.iter().filter(|&&key| engine.read_or_insert(key)).count();
        }
        hits as u64
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic))).sum()
    })
}

/// So many keys a thread takes at once.
const CHUNK: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::hits;
    use crate::trace::generated;

    #[test]
    fn the_engine_stays_within_a_point_of_its_policy_at_any_number_of_threads() {
        for trace in generated() {
            let capacity = trace.distinct() / 20;
            let percent = |hits: u64| 100.0 * hits as f64 / trace.keys.len() as f64;
            let policy = percent(hits(&mut Adaptive::in_sets(capacity), &trace.keys));
            for threads in [1, 4, 16] {
                let engine = percent(engine_hits(capacity, &trace.keys, threads));
                let name = &trace.name;
                assert!(engine > policy - 1.0, "{name}: {engine} with {threads} threads, policy {policy}");
            }
        }
    }
}
