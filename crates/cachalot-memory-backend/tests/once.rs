//! One run per key, whatever the threads do.

// A failed expectation is how a test reports, in its helpers too.
#![allow(clippy::unwrap_used)]

use std::cell::Cell;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Duration;

use cachalot_core::{ErrorKind, ManualClock};
use cachalot_memory_backend::{Memory, TryInsertError};

fn memory() -> Memory<u64, u64> {
    Memory::entries(100).build().unwrap()
}

/// Until `done`; the outcome does not depend on how soon.
fn yield_until(done: impl Fn() -> bool) {
    while !done() {
        thread::yield_now();
    }
}

#[test]
fn sixty_four_threads_that_ask_for_one_key_run_one_closure() {
    let (memory, runs, asked) = (memory(), AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let ask = || {
            asked.fetch_add(1, Ordering::SeqCst);
            memory.get_or_insert_with(&1, || {
                yield_until(|| asked.load(Ordering::SeqCst) == 64);
                runs.fetch_add(1, Ordering::SeqCst);
                7
            })
        };
        let callers: Vec<_> = (0..64).map(|_| scope.spawn(ask)).collect();
        for caller in callers {
            assert_eq!(caller.join().unwrap().unwrap(), 7);
        }
    });
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(memory.get(&1), Some(7));
    assert_eq!(memory.runs_in_progress(), 0);
}

#[test]
fn a_hit_calls_nothing_and_allocates_nothing() {
    let memory: Memory<String, u64> = Memory::entries(100).build().unwrap();
    memory.insert("held".to_owned(), 1);
    let counted = allocation_counter::measure(|| {
        assert_eq!(memory.get_or_insert_with("held", || unreachable!()).unwrap(), 1);
        assert_eq!(memory.get_or_try_insert_with("held", || Err::<u64, _>(())).unwrap(), 1);
        assert_eq!(memory.get_or_insert_with_ttl("held", || unreachable!()).unwrap(), 1);
    });
    assert_eq!(counted.count_total, 0);
}

#[test]
fn closures_of_different_keys_run_at_the_same_time() {
    let (memory, both) = (memory(), Barrier::new(2));
    thread::scope(|scope| {
        for key in [1, 2] {
            let (memory, both) = (&memory, &both);
            scope.spawn(move || {
                let run = || {
                    both.wait();
                    key
                };
                assert_eq!(memory.get_or_insert_with(&key, run).unwrap(), key);
            });
        }
    });
}

#[test]
fn each_caller_of_failing_closures_gets_the_error_of_its_own() {
    let (memory, running) = (memory(), AtomicUsize::new(0));
    thread::scope(|scope| {
        for caller in 0..16 {
            let (memory, running) = (&memory, &running);
            scope.spawn(move || {
                let result = memory.get_or_try_insert_with(&1, || {
                    assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "two runs at a time");
                    thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    Err(caller)
                });
                assert!(matches!(result, Err(TryInsertError::Loader(error)) if error == caller));
            });
        }
    });
    assert_eq!(memory.get(&1), None);
    assert_eq!(memory.runs_in_progress(), 0);
}

