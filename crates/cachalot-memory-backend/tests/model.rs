//! The memory against a `HashMap` with a clock.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::time::Duration;

use cachalot_core::{Commit, Fence, Freshness, ManualClock, Timestamp};
use cachalot_memory_backend::Memory;
use proptest::prelude::*;

const KEYS: u8 = 12;

#[derive(Clone, Debug)]
enum Step {
    Insert {
        key: u8,
        weight: u64,
        soft: u64,
        stale: u64,
    },
    InsertForever {
        key: u8,
        weight: u64,
    },
    Get {
        key: u8,
    },
    Remove {
        key: u8,
    },
    Expire {
        key: u8,
        keep: u64,
    },
    Advance {
        millis: u64,
    },
    Begin {
        key: u8,
    },
    /// Of the fence begun the longest ago.
    Commit {
        weight: u64,
        /// Soft expiry, and how long it is stale then.
        times: Option<(u64, u64)>,
    },
    Void {
        key: u8,
    },
    VoidAll,
    Clear,
    /// Takes out every third key, from `first` on.
    Retain {
        first: u8,
    },
    Resize {
        capacity: u64,
    },
    Reap,
}

/// Longer than the few bytes reach that an entry has for its times.
const LONG: u64 = 60 * 24 * 3600 * 1000;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, weight) = (0..KEYS, prop_oneof![8 => 0..20u64, 1 => 90..120u64, 1 => Just(u64::MAX)]);
    let span = || prop_oneof![12 => 0..50u64, 1 => Just(LONG)];
    let times = prop::option::of((span(), span()));
    let step = prop_oneof![
        6 => (key.clone(), weight.clone(), span(), span())
            .prop_map(|(key, weight, soft, stale)| Step::Insert { key, weight, soft, stale }),
        3 => (key.clone(), weight.clone()).prop_map(|(key, weight)| Step::InsertForever { key, weight }),
        6 => key.clone().prop_map(|key| Step::Get { key }),
        2 => key.clone().prop_map(|key| Step::Remove { key }),
        2 => (key.clone(), 0..40u64).prop_map(|(key, keep)| Step::Expire { key, keep }),
        3 => prop_oneof![12 => 0..20u64, 1 => Just(LONG / 2)].prop_map(|millis| Step::Advance { millis }),
        4 => key.clone().prop_map(|key| Step::Begin { key }),
        4 => (weight, times).prop_map(|(weight, times)| Step::Commit { weight, times }),
        1 => key.prop_map(|key| Step::Void { key }),
        1 => Just(Step::VoidAll),
        1 => Just(Step::Clear),
        1 => (0..3u8).prop_map(|first| Step::Retain { first }),
        1 => prop_oneof![1..150u64, Just(u64::MAX - 1)].prop_map(|capacity| Step::Resize { capacity }),
        1 => Just(Step::Reap),
    ];
    prop::collection::vec(step, 1..120)
}

/// A value tells its weight and which step wrote it.
#[derive(Clone, Debug, PartialEq)]
struct Value {
    weight: u64,
    step: usize,
}

#[derive(Clone, Debug)]
struct Held {
    value: Value,
    soft: Timestamp,
    hard: Timestamp,
    invalidated: bool,
}

struct World {
    memory: Memory<u8, Value>,
    clock: ManualClock,
    model: HashMap<u8, Held>,
    /// How often the fences of a slot were revoked, and all of them.
    voids: HashMap<usize, u64>,
    voids_of_all: u64,
    fences: Vec<(u8, Fence, (u64, u64))>,
    evicted: u64,
}

impl World {
    fn new(capacity: u64, shards: usize) -> Self {
        let clock = ManualClock::new();
        let memory = Memory::weight_limit(capacity)
            .weigher(|_, value: &Value| value.weight)
            .clock(clock.clock())
            .shards(shards)
            .build()
            .unwrap();
        Self {
            memory,
            clock,
            model: HashMap::new(),
            voids: HashMap::new(),
            voids_of_all: 0,
            fences: Vec::new(),
            evicted: 0,
        }
    }

