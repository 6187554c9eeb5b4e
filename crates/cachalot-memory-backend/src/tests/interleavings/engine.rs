//! The whole engine: one shard, a few keys.

use std::sync::Arc;
use std::time::Duration;

use cachalot_core::{Commit, ManualClock};
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;

use super::{Alive, Watched, explore};
use crate::Memory;
use crate::table::Seek;

struct World {
    memory: Memory<u64, Watched>,
    alive: Alive,
    clock: ManualClock,
}

impl World {
    /// With an entry under key 1, hot or not.
    fn new(entries: u64, hot: bool) -> Arc<Self> {
        let clock = ManualClock::new();
        let memory = Memory::entries(entries).shards(1).clock(clock.clock()).build().unwrap();
        let world = Self { memory, alive: Alive::default(), clock };
        world.memory.insert_with_ttl(1, world.alive.watched(1), Duration::from_secs(1));
        if hot {
            world.heat(1);
        }
        Arc::new(world)
    }

    fn heat(&self, key: u64) {
        let visit = self.memory.readers.enter(0).unwrap();
        let table = self.memory.nth(0).visited(&visit);
        match table.seek(None, self.memory.hash(&key), |held| *held == key) {
            Seek::Locked(guard, _) => guard.open(),
            _ => panic!("{key} is not there"),
        }
    }

    fn insert(&self, key: u64, number: u64) -> bool {
        self.memory.insert(key, self.alive.watched(number))
    }

    fn read(&self, key: u64) -> Option<u64> {
        self.memory.get_with(&key, Watched::look)
    }

    /// Everything is there once, and accounted for.
    fn check(&self) {
        let stats = self.memory.stats();
        assert_eq!(stats.entries, self.memory.weight());
        assert_eq!(stats.weight, self.memory.weight());
        assert_eq!(self.alive.count() as u64, stats.entries);
        self.memory.clear();
        assert_eq!((self.alive.count(), self.memory.weight()), (0, 0));
    }
}

type Deed = fn(&World);

/// Two threads side by side, with a hot entry and without; then all is accounted for, and as `after` says.
fn race(entries: u64, one: Deed, other: Deed, after: Deed) {
    for hot in [false, true] {
        explore(3, move || {
            let world = World::new(entries, hot);
            let beside = thread::spawn({
                let world = world.clone();
                move || one(&world)
            });
            other(&world);
            beside.join().unwrap();
            after(&world);
            world.check();
        });
    }
}

fn nothing(_: &World) {}

fn read_first_value(world: &World) {
    assert_eq!(world.read(1), Some(1));
}

fn read_if_there(world: &World) {
    assert!(world.read(1).is_none_or(|number| number == 1));
}

#[test]
fn an_entry_that_stays_is_found_while_its_table_is_replaced() {
    race(4, read_first_value, |world| world.memory.write(0).move_to(2), read_first_value);
}

#[test]
fn an_entry_that_stays_is_found_while_others_come_and_go() {
    let come_and_go: Deed = |world| {
        world.insert(2, 2);
        assert!(world.memory.remove(&2).is_some());
    };
    race(4, read_first_value, come_and_go, read_first_value);
}

#[test]
fn the_first_entry_of_a_shard_is_seen_or_not() {
    explore(2, || {
        let world = World::new(4, false);
        world.memory.clear();
        let reader = thread::spawn({
            let world = world.clone();
            move || assert!(world.read(2).is_none_or(|number| number == 2))
        });
        assert!(world.insert(2, 2));
        reader.join().unwrap();
        world.check();
    });
}

#[test]
fn a_value_is_the_old_one_or_the_new_one_while_it_is_replaced() {
    let read: Deed = |world| assert!([Some(1), Some(2)].contains(&world.read(1)));
    race(4, read, |world| assert!(world.insert(1, 2)), |world| assert_eq!(world.read(1), Some(2)));
}

#[test]
fn a_removal_gives_the_value_out_once() {
    let remove: Deed = |world| {
        let taken = world.memory.remove(&1);
        assert!(taken.is_none_or(|value| value.look() == 1));
    };
    race(4, read_if_there, remove, |world| assert_eq!(world.read(1), None));
    race(4, remove, remove, |world| assert_eq!(world.read(1), None));
}

