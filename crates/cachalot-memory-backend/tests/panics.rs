//! Whatever of the user's code panics, the memory stays whole and usable.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachalot_core::Commit;
use cachalot_memory_backend::Memory;

/// Where user code panics next, counted down per thread.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Spot {
    Hash,
    Eq,
    CloneValue,
    DropKey,
    DropValue,
    Weigh,
    Listen,
    Keep,
}

use Spot::*;

thread_local! {
    static ARMED: Cell<Option<(Spot, u32)>> = const { Cell::new(None) };
}

/// Panics at `spot` if it is armed there and the countdown is over.
fn pass(spot: Spot) {
    match ARMED.get() {
        Some((armed, 0)) if armed == spot => {
            ARMED.set(None);
            panic!("armed at {spot:?}");
        }
        Some((armed, left)) if armed == spot => ARMED.set(Some((armed, left - 1))),
        _ => {}
    }
}

static KEYS: AtomicUsize = AtomicUsize::new(0);
static VALUES: AtomicUsize = AtomicUsize::new(0);

#[derive(Debug)]
struct Key(u64);

impl Key {
    fn new(key: u64) -> Self {
        KEYS.fetch_add(1, Ordering::Relaxed);
        Self(key)
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        pass(Hash);
        // Many collide, so that `Eq` is asked often.
        (self.0 % 4).hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        pass(Eq);
        self.0 == other.0
    }
}

impl std::cmp::Eq for Key {}

impl Drop for Key {
    fn drop(&mut self) {
        KEYS.fetch_sub(1, Ordering::Relaxed);
        pass(DropKey);
    }
}

#[derive(Debug)]
struct Value(u64);

impl Value {
    fn new(value: u64) -> Self {
        VALUES.fetch_add(1, Ordering::Relaxed);
        Self(value)
    }
}

impl Clone for Value {
    fn clone(&self) -> Self {
        pass(CloneValue);
        Self::new(self.0)
    }
}

impl Drop for Value {
    fn drop(&mut self) {
        VALUES.fetch_sub(1, Ordering::Relaxed);
        pass(DropValue);
    }
}

const CAPACITY: u64 = 40;

fn weight(value: u64) -> u64 {
    value % 7 + 1
}

type Deed = fn(&Memory<Key, Value>, u64);

fn deeds() -> Vec<(&'static str, Deed)> {
    vec![
        ("get", |memory, n| drop(memory.get(&Key::new(n % 30)))),
        ("find", |memory, n| drop(memory.find(&Key::new(n % 30)))),
        ("insert", |memory, n| {
            memory.insert(Key::new(n % 30), Value::new(n));
        }),
        ("remove", |memory, n| drop(memory.remove(&Key::new(n % 30)))),
        ("expire", |memory, n| {
            let keep = std::time::Duration::from_secs(n % 2);
            memory.expire(&Key::new(n % 30), keep);
        }),
        ("commit", |memory, n| {
            let fence = memory.begin(&Key::new(n % 30));
            memory.commit(fence, Key::new(n % 30), Value::new(n), None);
        }),
        ("clear", |memory, _| memory.clear()),
        ("retain", |memory, n| {
            memory.retain(|key, value| {
                pass(Keep);
                (key.0 + value.0 + n) % 3 != 0
            });
        }),
        ("remove_matching", |memory, n| {
            memory.remove_matching(|key| {
                pass(Keep);
                key.0 % 30 == n % 30
            });
        }),
        ("for_each", |memory, _| memory.for_each(|_, _| pass(Keep))),
        ("resize", |memory, n| {
            memory.resize(n % 2 * 10 + CAPACITY - 10).unwrap();
        }),
        ("reap", |memory, _| {
            memory.reap();
        }),
    ]
}

/// One test, since the counts of live keys and values are shared.
#[test]
fn a_panic_anywhere_leaves_a_whole_and_usable_memory() {
    let mut panics = 0;
    for spot in [Hash, Eq, CloneValue, DropKey, DropValue, Weigh, Listen, Keep] {
        for (name, deed) in deeds() {
            for countdown in 0..6 {
                let listens = spot == Listen || countdown % 2 == 1;
                panics += usize::from(survives(spot, name, deed, countdown, listens));
                assert_eq!(KEYS.load(Ordering::Relaxed), 0, "{spot:?} in {name}: keys leak");
                assert_eq!(VALUES.load(Ordering::Relaxed), 0, "{spot:?} in {name}: values leak");
            }
        }
    }
    assert!(panics > 100, "only {panics} cases panicked");
}