    fn take(&mut self, step: &Step, index: usize) {
        match *step {
            Step::Insert { key, weight, soft, stale } => {
                let soft = self.clock.now() + Duration::from_millis(soft);
                self.insert(key, weight, index, soft, soft + Duration::from_millis(stale));
            }
            Step::InsertForever { key, weight } => {
                self.insert(key, weight, index, Timestamp::NEVER, Timestamp::NEVER);
            }
            Step::Get { key } => {
                let expected = self.live(key).filter(|held| self.freshness(held) == Freshness::Fresh);
                let (got, expected) = (self.memory.get(&key), expected.map(|held| held.value.clone()));
                assert_eq!(got, expected);
            }
            Step::Remove { key } => {
                let expected = self.live(key).map(|held| held.value.clone());
                assert_eq!(self.memory.remove(&key), expected);
                self.model.remove(&key);
                self.void(key);
            }
            Step::Expire { key, keep } => {
                let keep = Duration::from_millis(keep);
                assert_eq!(self.memory.expire(&key, keep), self.live(key).is_some());
                let now = self.clock.now();
                if let Some(held) = self.model.get_mut(&key) {
                    held.soft = held.soft.min(now);
                    held.hard = held.hard.min(now + keep);
                    held.invalidated = true;
                }
                self.void(key);
            }
            Step::Advance { millis } => self.clock.advance(Duration::from_millis(millis)),
            Step::Begin { key } => {
                let fence = self.memory.begin(&key);
                let voids = self.voids_of(fence.slot());
                self.fences.push((key, fence, voids));
            }
            Step::Commit { weight, times } if !self.fences.is_empty() => {
                let (key, fence, voids) = self.fences.remove(0);
                let stands = self.voids_of(fence.slot()) == voids;
                let value = Value { weight, step: index };
                let until = times.map(|(soft, stale)| {
                    let soft = self.clock.now() + Duration::from_millis(soft);
                    (soft, soft + Duration::from_millis(stale))
                });
                let committed = self.memory.commit(fence, key, value.clone(), until);
                let (soft, hard) = until.unwrap_or((Timestamp::NEVER, Timestamp::NEVER));
                let expected = match () {
                    () if !stands => Commit::Revoked,
                    () if weight > self.memory.capacity() || hard <= self.clock.now() => Commit::Rejected,
                    () => Commit::Stored,
                };
                assert_eq!(committed, expected);
                if stands {
                    self.hold(key, value, soft, hard);
                }
            }
            Step::Commit { .. } => {}
            Step::Void { key } => {
                self.memory.void(&key);
                self.void(key);
            }
            Step::VoidAll => {
                self.memory.void_all();
                self.voids_of_all += 1;
            }
            Step::Clear => {
                self.memory.clear();
                self.model.clear();
                self.voids_of_all += 1;
            }
            Step::Retain { first } => {
                let mut seen = Vec::new();
                self.memory.retain(|key, value| {
                    seen.push((*key, value.clone()));
                    key % 3 != first
                });
                seen.sort_unstable_by_key(|(key, _)| *key);
                let expected: Vec<_> =
                    (0..KEYS).filter_map(|key| Some((key, self.live(key)?.value.clone()))).collect();
                assert_eq!(seen, expected, "each once");
                self.model.retain(|key, _| key % 3 != first);
                self.voids_of_all += 1;
            }
            Step::Resize { capacity } => {
                self.memory.resize(capacity).unwrap();
                assert_eq!(self.memory.capacity(), capacity);
            }
            Step::Reap => {
                self.memory.reap();
            }
        }
        self.check();
    }

    fn insert(&mut self, key: u8, weight: u64, step: usize, soft: Timestamp, hard: Timestamp) {
        let value = Value { weight, step };
        let held = self.memory.insert_until(key, value.clone(), soft, hard);
        self.hold(key, value, soft, hard);
        assert_eq!(held, self.live(key).is_some());
        self.void(key);
    }

    fn hold(&mut self, key: u8, value: Value, soft: Timestamp, hard: Timestamp) {
        self.model.remove(&key);
        if value.weight <= self.memory.capacity() {
            let invalidated = false;
            self.model.insert(key, Held { value, soft, hard, invalidated });
        }
    }

    /// Every key holds what it should, apart from as many as were evicted; the sums are right.
    fn check(&mut self) {
        let mut missing = 0;
        for key in 0..KEYS {
            let (found, held) = (self.memory.find(&key), self.live(key).cloned());
            match (found, held) {
                (None, None) => {}
                (None, Some(_)) => {
                    missing += 1;
                    self.model.remove(&key);
                }
                (Some(found), Some(held)) => {
                    assert_eq!(found.value, held.value);
                    assert_eq!(found.freshness, self.freshness(&held));
                    assert_eq!(found.stale_for, self.clock.now().since(held.soft));
                }
                (Some(found), None) => panic!("{key} holds {found:?}, which is gone"),
            }
        }
        let stats = self.memory.stats();
        assert_eq!(missing, stats.evicted - self.evicted);
        self.evicted = stats.evicted;
        // Every expired entry has just been looked up, and so collected.
        let live: Vec<u64> =
            (0..KEYS).filter_map(|key| self.live(key)).map(|held| held.value.weight.max(1)).collect();
        assert_eq!((stats.entries, stats.weight), (live.len() as u64, live.iter().sum()));
        assert_eq!(self.memory.weight(), stats.weight);
        assert!(stats.weight <= stats.capacity);
    }

    fn live(&self, key: u8) -> Option<&Held> {
        let now = self.clock.now();
        self.model.get(&key).filter(|held| now < held.hard)
    }

    fn freshness(&self, held: &Held) -> Freshness {
        match () {
            () if held.invalidated => Freshness::Invalidated,
            () if held.soft <= self.clock.now() => Freshness::Stale,
            () => Freshness::Fresh,
        }
    }

    fn voids_of(&self, slot: usize) -> (u64, u64) {
        (self.voids.get(&slot).copied().unwrap_or(0), self.voids_of_all)
    }

    fn void(&mut self, key: u8) {
        *self.voids.entry(self.memory.begin(&key).slot()).or_default() += 1;
    }
}

fn run(capacity: u64, shards: usize, steps: &[Step]) {
    let mut world = World::new(capacity, shards);
    for (index, step) in steps.iter().enumerate() {
        world.take(step, index);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_memory_with_room_for_all_is_a_map_with_a_clock(steps in steps()) {
        run(u64::MAX - 1, 4, &steps);
    }

    #[test]
    fn a_bounded_memory_is_such_a_map_less_what_it_evicted(steps in steps(), shards in 1..9usize) {
        run(100, shards, &steps);
    }

    #[test]
    fn a_memory_of_a_few_entries_is_one_too(steps in steps(), capacity in 1..4u64) {
        run(capacity, 2, &steps);
    }
}
