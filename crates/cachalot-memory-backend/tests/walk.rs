//! Going over all entries, a few at a time.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{Commit, ManualClock};
use cachalot_memory_backend::{Cursor, Memory};

fn entries(limit: u64) -> Memory<u64, u64> {
    Memory::entries(limit).shards(4).build().unwrap()
}

fn filled(count: u64) -> Memory<u64, u64> {
    let memory = entries(count);
    (0..count).for_each(|key| assert!(memory.insert(key, key)));
    memory
}

/// Walks step by step, with `between` after each, and counts how often each key was seen.
fn seen(memory: &Memory<u64, u64>, slots: usize, mut between: impl FnMut(u64)) -> HashMap<u64, u32> {
    let (mut seen, mut next, mut steps) = (HashMap::new(), Some(Cursor::START), 0);
    while let Some(cursor) = next {
        next = memory.walk(cursor, slots, |key, value| {
            assert_eq!(key, value);
            *seen.entry(*key).or_default() += 1;
            true
        });
        steps += 1;
        between(steps);
    }
    seen
}

fn assert_each_once(seen: &HashMap<u64, u32>, keys: std::ops::Range<u64>) {
    assert!(seen.values().all(|times| *times == 1), "some twice");
    assert_eq!(keys.filter(|key| !seen.contains_key(key)).count(), 0, "missed");
}

#[test]
fn every_entry_is_seen_exactly_once_whatever_the_steps() {
    for count in [1, 31, 500, 5000] {
        for slots in [0, 1, 33, 1000, usize::MAX] {
            let seen = seen(&filled(count), slots, |_| ());
            assert_each_once(&seen, 0..count);
            assert_eq!(seen.len() as u64, count);
        }
    }
}

#[test]
fn what_is_there_throughout_is_seen_exactly_once_while_tables_grow() {
    let memory = entries(1_000_000);
    (0..3000).for_each(|key| assert!(memory.insert(key, key)));
    let before = memory.footprint();
    let mut fresh = 3000..30_000;
    let seen = seen(&memory, 32, |_| {
        fresh.by_ref().take(500).for_each(|key| assert!(memory.insert(key, key)));
    });
    assert!(memory.footprint() > 2 * before && fresh.is_empty(), "tables have grown");
    assert_eq!(memory.stats().evicted, 0);
    assert_each_once(&seen, 0..3000);
}

#[test]
fn what_is_there_throughout_is_seen_exactly_once_while_tables_shrink() {
    let memory = filled(40_000);
    let before = memory.footprint();
    let seen = seen(&memory, 320, |step| {
        if step == 20 {
            memory.resize(4000).unwrap();
        }
    });
    assert!(memory.footprint() < before / 2, "tables have shrunk");
    assert!(seen.values().all(|times| *times == 1), "some twice");
    let mut held = Vec::new();
    memory.for_each(|key, _| held.push(*key));
    assert_eq!(held.len(), 4000);
    assert!(held.iter().all(|key| seen.contains_key(key)), "missed");
}

#[test]
fn keys_of_one_hash_are_seen_exactly_once() {
    #[derive(Clone, PartialEq, Eq)]
    struct Colliding(u64);
    impl Hash for Colliding {
        fn hash<H: Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }
    let memory: Memory<Colliding, u64> = Memory::entries(1000).shards(2).build().unwrap();
    (0..1000).for_each(|key| assert!(memory.insert(Colliding(key), key)));
    let mut seen: Vec<u64> = memory.iter().map(|(_, value)| value).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    memory.retain(|_, value| value % 2 == 0);
    assert!((0..1000).all(|key| memory.get(&Colliding(key)).is_some() == (key % 2 == 0)));
    assert_eq!(memory.len(), 500);
}

#[test]
fn retain_takes_out_what_it_is_told_to_and_counts_it() {
    let memory = filled(5000);
    memory.retain(|key, _| key % 3 == 0);
    assert!((0..5000).all(|key| memory.get(&key).is_some() == (key % 3 == 0)));
    assert_eq!((memory.len(), memory.weight(), memory.stats().removed), (1667, 1667, 3333));
    assert_eq!(memory.remove_matching(|key| *key < 30), 10);
    assert_eq!(memory.remove_matching(|_| true), 1657);
    assert!(memory.is_empty());
    (0..5000).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!((memory.len(), memory.stats().evicted), (5000, 0), "the room is free again");
}

