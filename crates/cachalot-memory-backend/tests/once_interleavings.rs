//! Every schedule of a few threads around the runs of a key, by loom.
//!
//! `RUSTFLAGS="--cfg cachalot_loom" cargo test -p cachalot-memory-backend --test once_interleavings --release`
#![cfg(cachalot_loom)]
#![allow(clippy::unwrap_used, reason = "a failed expectation is how a test reports")]

use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::AtomicBool;

use cachalot_core::Error;
use cachalot_memory_backend::{Memory, MemoryBuilder};
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread;

/// A memory whose every use loom sees: it tries no other order of what it does not see, and a hit has
/// nothing of loom's in it.
struct Loads {
    memory: Memory<u64, u64>,
    uses: AtomicUsize,
}

impl Loads {
    fn of(builder: MemoryBuilder<u64, u64>) -> Arc<Self> {
        Arc::new(Self { memory: builder.build().unwrap(), uses: AtomicUsize::new(0) })
    }
}

impl Deref for Loads {
    type Target = Memory<u64, u64>;

    fn deref(&self) -> &Self::Target {
        self.uses.fetch_add(1, Ordering::SeqCst);
        &self.memory
    }
}

fn memory() -> Arc<Loads> {
    Loads::of(Memory::entries(8))
}

/// The schedules with so many preemptions; all of them would take minutes.
fn explore(preemptions: usize, schedule: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(preemptions);
    model.check(schedule);
}

#[test]
fn one_run_serves_all_who_ask() {
    explore(3, || {
        let (memory, runs) = (memory(), Arc::new(AtomicUsize::new(0)));
        let ask = {
            let (memory, runs) = (memory.clone(), runs.clone());
            move || {
                let run = || {
                    runs.fetch_add(1, Ordering::SeqCst);
                    thread::yield_now();
                    7
                };
                assert_eq!(memory.get_or_insert_with(&1, run).unwrap(), 7);
            }
        };
        let others = [thread::spawn(ask.clone()), thread::spawn(ask.clone())];
        ask();
        for other in others {
            other.join().unwrap();
        }
        assert_eq!((runs.load(Ordering::SeqCst), memory.runs_in_progress()), (1, 0));
    });
}

#[test]
fn a_failed_run_hands_over_to_one_who_waits() {
    explore(3, || {
        let (memory, runs) = (memory(), Arc::new(AtomicUsize::new(0)));
        let ask = {
            let (memory, runs) = (memory.clone(), runs.clone());
            // The first run fails, the second one is the last.
            move || {
                memory.get_or_try_insert_with(&1, || match runs.fetch_add(1, Ordering::SeqCst) {
                    0 => Err(()),
                    _ => Ok(7),
                })
            }
        };
        let others = [thread::spawn(ask.clone()), thread::spawn(ask.clone())];
        let mut results = vec![ask()];
        results.extend(others.map(|other| other.join().unwrap()));
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
        assert_eq!((runs.load(Ordering::SeqCst), memory.runs_in_progress()), (2, 0));
    });
}

#[test]
fn a_panicked_run_wakes_who_waits_in_every_schedule() {
    explore(3, || {
        let memory = memory();
        let panics = thread::spawn({
            let memory = memory.clone();
            move || {
                let run = || {
                    memory.get_or_insert_with(&1, || {
                        thread::yield_now();
                        // Without the hook that prints it.
                        resume_unwind(Box::new(()))
                    })
                };
                let value = catch_unwind(AssertUnwindSafe(run));
                assert!(value.is_err() || value.unwrap().unwrap() == 7);
            }
        });
        assert_eq!(memory.get_or_insert_with(&1, || 7).unwrap(), 7);
        panics.join().unwrap();
        assert_eq!((memory.get(&1), memory.runs_in_progress()), (Some(7), 0));
    });
}

#[test]
fn who_asks_after_a_removal_never_gets_the_value_from_before() {
    static OVERTAKEN: AtomicBool = AtomicBool::new(false);
    explore(3, || {
        let (memory, source) = (memory(), Arc::new(Mutex::new(1)));
        let reader = thread::spawn({
            let (memory, source) = (memory.clone(), source.clone());
            move || memory.get_or_insert_with(&1, || *source.lock().unwrap()).unwrap()
        });
        *source.lock().unwrap() = 2;
        memory.remove(&1);
        let after = memory.get_or_insert_with(&1, || *source.lock().unwrap()).unwrap();
        assert_eq!(after, 2);
        match reader.join().unwrap() {
            1 => OVERTAKEN.store(true, Ordering::SeqCst),
            value => assert_eq!(value, 2),
        }
        assert_eq!((memory.get(&1), memory.runs_in_progress()), (Some(2), 0));
    });
    assert!(OVERTAKEN.load(Ordering::SeqCst), "no removal fell into a run");
}

#[test]
fn a_value_that_is_not_stored_serves_those_who_waited() {
    static SHARED: AtomicBool = AtomicBool::new(false);
    explore(3, || {
        let memory = Loads::of(Memory::weight_limit(1).weigher(|_, _| 2));
        let runs = Arc::new(AtomicUsize::new(0));
        let ask = {
            let (memory, runs) = (memory.clone(), runs.clone());
            move || memory.get_or_insert_with(&1, || 1 + runs.fetch_add(1, Ordering::SeqCst) as u64).unwrap()
        };
        let other = thread::spawn(ask.clone());
        let got = [ask(), other.join().unwrap()];
        if runs.load(Ordering::SeqCst) == 1 {
            assert_eq!(got, [1, 1]);
            SHARED.store(true, Ordering::SeqCst);
        }
        assert_eq!((memory.get(&1), memory.runs_in_progress()), (None, 0));
    });
    assert!(SHARED.load(Ordering::SeqCst), "nobody ever waited");
}

/// Runs `own` and asks for `other` in it; 0 stands for an error.
fn nested(memory: &Loads, own: u64, other: u64) -> (u64, bool) {
    let mut refused = false;
    let value = memory.get_or_insert_with(&own, || {
        let asked: Result<u64, Error> = memory.get_or_insert_with(&other, || other);
        refused = asked.is_err();
        own
    });
    (value.unwrap(), refused)
}

#[test]
fn two_threads_never_wait_for_each_other() {
    explore(3, || {
        let memory = memory();
        let other = thread::spawn({
            let memory = memory.clone();
            move || nested(&memory, 2, 1)
        });
        let (mine, refused) = nested(&memory, 1, 2);
        let (theirs, refused_too) = other.join().unwrap();
        assert_eq!((mine, theirs), (1, 2));
        assert!(!(refused && refused_too));
        assert_eq!(memory.runs_in_progress(), 0);
    });
}

#[test]
fn three_threads_never_wait_for_each_other() {
    explore(1, || {
        let memory = memory();
        let others = [(2, 3), (3, 1)].map(|(own, other)| {
            let memory = memory.clone();
            thread::spawn(move || nested(&memory, own, other))
        });
        nested(&memory, 1, 2);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(memory.runs_in_progress(), 0);
    });
}

#[test]
fn a_wait_that_is_over_is_no_part_of_a_circle() {
    explore(3, || {
        let memory = memory();
        let other = thread::spawn({
            let memory = memory.clone();
            move || {
                memory.get_or_insert_with(&2, || 2).unwrap();
                // Within a run, so that its waits count.
                nested(&memory, 3, 1)
            }
        });
        let (mine, refused) = nested(&memory, 1, 2);
        let (theirs, refused_too) = other.join().unwrap();
        assert_eq!((mine, refused, theirs, refused_too), (1, false, 3, false));
    });
}