#[test]
fn after_a_panic_one_of_those_who_wait_runs_next() {
    let (memory, asked) = (memory(), AtomicUsize::new(0));
    let (runs, panics) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                asked.fetch_add(1, Ordering::SeqCst);
                let result = catch_unwind(AssertUnwindSafe(|| {
                    memory.get_or_insert_with(&1, || {
                        yield_until(|| asked.load(Ordering::SeqCst) == 16);
                        assert_ne!(runs.fetch_add(1, Ordering::SeqCst), 0, "the first run panics");
                        7
                    })
                }));
                match result {
                    Ok(value) => assert_eq!(value.unwrap(), 7),
                    Err(_) => {
                        panics.fetch_add(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!((runs.into_inner(), panics.into_inner()), (2, 1));
    assert_eq!(memory.runs_in_progress(), 0);
}

/// Starts a run of key 1 that gives `old` once it is let go, and calls `meanwhile` in between.
fn during_a_run(memory: &Memory<u64, u64>, old: u64, meanwhile: impl FnOnce()) {
    let (begun, has_begun) = mpsc::channel();
    let (go, let_go) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let caller = scope.spawn(move || {
            memory.get_or_insert_with(&1, || {
                begun.send(()).unwrap();
                // Also if the other side fails.
                let _ = let_go.recv();
                old
            })
        });
        has_begun.recv().unwrap();
        meanwhile();
        drop(go);
        assert_eq!(caller.join().unwrap().unwrap(), old);
    });
    assert_eq!(memory.runs_in_progress(), 0);
}

#[test]
fn a_removal_during_the_run_revokes_the_right_to_store() {
    let memory = memory();
    during_a_run(&memory, 1, || assert_eq!(memory.remove(&1), None));
    assert_eq!(memory.get(&1), None);
}

#[test]
fn who_asks_after_a_removal_never_joins_the_run_from_before() {
    let memory = memory();
    during_a_run(&memory, 1, || {
        memory.remove(&1);
        // Would wait for ever if it joined.
        assert_eq!(memory.get_or_insert_with(&1, || 2).unwrap(), 2);
    });
    assert_eq!(memory.get(&1), Some(2));
}

#[test]
fn a_clear_during_the_run_revokes_the_right_to_store() {
    let memory = memory();
    during_a_run(&memory, 1, || memory.clear());
    assert_eq!(memory.get(&1), None);
}

#[test]
fn an_older_run_never_overwrites_an_insert() {
    let memory = memory();
    during_a_run(&memory, 1, || {
        memory.insert(1, 2);
    });
    assert_eq!(memory.get(&1), Some(2));
}

#[test]
fn a_closure_that_asks_for_its_own_key_gets_an_error_at_once() {
    let memory = memory();
    let mut inner = None;
    let outer = memory.get_or_insert_with(&1, || {
        inner = Some(memory.get_or_insert_with(&1, || 2).unwrap_err().kind());
        1
    });
    assert_eq!((outer.unwrap(), inner), (1, Some(ErrorKind::Reentrant)));
    assert_eq!(memory.get(&1), Some(1));
}

#[test]
fn a_closure_that_removes_its_own_key_and_asks_for_it_gets_the_error_too() {
    let memory = memory();
    let outer = memory.get_or_try_insert_with(&1, || {
        memory.remove(&1);
        memory.get_or_try_insert_with(&1, || Ok::<_, ()>(2)).map_err(|error| error.cache_kind())
    });
    let Err(TryInsertError::Loader(inner)) = outer else { panic!("{outer:?}") };
    assert_eq!(inner, Some(ErrorKind::Reentrant));
}

#[test]
fn a_closure_may_ask_for_other_keys() {
    let memory = memory();
    let sum = memory.get_or_try_insert_with(&3, || {
        let (one, two) = (memory.get_or_insert_with(&1, || 1)?, memory.get_or_insert_with(&2, || 2)?);
        Ok::<_, cachalot_core::Error>(one + two)
    });
    assert_eq!(sum.unwrap(), 3);
    assert_eq!((memory.get(&1), memory.get(&2), memory.get(&3)), (Some(1), Some(2), Some(3)));
}

/// Each of `n` threads runs its own key and asks for the next one's, all at once. The errors they got.
fn ring_of(n: usize, memory_of: impl Fn(usize) -> Arc<Memory<u64, u64>>) -> Vec<ErrorKind> {
    let all = Arc::new(Barrier::new(n));
    let callers: Vec<_> = (0..n)
        .map(|at| {
            let (own, next_at) = (memory_of(at), (at + 1) % n);
            let (next, all) = (memory_of(next_at), all.clone());
            thread::spawn(move || {
                let mut error = None;
                let value = own.get_or_insert_with(&(at as u64), || {
                    all.wait();
                    let asked = next.get_or_insert_with(&(next_at as u64), || unreachable!("it is running"));
                    error = asked.err().map(|error| error.kind());
                    at as u64
                });
                assert_eq!(value.unwrap(), at as u64);
                assert_eq!(own.get(&(at as u64)), Some(at as u64));
                error
            })
        })
        .collect();
    callers.into_iter().filter_map(|caller| caller.join().unwrap()).collect()
}

#[test]
fn a_circle_of_threads_and_keys_is_an_error_for_the_one_that_closes_it() {
    for n in [2, 3, 8] {
        let memory = Arc::new(memory());
        assert_eq!(ring_of(n, |_| memory.clone()), [ErrorKind::Reentrant], "{n} threads");
        assert_eq!(memory.runs_in_progress(), 0);
    }
}

#[test]
fn a_circle_through_two_memories_is_found() {
    let memories = [Arc::new(memory()), Arc::new(memory())];
    assert_eq!(ring_of(2, |at| memories[at].clone()), [ErrorKind::Reentrant]);
}

#[test]
fn a_value_that_cannot_be_stored_is_returned_all_the_same() {
    let heavy = Memory::<u64, u64>::weight_limit(10).weigher(|_, _| 11).build().unwrap();
    assert_eq!(heavy.get_or_insert_with(&1, || 7).unwrap(), 7);
    let memory = memory();
    assert_eq!(memory.get_or_insert_with_ttl(&1, || (7, Duration::ZERO)).unwrap(), 7);
    assert!(heavy.is_empty() && memory.is_empty());
}

#[test]
fn the_time_to_live_counts_from_the_end_of_the_closure() {
    let hand = ManualClock::new();
    let memory: Memory<u64, u64> = Memory::entries(100).clock(hand.clock()).build().unwrap();
    let ms = Duration::from_millis;
    let make = || {
        hand.advance(ms(500));
        Ok::<_, ()>((7, ms(100)))
    };
    assert_eq!(memory.get_or_try_insert_with_ttl(&1, make).unwrap(), 7);
    hand.advance(ms(99));
    assert_eq!(memory.get(&1), Some(7));
    hand.advance(ms(1));
    assert_eq!(memory.get_or_insert_with_ttl(&1, || (8, ms(100))).unwrap(), 8);
}

#[test]
fn keys_are_looked_up_in_any_form_that_makes_one() {
    let shared: Memory<Arc<str>, u64> = Memory::entries(100).build().unwrap();
    assert_eq!(shared.get_or_insert_with("one", || 1).unwrap(), 1);
    assert_eq!(shared.get("one"), Some(1));
    let boxed: Memory<Box<[u8]>, u64> = Memory::entries(100).build().unwrap();
    assert_eq!(boxed.get_or_insert_with(&b"one"[..], || 1).unwrap(), 1);
    assert_eq!(boxed.get(&b"one"[..]), Some(1));
}

#[test]
fn no_storm_leaves_a_run_behind() {
    let memory = memory();
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let memory = &memory;
            scope.spawn(move || {
                for step in 0..2_000_u64 {
                    let key = step.wrapping_mul(thread + 1) % 7;
                    let got = catch_unwind(AssertUnwindSafe(|| {
                        memory.get_or_try_insert_with(&key, || match step % 5 {
                            0 => Err(()),
                            1 if step % 50 == 1 => std::panic::resume_unwind(Box::new(())),
                            _ => Ok(key),
                        })
                    }));
                    assert!(!matches!(got, Ok(Ok(value)) if value != key));
                    if step % 3 == 0 {
                        memory.remove(&key);
                    }
                }
            });
        }
    });
    assert_eq!(memory.runs_in_progress(), 0);
}

