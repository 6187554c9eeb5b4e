//! Many threads at once.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{Commit, Entropy, ManualClock};
use cachalot_memory_backend::Memory;

const WRITERS: u64 = 4;
const WRITES: u64 = 20_000;
const KEYS: u64 = 500;

/// A value that knows what it was written for and counts itself.
#[derive(Clone)]
struct Value(Arc<Inner>);

struct Inner {
    key: u64,
    weight: u64,
    alive: Arc<AtomicU64>,
}

impl Value {
    fn new(key: u64, weight: u64, alive: &Arc<AtomicU64>) -> Self {
        alive.fetch_add(1, Ordering::Relaxed);
        let alive = alive.clone();
        Self(Arc::new(Inner { key, weight, alive }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn storm(capacity: u64, shards: usize) {
    let (clock, alive, done) = (ManualClock::new(), Arc::new(AtomicU64::new(0)), AtomicBool::new(false));
    let memory: Memory<u64, Value> = Memory::weight_limit(capacity)
        .weigher(|_, value: &Value| value.0.weight)
        .shards(shards)
        .clock(clock.clock())
        .build()
        .unwrap();
    thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|seed| {
                scope.spawn({
                    let (memory, alive, clock) = (&memory, &alive, &clock);
                    move || write(memory, alive, clock, seed)
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                assert!(memory.weight() <= capacity, "{} above {capacity}", memory.weight());
                thread::yield_now();
            }
        });
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ended.iter().all(Result::is_ok));
    });
    let stats = memory.stats();
    let held: Vec<u64> =
        (0..KEYS).filter_map(|key| memory.find(&key)).map(|found| found.value.0.weight).collect();
    assert_eq!(stats.weight, memory.weight());
    assert_eq!(held.iter().sum::<u64>(), memory.weight(), "each entry once, at its weight");
    assert_eq!(alive.load(Ordering::Relaxed), memory.len() as u64, "nothing leaks");
    assert!(stats.evicted > 0 && stats.hits > 0);
    memory.clear();
    assert_eq!((alive.load(Ordering::Relaxed), memory.weight()), (0, 0));
}

fn write(memory: &Memory<u64, Value>, alive: &Arc<AtomicU64>, clock: &ManualClock, seed: u64) {
    let entropy = Entropy::seeded(seed);
    for _ in 0..WRITES {
        let draw = entropy.draw_u64();
        let (key, weight) = (draw % KEYS, draw >> 32 & 15);
        let value = || Value::new(key, weight.max(1), alive);
        match draw >> 16 & 15 {
            0..6 => {
                if let Some(found) = memory.find(&key) {
                    assert_eq!(found.value.0.key, key, "a value of another key");
                }
            }
            6..11 => assert!(memory.insert(key, value())),
            11 => {
                memory.insert_with_ttl(key, value(), Duration::from_millis(5));
            }
            12 => {
                let fence = memory.begin(&key);
                let committed = memory.commit(fence, key, value(), None);
                assert_ne!(committed, Commit::Rejected);
            }
            13 => {
                memory.remove(&key);
            }
            14 => {
                memory.expire(&key, Duration::from_millis(2));
            }
            _ if draw >> 60 == 0 => clock.advance(Duration::from_millis(1)),
            _ => {}
        }
        assert!(memory.weight() <= memory.capacity());
    }
    clock.advance(Duration::ZERO);
}

#[test]
fn the_bound_holds_at_every_moment_of_a_storm() {
    storm(1000, 8);
}

#[test]
fn the_bound_holds_when_the_memory_is_far_too_small() {
    storm(16, 8);
}

#[test]
fn the_bound_holds_in_one_shard() {
    storm(1000, 1);
}

/// The source changes, then the key is invalidated; what is read afterwards is never from before.
#[test]
fn a_commit_begun_before_a_removal_never_brings_the_old_value_back() {
    let mut old = 0;
    let (memory, source) = (Memory::<u64, u64>::entries(4).build().unwrap(), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while source.load(Ordering::SeqCst) < WRITES {
                    let fence = memory.begin(&1);
                    let loaded = source.load(Ordering::SeqCst);
                    memory.commit(fence, 1, loaded, None);
                    // Evictions and other keys make no difference.
                    memory.insert(2 + loaded % 8, loaded);
                }
            });
        }
        for version in 1..=WRITES {
            source.store(version, Ordering::SeqCst);
            memory.remove(&1);
            let seen = memory.get(&1).unwrap_or(version);
            // A panic here would leave the other threads waiting for the last version.
            old += u64::from(seen != version);
        }
    });
    assert_eq!(old, 0, "values from before a removal");
}