#[test]
fn an_insert_beside_a_removal_comes_first_or_last() {
    let insert: Deed = |world| assert!(world.insert(1, 2));
    let remove: Deed = |world| assert!(world.memory.remove(&1).is_some());
    race(4, insert, remove, |world| assert!(world.read(1).is_none_or(|number| number == 2)));
}

#[test]
fn three_at_once_leave_everything_accounted_for() {
    let deeds: [[Deed; 3]; 3] = [
        [
            |world| assert!(world.read(1).is_none_or(|number| number < 3)),
            |world| assert!(world.insert(1, 2)),
            |world| drop(world.memory.remove(&1)),
        ],
        [read_first_value, read_first_value, |world| world.memory.write(0).move_to(2)],
        [read_if_there, |world| assert!(world.insert(1, 1)), |world| world.memory.clear()],
    ];
    for deeds in deeds {
        explore(1, move || {
            let world = World::new(4, true);
            let others = [deeds[0], deeds[1]].map(|deed| {
                let world = world.clone();
                thread::spawn(move || deed(&world))
            });
            deeds[2](&world);
            others.into_iter().for_each(|other| other.join().unwrap());
            world.check();
        });
    }
}

#[test]
fn an_eviction_takes_nothing_from_under_a_reader() {
    race(1, read_if_there, |world| assert!(world.insert(2, 2)), |world| assert_eq!(world.read(2), Some(2)));
}

#[test]
fn two_who_need_the_same_room_evict_one_after_the_other() {
    let one: Deed = |world| assert!(world.insert(2, 2));
    let other: Deed = |world| assert!(world.insert(3, 3));
    race(1, one, other, |world| {
        assert_eq!(world.memory.weight(), 1);
        assert_eq!((world.read(1), world.read(2).xor(world.read(3)).is_some()), (None, true));
    });
}

#[test]
fn what_is_expired_is_collected_once() {
    let read: Deed = |world| {
        world.clock.advance(Duration::from_secs(1));
        assert_eq!(world.read(1), None);
    };
    race(4, read, read, |world| {
        let stats = world.memory.stats();
        assert_eq!((stats.entries, stats.expired), (0, 1));
    });
}

#[test]
fn an_expired_entry_makes_way_for_its_successor_alone() {
    let read: Deed = |world| {
        world.clock.advance(Duration::from_secs(1));
        assert!(world.read(1).is_none_or(|number| number == 2));
    };
    race(4, read, |world| assert!(world.insert(1, 2)), |world| assert_eq!(world.read(1), Some(2)));
}

#[test]
fn an_expire_ends_a_value_and_none_that_comes_later() {
    let expire: Deed = |world| assert!(world.memory.expire(&1, Duration::ZERO));
    race(4, expire, read_if_there, |world| assert_eq!(world.read(1), None));
    let keep: Deed = |world| assert!(world.memory.expire(&1, Duration::from_millis(9)));
    race(4, keep, read_if_there, |world| assert_eq!(world.read(1), None));
}

#[test]
fn clear_leaves_nothing_of_what_was_there_before() {
    race(4, |world| world.memory.clear(), read_if_there, |world| assert_eq!(world.read(1), None));
    race(4, |world| world.memory.clear(), |world| assert!(world.insert(2, 2)), nothing);
}

/// The source changes, then the key is invalidated. What was loaded before never shows up afterwards.
#[test]
fn a_load_begun_before_an_invalidation_never_shows_up_after_it() {
    let invalidations: [Deed; 4] = [
        |world| drop(world.memory.remove(&1)),
        |world| {
            world.memory.expire(&1, Duration::ZERO);
        },
        |world| {
            world.memory.void(&1);
            drop(world.memory.remove(&1));
        },
        |world| world.memory.clear(),
    ];
    for invalidate in invalidations {
        explore(3, move || {
            let (world, source) = (World::new(4, false), Arc::new(AtomicU64::new(1)));
            let loader = thread::spawn({
                let (world, source) = (world.clone(), source.clone());
                move || {
                    let fence = world.memory.begin(&1);
                    let loaded = world.alive.watched(source.load(Ordering::Acquire));
                    world.memory.commit(fence, 1, loaded, None)
                }
            });
            source.store(2, Ordering::Release);
            invalidate(&world);
            assert!(world.read(1).is_none_or(|number| number == 2));
            let committed = loader.join().unwrap();
            let left = world.read(1);
            assert!(left.is_none_or(|number| number == 2), "an old value came back");
            assert!(committed == Commit::Stored || left.is_none());
            world.check();
        });
    }
}
