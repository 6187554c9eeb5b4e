//! Threads of the system around hot keys, with few stripes. What is asserted holds in every schedule.
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cachalot_core::{Entropy, ManualClock};

use crate::Memory;
use crate::readers::Readers;
use crate::table::{Seek, tag};

/// A value that knows what it was written for. Its copies share what counts them.
#[derive(Clone)]
struct Value {
    key: u64,
    text: Arc<String>,
    _alive: Arc<Alive>,
}

struct Alive {
    there: Arc<AtomicU64>,
    key: u64,
}

impl Drop for Alive {
    fn drop(&mut self) {
        assert_ne!(self.there.fetch_sub(1, Ordering::Relaxed), 0, "{} dropped twice", self.key);
    }
}

struct World {
    memory: Memory<u64, Value>,
    clock: ManualClock,
    there: Arc<AtomicU64>,
    reads: AtomicU64,
    hits: AtomicU64,
}

/// Read by all; the others come and go.
const HOT: u64 = 3;

impl World {
    fn new(capacity: u64, stripes: usize) -> Self {
        let clock = ManualClock::new();
        let mut memory = Memory::entries(capacity).shards(1).clock(clock.clock()).build().unwrap();
        memory.readers = Readers::with_stripes(stripes);
        let (reads, hits) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { memory, clock, there: Arc::default(), reads, hits }
    }

    fn value(&self, key: u64) -> Value {
        self.there.fetch_add(1, Ordering::Relaxed);
        let alive = Alive { there: self.there.clone(), key };
        Value { key, text: Arc::new(format!("of {key}")), _alive: Arc::new(alive) }
    }

    /// What is read was once stored under the key, and nobody has dropped it.
    fn read(&self, key: u64) -> bool {
        let read = self.memory.get(&key);
        if let Some(value) = &read {
            assert_eq!((value.key, value.text.as_str()), (key, format!("of {key}").as_str()));
        }
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.hits.fetch_add(u64::from(read.is_some()), Ordering::Relaxed);
        read.is_some()
    }

    /// As after many reads that fought for the lock, if the entry is there and no table is being replaced.
    fn heat(&self, key: u64) {
        let writing = self.memory.write(0);
        let same = |held: &u64| *held == key;
        if let Seek::Locked(guard, _) = writing.table().seek(None, self.memory.hash(&key), same) {
            guard.open();
        }
    }

    fn write(&self, draw: u64) {
        let key = if draw & 1 == 0 { (draw >> 8) % HOT } else { draw >> 8 & 1023 };
        match draw >> 32 & 15 {
            0..6 => assert!(self.memory.insert(key, self.value(key))),
            6..9 => {
                self.memory.insert_with_ttl(key, self.value(key), Duration::from_millis(draw >> 40 & 7));
            }
            9 => drop(self.memory.remove(&key)),
            10 => {
                self.memory.expire(&key, Duration::from_millis(draw >> 40 & 3));
            }
            11 => {
                let fence = self.memory.begin(&key);
                self.memory.commit(fence, key, self.value(key), None);
            }
            12 => self.clock.advance(Duration::from_millis(1)),
            13 if draw >> 56 == 0 => self.memory.clear(),
            _ => self.heat(key),
        }
        assert!(self.memory.weight() <= self.memory.capacity());
    }

    /// All is there once, and accounted for.
    fn check(&self) {
        let stats = self.memory.stats();
        assert_eq!((stats.entries, stats.weight), (self.memory.len() as u64, self.memory.weight()));
        assert_eq!(self.there.load(Ordering::Relaxed), stats.entries, "each is dropped once");
        assert_eq!(stats.hits, self.hits.load(Ordering::Relaxed));
        assert_eq!(stats.hits + stats.misses, self.reads.load(Ordering::Relaxed));
        self.memory.clear();
        assert_eq!((self.there.load(Ordering::Relaxed), self.memory.weight()), (0, 0));
    }
}