#[test]
fn walks_show_stale_entries_and_collect_expired_ones() {
    let clock = ManualClock::new();
    let memory: Memory<u64, u64> = Memory::entries(100).clock(clock.clock()).build().unwrap();
    let (soon, later) = (Duration::from_millis(10), Duration::from_millis(20));
    memory.insert(0, 0);
    memory.insert_with_ttl(1, 1, soon);
    memory.insert_until(2, 2, clock.now() + soon, clock.now() + later);
    clock.advance(soon);
    let mut seen: Vec<u64> = memory.iter().map(|(key, _)| key).collect();
    seen.sort_unstable();
    assert_eq!(seen, [0, 2]);
    assert_eq!((memory.len(), memory.stats().expired), (2, 1));
}

#[test]
fn a_walk_that_removes_revokes_the_fences_of_absent_keys_and_one_that_looks_does_not() {
    let memory = filled(10);
    let fence = memory.begin(&77);
    memory.for_each(|_, _| ());
    assert_eq!(memory.iter().count(), 10);
    assert_eq!(memory.commit(fence, 77, 77, None), Commit::Stored);
    let fence = memory.begin(&78);
    assert_eq!(memory.remove_matching(|key| *key > 70), 1);
    assert_eq!(memory.commit(fence, 78, 78, None), Commit::Revoked, "it would have matched");
    let fence = memory.begin(&3);
    memory.retain(|_, _| true);
    assert_eq!(memory.commit(fence, 3, 3, None), Commit::Revoked);
}

#[test]
fn a_removal_revokes_what_was_granted_since_the_walk_came_by() {
    let memory: Memory<u64, u64> = Memory::entries(5000).shards(1).build().unwrap();
    (0..5000).for_each(|key| assert!(memory.insert(key, key)));
    // One step into the only shard, whose fences are revoked by that.
    let mut next = memory.walk(Cursor::START, 32, |_, _| true);
    let fences: Vec<_> = (0..5000).map(|key| (key, memory.begin(&key))).collect();
    let mut removed = Vec::new();
    while let Some(cursor) = next {
        next = memory.walk(cursor, 32, |key, _| {
            removed.push(*key);
            false
        });
    }
    assert!(removed.len() > 4900);
    for (key, fence) in fences {
        if removed.contains(&key) {
            assert_eq!(memory.commit(fence, key, key, None), Commit::Revoked);
        }
    }
}

/// The source changes, then all keys that match are removed; what is read afterwards is never from before.
#[test]
fn a_load_begun_before_a_removal_by_predicate_never_brings_the_old_value_back() {
    const ROUNDS: u64 = 1000;
    let (memory, source, done) = (entries(64), AtomicU64::new(0), AtomicBool::new(false));
    let mut old = 0;
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    for key in 0..8 {
                        let fence = memory.begin(&key);
                        let loaded = source.load(Ordering::SeqCst);
                        memory.commit(fence, key, loaded, None);
                    }
                }
            });
        }
        for version in 1..=ROUNDS {
            source.store(version, Ordering::SeqCst);
            memory.remove_matching(|key| *key < 8);
            old += (0..8).filter(|key| memory.get(key).is_some_and(|seen| seen != version)).count();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(old, 0, "values from before a removal");
}

#[test]
fn a_round_of_the_reaper_collects_whatever_has_expired() {
    let clock = ManualClock::new();
    let memory: Memory<u64, u64> = Memory::entries(10_000).shards(8).clock(clock.clock()).build().unwrap();
    (0..100).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!((memory.reap().collected, memory.reap().more), (0, false), "nothing ever had an end");
    for key in 100..10_000 {
        assert!(memory.insert_with_ttl(key, key, Duration::from_millis(1 + key % 2)));
    }
    let round = || {
        let (mut collected, mut steps) = (0, 1);
        loop {
            let reaped = memory.reap();
            assert!(reaped.collected <= 1024 + 32, "a step is bounded: {}", reaped.collected);
            collected += reaped.collected;
            if !reaped.more {
                return (collected, steps);
            }
            steps += 1;
        }
    };
    // Ends the round that the writes began.
    round();
    assert_eq!(memory.len(), 10_000);
    clock.advance(Duration::from_millis(1));
    assert_eq!(round().0, 4950);
    clock.advance(Duration::from_millis(1));
    let (collected, steps) = round();
    assert_eq!(collected, 4950);
    assert!(steps > 5, "in bounded steps: {steps}");
    assert_eq!((memory.len(), memory.weight(), memory.stats().expired), (100, 100, 9900));
}