/// Whether it panicked.
fn survives(spot: Spot, name: &str, deed: Deed, countdown: u32, listens: bool) -> bool {
    let case = format!("{spot:?} in {name} after {countdown}, listener: {listens}");
    let mut builder = Memory::weight_limit(CAPACITY)
        .weigher(|_: &Key, value: &Value| {
            pass(Weigh);
            weight(value.0)
        })
        .shards(2);
    if listens {
        builder = builder.listener(|_, _, _| pass(Listen));
    }
    let memory: Memory<Key, Value> = builder.build().unwrap();
    for n in 0..60 {
        memory.insert(Key::new(n % 30), Value::new(n));
    }
    ARMED.set(Some((spot, countdown)));
    let mut panicked = false;
    for n in 100..130 {
        panicked |= catch_unwind(AssertUnwindSafe(|| deed(&memory, n))).is_err();
    }
    ARMED.set(None);
    if name == "resize" {
        // Ends what a panic may have kept from its end.
        memory.resize(CAPACITY).unwrap();
    }
    check(&memory, &case);
    for n in 200..400 {
        memory.insert(Key::new(n % 30), Value::new(n));
        assert_eq!(memory.get(&Key::new(n % 30)).map(|value| value.0), Some(n), "{case}");
    }
    let fence = memory.begin(&Key::new(1));
    let committed = memory.commit(fence, Key::new(1), Value::new(1), None);
    assert_eq!(committed, Commit::Stored, "{case}");
    check(&memory, &case);
    panicked
}

fn check(memory: &Memory<Key, Value>, case: &str) {
    let weights: Vec<u64> =
        (0..30).filter_map(|key| memory.find(&Key::new(key))).map(|found| weight(found.value.0)).collect();
    let stats = memory.stats();
    assert_eq!(weights.iter().sum::<u64>(), memory.weight(), "{case}");
    assert_eq!((stats.weight, stats.entries as usize), (memory.weight(), weights.len()), "{case}");
    assert!(memory.weight() <= CAPACITY, "{case}");
}

#[test]
fn a_panic_while_expired_entries_are_collected_leaks_no_weight() {
    use std::time::Duration;
    thread_local!(static LEFT: Cell<u32> = const { Cell::new(u32::MAX) });
    #[derive(PartialEq, Eq)]
    struct Key(u64);
    impl Hash for Key {
        fn hash<H: Hasher>(&self, state: &mut H) {
            LEFT.set(LEFT.get().wrapping_sub(1));
            assert!(LEFT.get() != 0, "armed");
            self.0.hash(state);
        }
    }
    for countdown in 1..40 {
        let clock = cachalot_core::ManualClock::new();
        let memory: Memory<Key, u64> = Memory::entries(1000).shards(1).clock(clock.clock()).build().unwrap();
        for key in 0..100 {
            memory.insert_with_ttl(Key(key), key, Duration::from_millis(1));
        }
        clock.advance(Duration::from_millis(1));
        LEFT.set(countdown);
        let insert = |key| catch_unwind(AssertUnwindSafe(|| memory.insert(Key(key), 0))).is_err();
        assert_eq!((1000..1040).filter(|&key| insert(key)).count(), 1);
        LEFT.set(u32::MAX);
        assert_eq!(memory.stats().weight, memory.weight(), "after {countdown} hashes");
    }
}

#[test]
fn a_panic_in_a_closure_read_leaves_the_memory_usable() {
    let memory: Memory<u64, Arc<u64>> = Memory::entries(10).build().unwrap();
    memory.insert(1, Arc::new(7));
    let read =
        catch_unwind(AssertUnwindSafe(|| memory.get_with(&1, |_| -> u64 { panic!("in the closure") })));
    assert!(read.is_err());
    assert_eq!(memory.get(&1).as_deref(), Some(&7));
}
