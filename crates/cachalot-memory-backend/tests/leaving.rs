//! Who is told of entries that leave, and that the figures agree.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cachalot_core::{Commit, Entropy, ManualClock};
use cachalot_memory_backend::{Cause, Memory, MemoryBuilder, Stats};

const MS: Duration = Duration::from_millis(1);

type Told = Arc<Mutex<Vec<(u64, u64, Cause)>>>;

fn listening(builder: MemoryBuilder<u64, u64>) -> (Memory<u64, u64>, Told, ManualClock) {
    let (told, clock) = (Told::default(), ManualClock::new());
    let list = told.clone();
    let memory = builder
        .clock(clock.clock())
        .listener(move |key, value, cause| list.lock().unwrap().push((*key, *value, cause)))
        .build()
        .unwrap();
    (memory, told, clock)
}

fn take(told: &Told) -> Vec<(u64, u64, Cause)> {
    std::mem::take(&mut *told.lock().unwrap())
}

#[test]
fn each_way_to_leave_has_its_cause() {
    let (memory, told, clock) = listening(Memory::weight_limit(10).weigher(|_, weight| *weight).shards(1));
    memory.insert(1, 4);
    memory.insert(1, 5);
    assert_eq!(take(&told), [(1, 4, Cause::Replaced)]);
    memory.insert(1, 11);
    assert_eq!(take(&told), [(1, 5, Cause::Replaced), (1, 11, Cause::Rejected)]);
    memory.insert(2, 10);
    memory.insert(3, 10);
    assert_eq!(take(&told), [(2, 10, Cause::Evicted)]);
    assert_eq!(memory.remove(&3), Some(10));
    assert_eq!(take(&told), [(3, 10, Cause::Removed)]);
    memory.insert_with_ttl(4, 1, MS);
    memory.insert_with_ttl(5, 1, MS);
    memory.insert_with_ttl(6, 1, MS);
    clock.advance(MS);
    assert_eq!((memory.get(&4), memory.remove(&5)), (None, None));
    assert!(!memory.expire(&6, Duration::ZERO));
    let expired = [4, 5, 6].map(|key| (key, 1, Cause::Expired));
    assert_eq!(take(&told), expired);
    assert!(!memory.insert_with_ttl(7, 1, Duration::ZERO));
    assert_eq!(take(&told), [(7, 1, Cause::Expired)]);
    memory.insert(8, 2);
    memory.clear();
    assert_eq!(take(&told), [(8, 2, Cause::Cleared)]);
    let late = memory.begin(&9);
    memory.void(&9);
    assert_eq!(memory.commit(late, 9, 1, None), Commit::Revoked);
    memory.insert(9, 1);
    drop(memory);
    assert_eq!(take(&told), [], "neither what never came in nor what was held to the end");
}

#[test]
fn the_listener_may_use_the_memory() {
    static MEMORY: OnceLock<Memory<u64, u64>> = OnceLock::new();
    let demote = |key: &u64, value: &u64, cause: Cause| {
        if cause == Cause::Evicted && *value > 0 {
            let memory = MEMORY.get().unwrap();
            assert_eq!(memory.get(key), None, "it has left by now");
            memory.insert(*key, value - 1);
        }
    };
    let memory = MEMORY.get_or_init(|| Memory::entries(3).shards(1).listener(demote).build().unwrap());
    (0..4).for_each(|key| assert!(memory.insert(key, 5)));
    assert_eq!(memory.len(), 3);
    let stats = memory.stats();
    // What comes back drives another one out, until one has had its five lives.
    assert!(stats.evicted > 5, "{stats:?}");
    assert_eq!(stats.inserts, stats.entries + stats.evicted);
}

