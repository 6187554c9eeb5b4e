//! Entries that are read without a lock, and tables that are visited, while they change.

use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, Ordering};
use loom::thread;

use super::{Alive, Watched, explore};
use crate::policy::Slot;
use crate::published::Published;
use crate::readers::Readers;
use crate::set::{Owner, Set, SetGuard};

const TAG: u8 = 0x80 | 5;

type Entries = Set<Watched, Watched>;

/// A set with one hot entry, and its readers.
struct World {
    readers: Readers,
    set: Entries,
    alive: Alive,
}

impl World {
    fn new(owner: &mut Owner) -> Arc<Self> {
        let world = Self { readers: Readers::new(), set: Set::new(), alive: Alive::default() };
        world.put_hot(&mut world.lock(), owner, 1);
        Arc::new(world)
    }

    fn lock(&self) -> SetGuard<'_, Watched, Watched> {
        self.set.lock().unwrap()
    }

    /// Puts an entry in whose key, value and end are alike, and makes it hot.
    fn put_hot(&self, guard: &mut SetGuard<'_, Watched, Watched>, owner: &mut Owner, number: u64) -> usize {
        let entry = (self.alive.watched(number), self.alive.watched(number));
        let way = guard.put(&mut owner.hold, TAG, false, entry).unwrap();
        guard.set_end(&mut owner.hold, &self.readers, way, number as u32);
        guard.open();
        assert!(self.set.hot(TAG) != 0);
        way
    }

    /// Reads without the lock, if that is possible. What is read is of one piece.
    fn read(&self) -> Option<u64> {
        let visit = self.readers.enter(0)?;
        let mut key = 0;
        let hot = self.set.read_hot(&visit, self.set.hot(TAG), |found| {
            key = found.look();
            true
        })?;
        assert_eq!(hot.value.look(), key);
        assert_eq!(hot.end().as_millis(), key);
        assert!(hot.is_timed() && hot.soonest() <= hot.end());
        Some(key)
    }
}

/// A reader beside a writer. `write` gets the hot way.
fn against_a_reader(write: fn(&World, &mut Owner), may_be_read: &'static [u64], left: usize) {
    explore(3, move || {
        let mut owner = Owner::new();
        let world = World::new(&mut owner);
        let alive = world.alive.clone();
        let reader = thread::spawn({
            let world = world.clone();
            move || world.read()
        });
        write(&world, &mut owner);
        let read = reader.join().unwrap();
        assert!(read.is_none_or(|number| may_be_read.contains(&number)));
        assert_eq!(alive.count(), left);
        // A set leaves its entries to the table.
        let mut world = Arc::into_inner(world).unwrap();
        while world.set.pop().is_some() {}
        assert_eq!(alive.count(), 0, "dropped once each");
    });
}

#[test]
fn what_is_taken_out_is_dropped_when_nobody_reads_it() {
    let take = |world: &World, owner: &mut Owner| {
        let taken = world.lock().take(&mut owner.hold, &world.readers, 0);
        drop(taken);
        assert_eq!(world.alive.count(), 0);
        assert!(world.read().is_none());
    };
    against_a_reader(take, &[1], 0);
}

#[test]
fn what_is_replaced_is_dropped_when_nobody_reads_it() {
    let replace = |world: &World, owner: &mut Owner| {
        let mut guard = world.lock();
        let old = guard.replace(&mut owner.hold, &world.readers, 0, world.alive.watched(2));
        drop(guard);
        assert_eq!(old.as_ref().map(Watched::look), Some(1));
    };
    against_a_reader(replace, &[1], 2);
}

#[test]
fn a_way_that_is_used_again_shows_the_one_entry_or_the_other() {
    let reuse = |world: &World, owner: &mut Owner| {
        let mut guard = world.lock();
        let taken = guard.take(&mut owner.hold, &world.readers, 0);
        assert_eq!(world.put_hot(&mut guard, owner, 2), 0);
        drop(guard);
        drop(taken);
    };
    against_a_reader(reuse, &[1, 2], 2);
}

#[test]
fn an_end_changes_under_no_reader() {
    let prolong = |world: &World, owner: &mut Owner| {
        let mut guard = world.lock();
        guard.set_end(&mut owner.hold, &world.readers, 0, 9);
    };
    against_a_reader(prolong, &[1], 2);
}

