//! The capacity changed while the memory is in use.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{Commit, Entropy, ErrorKind, ManualClock};
use cachalot_memory_backend::Memory;

fn entries(limit: u64) -> Memory<u64, u64> {
    Memory::entries(limit).shards(8).build().unwrap()
}

#[test]
fn a_lowered_bound_is_kept_when_resize_returns() {
    for capacity in [10_000, 999, 100, 7, 1] {
        let memory = entries(20_000);
        (0..20_000).for_each(|key| assert!(memory.insert(key, key)));
        memory.resize(capacity).unwrap();
        assert_eq!((memory.weight(), memory.capacity()), (capacity, capacity), "no more than needed leave");
        let held = (0..20_000).filter(|key| memory.get(key).is_some()).count() as u64;
        assert_eq!(held, capacity);
        (0..1000).for_each(|key| assert!(memory.insert(key, key)));
        assert!(memory.weight() <= capacity);
        assert_eq!(memory.len() as u64, capacity);
    }
}

#[test]
fn a_raised_bound_gives_room_at_once() {
    let memory = entries(10);
    (0..10).for_each(|key| assert!(memory.insert(key, key)));
    memory.resize(50_000).unwrap();
    (0..50_000).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!((memory.len(), memory.stats().evicted), (50_000, 0));
}

#[test]
fn entries_above_the_new_capacity_are_rejected() {
    let memory: Memory<u64, u64> = Memory::weight_limit(100).weigher(|_, weight| *weight).build().unwrap();
    assert!(memory.insert(1, 60));
    memory.resize(50).unwrap();
    assert_eq!((memory.len(), memory.weight()), (0, 0), "what is too heavy now leaves");
    assert!(!memory.insert(1, 51));
    assert!(memory.insert(1, 50));
    assert_eq!(memory.stats().rejected, 1);
}

#[test]
fn a_capacity_of_zero_is_refused_and_nothing_changes() {
    let memory = entries(10);
    (0..10).for_each(|key| assert!(memory.insert(key, key)));
    assert_eq!(memory.resize(0).unwrap_err().kind(), ErrorKind::Config);
    assert_eq!((memory.len(), memory.capacity()), (10, 10));
}

#[test]
fn what_is_read_often_stays() {
    let memory = entries(8000);
    (0..8000).for_each(|key| assert!(memory.insert(key, key)));
    for _ in 0..4 {
        (0..400).for_each(|key| assert!(memory.get(&key).is_some()));
    }
    memory.resize(1000).unwrap();
    let stayed = (0..400).filter(|key| memory.get(key).is_some()).count();
    assert!(stayed > 300, "{stayed} of 400");
}

#[test]
fn the_bound_holds_from_the_return_on_under_a_storm() {
    let (memory, done) = (entries(5000), AtomicBool::new(false));
    thread::scope(|scope| {
        for seed in 0..3 {
            let (memory, done) = (&memory, &done);
            scope.spawn(move || {
                let entropy = Entropy::seeded(seed);
                while !done.load(Ordering::Relaxed) {
                    let key = entropy.draw_u64() % 10_000;
                    assert!(memory.insert(key, key));
                    assert!(memory.get(&(key / 2)).is_none_or(|value| value == key / 2));
                }
            });
        }
        let kept = catch_unwind(AssertUnwindSafe(|| {
            for capacity in [5000, 300, 2000, 1, 64].repeat(4) {
                memory.resize(capacity).unwrap();
                for _ in 0..100 {
                    assert!(memory.weight() <= capacity);
                    thread::yield_now();
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        assert!(kept.is_ok());
    });
    let stats = memory.stats();
    assert_eq!((stats.weight, stats.entries), (memory.weight(), memory.weight()));
    assert_eq!(stats.inserts, stats.entries + stats.evicted + stats.replaced);
}

#[test]
fn two_who_resize_at_once_leave_one_bound_that_holds() {
    for round in 0..20 {
        let memory = entries(1000);
        (0..1000).for_each(|key| assert!(memory.insert(key, key)));
        thread::scope(|scope| {
            scope.spawn(|| memory.resize(100 + round).unwrap());
            scope.spawn(|| memory.resize(500 + round).unwrap());
        });
        assert!([100 + round, 500 + round].contains(&memory.capacity()));
        assert!(memory.weight() <= memory.capacity());
    }
}

#[test]
fn a_shrink_that_a_panic_ended_is_completed_by_later_writes() {
    let panics = AtomicBool::new(true);
    let memory: Memory<u64, u64> = Memory::entries(1000)
        .shards(8)
        .listener(move |_, _, _| {
            if panics.swap(false, Ordering::Relaxed) {
                panic!("in the listener");
            }
        })
        .build()
        .unwrap();
    (0..1000).for_each(|key| assert!(memory.insert(key, key)));
    assert!(catch_unwind(AssertUnwindSafe(|| memory.resize(100))).is_err());
    assert!(memory.weight() > 100, "the panic came before the end");
    (0..1000).for_each(|key| assert!(memory.insert(key, key)));
    assert!(memory.weight() <= 100);
    assert_eq!(memory.len() as u64, memory.weight());
}

#[test]
fn lives_survive_the_move_to_a_smaller_table() {
    let clock = ManualClock::new();
    let memory: Memory<u64, u64> = Memory::entries(20_000).shards(2).clock(clock.clock()).build().unwrap();
    let life = |key| Duration::from_millis(key + 1);
    (0..20_000).for_each(|key| assert!(memory.insert_with_ttl(key, key, life(key))));
    memory.resize(500).unwrap();
    let held: Vec<u64> = (0..20_000).filter(|key| memory.get(key).is_some()).collect();
    assert_eq!(held.len(), 500);
    let middle = held[250];
    clock.advance(life(middle));
    for key in held {
        assert_eq!(memory.get(&key).is_some(), key > middle, "{key} of {middle}");
    }
}

#[test]
fn no_fence_outlives_its_revocation_by_a_resize() {
    let memory: Memory<u64, u64> = Memory::entries(1000).shards(1).build().unwrap();
    let fences: Vec<_> = (0..2000).map(|key| (key, memory.begin(&key))).collect();
    (0..2000).for_each(|key| memory.void(&key));
    memory.resize(1_000_000).unwrap();
    for (key, fence) in fences {
        assert_eq!(memory.commit(fence, key, key, None), Commit::Revoked);
        let fence = memory.begin(&key);
        assert_eq!(memory.commit(fence, key, key, None), Commit::Stored);
    }
}