thread_local! {
    static ARMED: Cell<Option<Spot>> = const { Cell::new(None) };
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Spot {
    Hash,
    Eq,
    CloneKey,
    DropKey,
    CloneValue,
}

fn pass(spot: Spot) {
    if ARMED.get() == Some(spot) {
        ARMED.set(None);
        panic!("armed at {spot:?}");
    }
}

#[derive(Debug)]
struct Key(u64);

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        pass(Spot::Hash);
        self.0.hash(state);
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        pass(Spot::Eq);
        self.0 == other.0
    }
}

impl Eq for Key {}

impl Clone for Key {
    fn clone(&self) -> Self {
        pass(Spot::CloneKey);
        Self(self.0)
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        pass(Spot::DropKey);
    }
}

#[derive(Debug, PartialEq)]
struct Value(u64);

impl Clone for Value {
    fn clone(&self) -> Self {
        pass(Spot::CloneValue);
        Self(self.0)
    }
}

#[test]
fn whatever_of_the_users_code_panics_the_next_caller_is_served() {
    for spot in [Spot::Hash, Spot::Eq, Spot::CloneKey, Spot::DropKey, Spot::CloneValue] {
        for armed_in_closure in [false, true] {
            let memory: Memory<Key, Value> = Memory::entries(100).build().unwrap();
            let key = Key(1);
            let arm_if = |now: bool| ARMED.set(now.then_some(spot).or(ARMED.get()));
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                arm_if(!armed_in_closure);
                memory.get_or_insert_with(&key, || {
                    arm_if(armed_in_closure);
                    Value(1)
                })
            }));
            ARMED.set(None);
            assert!(outcome.is_err() || spot == Spot::Eq, "{spot:?} was not passed");
            assert_eq!(memory.runs_in_progress(), 0, "{spot:?}");
            assert_eq!(memory.get_or_insert_with(&key, || Value(1)).unwrap(), Value(1), "{spot:?}");
        }
    }
}

#[test]
fn a_panicking_clone_of_the_value_leaves_those_who_wait_to_run_for_themselves() {
    let memory: Memory<u64, Value> = Memory::entries(100).build().unwrap();
    let (begun, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let leader = catch_unwind(AssertUnwindSafe(|| {
                memory.get_or_insert_with(&1, || {
                    begun.store(true, Ordering::SeqCst);
                    ARMED.set(Some(Spot::CloneValue));
                    Value(1)
                })
            }));
            assert!(leader.is_err());
        });
        yield_until(|| begun.load(Ordering::SeqCst));
        for _ in 0..4 {
            scope.spawn(|| {
                assert_eq!(memory.get_or_insert_with(&1, || Value(2)).unwrap(), Value(2));
                served.fetch_add(1, Ordering::SeqCst);
            });
        }
    });
    assert_eq!((served.into_inner(), memory.runs_in_progress()), (4, 0));
}
