use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::*;
use crate::Memory;
use crate::set::Owner;

/// A table of entries that know all that it should know of them.
struct World {
    table: Table<u64, String>,
    owner: Owner,
    readers: Readers,
    model: HashMap<u64, Held>,
    now: u64,
    /// The bits of hashes that differ.
    differ: u64,
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    value: String,
    weight: u64,
    life: Life,
    state: State,
    epoch: u16,
}

/// About 2001, and far from the base of a new set.
const START: u64 = 1_000_000_000_000;
const DAY: u64 = 24 * 3600 * 1000;

impl World {
    fn new(sets: usize, differ: u64) -> Self {
        let (table, owner, readers) = (Table::new(sets, None), Owner::new(), Readers::with_stripes(4));
        Self { table, owner, readers, model: HashMap::new(), now: START, differ }
    }

    fn hash(&self, key: u64) -> u64 {
        (key + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(17) & self.differ
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn find(&self, key: u64) -> Option<Slot> {
        self.table.find(&self.owner.hold, self.hash(key), |held| *held == key)
    }

    fn new_of(&self, key: u64, weight: u64, life: Life) -> New {
        New { hash: self.hash(key), weight, life, now: self.now() }
    }

    /// Whether there was room.
    fn put(&mut self, key: u64, held: Held) -> bool {
        let new = self.new_of(key, held.weight, held.life);
        let begins = Begin { state: held.state, epoch: held.epoch };
        let entry = (key, held.value.clone());
        match self.table.put(&mut self.owner.hold, &self.readers, &new, begins, entry) {
            Ok(_) => assert!(self.model.insert(key, held).is_none()),
            Err(back) => {
                assert_eq!(back, (key, held.value));
                assert_eq!(self.model.len(), self.table.cells());
                return false;
            }
        }
        true
    }

    fn take(&mut self, key: u64) {
        let (slot, held) = (self.find(key).unwrap(), self.model.remove(&key).unwrap());
        let hash = self.hash(key);
        let (entry, known) = self.table.take(&mut self.owner.hold, &self.readers, slot, hash).unwrap();
        assert_eq!(entry, (key, held.value));
        assert_eq!((known.state, known.epoch), (held.state, held.epoch));
        assert_eq!(known.is_timed(), !held.life.is_endless());
        assert!(self.table.take(&mut self.owner.hold, &self.readers, slot, hash).is_none());
    }

    fn replace(&mut self, key: u64, value: String, weight: u64, life: Life, epoch: u16) {
        let (slot, new) = (self.find(key).unwrap(), self.new_of(key, weight, life));
        let replaced =
            self.table.replace(&mut self.owner.hold, &self.readers, slot, &new, epoch, value.clone());
        let held = self.model.get_mut(&key).unwrap();
        assert_eq!(replaced.unwrap().0, held.value);
        if held.state == State::Kept {
            held.epoch = epoch;
        }
        (held.value, held.weight, held.life) = (value, weight, life);
    }

    fn grow(&mut self) {
        let (next, mut fresh) = (Table::new(self.table.sets() + 2, None), Owner::new());
        let before = self.model.len();
        for set in 0..self.table.sets() {
            let mut of_set: Vec<(Slot, u64)> =
                self.model.keys().filter_map(|key| Some((self.find(*key)?, self.hash(*key)))).collect();
            of_set.retain(|(slot, _)| slot.set == set);
            let hold = &mut self.owner.hold;
            self.table.hand_over(hold, &self.readers, set, &of_set, &next, &mut fresh.hold);
            assert!(self.table.set(set).lock().is_none(), "retired");
        }
        let old = std::mem::replace(&mut self.table, next);
        assert!((0..old.sets()).all(|set| old.set(set).taken() == 0));
        self.owner = fresh;
        assert_eq!(self.model.len(), before);
    }

    /// All that is known of a key, as one who reads sees it.
    fn seen(&self, key: u64) -> Option<Held> {
        match self.table.seek(None, self.hash(key), |held| *held == key) {
            Seek::Locked(guard, slot) => {
                let ways = guard.ways();
                Some(Held {
                    value: guard.value(slot.way).cloned().unwrap(),
                    weight: self.table.weight(slot),
                    life: self.table.life(&guard, slot),
                    state: ways.state(slot.way),
                    epoch: ways.epoch(slot.way),
                })
            }
            Seek::Absent => None,
            Seek::Hot(_) | Seek::Retired => panic!("nobody else is here"),
        }
    }

    fn check(&self) {
        for key in 0..KEYS {
            assert_eq!(self.seen(key), self.model.get(&key).cloned(), "key {key}");
            assert_eq!(self.find(key).is_some(), self.model.contains_key(&key));
        }
        let taken: u32 = (0..self.table.sets()).map(|set| self.table.set(set).taken().count_ones()).sum();
        assert_eq!(taken as usize, self.model.len());
        let over: Vec<u64> = (0..self.table.sets())
            .flat_map(|set| {
                let over = self.table.over_in(set, self.now());
                (0..WAYS).filter(move |way| over >> way & 1 != 0).map(move |way| Slot { set, way })
            })
            .map(|slot| self.table.set(slot.set).entry(&self.owner.hold, slot.way).unwrap().0)
            .collect();
        let expected = self.model.values().filter(|held| held.life.is_over(self.now())).count();
        assert_eq!(over.len(), expected);
        assert!(over.iter().all(|key| self.model[key].life.is_over(self.now())));
        (0..self.table.sets()).for_each(|set| self.check_soonest(set));
    }

    /// The first of the ends of a set is known, whatever came and went.
    fn check_soonest(&self, set: usize) {
        let guard = self.table.set(set).lock().unwrap();
        let has_end = |slot: &Slot| slot.set == set && !is_odd(guard.ways().mark(slot.way));
        let ends = self.model.iter().filter(|(key, _)| self.find(**key).as_ref().is_some_and(has_end));
        let first = ends.map(|(_, held)| held.life.soft).min().unwrap_or(Timestamp::NEVER);
        assert_eq!(guard.soonest(), first, "set {set}");
    }
}

const KEYS: u64 = 150;

/// `plain`: none that codes cannot tell.
fn life(draw: u64, now: u64, plain: bool) -> Life {
    let at = |millis: u64| Timestamp::from_millis(millis);
    let later = draw % 90_000 + 1;
    match draw >> 32 & 7 {
        5 | 6 if plain => Life::new(at(now + 1), at(now + 1)),
        0 | 1 => Life::ENDLESS,
        2 => Life::new(at(now + later), at(now + later)),
        3 => Life::new(at(now + later), at(now + 2 * later)),
        4 => Life::new(at(now + later), Timestamp::NEVER),
        // Longer than the codes reach, begun before they do, and ended by a call.
        5 => Life::new(at(now + 60 * DAY), at(now + 100 * DAY)),
        6 => Life::new(at(now - 3 * DAY), at(now + later)),
        _ => Life { invalidated: true, ..Life::new(at(now), at(now + later)) },
    }
}

/// Draws that look random, always the same.
fn draws(seed: u64) -> impl Iterator<Item = u64> {
    (1..).map(move |n: u64| {
        let mixed = (n ^ seed << 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed ^ mixed >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9).rotate_left(23)
    })
}

#[test]
fn a_table_is_a_map_whatever_the_hashes_also_while_it_grows_and_months_go_by() {
    // All differ; one home and many tags; few homes and one tag; few of both; all the same.
    let kinds = [u64::MAX, 0xff00_0000_0000_0000, 0xc000_0000, 0x0300_0000_8000_0000, 0];
    let with_plain_lives = [(u64::MAX, true), (0xff00_0000_0000_0000, true)];
    let all = kinds.into_iter().map(|differ| (differ, false)).chain(with_plain_lives);
    for (seed, (differ, plain)) in (0..).zip(all) {
        let mut world = World::new(3, differ);
        let mut draws = draws(seed);
        let mut draw = || draws.next().unwrap();
        for step in 0..4000u64 {
            let key = draw() % KEYS;
            let (weight, life, epoch) = (draw() % 9 + 1, life(draw(), world.now, plain), step as u16);
            match (world.model.contains_key(&key), draw() >> 60) {
                (true, 0..6) => world.take(key),
                (true, _) => world.replace(key, step.to_string(), weight, life, epoch),
                (false, kind) => {
                    let state = [State::Trial, State::Demoted, State::Kept][kind as usize % 3];
                    let held = Held { value: step.to_string(), weight, life, state, epoch };
                    world.put(key, held);
                }
            }
            if step % 100 == 0 {
                world.check();
            }
            // Codes reach for 49 days.
            match step {
                1000 | 2000 | 3000 => world.grow(),
                _ if step % 500 == 250 => world.now += 31 * DAY,
                _ if step % 50 == 25 => world.now += 10_000,
                _ => {}
            }
        }
        world.check();
        let left: Vec<u64> = world.model.keys().copied().collect();
        left.into_iter().for_each(|key| world.take(key));
        assert!(world.table.odd().is_empty());
        let passed: u32 = (0..world.table.sets()).map(|set| world.table.set(set).past()).sum();
        assert_eq!(passed, 0, "an empty table ends every search at its home");
    }
}

#[test]
fn an_entry_that_finds_no_room_comes_back_and_leaves_no_trace() {
    for differ in [u64::MAX, 0] {
        let mut world = World::new(2, differ);
        let held = |key: u64| Held {
            value: key.to_string(),
            weight: 1,
            life: Life::ENDLESS,
            state: State::Kept,
            epoch: 0,
        };
        for key in 0..2 * WAYS as u64 {
            assert!(world.put(key, held(key)));
        }
        let passed = |world: &World| [0, 1].map(|set| world.table.set(set).past());
        let before = passed(&world);
        assert!(!world.put(100, held(100)));
        assert_eq!(passed(&world), before);
        world.check();
        world.take(5);
        assert!(world.put(100, held(100)), "in the room of the one that left");
        world.check();
    }
}

#[test]
fn a_table_of_no_sets_holds_nothing() {
    let table: Table<u64, u64> = Table::new(0, None);
    let mut owner = Owner::new();
    assert!(table.find(&owner.hold, 7, |_| true).is_none());
    assert!(table.home_set(7).is_none());
    assert!(matches!(table.seek(None, 7, |_| true), Seek::Absent));
    assert!(table.is_crowded(0) && !table.is_full(0));
    let new = New { hash: 7, weight: 1, life: Life::ENDLESS, now: Timestamp::default() };
    let begins = Begin { state: State::Trial, epoch: 0 };
    assert_eq!(table.put(&mut owner.hold, &Readers::with_stripes(1), &new, begins, (7, 7)), Err((7, 7)));
}

/// Counts those of its kind, and panics in its drop if told to.
struct Counted {
    number: u64,
    alive: Rc<Cell<isize>>,
    armed: bool,
}

impl Counted {
    fn new(number: u64, alive: &Rc<Cell<isize>>, armed: bool) -> Self {
        alive.set(alive.get() + 1);
        Self { number, alive: alive.clone(), armed }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.alive.set(self.alive.get() - 1);
        assert!(!self.armed, "armed");
    }
}

#[test]
fn each_entry_is_dropped_once_even_if_one_drop_panics() {
    for armed in [None, Some(0), Some(40), Some(99)] {
        let (alive, mut owner, readers) = (Rc::new(Cell::new(0)), Owner::new(), Readers::with_stripes(1));
        let table: Table<Counted, Counted> = Table::new(5, Some(1));
        let hash_of = |key: u64| key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        for key in 0..100u64 {
            let hash = hash_of(key);
            let entry = (Counted::new(key, &alive, false), Counted::new(key, &alive, armed == Some(key)));
            let new = New { hash, weight: 1, life: Life::ENDLESS, now: Timestamp::default() };
            let begins = Begin { state: State::Trial, epoch: 0 };
            assert!(table.put(&mut owner.hold, &readers, &new, begins, entry).is_ok());
        }
        let slot = table.find(&owner.hold, hash_of(9), |held| held.number == 9).unwrap();
        let (taken, _) = table.take(&mut owner.hold, &readers, slot, hash_of(9)).unwrap();
        assert_eq!(alive.get(), 200);
        let dropped = catch_unwind(AssertUnwindSafe(|| drop((table, taken))));
        assert_eq!(dropped.is_err(), armed.is_some());
        assert_eq!(alive.get(), 0);
    }
}

#[test]
fn a_table_ends_near_what_was_expected() {
    for entries in [1, 10, 100, 1000, 15_000] {
        let memory: Memory<u64, u64> = Memory::entries(entries).shards(1).build().unwrap();
        (0..entries).for_each(|key| assert!(memory.insert(key, key)));
        let spare = memory.write(0).table().cells() - entries as usize;
        assert!(spare <= entries as usize / 5 + 2 * WAYS, "{spare} spare cells for {entries}");
    }
}