fn storm(capacity: u64, stripes: usize, readers: u64, writes: u64) {
    let (world, done) = (World::new(capacity, stripes), AtomicBool::new(false));
    (0..HOT).for_each(|key| assert!(world.memory.insert(key, world.value(key))));
    let ended = thread::scope(|scope| {
        for reader in 0..readers {
            let (world, done) = (&world, &done);
            scope.spawn(move || {
                let mut key = reader;
                while !done.load(Ordering::Relaxed) {
                    world.read(key % HOT);
                    key += 1;
                }
            });
        }
        let writers: Vec<_> = (0..2)
            .map(|seed| {
                let world = &world;
                scope.spawn(move || {
                    let entropy = Entropy::seeded(seed);
                    (0..writes).for_each(|_| world.write(entropy.draw_u64()));
                })
            })
            .collect();
        let ended: Vec<_> = writers.into_iter().map(|writer| writer.join()).collect();
        done.store(true, Ordering::Relaxed);
        ended
    });
    assert!(ended.iter().all(Result::is_ok));
    world.check();
}

#[test]
fn hot_keys_are_read_while_they_are_replaced_removed_expired_and_evicted_and_the_table_grows() {
    storm(600, 64, 4, 15_000);
}

#[test]
fn hot_keys_are_read_while_hardly_anything_fits() {
    storm(4, 64, 4, 15_000);
}

#[test]
fn a_set_is_read_without_its_lock_after_many_reads_and_until_it_changes() {
    let memory: Memory<u64, u64> = Memory::entries(100).shards(1).build().unwrap();
    let is_hot = || {
        let (writing, hash) = (memory.write(0), memory.hash(&1));
        writing.table().home_set(hash).is_some_and(|(_, set)| set.hot(tag(hash)) != 0)
    };
    let changes: [fn(&Memory<u64, u64>); 4] = [
        |memory| assert!(memory.insert(1, 1)),
        |memory| assert!(memory.insert_with_ttl(1, 1, Duration::from_secs(9))),
        |memory| assert_eq!(memory.remove(&1), Some(1)),
        |memory| memory.write(0).move_to(8),
    ];
    for change in changes {
        memory.insert(1, 1);
        let reads = (0..100_000).take_while(|_| memory.get(&1).is_some() && !is_hot()).count();
        assert!((2000..99_999).contains(&reads), "{reads}");
        assert_eq!(memory.get(&1), Some(1));
        change(&memory);
        assert!(!is_hot());
    }
}

#[test]
fn threads_beyond_the_stripes_read_the_same() {
    // Other tests have threads too, so how many of these have a stripe is not known: some, or none.
    storm(600, 2, 6, 8000);
    storm(600, 0, 3, 4000);
}

#[test]
fn a_thread_that_dies_in_a_read_holds_nobody_up() {
    for hot in [false, true] {
        let world = World::new(100, 64);
        assert!(world.memory.insert(1, world.value(1)));
        if hot {
            world.heat(1);
        }
        thread::scope(|scope| {
            let died = scope.spawn(|| {
                let read = catch_unwind(AssertUnwindSafe(|| {
                    world.memory.get_with(&1, |_| panic!("in the closure"))
                }));
                assert!(read.is_err());
                // The thread goes on and may read; then it ends for good.
                assert!(world.memory.contains(&1));
                panic!("the thread");
            });
            assert!(died.join().is_err());
        });
        // All of these wait for readers.
        assert!(world.memory.insert(1, world.value(1)));
        world.memory.write(0).move_to(8);
        drop(world.memory.remove(&1));
        world.memory.clear();
        assert_eq!(world.there.load(Ordering::Relaxed), 0);
    }
}

#[test]
fn the_destructors_of_a_threads_locals_may_use_the_memory() {
    struct Last(Arc<World>);
    impl Drop for Last {
        fn drop(&mut self) {
            self.0.read(1);
            self.0.memory.insert(2, self.0.value(2));
            self.0.read(2);
            self.0.memory.remove(&1);
        }
    }
    thread_local! {
        static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) };
    }
    let world = Arc::new(World::new(100, 64));
    // The local is made before the thread has a number, and after.
    for early in [true, false] {
        assert!(world.memory.insert(1, world.value(1)));
        world.heat(1);
        let beside = world.clone();
        let thread = thread::spawn(move || {
            if !early {
                beside.read(1);
            }
            LAST.set(Some(Last(beside.clone())));
            beside.read(1);
        });
        thread.join().unwrap();
        assert!(!world.memory.contains(&1) && world.memory.contains(&2));
        world.reads.fetch_add(2, Ordering::Relaxed);
        world.hits.fetch_add(1, Ordering::Relaxed);
    }
    world.check();
}