/// Random operations: what the listener was told, the figures and what is left add up.
#[test]
fn every_value_is_held_or_told_of_exactly_once() {
    for seed in 0..20 {
        let builder = Memory::weight_limit(60).weigher(|_, value: &u64| value % 8).shards(4);
        let (memory, told, clock) = listening(builder);
        let given = play(&memory, &clock, seed);
        memory.resize(20).unwrap();
        let stats = memory.stats();
        let mut told = take(&told);
        assert_eq!(of_cause(&told, Cause::Evicted), stats.evicted, "seed {seed}");
        assert_eq!(of_cause(&told, Cause::Removed) + of_cause(&told, Cause::Cleared), stats.removed);
        assert_eq!(of_cause(&told, Cause::Replaced), stats.replaced);
        assert_eq!(of_cause(&told, Cause::Rejected), stats.rejected);
        assert_eq!(stats.inserts, stats.entries + left(&stats), "seed {seed}");
        told.extend(
            (0..40).filter_map(|key| memory.find(&key).map(|found| (key, found.value, Cause::Removed))),
        );
        let expired_now = memory.stats().expired - stats.expired;
        let mut values: Vec<(u64, u64)> = told.into_iter().map(|(key, value, _)| (key, value)).collect();
        values.sort_unstable();
        assert_eq!(values.len() as u64 + expired_now, given.len() as u64, "seed {seed}");
        values.dedup();
        assert!(values.iter().all(|(key, value)| given.get(value) == Some(key)), "seed {seed}");
        assert_eq!(values.len() as u64 + expired_now, given.len() as u64, "none twice, seed {seed}");
    }
}

fn left(stats: &Stats) -> u64 {
    stats.evicted + stats.expired + stats.removed + stats.replaced
}

fn of_cause(told: &[(u64, u64, Cause)], cause: Cause) -> u64 {
    told.iter().filter(|(.., other)| *other == cause).count() as u64
}

/// The values given, which are all different, and their keys.
fn play(memory: &Memory<u64, u64>, clock: &ManualClock, seed: u64) -> HashMap<u64, u64> {
    let (entropy, mut given) = (Entropy::seeded(seed), HashMap::new());
    for step in 0..2000u64 {
        let draw = entropy.draw_u64();
        let (key, value) = (draw % 40, step * 8 + (draw >> 8) % 8);
        match draw >> 16 & 15 {
            0..8 => {
                given.insert(value, key);
                memory.insert(key, value);
            }
            8..11 => {
                given.insert(value, key);
                memory.insert_with_ttl(key, value, MS * (draw >> 20 & 7) as u32);
            }
            11 => drop(memory.remove(&key)),
            12 => drop(memory.expire(&key, MS * (draw >> 20 & 3) as u32)),
            13 if draw >> 20 & 63 == 0 => memory.clear(),
            14 => clock.advance(MS),
            _ => drop(memory.get(&key)),
        }
    }
    given
}

#[test]
fn a_panic_of_the_listener_keeps_neither_the_effect_nor_the_others_from_being_told() {
    let told = Arc::new(Mutex::new(0));
    let count = told.clone();
    let memory: Memory<u64, Arc<u64>> = Memory::weight_limit(10)
        .weigher(|_, weight: &Arc<u64>| **weight)
        .shards(1)
        .listener(move |_, _, _| {
            *count.lock().unwrap() += 1;
            if *count.lock().unwrap() % 2 == 1 {
                panic!("in the listener");
            }
        })
        .build()
        .unwrap();
    let values: Vec<Arc<u64>> = (0..10).map(|_| Arc::new(1)).collect();
    (0..).zip(&values).for_each(|(key, value)| assert!(memory.insert(key, value.clone())));
    let heavy = catch_unwind(AssertUnwindSafe(|| memory.insert(10, Arc::new(10))));
    assert!(heavy.is_err());
    assert_eq!(*told.lock().unwrap(), 10);
    assert!(values.iter().all(|value| Arc::strong_count(value) == 1), "all others are dropped");
    assert_eq!((memory.get(&10).as_deref(), memory.weight()), (Some(&10), 10));
    assert!(catch_unwind(AssertUnwindSafe(|| memory.remove(&10))).is_err());
    assert_eq!((memory.len(), memory.weight()), (0, 0));
}