/// [`World::read`] asks for both.
#[test]
fn the_first_end_of_a_set_is_never_behind_that_of_what_is_read() {
    let come_and_go = |world: &World, owner: &mut Owner| {
        for end in [1, 9] {
            let entry = (world.alive.watched(2), world.alive.watched(2));
            let way = world.lock().put(&mut owner.hold, TAG, false, entry).unwrap();
            world.lock().set_end(&mut owner.hold, &world.readers, way, end);
            drop(world.lock().take(&mut owner.hold, &world.readers, way));
        }
    };
    against_a_reader(come_and_go, &[1], 2);
}

#[test]
fn a_set_retires_when_nobody_reads_in_it() {
    let retire = |world: &World, owner: &mut Owner| {
        world.lock().retire(&mut owner.hold, &world.readers);
        assert!(world.set.lock().is_none());
        // As a table does that is dropped.
        (0..2).for_each(|_| assert!(world.read().is_none()));
        // SAFETY: none is needed; what is looked at was taken out of reach.
        assert!(world.set.hot(TAG) == 0);
        world.set.entry(&owner.hold, 0).unwrap().1.place.with_mut(|_| ());
    };
    against_a_reader(retire, &[1], 2);
}

#[test]
fn two_readers_are_both_waited_for() {
    explore(2, || {
        let mut owner = Owner::new();
        let world = World::new(&mut owner);
        let readers: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || assert!(world.read().is_none_or(|number| number == 1)))
            })
            .collect();
        let taken = world.lock().take(&mut owner.hold, &world.readers, 0);
        drop(taken);
        assert_eq!(world.alive.count(), 0);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
}

/// A reader of the old base would tell another end.
#[test]
fn what_ends_count_from_changes_under_no_reader() {
    explore(3, || {
        let mut owner = Owner::new();
        let world = World::new(&mut owner);
        world.lock().rebase(&mut owner.hold, &world.readers, 100);
        world.lock().open();
        let reader = thread::spawn({
            let world = world.clone();
            move || {
                let visit = world.readers.enter(0)?;
                let hot = world.set.read_hot(&visit, world.set.hot(TAG), |_| true)?;
                Some(hot.end().as_millis())
            }
        });
        {
            let mut guard = world.lock();
            guard.rebase(&mut owner.hold, &world.readers, 90);
            guard.set_end(&mut owner.hold, &world.readers, 0, 11);
            guard.open();
        }
        assert!(reader.join().unwrap().is_none_or(|end| end == 101));
        let mut world = Arc::into_inner(world).unwrap();
        while world.set.pop().is_some() {}
    });
}

#[test]
fn a_table_is_given_back_when_its_visitors_have_left() {
    explore(3, || {
        let alive = Alive::default();
        let world = Arc::new((Readers::new(), Published::new(alive.watched(1))));
        let visitors: Vec<_> = (0..2)
            .map(|_| {
                let world = world.clone();
                thread::spawn(move || {
                    let visit = world.0.enter(7).unwrap();
                    world.1.visited(&visit).look()
                })
            })
            .collect();
        let mut owner = Owner::new();
        let old = world.1.replace(&mut owner, &world.0, 7, alive.watched(2));
        drop(old);
        for visitor in visitors {
            assert!([1, 2].contains(&visitor.join().unwrap()));
        }
        assert_eq!(world.1.held(&owner).0.look(), 2);
        drop(world);
        assert_eq!(alive.count(), 0);
    });
}

/// It is for the number of the shard that is waited.
#[test]
fn visitors_of_other_shards_are_not_waited_for() {
    explore(2, || {
        let world = Arc::new((Readers::new(), AtomicBool::new(false)));
        let visitor = thread::spawn({
            let world = world.clone();
            move || {
                let _visit = world.0.enter(1).unwrap();
                while !world.1.load(Ordering::Acquire) {
                    thread::yield_now();
                }
            }
        });
        world.0.wait_for_visitors(0);
        world.1.store(true, Ordering::Release);
        visitor.join().unwrap();
    });
}

/// The slots of a policy are those of a set; here there is but one.
#[test]
fn heat_and_touches_of_readers_reach_the_policy() {
    explore(2, || {
        let mut owner = Owner::new();
        let world = World::new(&mut owner);
        world.lock().ways_mut().place(0, crate::policy::State::Kept, 0);
        let reader = thread::spawn({
            let world = world.clone();
            move || world.read().is_some()
        });
        world.lock().absorb(1);
        let read = reader.join().unwrap();
        let mut guard = world.lock();
        guard.absorb(2);
        let slot = Slot { set: 0, way: 0 };
        assert_eq!(guard.ways().epoch(slot.way) > 0, read, "seen once, by the one or the other");
        drop(guard);
        let mut world = Arc::into_inner(world).unwrap();
        while world.set.pop().is_some() {}
    });
}
